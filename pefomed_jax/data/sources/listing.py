"""The files below a folder by name, listed once: for sets that name an image without its folder."""

import os
import pathlib
from collections.abc import Iterator

from pefomed_jax.data.reading import SUFFIXES


class Listing:
    """Paths under `root`, relative and posix, by base name.

    Linked folders are followed, each once; hidden files and what macOS adds to archives are left.
    """

    def __init__(self, root: pathlib.Path):
        self.paths = set(_walk(root))
        self._named: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}  # of images
        for path in sorted(self.paths):
            base = path.rpartition("/")[2]
            self._named.setdefault(base, []).append(path)
            stem, dot, suffix = base.rpartition(".")
            if f"{dot}{suffix}".lower() in SUFFIXES:
                self._stems.setdefault(stem, []).append(path)

    @property
    def pictures(self) -> set[str]:
        """The paths that are named like images."""
        return {path for paths in self._stems.values() for path in paths}

    def named(self, name: str) -> list[str]:
        """Where a base name is found."""
        return self._named.get(name, [])

    def images(self, name: str) -> list[str]:
        """Where an image is found by its base name, or by that without its suffix."""
        return self.named(name) or self._stems.get(name, [])


def _walk(root: pathlib.Path) -> Iterator[str]:
    seen = set()
    for place, folders, names in os.walk(root, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".")
            and name != "__MACOSX"
            and os.path.realpath(os.path.join(place, name)) not in seen
        ]
        inside = pathlib.Path(place).relative_to(root)
        yield from ((inside / name).as_posix() for name in names if not name.startswith("."))
