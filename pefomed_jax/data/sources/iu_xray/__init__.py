"""IU X-Ray (Demner-Fushman et al., JAMIA 2016, doi:10.1093/jamia/ocv080) in its two usual forms.

R2Gen's: annotation.json with images/ (`r2gen`), 2,955 studies with two images each; its splits of
2,069, 296 and 590 studies are those of most published scores.
Open-i's: ecgen-radiology/*.xml (NLMCXR_reports.tgz, 3,955 reports) and 7,470 images, PNG
(NLMCXR_png.tgz) or DICOM (NLMCXR_dcm.tgz), anywhere below the folder, PNG where both are there.
It has no splits: a hash of the report's number puts 70 % into train, 10 % into val and 20 % into
test, the same on every machine. Scores on them do not compare with those on R2Gen's splits.
PeFoMed's lists are read as well.

`views`     both: one case of the first two images; frontal: of the first; each: one case an image
`sections`  findings (as R2GenCMN and R2Gen's list have it), impression, or both, both needed

The first image counts as frontal, which holds for most; neither form says it. Reports of Open-i
without images (about a hundred), and without the section, are left out and counted. Names and dates
were made XXXX by the publisher, which stays. Neither form names the patient.
"""

import functools
import hashlib
import pathlib
from collections import Counter
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files, pefomed, r2gen
from pefomed_jax.data.sources.iu_xray import reports
from pefomed_jax.errors import UserError

NAME, LAYOUT = "iu_xray", "iuxray"
SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.8)  # where val and test begin, out of 1


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: none of the forms is there."""
    root = files.folder_of(config, NAME)
    own = config.data.iu_xray
    if pefomed.holds(root):
        return pefomed.read(NAME, root, config)
    if r2gen.holds(root):
        return r2gen.read(NAME, root, LAYOUT, own.views, own.sections)
    return _open_i(root, own)


def _open_i(root: pathlib.Path, own: ConfigDict) -> files.ListSource:
    listed, images = reports.below(root)
    if not listed or not images:
        what = "image (.png or .dcm)" if listed else f"{r2gen.LIST} nor a report (.xml)"
        raise UserError(
            f"iu_xray: no {what} below {root}; unpack NLMCXR_reports.tgz and NLMCXR_png.tgz "
            "there, or set --config.data.dir to where they are"
        )
    source = files.ListSource(NAME, "report", str(root))
    for split in SPLITS:
        source.add(split, "", (), _refuse)
    counts: Counter[tuple[str, str]] = Counter()
    for file in tqdm(listed, desc=f"{NAME}: reports", delay=1, disable=None):
        _add(source, root / file, file, images, own, counts)
    for (split, what), number in sorted(counts.items()):
        print(f"{NAME}: {number:,} {split} studies {what}")
    return source


def split_of(study: str) -> str:
    """The split of CXR1, CXR2, ...: the same on every machine, whatever else is there."""
    part = int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], "big") / 2**64
    return SPLITS[sum(part >= share for share in SHARES)]


def _add(
    source: files.ListSource,
    path: pathlib.Path,
    file: str,
    images: dict[str, str],
    own: ConfigDict,
    counts: Counter[tuple[str, str]],
) -> None:
    study = f"CXR{path.stem.removeprefix('CXR')}"
    split = split_of(study)
    try:
        report = reports.parse(path)
    except files.RowError as error:
        return source.add(split, file, [files.Broken(*error.args)], _refuse)
    answer = _answer(report.texts, own.sections)
    named = report.images[: 1 if own.views == "frontal" else 2 if own.views == "both" else None]
    if not named:
        counts[split, "name no image and are left out"] += 1
    elif not answer:
        wanted = {"both": "findings and impression"}.get(own.sections, own.sections)
        counts[split, f"have no {wanted} and are left out"] += 1
    else:
        if own.views == "both" and len(report.images) > 2:
            counts[split, "have more than two images, of which the first two are used"] += 1
        groups = [[name] for name in named] if own.views == "each" else [named]
        fields = {"layout": LAYOUT, "study_id": study, "mesh": report.mesh}
        make = functools.partial(_case, images, own.views, answer, fields)
        source.add(split, file, groups, make)


def _refuse(row: Any, number: int, split: str) -> Case:
    raise files.RowError("file", "is no report", "fetch it again")


def _answer(texts: dict[str, str], sections: str) -> str:
    findings, impression = texts.get("findings", ""), texts.get("impression", "")
    if sections == "both":
        both = findings and impression
        return f"FINDINGS: {findings} IMPRESSION: {impression}" if both else ""
    return texts.get(sections, "")


def _case(
    images: dict[str, str],
    views: str,
    answer: str,
    fields: dict[str, Any],
    named: list[str],
    number: int,
    split: str,
) -> Case:
    paths = tuple(reports.image_path(images, name) for name in named)
    own = named[0] if views == "each" else fields["study_id"]
    return Case(f"{split}-{own}", paths, "", answer, split, fields)
