"""Files that are the old ones or the new ones, never a part."""

import os
import pathlib
from collections.abc import Iterable


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file in one move, so that whoever is killed leaves nothing half-written under it."""
    path = pathlib.Path(path)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(part, path)


def write_lines(path: str | os.PathLike[str], lines: Iterable[str]) -> None:
    """The same line by line, for what is too much to be held at once; ends of lines are added."""
    path = pathlib.Path(path)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    os.replace(part, path)
