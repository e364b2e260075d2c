"""Images on the host: any stored mode to RGB, then to a square; uint8 until the device.

The sane default is a plain bicubic resize to (size, size). `random_crop_flip` is the official
training transform (crop of 50-100 % of the area, aspect 3/4-4/3, mirrored half of the time);
a mirrored chest film swaps left and right, so it is a quirk.
"""

import math
import pathlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pefomed_jax.errors import UserError

BICUBIC = Image.Resampling.BICUBIC
Given = Image.Image | np.ndarray | str | pathlib.Path  # a picture as a person hands it over


def to_rgb(image: Image.Image | np.ndarray, plain: bool = False) -> Image.Image:
    """An RGB picture of any mode.

    16-bit, 32-bit and float images are scaled from their own least-greatest range to 0-255 (12 bits
    are often stored in 16; Pillow alone would clip at 255); a constant one is read as 16 bits.
    Transparent pixels become black. `plain`: Pillow's conversion alone, which clips and shows what
    lies under transparent pixels.
    """
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if plain:
        return image.convert("RGB")
    if image.mode.startswith(("I", "F")):
        image = _scaled(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    values = np.asarray(image, np.float64)
    low, high = float(values.min()), float(values.max())
    if high == low:
        low, high = 0.0, 65535.0
    grey = np.clip((values - low) / (high - low), 0.0, 1.0) * 255.0
    return Image.fromarray(np.round(grey).astype(np.uint8))


def resize(image: Image.Image, size: int) -> UInt8[np.ndarray, "H W 3"]:
    """The whole RGB picture, bicubic, to (size, size) whatever its aspect."""
    return np.asarray(image.resize((size, size), BICUBIC), np.uint8)


def random_crop_flip(
    image: Image.Image, size: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """A random part of the picture, bicubic to (size, size), mirrored half of the time."""
    # cut out first: resize(box=...) would blend in pixels from outside the box
    part = image.crop(_crop_box(*image.size, rng)).resize((size, size), BICUBIC)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(part, np.uint8)


def _crop_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of 50-100 % of the area at aspect 3/4-4/3, in pixels."""
    for _ in range(10):
        area = width * height * rng.uniform(0.5, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(0, width - w + 1))
            top = int(rng.integers(0, height - h + 1))
            return left, top, left + w, top + h
    # a strip that no such crop fits: its middle, at the nearest allowed aspect
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def given(picture: Given) -> Image.Image:
    """The RGB picture. Errors: UserError where it is none, or its file does not open."""
    if not isinstance(picture, str | pathlib.Path):
        return _converted(picture)
    try:
        with Image.open(pathlib.Path(picture).expanduser()) as opened:
            return to_rgb(opened)
    except FileNotFoundError:
        raise UserError(f"there is no image {picture}; correct its path") from None
    except Exception as error:  # decoders raise whatever they like on broken files
        raise UserError(f"{picture} cannot be opened as an image ({error})") from None


def _converted(picture: Image.Image | np.ndarray) -> Image.Image:
    try:
        if isinstance(picture, np.ndarray) and picture.ndim < 2:
            raise TypeError  # Pillow makes a row of it
        return to_rgb(picture)
    except (TypeError, ValueError, AttributeError):
        said = f"{picture.dtype}{list(picture.shape)}" if isinstance(picture, np.ndarray) else ""
        raise UserError(
            f"{said or type(picture).__name__} is no image; give a path, a Pillow image, or an "
            f"array [H, W] or [H, W, 3] of uint8"
        ) from None
