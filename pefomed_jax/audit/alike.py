"""Whether two images are one picture: laid over each other, then compared by their edges.

The second is scaled and shifted along both axes, brightened and darkened to fit the first (least
squares, Gauss and Newton's way), so that a copy that was cropped, resized or encoded anew fits too;
two films of two patients do not.
"""

import concurrent.futures

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from tqdm import tqdm

from pefomed_jax.batch import Case
from pefomed_jax.data import images
from pefomed_jax.data.sources import Source

SIDE = 48  # pixels
MARGIN = 5  # at each side, where a cropped copy has nothing to show
BLURS = (3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1)  # of each step: first the large forms
# copies of radiographs and scans in three public sets (re-encoded at quality 20, halved, cropped by
# 8 %, contrast times 1.4) reach 0.956 at least, of pathology 0.937; different images reach 0.85 at
# most, films of one patient 0.92
ENOUGH = 0.95
AGAIN = 0.5  # less than this is not tried the other way round
AT_ONCE = 256  # pairs
THREADS = 8
_AXIS = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
_INSIDE = slice(MARGIN, SIDE - MARGIN)
_STEP = np.float32([0.05, 1, 0.05, 1])
_FIRST, _SPAN = np.float32([1, 0, 1, 0]), np.float32([0.25, 6, 0.25, 6])

Small = Float32[np.ndarray, "n 48 48"]


def small(source: Source, where: list[tuple[Case, int]]) -> UInt8[np.ndarray, "n 48 48"]:
    """Small grey versions of images; an image that no longer opens is black."""
    bar = tqdm(total=len(where), desc="look-alikes opened", delay=2, disable=None)
    with bar, concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        found = np.zeros((len(where), SIDE, SIDE), np.uint8)
        for i, picture in enumerate(pool.map(lambda it: _small(source, *it), where)):
            found[i] = picture
            bar.update()
    return found


def _small(source: Source, case: Case, number: int) -> UInt8[np.ndarray, "48 48"]:
    try:
        picture = source.image(case, number)
        if isinstance(picture, np.ndarray):
            picture = Image.fromarray(picture)
        with picture:
            grey = images.to_rgb(picture).convert("L")
    except Exception:  # decoders raise whatever they like; it opened when its facts were found
        return np.zeros((SIDE, SIDE), np.uint8)
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.uint8)


def likeness(
    first: UInt8[np.ndarray, "n 48 48"], second: UInt8[np.ndarray, "n 48 48"]
) -> Float32[np.ndarray, " n"]:
    """Of each pair the correlation of edges once it is fitted, at most 1; the better way round."""
    found = np.zeros(len(first), np.float32)
    with tqdm(total=len(first), desc="look-alikes compared", delay=2, disable=None) as bar:
        for at in range(0, len(first), AT_ONCE):
            a, b = (x[at : at + AT_ONCE].astype(np.float32) for x in (first, second))
            score = _fitted(a, b)
            unsure = np.flatnonzero((score < ENOUGH) & (score > AGAIN))
            if len(unsure):
                score[unsure] = np.maximum(score[unsure], _fitted(b[unsure], a[unsure]))
            found[at : at + AT_ONCE] = score
            bar.update(len(a))
    return found


def _fitted(a: Small, b: Small) -> Float32[np.ndarray, " n"]:
    at = np.tile(_FIRST, (len(a), 1))
    blurred = {n: (_blur(a, n), _blur(b, n)) for n in set(BLURS)}
    for n in BLURS:
        at = _improved(*blurred[n], at)
    edges = [_edges(x) for x in (blurred[1][0], _warped(blurred[1][1], at))]
    norms = np.linalg.norm(edges[0], axis=1) * np.linalg.norm(edges[1], axis=1)
    return (edges[0] * edges[1]).sum(axis=1) / np.maximum(norms, 1.0)


def _improved(a: Small, b: Small, at: Float32[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n 4"]:
    """One step of (scale, shift) along x and y, gain and offset solved along."""
    warped = _warped(b, at)
    down, right = np.gradient(warped, axis=(1, 2))
    right, down = right / at[:, 0, None, None], down / at[:, 2, None, None]
    columns = (right * _AXIS, right, down * _AXIS[:, None], down, warped, np.ones_like(warped))
    j = np.stack([x[:, _INSIDE, _INSIDE].reshape(len(a), -1) for x in columns], axis=1)
    y = a[:, _INSIDE, _INSIDE].reshape(len(a), -1, 1)
    normal = j @ j.transpose(0, 2, 1) + 0.01 * np.eye(6, dtype=np.float32)
    solved = np.linalg.solve(normal, j @ y)[..., 0]
    gain = np.where(np.abs(solved[:, 4]) < 1e-3, np.float32(1e-3), solved[:, 4])
    step = np.clip(solved[:, :4] / gain[:, None], -_STEP, _STEP)
    return np.clip(at + step, _FIRST - _SPAN, _FIRST + _SPAN).astype(np.float32)


def _warped(b: Small, at: Float32[np.ndarray, "n 4"]) -> Small:
    """Linear interpolation, the edge repeated outside: one product a side, as no axis turns."""
    return _taps(at[:, 2:]) @ b @ _taps(at[:, :2]).transpose(0, 2, 1)


def _taps(at: Float32[np.ndarray, "n 2"]) -> Small:
    place = np.clip(_AXIS * at[:, :1] + at[:, 1:] + (SIDE - 1) / 2, 0, SIDE - 1)
    grid = np.arange(SIDE, dtype=np.float32)
    return np.clip(1 - np.abs(place[:, :, None] - grid), 0, None).astype(np.float32)


def _edges(x: Small) -> Float32[np.ndarray, "n m"]:
    across, along = np.diff(x, axis=2), np.diff(x, axis=1)
    parts = [part[:, _INSIDE, _INSIDE].reshape(len(x), -1) for part in (across, along)]
    return np.concatenate(parts, axis=1)


def _blur(x: Small, times: int) -> Small:
    """(1 2 1)/4 along both axes."""
    for _ in range(times):
        x = np.pad(x, ((0, 0), (1, 1), (1, 1)), "edge")
        x = (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
        x = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    return x.astype(np.float32)
