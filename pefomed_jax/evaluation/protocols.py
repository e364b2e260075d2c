"""What is scored, and after which preparation of the texts: protocols by name.

Scores of the same texts differ by half or more between protocols, so a table always names its own.
docs/evaluation.md says what each one does, to the letter.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pefomed_jax.errors import UserError, nearest
from pefomed_jax.evaluation import interim, vqa
from pefomed_jax.evaluation.measure import Measure, Skipped, mean
from pefomed_jax.evaluation.notes import texts
from pefomed_jax.evaluation.ptb import tokenise

Row = Mapping[str, Any]
Found = Measure | Skipped
Family = Callable[[Sequence[Row]], list[Found]]
Tokenise = Callable[[str], list[str]]

VQA_MAIN = ("exact_match",)
REPORT_MAIN = ("finding_f1", "cider")


class Protocol(NamedTuple):
    """A name for all that decides about a score besides the texts."""

    name: str
    task: str  # 'vqa' or 'report'
    tokeniser: str
    families: tuple[Family, ...]
    main: tuple[str, ...]  # scores that stand for all, the first there is
    truncation: str = "none"  # of the references
    matches: Callable[[Sequence[Row]], list[bool]] | None = None  # None: where exact_match is 1
    slow: Mapping[str, Family] = {}  # by score; left out inside training, as METEOR starts Java
    cuts: Callable[[str], bool] | None = None  # whether a reference loses words

    def measures(self, rows: Sequence[Row], slow: bool = True) -> list[Found]:
        """All scores of the rows, in the order of the table."""
        families = (*self.families, *(self.slow.values() if slow else ()))
        return [found for family in families for found in family(rows)]

    def notes(self, rows: Sequence[Row]) -> list[str]:
        """Warnings about what the protocol does to these rows."""
        if self.cuts is None:
            return []
        n = sum(any(map(self.cuts, texts(row, "reference"))) for row in rows)
        return [
            f"{n} of {len(rows)} references were cut ({self.truncation}): scores of "
            "whole references are others"
        ] * (n > 0)

    def versions(self, slow: bool = True) -> dict[str, str]:
        """Versions of what others wrote and this protocol calls."""
        return {}


def get(name: str) -> Protocol:
    """The protocol of a name. Raises UserError for a name that is none."""
    if name not in PROTOCOLS:
        raise UserError(
            f"protocol '{name}' is not one of {', '.join(PROTOCOLS)}{nearest(name, PROTOCOLS)}"
        )
    return PROTOCOLS[name]


def of_task(task: str) -> str:
    """The name of a task's own protocol: those of PeFoMed."""
    return "pefomed" if task == "vqa" else "coco"


def drawn(rows: Sequence[Row]) -> list[Row]:
    """The rows that hold the names of the `findings` in their image."""
    return [row for row in rows if _is_findings(row.get("findings"))]


def _is_findings(held: object) -> bool:
    # a text under this name is a section of a report
    return isinstance(held, list | tuple) and all(isinstance(name, str) for name in held)


def found(rows: Sequence[Row]) -> list[Found]:
    """finding_f1 where rows hold `findings`."""
    if not drawn(rows):
        return []
    from pefomed_jax.evaluation import findings  # its reader of reports brings data sets along

    kept = [row if _is_findings(row.get("findings")) else {**row, "findings": None} for row in rows]
    return [findings.measure(kept)]


def type_name(answer_type: object) -> str:
    """An answer type as part of a score's name: 'CLOSED' → 'closed'."""
    return re.sub(r"\W+", "_", str(answer_type or "").strip().lower()).strip("_")


def _vqa_scores(rows: Sequence[Row], name: str) -> list[Found]:
    """The protocol's scores, and exact_match_<type> for every `answer_type` there is."""
    made = list(vqa.measures(rows, name))
    families = (found.cases for found in made if isinstance(found, Measure))
    hits = next(cases["exact_match"] for cases in families if "exact_match" in cases)
    types = np.array([type_name(row.get("answer_type")) for row in rows])
    split = {str(t): np.where(types == t, hits, np.nan) for t in np.unique(types) if t}
    by_type = mean({f"exact_match_{t}": values for t, values in split.items()}) if split else None
    return made if by_type is None else [made[0], by_type, *made[1:]]


def _vqa(name: str, tokeniser: str) -> Protocol:
    family = functools.partial(_vqa_scores, name=name)
    return Protocol(name, "vqa", tokeniser, (family,), VQA_MAIN)


def _report(
    name: str,
    tokeniser: str,
    own: Tokenise,
    reference: Tokenise | None = None,
    truncation: str = "none",
) -> Protocol:
    ref = reference or own

    def words(rows: Sequence[Row]) -> tuple[list[list[str]], list[list[list[str]]]]:
        references = [[ref(text) for text in texts(row, "reference")] for row in rows]
        return [own(row["prediction"]) for row in rows], references

    def scores(rows: Sequence[Row]) -> list[Found]:
        return list(interim.report_measures(*words(rows)))

    def matches(rows: Sequence[Row]) -> list[bool]:
        return [answer in refs for answer, refs in zip(*words(rows), strict=True)]

    return Protocol(name, "report", tokeniser, (found, scores), REPORT_MAIN, truncation, matches)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        _vqa("pefomed", "vqa-eval"),
        _vqa("llava_med", "llava-med"),
        _vqa("strict", "whitespace"),
        _report("coco", "ptb", tokenise),
    )
}
