"""Pictures as a person hands them over: of each prompt one, several, or none.

Letters: I images of a prompt, S pixels of a side.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax.data import dicom, images
from pefomed_jax.errors import UserError

# of one prompt: a picture, several as a list or tuple, or () for text alone
Shown = images.Given | Sequence[images.Given]
Pictures = Sequence[Shown] | np.ndarray


def listed(found: Any) -> list[Sequence[Any]]:
    """The pictures of each prompt, of Pictures.

    Errors: UserError for a single picture: a path or an array has a length too.
    """
    single = isinstance(found, str | pathlib.Path | Image.Image)
    if single or (isinstance(found, np.ndarray) and (found.ndim < 3 or found.shape[2:] == (3,))):
        raise UserError("images is one image; give a list, also of one: [image]")
    return [each if isinstance(each, list | tuple) else (each,) for each in found]


def squares(shown: Sequence[Any], most: int, config: ConfigDict) -> UInt8[np.ndarray, "I S S 3"]:
    """The pictures of one prompt as the model sees them, black ones after them up to `most`.

    Errors: UserError for one that is no picture or does not open.
    """
    side, window = config.model.vision.image_size, dicom.parse_window(config.data.window)
    made = np.zeros((most, side, side, 3), np.uint8)
    for i, picture in enumerate(shown):
        made[i] = images.prepare(images.given(picture, window), side, config.data.fit)
    return made
