"""A folder of one's own: images with a table, or with a text file beside each.

**A table** (CSV with commas, semicolons or tabs, TSV, JSON lines, each also as .gz, or a JSON
list): one a split (train, val and test, under their usual names, or as metadata in folders of
these names), or one for all: `table`, else metadata.*, else the only one there is. What
a column holds is guessed from its name (`columns.NAMES`) or named, `config.data.folder.answer=…`
for image, question, answer (the text of a report or caption), id, split, patient and study; `-`
takes no column. One line says which were taken. Other columns stay as fields, short values only.

An image cell is a path from the table, from its images/, from the folder, or an absolute one (also
outside of the folder, read in place); or a base name that the folder holds once, with or without
its suffix; a frame of a DICOM file is file.dcm#5. Several are a list, or parted by ; or |. A row
without an image is bad.

**No table**, or `table` is `-`: every image with a text of the same name beside it, a.png and
a.txt, for configs/caption.py and configs/mrg.py; folders named train, val, test (or the like) are
the splits.

Without a test split, `test_fraction` of the cases are set aside for it: whole patients, studies
and images, chosen by their names alone, whatever the order of the rows and the seed.
PeFoMed's object of image -> [report] is read as `data=pefomed` reads it.
"""

import pathlib

from ml_collections import ConfigDict

from pefomed_jax.data.sources import files, pefomed
from pefomed_jax.data.sources.folder import carve, columns, rows, sidecar, table
from pefomed_jax.data.sources.listing import Listing
from pefomed_jax.errors import UserError


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: neither a table nor texts, columns that are not there or not clear."""
    place, own = files.folder_of(config, "folder"), config.data.folder
    if not 0 <= own.test_fraction < 1:
        raise UserError(f"data.folder.test_fraction={own.test_fraction}: from 0 to below 1")
    root, found = _tables(place, own.table)
    if any(table.is_object_of_reports(path) for path in found.values()):
        return pefomed.read("folder", root, config)
    task = {"vqa": "vqa", "caption": "caption", "mrg": "report"}[config.task]
    source = files.ListSource("folder", task, str(root))
    listing = Listing(root)
    if found:
        for split, path in found.items():
            _add(source, config, split, path, listing)
    else:
        sidecar.add(source, config.task, listing)
    used = {name for split in source.splits for c in source.cases(split) for name in c.images}
    if unused := len(listing.pictures - {name.partition("#")[0] for name in used}):
        print(f"folder: {unused} images in {root} are in no case")
    carve.set_aside(source, own.test_fraction)
    counts = ", ".join(f"{len(source.cases(split))} {split}" for split in source.splits)
    print(f"folder: {counts}, {len(source.bad_rows)} bad rows in {root}")
    return source


def _tables(place: pathlib.Path, named: str) -> tuple[pathlib.Path, dict[str, pathlib.Path]]:
    """The folder and its tables by split; `place` may be a table itself."""
    if not place.is_dir():
        return place.parent, table.find(place.parent, place.name)
    found = table.find(place, named)
    if found:
        return place, found
    root = _inmost(place)
    return root, {} if named else table.find(root, "")


def _inmost(root: pathlib.Path) -> pathlib.Path:
    """The folder in which things are, where archives unpacked to a folder in a folder."""
    inside = [path for path in sorted(root.iterdir()) if not path.name.startswith(".")]
    inside = [path for path in inside if path.name != "__MACOSX"]
    alone = len(inside) == 1 and inside[0].is_dir() and inside[0].name not in table.SPLITS
    return _inmost(inside[0]) if alone else root


def _add(
    source: files.ListSource,
    config: ConfigDict,
    split: str,
    path: pathlib.Path,
    listing: Listing,
) -> None:
    """Reads a table; `split` is '' where a column tells it, or nothing does."""
    opened = table.read(path)
    taken = columns.take(opened, config.task, config.data.folder, asks_split=not split)
    name = path.name
    if path.is_relative_to(source.root):
        name = path.relative_to(source.root).as_posix()
    print(f"folder: {name}: {columns.said(taken)}")
    reader = rows.Reader(source, path.parent, taken, listing)
    source.add(split or "train", name, opened.rows(), reader.case)
