"""ROCO, figures of radiology from PubMed Central with captions, in its two versions.

Version 1 (Pelka et al., LABELS 2018, doi:10.1007/978-3-030-01364-6_20), as its repository has it:
data/{train,validation,test}/{radiology,non-radiology}/captions.txt, lines of ROCO_00002, a tab and
the caption; images/ beside it, filled by scripts/fetch.py, which names a file PMC4083729_name.jpg
as dlinks.txt says; other copies name it ROCO_00002.jpg. Both are found. About 65,400 / 8,180 /
8,180 radiology figures are listed, and some can no longer be fetched: each is a bad row, which
`data.max_bad_fraction` may allow. Captions are in several languages. `data.roco.subset`:
"radiology", "non-radiology" (what its classifier threw out), or "all". Papers are not kept apart by
the splits; `pmc_id` tells them.

Version 2 (Rückert et al., Scientific Data 2024, doi:10.1038/s41597-024-03496-6): 59,958 / 9,904 /
9,927 radiology figures; <split>_captions.csv (ID,Caption) for train, valid and test, with images in
<split>_images/<split>/, <split>_images/, <split>/ or images/; UMLS concepts of <split>_concepts.csv
become the field `cuis`.
"""

import functools
import pathlib
from collections.abc import Iterator

from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import captions, files, pefomed, tables
from pefomed_jax.errors import UserError

SPLITS = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}
SUBSETS = ("radiology", "non-radiology")
LIST = "captions.txt"
INSIDE = (".", "data", "all_data", "*", "*/data")  # where the folders of the splits may be


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: neither version in the folder, no images, a list is missing."""
    root = files.folder_of(config, "roco")
    if pefomed.holds(root):
        return pefomed.read("roco", root, config)
    source = files.ListSource("roco", "caption", str(root))
    subset = config.data.roco.subset
    if first := _first(root, [f"train/{name}/{LIST}" for name in SUBSETS]):
        for split in SPLITS:
            for part in SUBSETS if subset == "all" else (subset,):
                _add_first(source, first.parents[2], split, part)
    elif second := _first(root, ["train_captions.csv"]):
        if subset == "non-radiology":
            raise UserError(f"data.roco.subset: {root} is ROCO v2, all radiology; say radiology")
        for split in SPLITS:
            _add_second(source, second.parent, split)
    else:
        raise UserError(
            f"data.dir: no ROCO in {root}; looked for data/train/radiology/{LIST} (v1) and "
            "train_captions.csv (v2); set --config.data.dir to the folder of one of them"
        )
    return source


def _first(root: pathlib.Path, names: list[str]) -> pathlib.Path | None:
    """The first of these files, in the root or one of the folders in it."""
    tried = (
        path for place in INSIDE for name in names for path in sorted(root.glob(f"{place}/{name}"))
    )
    return next(tried, None)


def _add_first(source: files.ListSource, base: pathlib.Path, split: str, part: str) -> None:
    root = pathlib.Path(source.root)
    folder = next(
        (p for s in SPLITS[split] if (p := base / s / part).is_dir()), base / split / part
    )
    listed = folder / LIST
    if not listed.is_file():
        raise UserError(
            f"there is no {listed}; fetch it, or choose another --config.data.roco.subset"
        )
    if not (folder / "images").is_dir():
        raise UserError(f"there is no {folder / 'images'}; run scripts/fetch.py of ROCO first")
    place = folder / "images"
    images = captions.Images(root, captions.folders(place, 0), str(place))
    read = functools.partial(_first_case, images, dict(_fetched(folder)), _cuis(folder), part)
    rows = tables.read(listed, ("ID", "caption"), "\t", header=False, quotes=False)
    source.add(split, listed.relative_to(root).as_posix(), rows, read)


def _first_case(
    images: captions.Images,
    fetched: dict[str, str],
    cuis: dict[str, str],
    part: str,
    row: dict[str, str],
    number: int,
    split: str,
) -> Case:
    name, caption = files.text(row, "ID"), files.text(row, "caption")
    file = fetched.get(name, "")
    image = images.find(file if file in images else name, "ID")
    fields = {"subset": part, "pmc_id": file.partition("_")[0], "cuis": cuis.get(name, "")}
    return captions.case(split, name, image, caption, **fields)


def _fetched(folder: pathlib.Path) -> Iterator[tuple[str, str]]:
    """IDs with the name that scripts/fetch.py gives the image, from dlinks.txt where it is there.

    Its lines: ROCO_00002, tab, wget -r ftp://…/PMC4083729.tar.gz -P /path/to/Dir, tab, name.jpg.
    """
    links = folder / "dlinks.txt"
    if links.is_file():
        for line in tables.lines(links):
            name, link, file = [*line.rstrip("\r\n").split("\t"), "", ""][:3]
            archive = next((word for word in link.split() if word.endswith(".tar.gz")), "")
            paper = archive.rpartition("/")[2].removesuffix(".tar.gz")
            yield name, f"{paper}_{file.strip()}"


def _cuis(folder: pathlib.Path) -> dict[str, str]:
    """The concepts of cuis.txt, where it is there: ROCO_00002, two tabs, codes between tabs."""
    path = folder / "cuis.txt"
    rows = (line.split() for line in tables.lines(path)) if path.is_file() else ()
    return {row[0]: ";".join(row[1:]) for row in rows if row}


def _add_second(source: files.ListSource, base: pathlib.Path, split: str) -> None:
    root = pathlib.Path(source.root)
    names = SPLITS[split]
    listed = next((p for n in names if (p := base / f"{n}_captions.csv").is_file()), None)
    if listed is None:
        raise UserError(f"there is no {base / names[-1]}_captions.csv; fetch it from the release")
    name = listed.name.removesuffix("_captions.csv")
    places = [base / place for place in (f"{name}_images", name, "images")]
    there = [place for place in places if place.is_dir()]
    if not there:
        raise UserError(f"no images of {listed}: unpack {name}_images.zip into {places[0]}")
    images = captions.Images(root, captions.folders(there[0], 1), str(there[0]))
    form = captions.table(listed, captions.CAPTIONS)
    cuis = captions.concepts(base / f"{name}_concepts.csv")
    read = functools.partial(_second_case, images, cuis, form)
    source.add(split, listed.relative_to(root).as_posix(), form.rows(), read)


def _second_case(
    images: captions.Images,
    cuis: dict[str, str],
    form: captions.Table,
    row: dict[str, str],
    number: int,
    split: str,
) -> Case:
    name, caption = files.text(row, form.id), files.text(row, form.text)
    image = images.find(name, form.id)
    return captions.case(split, name, image, caption, cuis=cuis.get(name, ""))
