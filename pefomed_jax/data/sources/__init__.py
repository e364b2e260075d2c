"""Data sets by name. A source hands out cases (text only) and opens their images in place."""

import importlib
from typing import Protocol, runtime_checkable

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.errors import UserError, nearest

MODULES = {name: f"pefomed_jax.data.sources.{name}" for name in ("phantom", "vqa_rad", "pefomed")}


@runtime_checkable
class Source(Protocol):
    """What the pipeline asks of a data set; it travels to worker processes, so it pickles.

    Sources over lists of files are `files.ListSource` and also know their bad rows.
    """

    name: str

    def cases(self, split: str) -> list[Case]:
        """The cases of 'train', 'val' or 'test', in the set's own order; [] for no such split."""
        ...

    def image(self, case: Case) -> Image.Image | np.ndarray:
        """The image of a case as stored: a picture, or uint8 [H, W] or [H, W, 3]."""
        ...


def load(config: ConfigDict) -> Source:
    """The source config.data.source names. Errors: an unknown name, a set for another task."""
    name = config.data.source
    if name not in MODULES:
        known = ", ".join(MODULES)
        raise UserError(f"data.source '{name}' is not one of {known}{nearest(name, MODULES)}")
    if name == "vqa_rad" and config.task != "vqa":
        raise UserError("data.source vqa_rad holds questions, not reports: use configs/vqa.py")
    # imported on demand: the embedded source brings a data-set library along
    return importlib.import_module(MODULES[name]).load(config)
