"""A bank of random vessel trees: branching shadows from each hilum make a lung look real."""

import functools

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFilter

BANK = 48
_WIDTH, _HEIGHT = 224, 448  # pixels for u in 0..1 and y in −1..1


@functools.cache
def bank() -> Float[np.ndarray, "bank height width"]:
    """BANK trees, 0..1, over u (columns) and y (rows)."""
    return np.stack([_tree(np.random.default_rng((7, n))) for n in range(BANK)])


def _tree(rng: np.random.Generator) -> Float[np.ndarray, "height width"]:
    image = Image.new("L", (_WIDTH, _HEIGHT), 0)
    pen = ImageDraw.Draw(image)
    for angle in np.linspace(-1.25, 1.25, 9) + rng.normal(0, 0.12, 9):
        _branch(rng, pen, (0.14, 0.02), angle, 4.5, 5)
    blurred = image.filter(ImageFilter.GaussianBlur(1.6))
    return np.asarray(blurred, np.float32) / 255.0


def _branch(rng, pen, start, angle: float, width: float, depth: int) -> None:
    """One vessel of a few bent pieces, which then forks into two thinner ones."""
    if depth == 0:
        return
    u, y = start
    for _ in range(2):
        angle += rng.normal(0, 0.14)
        step = rng.uniform(0.04, 0.085)
        end = (u + step * np.cos(angle), y + step * np.sin(angle) * 1.15)
        shade = int(70 + 32 * width)
        pen.line([_pixel(u, y), _pixel(*end)], fill=min(shade, 230), width=max(1, round(width)))
        u, y = end
    for turn in (-1, 1):
        _branch(rng, pen, (u, y), angle + turn * rng.uniform(0.2, 0.5), width * 0.72, depth - 1)


def _pixel(u: float, y: float) -> tuple[float, float]:
    return u * _WIDTH, (y + 1) / 2 * _HEIGHT


def lookup(
    x: Float[np.ndarray, "S S"], y: Float[np.ndarray, "S S"], right: int, left: int
) -> Float[np.ndarray, "S S"]:
    """Tree number `right` on the picture's left half and number `left` on its right half."""
    column = np.clip((np.abs(x) * _WIDTH).astype(np.int32), 0, _WIDTH - 1)
    row = np.clip(((y + 1) / 2 * _HEIGHT).astype(np.int32), 0, _HEIGHT - 1)
    trees = bank()
    return np.where(x > 0, trees[left][row, column], trees[right][row, column])
