"""Where in an unpacked folder a set lies."""

import pathlib
from collections.abc import Callable

from pefomed_jax.errors import UserError


def inner(root: pathlib.Path, holds: Callable[[pathlib.Path], bool]) -> pathlib.Path | None:
    """The folder, or the one inside it, that `holds`: archives unpack to either; None if none.

    Errors: UserError where two folders inside do.
    """
    if not root.is_dir():
        return None
    if holds(root):
        return root
    found = [path for path in sorted(root.iterdir()) if path.is_dir() and holds(path)]
    if len(found) > 1:
        raise UserError(f"data.dir: {found[0]} and {found[1].name} both hold this set; name one")
    return found[0] if found else None
