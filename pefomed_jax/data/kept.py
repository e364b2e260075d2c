"""Images that are prepared once instead of in every epoch: resized squares, or tower features.

Both are asked for (`data.cache_pixels`, `data.cache_features`) and change no answer: squares are
the bytes that decoding gives, features what the frozen tower makes of them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data import cache, facts
from pefomed_jax.data.sources import Source
from pefomed_jax.data.store import Store

THREADS, AT_ONCE = 4, 64
Square = Callable[[Case, int], np.ndarray]  # a case, and which of its images -> uint8 [S, S, 3]


@dataclasses.dataclass(frozen=True)
class Kept:
    """A source with what is kept of its images; a Source itself."""

    source: Source
    squares: Store | None = None  # uint8 [S, S, 1 or 3]
    features: Store | None = None  # [P, E]

    @property
    def name(self) -> str:
        return self.source.name

    def cases(self, split: str) -> list[Case]:
        """Those of the source."""
        return self.source.cases(split)

    def image(self, case: Case, number: int = 0) -> Image.Image | np.ndarray:
        """The image as the source stores it."""
        return self.source.image(case, number)


def squares(
    source: Source, cases: Sequence[Case], square: Square, made_by: Any, config: ConfigDict
) -> Kept:
    """The source with the squares of these cases' images, those that are new made by `square`.

    `made_by` stands for everything that `square` depends on beside the image.
    """
    wanted = facts.places(source, cases)
    known = facts.of(source, cases, config.data.cache)
    grey = all(facts.is_grey(known[name].mode) for name in wanted)
    size, channels = config.model.vision.image_size, 1 if grey else 3
    where = cache.folder(config.data.cache, "pixels")
    key = cache.key(facts.roots(source), size, channels, made_by)
    store = Store(where / key, (size, size, channels), np.uint8)

    def make(names: Sequence[str]) -> np.ndarray:
        with ThreadPoolExecutor(THREADS) as pool:
            return np.stack([*pool.map(lambda name: square(*wanted[name])[..., :channels], names)])

    stamps = {name: facts.stamp_of(source, *where) for name, where in wanted.items()}
    new = store.fill(stamps, make, AT_ONCE, "resized images")
    print(f"data.cache_pixels: {len(wanted)} images in {store.path}.bin, {new} of them new")
    return Kept(source, squares=store)
