"""Several sources as one: every id begins with its source's name, which `data.ratios` weighs."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data.levels import Window
from pefomed_jax.data.sources import Source
from pefomed_jax.data.sources.files import BadRow


class Mixture:
    """Their cases, one source after the other."""

    def __init__(self, sources: Sequence[Source]):
        self.parts = {source.name: source for source in sources}
        self.name = "+".join(self.parts)

    @property
    def window(self) -> Window:
        """Of DICOM files, the same for all."""
        windows = (part.window for part in self.parts.values() if hasattr(part, "window"))
        return next(windows, "auto")

    @property
    def bad_rows(self) -> list[BadRow]:
        """Those of all, each file under its source's name."""
        return [
            dataclasses.replace(row, file=f"{name}/{row.file}")
            for name, source in self.parts.items()
            for row in getattr(source, "bad_rows", ())
        ]

    def cases(self, split: str) -> list[Case]:
        """The cases of a split of every source that has it; images keep their own names."""
        return [
            dataclasses.replace(
                case,
                id=f"{name}/{case.id}",
                images=tuple(f"{name}/{image}" for image in case.images),
            )
            for name, source in self.parts.items()
            for case in source.cases(split)
        ]

    def own(self, case: Case) -> tuple[Source, Case]:
        """The source of a case, and the case as that source knows it."""
        name, _, own_id = case.id.partition("/")
        images = tuple(image.removeprefix(f"{name}/") for image in case.images)
        return self.parts[name], dataclasses.replace(case, id=own_id, images=images)

    def image(self, case: Case, number: int = 0) -> Image.Image | np.ndarray:
        """An image of a case, as the source that the image's name tells opens it.

        That need not be the case's own: the control shows images of other cases.
        """
        name, _, image = case.images[number].partition("/")
        return self.parts[name].image(dataclasses.replace(case, images=(image,)))
