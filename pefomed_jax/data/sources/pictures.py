"""Images without a data set: those of a folder, of a list of paths, or one, each asked the same."""

import pathlib

from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data.sources.files import ListSource, RowError
from pefomed_jax.errors import UserError

NAME = "images"


def load(place: str, prompt: str) -> ListSource:
    """Cases of the split '' without an answer; ids are the paths under the folder, or as listed.

    `place`: a folder, read with all its folders in the order of names; an image; or a text file
    with one path a line, absolute or from where the list lies. What is listed but not there, or
    listed twice, is among the `bad_rows`. Errors: UserError where there is no image at all.
    """
    path = pathlib.Path(place).expanduser()
    if not path.exists():
        raise UserError(f"--images: there is no {path}; name a folder, an image or a list of paths")
    if path.is_dir():
        root, names = path, _inside(path)
    elif path.suffix.lower() in _suffixes():
        root, names = path.parent, [path.name]
    else:
        root, names = path.parent, _listed(path)
    if not any(names):
        kinds = ", ".join(sorted(_suffixes() & {".png", ".jpg", ".jpeg", ".tif", ".bmp", ".webp"}))
        raise UserError(f"--images: no image in {path} ({kinds} and the like)")
    source = ListSource(NAME, "", str(root))

    def read(name: str, number: int, split: str) -> Case:
        if name in source.where:
            problem = f"{name} is row {source.where[name][1]} already"
            raise RowError("path", problem, "delete one of them")
        if not (root / name).is_file():
            raise RowError("path", f"{name} is missing", "correct its path")
        return Case(name, name, prompt, "", split)

    source.add("", path.name, names, read, keep=bool)
    return source


def _inside(folder: pathlib.Path) -> list[str]:
    """Paths under the folder that are named like images; says how many others there are."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    named = [p for p in files if p.suffix.lower() in _suffixes()]
    if others := [p for p in files if p.suffix.lower() not in _suffixes()]:
        kinds = ", ".join(sorted({p.suffix.lower() or "no suffix" for p in others}))
        print(f"{folder}: {len(others)} files are not named like images ({kinds}) and left out")
    return [p.relative_to(folder).as_posix() for p in named]


def _listed(path: pathlib.Path) -> list[str]:
    """The path on every line; '' for a blank one."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise UserError(
            f"--images: {path} is neither an image nor a list (not UTF-8 at byte {error.start}); "
            "name a folder, an image, or a text file of paths"
        ) from None


def _suffixes() -> set[str]:
    """Of the files that Pillow reads."""
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
