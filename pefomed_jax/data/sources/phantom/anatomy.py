"""The normal chest of a phantom: outlines as functions of place, and how bright each part is.

Coordinates: x to the right of the picture, y downwards, both −1..1 before tilt, scale and shift;
u = |x| counts away from the midline on either side. Edges are sigmoids of distance over width.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from pefomed_jax.data.sources.phantom import vessels

Plane = Float[np.ndarray, "S S"]
APEX, SHOULDER, INNER = -0.78, -0.02, 0.11  # y of the lung apex, y where its outer edge is straight


@dataclasses.dataclass(frozen=True)
class Body:
    """The proportions of one phantom, in coordinates."""

    x: Plane
    y: Plane
    pixel: float  # the size of a pixel
    outer: float  # u of the straight outer edge of the lungs
    domes: dict[str, float]  # y of the top of the diaphragm, by side
    heart: tuple[float, float, float, float, float]  # centre x, y, half-axes, tilt in radians


def soft(distance: Plane, width: float) -> Plane:
    """1 inside (distance > 0), 0 outside, with an edge `width` wide."""
    return (1.0 / (1.0 + np.exp(np.clip(-distance / width, -30, 30)))).astype(np.float32)


def body(rng: np.random.Generator, size: int, *, enlarged: bool) -> Body:
    """Draws the pose (tilt ± 2°, scale ± 7 %, shift) and the proportions."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    px, py = np.meshgrid(axis, axis)
    tilt, scale = np.deg2rad(rng.uniform(-2, 2)), rng.uniform(0.93, 1.07)
    dx, dy = rng.uniform(-0.04, 0.04, 2)
    x = (np.cos(tilt) * (px - dx) + np.sin(tilt) * (py - dy)) / scale
    y = (-np.sin(tilt) * (px - dx) + np.cos(tilt) * (py - dy)) / scale
    right = rng.uniform(0.36, 0.44)
    a = rng.uniform(0.46, 0.54) if enlarged else rng.uniform(0.29, 0.36)
    heart = (0.09 + 0.16 * a, rng.uniform(0.24, 0.30), a, rng.uniform(0.27, 0.31) + 0.12 * a)
    return Body(
        x=x.astype(np.float32),
        y=y.astype(np.float32),
        pixel=2 / size / scale,
        outer=rng.uniform(0.75, 0.80),
        domes={"right": right, "left": right + rng.uniform(0.04, 0.08)},
        heart=(*heart, np.deg2rad(rng.uniform(12, 24))),
    )


def u_of(b: Body, side: str) -> Plane:
    """Distance from the midline towards this side of the patient (negative on the other side)."""
    return b.x if side == "left" else -b.x


def outer_edge(b: Body, shrink: float = 0.0) -> Plane:
    """u of the outer edge of a lung at each y; `shrink` pulls it in, as in a collapsed lung."""
    apex = APEX + 1.1 * shrink
    t = np.clip((SHOULDER - b.y) / (SHOULDER - apex), 0, 1)
    return INNER + (b.outer - INNER - shrink) * np.sqrt(1 - t**2)


def diaphragm(b: Body, side: str) -> Plane:
    """y of the diaphragm at each place of this side: a dome with a sharp lateral angle."""
    u = u_of(b, side)
    return b.domes[side] + 1.05 * np.clip(np.abs(u - 0.34), 0, 1) ** 2


def lung(b: Body, side: str) -> Plane:
    u, w = u_of(b, side), 0.012
    inside = soft(u - INNER, w) * soft(outer_edge(b) - u, w) * soft(b.y - APEX, w)
    return inside * soft(diaphragm(b, side) - b.y, w)


def heart(b: Body, *, margin: float = 0.0) -> Plane:
    cx, cy, ax, ay, tilt = b.heart
    x, y = b.x - cx, b.y - cy
    along = (np.cos(tilt) * x + np.sin(tilt) * y) / (ax + margin)
    across = (-np.sin(tilt) * x + np.cos(tilt) * y) / (ay + margin)
    return soft(1 - np.sqrt(along**2 + across**2), 0.04)


