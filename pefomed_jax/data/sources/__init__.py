"""Data sets by name. A source hands out cases (text only) and opens their images in place."""

import importlib
from typing import Protocol, runtime_checkable

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import options
from pefomed_jax.errors import UserError, nearest


@runtime_checkable
class Source(Protocol):
    """What the pipeline asks of a data set; it travels to worker processes, so it pickles.

    Sources over lists of files are `files.ListSource` and also know their bad rows.
    """

    name: str

    def cases(self, split: str) -> list[Case]:
        """The cases of 'train', 'val' or 'test', in the set's own order; [] for no such split."""
        ...

    def image(self, case: Case, number: int = 0) -> Image.Image | np.ndarray:
        """case.images[number] as stored: a picture, or uint8 [H, W] or [H, W, 3]."""
        ...


def names(config: ConfigDict) -> list[str]:
    """The sets that config.data.source names. Errors: an unknown one, a set for another task."""
    found = config.data.source.split("+")
    for name in found:
        if name not in options.TASKS:
            known = ", ".join(options.TASKS)
            near = nearest(name, options.TASKS)
            raise UserError(f"data.source '{name}' is not one of {known}{near}")
        if config.task not in (tasks := options.TASKS[name]):
            files = " or ".join(f"configs/{task}.py" for task in tasks)
            raise UserError(
                f"data.source {name} does not serve configs/{config.task}.py: use {files}"
            )
    if len(set(found)) < len(found):
        raise UserError(f"data.source '{config.data.source}' names a set twice: name each once")
    return found


def load(config: ConfigDict) -> Source:
    """The source config.data.source names, or their mixture. Errors: see `names` and the sets."""
    made = [_load(name, config) for name in names(config)]
    if len(made) == 1:
        return made[0]
    from pefomed_jax.data.sources.mixture import Mixture  # it needs the protocol above

    return Mixture(made)


def _load(name: str, config: ConfigDict) -> Source:
    # imported on demand: some bring a library along, and these need the protocol above
    from pefomed_jax.data import dicom, index, records

    if folder := records.folder_of(config, name):
        from pefomed_jax.data.records.source import load as read_records

        source = read_records(name, folder, config)
    else:
        read = importlib.import_module(f"pefomed_jax.data.sources.{name}").load
        if name == "phantom":  # drawn, not read
            return read(config)
        source = index.of(name, config, read)
    source.window = dicom.parse_window(config.data.window)
    return source
