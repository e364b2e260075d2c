"""The reports of Open-i, and where their images are."""

import os
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

from pefomed_jax.data.sources import files

LARGEST = 1 << 20  # bytes of a report; the real ones have a few thousand
SUFFIXES = (".dcm", ".jpg", ".jpeg", ".png")  # a later one is preferred


class Report(NamedTuple):
    """What an XML file says."""

    texts: dict[str, str]  # by label in small letters
    images: list[str]
    mesh: list[str]  # the headings set by hand


def below(root: pathlib.Path) -> tuple[list[str], dict[str, str]]:
    """Reports in the order of their numbers, and images by name without suffix."""
    reports: list[str] = []
    images: dict[str, list[str]] = {}
    for folder, _, names in os.walk(root):
        place = pathlib.Path(folder).relative_to(root)
        for name in names:
            stem, suffix = os.path.splitext(name)
            if name.startswith("."):
                continue
            if suffix.lower() == ".xml":
                reports.append((place / name).as_posix())
            elif suffix.lower() in SUFFIXES:
                images.setdefault(stem.removesuffix(".dcm"), []).append((place / name).as_posix())
    best = {stem: max(paths, key=_preferred) for stem, paths in images.items()}
    return sorted(reports, key=_number), best


def _preferred(path: str) -> tuple[int, str]:
    return SUFFIXES.index(os.path.splitext(path)[1].lower()), path


def _number(path: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", pathlib.PurePath(path).stem)
    return int(digits or 0), path


def parse(path: pathlib.Path) -> Report:
    """A report of Open-i. Raises RowError where it is no such XML, too large, or declares a DTD.

    A DTD can hold entities that grow without bound; the reports have none.
    """
    if (size := path.stat().st_size) > LARGEST:
        raise files.RowError("file", f"{size:,} bytes are no report", "fetch it again")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 at byte {error.start}"
        raise files.RowError("file", problem, "save it as UTF-8") from None
    if re.search(r"<!\s*(doctype|entity)", text, re.IGNORECASE):
        raise files.RowError("file", "declares a document type", "fetch it again")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise files.RowError("file", f"is no XML ({error})", "fetch it again") from None
    if tree.tag != "eCitation":
        raise files.RowError("file", f"<{tree.tag}> is no report of Open-i", "move it away")
    return _report(tree)


def _report(tree: ElementTree.Element) -> Report:
    texts: dict[str, str] = {}
    for part in tree.iter("AbstractText"):
        label = part.get("Label", "").strip().lower()
        words = f"{texts.get(label, '')} {''.join(part.itertext())}".split()
        texts[label] = " ".join(words)
    images = [part.get("id", "").strip() for part in tree.iter("parentImage")]
    mesh = [" ".join((part.text or "").split()) for part in tree.iter("major")]
    return Report(texts, [name for name in images if name], [name for name in mesh if name])


def image_path(images: dict[str, str], name: str) -> str:
    """Image CXR1_1_IM-0001-3001 is CXR1_1_IM-0001-3001.png, or 1/1_IM-0001-3001.dcm."""
    for stem in (name, re.sub(r"^CXR\d+_", "", name)):
        if stem in images:
            return images[stem]
    raise files.RowError("parentImage", f"no image {name}", "unpack the images again")
