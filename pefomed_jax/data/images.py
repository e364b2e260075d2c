"""Pictures on the host: any stored mode to RGB, then to a square; uint8 until the device.

The sane default is a plain bicubic resize to (size, size), or with black beside it where the aspect
is to stay. `random_crop_flip` is the official training transform (crop of 50-100 % of the area,
aspect 3/4-4/3, mirrored half of the time); a mirrored chest film swaps left and right, so it is a
quirk. Files are opened by `reading`.
"""

import math
import pathlib

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from pefomed_jax.data import reading
from pefomed_jax.data.levels import Window
from pefomed_jax.errors import ImageError, UserError

BICUBIC = Image.Resampling.BICUBIC
FITS = ("stretch", "pad")  # config.data.fit: to the square whatever the aspect, or black beside it
Given = Image.Image | np.ndarray | str | pathlib.Path  # a picture as a person hands it over


def prepare(
    picture: Image.Image | np.ndarray, size: int, fit: str = "stretch", plain: bool = False
) -> UInt8[np.ndarray, "S S 3"]:
    """A picture of any mode as a square of `size` pixels. `plain`: see `to_rgb`."""
    return resize(_flat(picture, plain), size, fit)


def to_rgb(image: Image.Image | np.ndarray, plain: bool = False) -> Image.Image:
    """An RGB picture of any mode.

    16-bit, 32-bit and float images are scaled from their own least-greatest range to 0-255 (12 bits
    are often stored in 16; Pillow alone would clip at 255); a constant one is read as 16 bits.
    Transparent pixels become black. `plain`: Pillow's conversion alone, which clips and shows what
    lies under transparent pixels.
    """
    return _flat(image, plain).convert("RGB")


def _flat(image: Image.Image | np.ndarray, plain: bool) -> Image.Image:
    """'L' where the picture is grey by its mode, else 'RGB': one channel is resized in a third."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if plain:
        with reading.quiet():
            return image.convert("L" if image.mode in ("L", "1") else "RGB")
    if image.mode.startswith(("I", "F")):
        return _scaled(image)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("L" if image.mode in ("L", "1") else "RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """The range of its finite values to 0-255."""
    values = np.asarray(image)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        low, high = float(values.min()), float(values.max())
        return Image.fromarray(_levels(np.arange(2**16, dtype=np.float64), low, high)[values])
    values = values.astype(np.float64)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    return Image.fromarray(_levels(np.nan_to_num(values, nan=low), low, high))


def _levels(
    values: Float64[np.ndarray, "..."], low: float, high: float
) -> UInt8[np.ndarray, "..."]:
    if high == low:
        low, high = 0.0, 65535.0
    return np.round(np.clip((values - low) / (high - low), 0.0, 1.0) * 255.0).astype(np.uint8)


def resize(image: Image.Image, size: int, fit: str = "stretch") -> UInt8[np.ndarray, "S S 3"]:
    """The whole 'L' or 'RGB' picture, bicubic, to (size, size).

    Bit for bit what torchvision does to a picture; docs/data.md says how far its tensors differ.
    """
    if fit == "stretch":
        return _three(image.resize((size, size), BICUBIC))
    width, height = (max(1, round(size * side / max(image.size))) for side in image.size)
    square = Image.new(image.mode, (size, size))
    middle = ((size - width) // 2, (size - height) // 2)
    square.paste(image.resize((width, height), BICUBIC), middle)
    return _three(square)


def _three(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    pixels = np.asarray(image, np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def random_crop_flip(
    image: Image.Image | np.ndarray, size: int, rng: np.random.Generator, plain: bool = False
) -> UInt8[np.ndarray, "S S 3"]:
    """A random part of a picture of any mode, to (size, size), mirrored half of the time."""
    image = _flat(image, plain)
    # cut out first: resize(box=...) would blend in pixels from outside the box
    part = image.crop(_crop_box(*image.size, rng)).resize((size, size), BICUBIC)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _three(part)


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


def given(picture: Given, window: Window = "auto") -> Image.Image:
    """The RGB picture; `window`: of a DICOM file.

    Errors: UserError where it is none, or its file does not open.
    """
    if not isinstance(picture, str | pathlib.Path):
        return _converted(picture)
    try:
        return to_rgb(reading.opened(picture, window))
    except ImageError as error:
        if error.reason == reading.MISSING:
            raise UserError(f"there is no image {picture}; correct its path") from None
        raise UserError(f"{picture} cannot be opened as an image ({error.reason})") from None


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
