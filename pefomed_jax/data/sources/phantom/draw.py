"""From a scene to a picture: `render` draws the chest, its findings, and the film around them."""

import io

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from pefomed_jax.data.sources.phantom import anatomy, lesions
from pefomed_jax.data.sources.phantom.scene import LESIONS, Scene, rng_of

MASKS = ("enlarged heart", *LESIONS, "line")  # the planes of `render`'s second value


def render(
    scene: Scene, size: int = 128
) -> tuple[UInt8[np.ndarray, "S S"], Bool[np.ndarray, "6 S S"]]:
    """The grey picture and, for each name of MASKS, where that finding was drawn.

    A pure function of the scene (its seed included) and the size in pixels.
    """
    rng = rng_of(scene.seed, 1)
    b = anatomy.body(rng, size, enlarged=scene.enlarged_heart)
    image, lungs, core = anatomy.normal(b, rng)
    masks = dict.fromkeys(MASKS, np.zeros((size, size), np.float32))
    if scene.enlarged_heart:
        masks["enlarged heart"] = core
    for side, lesion in scene.lungs:
        if lesion:
            clear = lungs[side] * (1 - core)
            image, mask = lesions.draw(lesion, image, b, side, clear, rng)
            masks[lesion.kind] = np.maximum(masks[lesion.kind], mask)
    if scene.line:
        image, masks["line"] = lesions.line(image, b, rng)
    return _film(image, rng), np.stack([masks[name] > 0.5 for name in MASKS])


def _film(image: anatomy.Plane, rng: np.random.Generator) -> UInt8[np.ndarray, "S S"]:
    """Marker, uneven exposure, contrast and grain."""
    size = image.shape[0]
    image = image * (1 + 0.06 * lesions.noise(rng, size, 4))
    image = np.maximum(image, 0.9 * _marker(size, rng))
    image = np.clip(image, 0, 1) ** rng.uniform(0.85, 1.15) * rng.uniform(0.92, 1.08)
    image = image + rng.normal(0, rng.uniform(0.012, 0.03), image.shape)
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def _marker(size: int, rng: np.random.Generator) -> anatomy.Plane:
    """The letter L, at the patient's left."""
    plane = np.zeros((size, size), np.float32)
    unit = max(1, round(size / 64))
    top, left = (rng.integers(3, 7) * unit, size - rng.integers(8, 11) * unit)
    plane[top : top + 6 * unit, left : left + unit] = 1
    plane[top + 5 * unit : top + 6 * unit, left : left + 4 * unit] = 1
    return plane


def png(image: UInt8[np.ndarray, "S S"]) -> bytes:
    """The picture as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
