"""Phantoms on disk for the pretraining: pictures, what is in each patch, what is in the picture."""

import concurrent.futures
import dataclasses
import multiprocessing
import pathlib

import numpy as np
from jaxtyping import Bool, UInt8

from pefomed_jax.data.sources.phantom import draw, scene

PATCH = 16
CHUNK = 500
# A patch shows a finding when so many of its 256 pixels do; a line is thin.
ENOUGH = np.array([4 if name == "line" else 40 for name in draw.MASKS])
LABELS = (*scene.FINDINGS, *(f"large {s} {k}" for k in scene.LESIONS[:2] for s in scene.SIDES))


@dataclasses.dataclass(frozen=True)
class Drawings:
    """Phantoms of seeds FIRST_SEED['base'], + 1, ...; P patches in raster order."""

    images: UInt8[np.ndarray, "N S S"]
    patches: Bool[np.ndarray, "N P 6"]  # of draw.MASKS
    labels: Bool[np.ndarray, "N 14"]  # of LABELS

    def part(self, start: int, stop: int) -> "Drawings":
        return Drawings(*(array[start:stop] for array in dataclasses.astuple(self)))


def prepare(count: int, size: int, folder: pathlib.Path) -> Drawings:
    """Draws `count` phantoms in two processes; finished chunks are kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"{size}-{start}.npz" for start in range(0, count, CHUNK)]
    missing = [(path, k * CHUNK, size) for k, path in enumerate(names) if not path.exists()]
    if missing:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            for done, _ in enumerate(pool.map(_chunk, missing), 1):
                print(f"drawing {done * CHUNK}/{len(missing) * CHUNK}", flush=True)
    parts = [np.load(path) for path in names]
    keys = [field.name for field in dataclasses.fields(Drawings)]
    return Drawings(*(np.concatenate([p[key] for p in parts])[:count] for key in keys))


def _chunk(job: tuple[pathlib.Path, int, int]) -> None:
    path, start, size = job
    first = scene.FIRST_SEED["base"] + start
    drawn = [one(scene.sample(seed), size) for seed in range(first, first + CHUNK)]
    images, patches, labels = (np.stack(column) for column in zip(*drawn, strict=True))
    part = path.with_suffix(".tmp.npz")
    np.savez(part, images=images, patches=patches, labels=labels)
    part.replace(path)


def one(
    content: scene.Scene, size: int
) -> tuple[UInt8[np.ndarray, "S S"], Bool[np.ndarray, "P 6"], Bool[np.ndarray, "14"]]:
    """The picture of a scene, which findings each patch shows, and which LABELS hold."""
    image, masks = draw.render(content, size)
    grid = size // PATCH
    pixels = masks.reshape(len(masks), grid, PATCH, grid, PATCH).sum((2, 4))
    present = set(content.findings)
    present |= {f"{x.size} {s} {x.kind}" for s, x in content.lungs if x}
    return (
        image,
        pixels.reshape(len(masks), grid * grid).T >= ENOUGH,
        np.array([label in present for label in LABELS]),
    )
