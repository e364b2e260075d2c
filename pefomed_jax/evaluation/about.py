"""The images that a row of predictions is about."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def image_names(row: Row) -> list[str]:
    """All names under `images`, else what stands under `image`: none, one, or a list of them."""
    several = row.get("images")
    held = several if _names(several) else row.get("image")
    if isinstance(held, list | tuple):
        return [str(name) for name in held if name]
    return [] if held is None or held == "" else [str(held)]


def _names(held: Any) -> bool:
    """Whether a field holds names: other people's files may count images there."""
    return isinstance(held, list | tuple) and all(isinstance(name, str) for name in held)


def without_images(rows: Sequence[Row]) -> list[Any]:
    """The ids of the cases of text alone; [] where no row says which images it is about."""
    bare = [row["id"] for row in rows if not image_names(row)]
    return bare if len(bare) < len(rows) else []
