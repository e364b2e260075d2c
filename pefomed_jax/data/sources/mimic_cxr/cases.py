"""From a study and its report to a case."""

import collections
import pathlib
from typing import NamedTuple

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files
from pefomed_jax.data.sources.mimic_cxr import folders, lists, sections

LAYOUT = "mimiccxr"
Labels = dict[str, dict[str, dict[str, int]]]  # chexpert or negbio -> study -> label -> value


class Told(NamedTuple):
    """A case to be, and what its report says; `answer` is None where there is no report."""

    unit: lists.Unit
    answer: str | None
    indication: str


class Images:
    """The paths of images below `root`, and which patients have a folder."""

    def __init__(self, root: pathlib.Path, tree: pathlib.Path, suffix: str) -> None:
        self.tree, self.suffix = tree.relative_to(root).as_posix(), suffix
        self.there = folders.patients(tree)

    def paths(self, unit: lists.Unit) -> tuple[str, ...]:
        """Raises RowError where nothing of the patient is there."""
        patient = f"p{unit.patient}"
        folder = f"{patient[:3]}/{patient}/s{unit.study}"
        if self.tree != ".":
            folder = f"{self.tree}/{folder}"
        if patient not in self.there:
            remedy = "fetch it, or set --config.data.mimic_cxr.partial=True"
            raise files.RowError("subject_id", f"no folder {patient} in {self.tree}", remedy)
        return tuple(f"{folder}/{name}{self.suffix}" for name in unit.images)


def told(
    unit: lists.Unit, report: str | None, own: ConfigDict, lacking: collections.Counter[bool]
) -> Told | None:
    """None, and counted, where the report has not the section."""
    if report is None:
        return Told(unit, None, "")
    parts = sections.extract(report, unit.study)
    answer = _answer(parts, report, own)
    if not answer:
        lacking[bool(parts.last_paragraph)] += 1
        return None
    return Told(unit, answer, parts.indication if own.indication else "")


def _answer(parts: sections.Sections, report: str, own: ConfigDict) -> str:
    findings = parts.findings or (parts.last_paragraph if own.last_paragraph else "")
    if own.sections == "full":
        return " ".join(report.split())
    if own.sections == "both":
        both = findings and parts.impression
        return f"FINDINGS: {findings} IMPRESSION: {parts.impression}" if both else ""
    return findings if own.sections == "findings" else parts.impression


def case(
    images: Images,
    labels: Labels,
    views: str,
    told: Told,
    number: int,
    split: str,
) -> Case:
    unit = told.unit
    paths = images.paths(unit)
    if told.answer is None:
        problem = f"no report s{unit.study}.txt"
        raise files.RowError("study_id", problem, "unpack mimic-cxr-reports.zip again")
    fields = {"layout": LAYOUT, "patient_id": unit.patient, "study_id": unit.study}
    if any(unit.views):
        fields["view"] = "+".join(view or "?" for view in unit.views)
    if told.indication:
        fields["indication"] = told.indication
    fields |= {kind: of[unit.study] for kind, of in labels.items() if unit.study in of}
    own = unit.images[0] if views in lists.EACH else f"s{unit.study}"
    return Case(f"{split}-{own}", paths, "", told.answer, split, fields)
