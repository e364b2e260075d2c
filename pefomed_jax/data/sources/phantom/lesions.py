"""Draws findings onto a chest; each returns the new picture and the mask of its finding."""

import itertools

import numpy as np
from PIL import Image

from pefomed_jax.data.sources.phantom import anatomy
from pefomed_jax.data.sources.phantom.anatomy import Body, Plane, soft
from pefomed_jax.data.sources.phantom.scene import Lesion


def draw(
    lesion: Lesion, image: Plane, b: Body, side: str, lung: Plane, rng: np.random.Generator
) -> tuple[Plane, Plane]:
    """Dispatches on lesion.kind; the mask is 0..1."""
    return _DRAW[lesion.kind](lesion, image, b, side, lung, rng)


def _effusion(lesion, image, b, side, lung, rng):
    """Opaque below a level that climbs towards the chest wall."""
    small = lesion.size == "small"
    rise = rng.uniform(0.10, 0.18) if small else rng.uniform(0.50, 0.66)
    u = anatomy.u_of(b, side)
    climb = rng.uniform(0.18, 0.24) * np.clip((u - 0.35) / 0.4, 0, 1.2) ** 2
    level = b.domes[side] + 0.10 - rise - climb
    # 2.2: no dark rim where the soft edges of lung and diaphragm meet
    fluid = np.minimum(1, 2.2 * lung) * soft(b.y - level, 0.022)
    return image + fluid * (rng.uniform(0.60, 0.68) - image), fluid


def _pneumothorax(lesion, image, b, side, lung, rng):
    """A near-black crescent without vessels, inside it the thin line of the lung's edge."""
    small = lesion.size == "small"
    width = rng.uniform(0.13, 0.17) if small else rng.uniform(0.30, 0.38)
    u, edge = anatomy.u_of(b, side), anatomy.outer_edge(b, width)
    top = b.y - (anatomy.APEX + 1.1 * width)
    collapsed = soft(edge - u, 0.012) * soft(top, 0.012)
    crescent = lung * (1 - collapsed)
    image = image + crescent * (0.05 - image)
    rim = lung * collapsed * (1 - soft(np.minimum(edge - u, top) - 0.022, 0.008))
    return image + 0.30 * np.clip(rim * 2, 0, 1), crescent


def _nodule(lesion, image, b, side, lung, rng):
    """A sharp disc off the heart, the hilum and the chest wall."""
    u0 = rng.uniform(0.38, 0.56)
    y0 = rng.uniform(-0.42, -0.20) if lesion.zone == "upper" else rng.uniform(0.02, 0.18)
    if side == "left" and lesion.zone == "lower":
        u0 = rng.uniform(0.56, 0.60)
    radius = rng.uniform(0.104, 0.13)
    disc = soft(radius - np.hypot(anatomy.u_of(b, side) - u0, b.y - y0), 0.009) * lung
    return image + disc * (rng.uniform(0.60, 0.70) - image), disc


def _consolidation(lesion, image, b, side, lung, rng):
    """A dense patch with a ragged edge and uneven density."""
    u0 = rng.uniform(0.38, 0.54)
    y0 = rng.uniform(-0.42, -0.24) if lesion.zone == "upper" else rng.uniform(0.12, 0.26)
    if side == "left" and lesion.zone == "lower":
        u0, y0 = rng.uniform(0.52, 0.58), rng.uniform(0.04, 0.18)
    ru, ry = rng.uniform(0.21, 0.28), rng.uniform(0.19, 0.27)
    u = anatomy.u_of(b, side)
    reach = np.hypot((u - u0) / ru, (b.y - y0) / ry)
    ragged = noise(rng, image.shape[0], 12)
    patch = lung * soft(1 - reach + 0.42 * ragged, 0.09)
    density = np.clip(0.85 + 0.30 * noise(rng, image.shape[0], 20), 0.4, 1)
    return image + patch * density * (rng.uniform(0.56, 0.66) - image), patch


_DRAW = {
    "effusion": _effusion,
    "pneumothorax": _pneumothorax,
    "nodule": _nodule,
    "consolidation": _consolidation,
}


def line(image: Plane, b: Body, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """A central venous line: from the upper left of the picture to beside the spine, then down."""
    y0, x1, y2 = rng.uniform(-0.74, -0.60), -rng.uniform(0.13, 0.17), rng.uniform(-0.05, 0.15)
    start, corner, tip = (-0.80, y0), (x1 - 0.04, -0.60), (x1 + 0.02, y2)
    points = [_bezier(start, corner, tip, t) for t in np.linspace(0, 1, 9)]
    width = max(0.012, 0.55 * b.pixel)
    pieces = [anatomy.bar(b, p, q, width) for p, q in itertools.pairwise(points)]
    mask = np.max(pieces, axis=0)
    return image + mask * (0.98 - image), mask


def _bezier(p, q, r, t: float) -> tuple[float, float]:
    a, c, d = (1 - t) ** 2, 2 * t * (1 - t), t**2
    return a * p[0] + c * q[0] + d * r[0], a * p[1] + c * q[1] + d * r[1]


def noise(rng: np.random.Generator, size: int, cells: int) -> Plane:
    """Smooth noise, about −1..1, with `cells` cells along an edge."""
    coarse = rng.normal(0, 0.6, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
