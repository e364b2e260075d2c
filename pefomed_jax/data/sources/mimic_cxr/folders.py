"""What lies where below a folder: the tables, the trees of images and reports, the zipped reports.

Everything is found by its official name, at most `DEPTH` folders deep: as wget leaves it
(physionet.org/files/mimic-cxr-jpg/2.1.0/), one version's folder, or its files/ itself.
"""

import itertools
import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from pefomed_jax.errors import UserError

DEPTH = 6
FOLDERS = 1000  # read at most, where a folder was named that holds other things
PATIENTS = 20  # of a group, looked into to see what a tree holds
IMAGES = (".jpg", ".png", ".dcm")  # the first of these that there is
ZIPPED = "mimic-cxr-reports.zip"
TABLE = re.compile(r"mimic-cxr-[\d.]+-(split|metadata|chexpert|negbio)\.csv(\.gz)?")
GROUP = re.compile(r"p1\d")  # of patients


class Found(NamedTuple):
    """Paths below `root`."""

    tables: dict[str, pathlib.Path]  # split, metadata, chexpert, negbio
    trees: list[pathlib.Path]  # folders of p10 ... p19
    zipped: pathlib.Path | None  # the reports as downloaded


def find(root: pathlib.Path) -> Found:
    """Errors: one table in two folders."""
    tables: dict[str, pathlib.Path] = {}
    trees, zipped = [], None
    for folder, names in itertools.islice(_walk(root), FOLDERS):
        if any(GROUP.fullmatch(name) for name in names):
            trees.append(folder)
        if ZIPPED in names:
            zipped = zipped or folder / ZIPPED
        for name in names:
            if match := TABLE.fullmatch(name):
                _take(tables, match[1], folder / name)
    return Found(tables, trees, zipped)


def _take(tables: dict[str, pathlib.Path], kind: str, path: pathlib.Path) -> None:
    """Of a table that lies there packed and unpacked, the one as downloaded."""
    other = tables.get(kind)
    if other and (other.name.removesuffix(".gz") != path.name.removesuffix(".gz")):
        raise UserError(f"mimic_cxr: {other} and {path} are the same table: keep one")
    if other and other.parent != path.parent:
        raise UserError(f"mimic_cxr: {other} lies in {path.parent} as well: keep one")
    tables[kind] = path if not other or path.suffix == ".gz" else other


def _walk(root: pathlib.Path) -> Iterator[tuple[pathlib.Path, list[str]]]:
    """(folder, its names in order), `root` first; folders of patients and studies are left."""
    level = [root]
    for _ in range(DEPTH):
        below: list[pathlib.Path] = []
        for folder in level:
            entries = [entry for entry in _inside(folder) if entry.name[0] != "."]
            yield folder, [entry.name for entry in entries]
            further = [e for e in entries if not re.match(r"[ps]\d", e.name) and e.is_dir()]
            below += [folder / entry.name for entry in further]
        level = below


def _inside(folder: str | pathlib.Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        raise UserError(f"mimic_cxr: {folder} may not be read; correct its permissions") from None


def groups(tree: pathlib.Path) -> list[str]:
    """p10 to p19, those that there are."""
    return [e.name for e in _inside(tree) if GROUP.fullmatch(e.name) and e.is_dir()]


def patients(tree: pathlib.Path) -> set[str]:
    """The names of the folders of patients, p10000032 and so on."""
    return {e.name for group in groups(tree) for e in _inside(tree / group)}


def studies(tree: pathlib.Path, patient: str) -> set[str]:
    """The names of a patient's folders of images; none where there is no such patient."""
    try:
        return {e.name for e in _inside(tree / patient[:3] / patient) if e.is_dir()}
    except FileNotFoundError:
        return set()


def image_tree(trees: list[pathlib.Path]) -> tuple[pathlib.Path, str] | None:
    """The tree that holds images, with their suffix; JPEG before DICOM."""
    for limit in (PATIENTS, None):  # where few studies were fetched, the search is long
        kinds = [(_image_suffix(tree, limit), tree) for tree in trees]
        for suffix in IMAGES:
            for kind, tree in kinds:
                if kind == suffix:
                    return tree, suffix
    return None


def _image_suffix(tree: pathlib.Path, limit: int | None) -> str:
    for patient in _some_patients(tree, limit):
        for study in (e.path for e in _inside(patient) if e.is_dir()):
            there = {os.path.splitext(e.name)[1] for e in _inside(study)}
            if kind := next((suffix for suffix in IMAGES if suffix in there), ""):
                return kind
    return ""


def report_tree(trees: list[pathlib.Path]) -> pathlib.Path | None:
    """The first tree that holds reports."""
    for tree in trees:
        for patient in _some_patients(tree, PATIENTS):
            if any(re.fullmatch(r"s\d+\.txt", e.name) for e in _inside(patient)):
                return tree
    return None


def _some_patients(tree: pathlib.Path, limit: int | None) -> Iterator[str]:
    for group in groups(tree):
        yield from [e.path for e in _inside(tree / group) if e.is_dir()][:limit]
