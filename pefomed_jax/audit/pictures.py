"""Sizes and modes of the images, and what in them wants care."""

import collections
import pathlib
import statistics
from typing import Any

from pefomed_jax.audit.gather import Gathered
from pefomed_jax.data import facts

MOST = 3000  # distinct sizes kept for the picture of them
WIDE = 2.0  # long side over short side from which a square distorts a lot


def pictures(found: Gathered) -> dict[str, Any]:
    """Counts over the distinct images of the run's cases."""
    opened = {name: fact for name, fact in found.known.items() if not fact.problem}
    size = found.config.model.vision.image_size
    sizes = collections.Counter((fact.width, fact.height) for fact in opened.values())
    return {
        "images": len(found.known),
        "opened": len(opened),
        "modes": dict(collections.Counter(f.mode for f in opened.values()).most_common()),
        "kinds": dict(collections.Counter(_kind(name) for name in opened).most_common()),
        "sizes": [[*pair, n] for pair, n in sizes.most_common(MOST)],
        "n_sizes": len(sizes),
        "median": _median(sizes),
        "model": size,
        "small": sum(n for pair, n in sizes.items() if min(pair) < size),
        "long": sum(n for pair, n in sizes.items() if max(pair) > WIDE * min(pair)),
        "dicom": facts.reminder(opened.values()),
    }


def _kind(name: str) -> str:
    """The suffix of a file; a frame may be named behind it, as in scan.dcm#5."""
    return pathlib.PurePath(name.partition("#")[0]).suffix.lower() or "(none)"


def _median(sizes: collections.Counter[tuple[int, int]]) -> list[int]:
    """Of widths and of heights; [] without images."""
    return [round(statistics.median(side)) for side in zip(*sizes.elements(), strict=True)]
