"""Images without a data set: those of a folder, of a list of paths, or one, each asked the same."""

import functools
import os
import pathlib
from collections.abc import Iterator

from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data import dicom, reading
from pefomed_jax.data.sources.files import ListSource, RowError
from pefomed_jax.errors import UserError

NAME = "images"
DICOMDIR = "DICOMDIR"  # names the files of a disk, and is DICOM without an image itself
NAMED = 3  # of the files that are left out for one reason


def load(place: str, prompt: str) -> ListSource:
    """Cases of the split '' without an answer; ids are the paths under the folder, or as listed.

    `place`: a folder, read with all its folders in the order of names; an image; or a text file
    with one path a line, absolute or from where the list lies. DICOM files need no suffix; of
    several frames the first is shown, FILE#5 is the one of number 5. What is listed but not there,
    listed twice, or of a name that is not UTF-8, is among the `bad_rows`. Errors: UserError where
    there is no image at all.
    """
    path = pathlib.Path(place).expanduser()
    whole = os.path.realpath(path)
    if (shown := printable(whole)) != whole:
        raise UserError(f"--images: the name of {shown} is not UTF-8; rename it")
    if not reading.place(path)[0].exists():
        raise UserError(f"--images: there is no {path}; name a folder, an image or a list of paths")
    if path.is_dir():
        root, names = path, _inside(path)
    elif _is_image(reading.place(path)[0]):
        root, names = path.parent, [path.name]
    else:
        root, names = path.parent, _listed(path)
    if not any(names):
        kinds = ", ".join(sorted(_suffixes() & {".png", ".jpg", ".dcm", ".tif", ".bmp", ".webp"}))
        raise UserError(f"--images: no image in {path} ({kinds} and the like)")
    source = ListSource(NAME, "", str(root))

    def read(name: str, number: int, split: str) -> Case:
        if name in source.where:
            problem = f"{name} is row {source.where[name][1]} already"
            raise RowError("path", problem, "delete one of them")
        if (shown := printable(name)) != name:
            raise RowError("path", f"the name of {shown} is not UTF-8", "rename the file")
        if not reading.place(root / name)[0].is_file():
            raise RowError("path", f"{name} is missing", "correct its path")
        return Case(name, (name,), prompt, "", split)

    source.add("", path.name, names, read, keep=bool)
    return source


def printable(path: str | pathlib.Path) -> str:
    """A path with the bytes of it that are not UTF-8 as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _inside(folder: pathlib.Path) -> list[str]:
    """Paths under the folder of images; says what else is there."""
    named, left = [], {}
    for path, why in sorted(_walk(folder)):
        (left.setdefault(why, []) if why else named).append(path.relative_to(folder).as_posix())
    if left:
        count = sum(map(len, left.values()))
        print(f"{folder}: {count} left out: {', '.join(map(_some, left, left.values()))}")
    return named


def _some(why: str, names: list[str]) -> str:
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} {why} ({', '.join(map(printable, names[:NAMED]))}{more})"


def _walk(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, str]]:
    """Everything under the folder but folders, each with why it is no image, or ''."""
    closed: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=closed.append):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from ((pathlib.Path(place, name), "linked and not followed") for name in links)
        yield from ((path, _unfit(path)) for path in (pathlib.Path(place, name) for name in files))
    yield from ((pathlib.Path(error.filename), "not readable") for error in closed)


def _unfit(path: pathlib.Path) -> str:
    """Why a file is left out; '' for one that is named like an image, or is DICOM."""
    if path.name.startswith("."):
        return "hidden"
    if not os.path.isfile(path):  # pathlib raises where a folder may not be searched
        return "linked to no file" if os.path.islink(path) else "not readable as files"
    if path.name == DICOMDIR:
        return "an index of DICOM files"
    return "" if _is_image(path) else "not named like images"


def _listed(path: pathlib.Path) -> list[str]:
    """The path on every line; '' for a blank one."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise UserError(
            f"--images: {path} is neither an image nor a list (not UTF-8 at byte {error.start}); "
            "name a folder, an image, or a text file of paths"
        ) from None


def _is_image(path: pathlib.Path) -> bool:
    """By its name, or as DICOM by its content: scanners give names like IM000001 and 1.2.840.3."""
    if path.suffix.lower() in _suffixes():
        return True
    try:
        return path.is_file() and dicom.is_dicom(path)
    except OSError:
        return False


@functools.cache
def _suffixes() -> frozenset[str]:
    """Of the files that `reading` opens."""
    kinds = Image.registered_extensions().items()
    return reading.SUFFIXES | {suffix for suffix, kind in kinds if kind in reading.FORMATS}
