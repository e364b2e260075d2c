"""MIMIC-CXR and MIMIC-CXR-JPG (Johnson et al., Sci Data 2019, doi:10.1038/s41597-019-0322-0).

Read as PhysioNet hands them out, in versions 2.0.0 and 2.1.0, tables packed or not:

    files/p10/p10000032/s50414267/<dicom_id>.jpg   (MIMIC-CXR-JPG) or .dcm (MIMIC-CXR)
    files/p10/p10000032/s50414267.txt              (reports, unpacked) or mimic-cxr-reports.zip
    mimic-cxr-2.0.0-split.csv.gz, -metadata.csv.gz, -chexpert.csv.gz, -negbio.csv.gz

`data.dir` names a folder that holds all of it, or the images with their tables; `reports` then
names the folder or zip file of the reports. The split list is part of MIMIC-CXR-JPG; MIMIC-CXR
alone has no splits. R2Gen's annotation.json with images/ and PeFoMed's lists are read as well.

`sections`  findings, impression, both (a study needs both) or full (all of the report)
`views`     frontal: one image of a study, PA before AP, then the first dicom_id; frontals: each AP
            and PA image a case, as in LLaVA-Rad; lateral: one image, LATERAL before LL;
            any: each image a case, as R2Gen has it; study: the images of a study in one case, a
            frontal, a lateral, then the rest, at most `max_images`
`last_paragraph`  takes the last paragraph as findings where a report heads neither; the official
            file of sections keeps it apart, and published scores do without
`indication`  keeps the reason for the examination in fields["indication"]; prompts do not use it
`partial`   leaves out studies whose folder of images was not fetched, which takes a look at each

No image is opened or looked for here, only the folders of patients are. The view is ViewPosition;
where the metadata leave it blank (4 % of the images), an image is neither frontal nor lateral.
Labels of CheXpert and NegBio become fields where their tables lie there. The data are of restricted
access: no text of a report is ever printed.
"""

import collections
import functools
import pathlib
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import files, pefomed, r2gen
from pefomed_jax.data.sources.mimic_cxr import cases, folders, lists, reports
from pefomed_jax.errors import UserError

NAME = "mimic_cxr"


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: no split list, no images, no reports, or no metadata to tell views."""
    root = files.folder_of(config, NAME)
    if pefomed.holds(root):
        return pefomed.read(NAME, root, config)
    if r2gen.holds(root):
        print(f"{NAME}: {r2gen.LIST} names its images itself; data.mimic_cxr.views is not used")
        return r2gen.read(NAME, root, cases.LAYOUT, "each", config.data.mimic_cxr.sections)
    if not root.is_dir():
        raise UserError(f"data.dir: {root} is a file; name the folder that holds MIMIC-CXR")
    return _read(root, config.data.mimic_cxr)


def _read(root: pathlib.Path, own: ConfigDict) -> files.ListSource:
    if own.max_images < 1:
        raise UserError(f"data.mimic_cxr.max_images={own.max_images} is too small: at least 1")
    found = folders.find(root)
    split = _table(found, root, own)
    images = folders.image_tree(found.trees)
    if images is None:
        raise UserError(
            f"mimic_cxr: no image below {root} (files/p10/p.../s.../....jpg or .dcm); "
            "fetch files/ of MIMIC-CXR-JPG or set --config.data.mimic_cxr.dir to it"
        )
    there = _fetched(images[0]) if own.partial else lambda patient, study: True
    metadata = found.tables.get("metadata")
    view_of = lists.views(metadata) if metadata else {}
    rows, counts = lists.units(split, own.views, own.max_images, view_of, there)
    _say_views(counts, own)
    source = files.ListSource(NAME, "report", str(root))
    get = functools.lru_cache(maxsize=64)(reports.opened(found, own.reports))  # views of a study
    make = functools.partial(cases.case, cases.Images(root, *images), _labels(found), own.views)
    for name in counts:
        _add(source, name, split.relative_to(root).as_posix(), rows, own, get, make)
    return source


def _table(found: folders.Found, root: pathlib.Path, own: ConfigDict) -> pathlib.Path:
    """The split list. Errors: it is not there, or nothing tells the views."""
    for kind, needed in (("split", True), ("metadata", own.views in lists.WANTED)):
        if needed and kind not in found.tables:
            other = "" if kind == "split" else ", or set --config.data.mimic_cxr.views=any"
            raise UserError(
                f"mimic_cxr: no mimic-cxr-2.0.0-{kind}.csv.gz below {root}; fetch it from "
                f"MIMIC-CXR-JPG{other}"
            )
    return found.tables["split"]


def _fetched(tree: pathlib.Path) -> Callable[[str, str], bool]:
    @functools.lru_cache(maxsize=64)  # the rows of a patient stand together
    def of(patient: str) -> set[str]:
        return folders.studies(tree, f"p{patient}")

    return lambda patient, study: f"s{study}" in of(patient)


def _labels(found: folders.Found) -> cases.Labels:
    labels: cases.Labels = {}
    for kind in ("chexpert", "negbio"):
        if path := found.tables.get(kind):
            labels[kind], broken = lists.labels(path)
            if broken:
                print(f"{NAME}: {broken:,} rows of {path.name} cannot be read and give no labels")
    return labels


def _add(
    source: files.ListSource,
    split: str,
    file: str,
    rows: list[lists.Unit | files.Broken | None],
    own: ConfigDict,
    get: reports.Read,
    make: Callable[[cases.Told, int, str], Case],
) -> None:
    """Adds the cases of a split, and says how many studies lack the text that is wanted."""
    lacking: collections.Counter[bool] = collections.Counter()  # by: has a last paragraph

    def told() -> Iterator[cases.Told | files.Broken | None]:
        mine = [row for row in rows if isinstance(row, lists.Unit) and row.split == split]
        texts = reports.read_all(
            mine, len(mine), f"{NAME}: {split}", lambda unit: get(unit.patient, unit.study)
        )
        for row in rows:
            if isinstance(row, files.Broken):
                yield row if split == "train" else None  # each once
            elif row is None or row.split != split:
                yield None
            else:
                yield cases.told(*next(texts), own, lacking)
        next(texts, None)  # the end of its progress

    source.add(split, file, told(), make, keep=lambda row: row is not None)
    if number := lacking.total():
        _say_sections(split, number, lacking[True], own)


def _say_views(counts: dict[str, lists.Counts], own: ConfigDict) -> None:
    for split, n in counts.items():
        if n.absent:
            print(f"{NAME}: {n.absent:,} {split} studies have no folder and are left out (partial)")
        if n.used < n.images:
            print(
                f"{NAME}: {n.used:,} of {n.images:,} {split} images are used with "
                f"views={own.views}; {n.without:,} of {n.studies:,} studies have none"
            )
        if n.cut:
            print(f"{NAME}: {n.cut:,} {split} studies have more than {own.max_images} images")


def _say_sections(split: str, number: int, paragraphs: int, own: ConfigDict) -> None:
    wanted = {"both": "findings and impression", "full": "text"}.get(own.sections, own.sections)
    more = ""
    if paragraphs and own.sections == "findings" and not own.last_paragraph:
        flag = "--config.data.mimic_cxr.last_paragraph=True"
        more = f" ({paragraphs:,} have a last paragraph: {flag} takes it)"
    what = "studies have" if own.views not in lists.EACH else "images are of studies that have"
    missing = "no text" if own.sections == "full" else f"no {wanted} section"
    print(f"{NAME}: {number:,} {split} {what} {missing} and are left out{more}")
