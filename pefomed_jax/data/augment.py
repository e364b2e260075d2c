"""Augmentation that leaves a radiograph a radiograph: small movements, exposure, contrast.

It is applied to the square picture after the resize, so that resized pictures can be cached. All
is off by default; mirroring above all, as it swaps the left and right of a patient, which reports
name.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pefomed_jax.errors import UserError

LIMITS = {  # greatest strength that is taken
    "rotate": 180.0,
    "shift": 0.5,
    "zoom": 1.0,
    "brightness": 1.0,
    "contrast": 1.0,
}


@dataclasses.dataclass(frozen=True)
class Augment:
    """The greatest strength of each change; 0: none. What is drawn is uniform in ± that."""

    rotate: float = 0.0  # degrees
    shift: float = 0.0  # share of the side, along each axis
    zoom: float = 0.0  # 0.1: the side of what is shown grows or shrinks by up to 1.1 times
    brightness: float = 0.0  # share of the full range of grey levels, added
    contrast: float = 0.0  # 0.2: distances from the mean level are multiplied by 1/1.2 to 1.2
    flip: bool = False  # left to right, half of the time

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            if not 0 <= getattr(self, name) <= limit:
                raise UserError(
                    f"data.augment.{name} = {getattr(self, name)} is not within 0 and {limit:g}"
                )

    @property
    def moves(self) -> bool:
        return bool(self.rotate or self.shift or self.zoom)

    @property
    def exposes(self) -> bool:
        return bool(self.brightness or self.contrast)


def apply(
    image: UInt8[np.ndarray, "S S 3"], augment: Augment, rng: np.random.Generator
) -> UInt8[np.ndarray, "S S 3"]:
    """The square picture changed at random; the picture itself where nothing is on.

    Seven numbers are drawn, whatever is on. What comes in from outside is black, grey stays grey.
    """
    if augment == Augment():
        return image
    turn, across, down, zoom, light, contrast, mirror = rng.uniform(-1.0, 1.0, 7)
    if augment.moves:
        angle = math.radians(augment.rotate * turn)
        step = image.shape[0] * augment.shift
        image = _moved(image, angle, step * across, step * down, (1 + augment.zoom) ** zoom)
    if augment.exposes:
        image = _exposed(
            image, 255 * augment.brightness * light, (1 + augment.contrast) ** contrast
        )
    if augment.flip and mirror > 0:
        image = np.ascontiguousarray(image[:, ::-1])
    return image


def _moved(
    image: UInt8[np.ndarray, "S S 3"], angle: float, across: float, down: float, scale: float
) -> UInt8[np.ndarray, "S S 3"]:
    """Turned about its centre (counter-clockwise), enlarged, then moved right and down; bicubic."""
    c = image.shape[0] / 2
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    # Pillow asks for every pixel of the outcome where it comes from
    x = c - cos * (c + across) + sin * (c + down)
    y = c - sin * (c + across) - cos * (c + down)
    inverse = (cos, -sin, x, sin, cos, y)
    picture = Image.fromarray(image)
    turned = picture.transform(
        picture.size, Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC, fillcolor=0
    )
    return np.asarray(turned, np.uint8)


def _exposed(
    image: UInt8[np.ndarray, "S S 3"], light: float, contrast: float
) -> UInt8[np.ndarray, "S S 3"]:
    mean = float(image.mean())
    levels = (np.arange(256.0) - mean) * contrast + mean + light
    return np.rint(np.clip(levels, 0, 255)).astype(np.uint8)[image]