def torso(b: Body) -> Plane:
    """Neck, sloping shoulders, straight flanks."""
    t = np.clip((b.y + 1.02) / 0.34, 0, 1)
    half = 0.24 + 0.74 * t * t * (3 - 2 * t)
    return soft(half - np.abs(b.x), 0.02)


def ribs(b: Body) -> Plane:
    """Posterior ribs as cosine bands falling outwards, fainter anterior ones rising."""
    u = np.abs(b.x)
    cage = soft(b.outer + 0.05 - u, 0.02) * soft(0.66 - b.y, 0.05) * soft(b.y + 0.84, 0.03)
    back = b.y + 0.10 - 0.42 * (u - 0.1) + 0.62 * (u - 0.1) ** 2
    front = b.y + 0.55 * (u - 0.2) ** 2 + 0.50 * (u - 0.2)
    posterior = soft(np.cos(2 * np.pi * back / 0.165) - 0.45, 0.14)
    anterior = soft(np.cos(2 * np.pi * front / 0.21) - 0.6, 0.14) * soft(u - 0.28, 0.04)
    return cage * (posterior + 0.45 * anterior * soft(b.y + 0.55, 0.05))


def bar(b: Body, start: tuple[float, float], end: tuple[float, float], width: float) -> Plane:
    """A straight bar with round ends."""
    (x0, y0), (x1, y1) = start, end
    length2 = (x1 - x0) ** 2 + (y1 - y0) ** 2
    t = np.clip(((b.x - x0) * (x1 - x0) + (b.y - y0) * (y1 - y0)) / length2, 0, 1)
    distance = np.hypot(b.x - x0 - t * (x1 - x0), b.y - y0 - t * (y1 - y0))
    return soft(width - distance, max(0.3 * width, 0.4 * b.pixel))


def normal(b: Body, rng: np.random.Generator) -> tuple[Plane, dict[str, Plane], Plane]:
    """The brightness of the chest without lesions (0..1), the two lungs, and the heart."""
    u = np.abs(b.x)
    lungs = {side: lung(b, side) for side in ("right", "left")}
    air, core = lungs["right"] + lungs["left"], heart(b)
    flank = 0.16 * soft(u - b.outer - 0.04, 0.05)
    floor = np.where(b.x > 0, diaphragm(b, "left"), diaphragm(b, "right"))
    belly = soft(b.y - floor, 0.02) * soft(b.outer - u, 0.03)
    image = (0.52 - flank + 0.13 * belly) * torso(b)
    image *= 1 - 0.72 * air
    tree = vessels.lookup(
        b.x, b.y, int(rng.integers(vessels.BANK)), int(rng.integers(vessels.BANK))
    )
    image += 0.34 * tree * air
    image += 0.10 * ribs(b) * (1 - 0.8 * core) * (1 - 0.7 * belly) * torso(b)
    spine = soft(0.135 - u, 0.02) * (0.05 + 0.035 * np.cos(2 * np.pi * b.y / 0.13))
    middle = soft(0.15 + 0.05 * np.abs(b.y) - u, 0.018) * soft(b.y + 0.80, 0.08)
    knob = soft(0.115 - np.hypot(b.x - 0.14, b.y + 0.27), 0.012)
    solid = np.maximum(np.maximum(middle, knob), core)
    image = np.where(solid > 0, image + solid * (0.70 - image), image) + spine * torso(b)
    image -= 0.17 * soft(0.045 - np.abs(b.x + 0.01), 0.012) * soft(-0.22 - b.y, 0.05)
    for sign in (-1, 1):
        image += 0.13 * bar(b, (0.09 * sign, -0.56), (0.74 * sign, -0.72), 0.032)
    return image.astype(np.float32), lungs, core
