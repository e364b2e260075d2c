"""The resize of pictures against PyTorch's of tensors: how far they are apart, and why."""

import pathlib

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the comparisons with PyTorch need torch")

from pefomed_jax.data import images, reading  # noqa: E402

FILMS = pathlib.Path(__file__).parents[2] / "docs" / "images"
RNG = np.random.default_rng(0)


def tensor_resize(pixels: np.ndarray, *shapes: tuple[int, int]) -> np.ndarray:
    """By torch.nn.functional.interpolate to these shapes in turn, each rounded to bytes."""
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    for shape in shapes:
        x = torch.nn.functional.interpolate(x, shape, mode="bicubic", antialias=True)
        x = x.round().clamp(0, 255)
    return x[0].permute(1, 2, 0).numpy()


def drawn():
    for name in ("case_0", "case_1", "case_2"):
        yield np.asarray(Image.open(FILMS / f"{name}.png").convert("RGB"))
    for shape in ((300, 200, 3), (57, 100, 3), (1100, 900, 3)):
        yield RNG.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("size", [128, 224, 448])
def test_tensors_that_are_bytes_between_the_axes(size) -> None:
    """Pillow rounds and cuts to bytes after the first axis; which that is depends on the size."""
    for pixels in drawn():
        found = images.prepare(pixels, size)
        between = [(pixels.shape[0], size), (size, pixels.shape[1])]
        others = [tensor_resize(pixels, shape, (size, size)) for shape in between]
        distance = min((np.abs(found - other) for other in others), key=np.sum)
        assert distance.max() <= 2
        assert (distance > 0).mean() < 0.02


@pytest.mark.parametrize("size", [128, 224, 448])
def test_tensors_of_real_images(shared, size) -> None:
    """Both axes at once: apart where letters or edges overshoot what a byte holds."""
    found = sorted((shared / "data" / "rocov2-sample").rglob("*.jpg"))[:12]
    if not found:
        pytest.skip("no images in ../shared/data/rocov2-sample")
    for path in found:
        pixels = np.asarray(images.to_rgb(reading.opened(path)))
        distance = np.abs(images.prepare(pixels, size) - tensor_resize(pixels, (size, size)))
        assert distance.mean() < 0.3
        assert (distance > 1).mean() < 0.012
        assert distance.max() <= 20
