"""Files that are the old ones or the new ones, never a part."""

import os
import pathlib


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file in one move, so that whoever is killed leaves nothing half-written under it."""
    path = pathlib.Path(path)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(part, path)
