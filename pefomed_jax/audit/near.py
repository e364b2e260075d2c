"""Pairs of images whose looks (256 bits each, see data/facts.py) are few bits apart.

Every pair is compared, exactly, as a product of vectors of ±1. Bands of bits of which one must
agree (pigeonhole) are faster on random looks only: those of chest films have most bits in common,
and a band of them would hold nearly all films.
"""

import numpy as np
from jaxtyping import Float32, Int, UInt8
from tqdm import tqdm

BITS = 256
# copies of the images in four public sets are apart, at most: re-encoded 21, half the size 32,
# cropped by 2 % 42, by 4 % 61 (9 of 10 within 50); of chest films 1 % of all pairs are within 53
REACH = 56
PLAIN = 24  # bits: a look with fewer set, or unset, is of a picture without features
MOST = 20_000  # pairs kept
ROWS, COLUMNS = 1024, 8192  # looks compared at a time: 32 MiB of products


def telling(looks: UInt8[np.ndarray, "n 32"]) -> np.ndarray:
    """bool [n]: the picture has features; nearly constant ones all look alike."""
    n_set = np.unpackbits(looks, axis=1).sum(axis=1, dtype=np.int64)
    return (n_set >= PLAIN) & (n_set <= BITS - PLAIN)


def pairs(
    looks: UInt8[np.ndarray, "n 32"],
    group: Int[np.ndarray, " n"],
    reach: int = REACH,
    most: int = MOST,
) -> tuple[Int[np.ndarray, "m 3"], int]:
    """Rows (i, j, bits apart), i < j, of at most `reach` bits; and how many more there are.

    Pairs of two groups come before pairs of one, then the nearest; `most` are kept.
    """
    signs = np.unpackbits(looks, axis=1).astype(np.float32) * 2 - 1
    kept, total = np.zeros((0, 4), np.int64), 0
    with tqdm(total=len(looks), desc="looks compared", delay=2, disable=None) as bar:
        for start in range(0, len(looks), ROWS):
            for found in _block(signs, start, reach):
                total += len(found)
                kept = _nearest(np.concatenate([kept, _keyed(found, group)]), most)
            bar.update(min(ROWS, len(looks) - start))
    kept = kept[np.lexsort((kept[:, 1], kept[:, 0], kept[:, 3]))][:most]
    return kept[:, :3], total - len(kept)


def _block(signs: Float32[np.ndarray, "n 256"], start: int, reach: int) -> list[np.ndarray]:
    """int [m, 3] for each block right of the diagonal in the rows from `start`."""
    rows, found = signs[start : start + ROWS], []
    for first in range(start, len(signs), COLUMNS):
        same = rows @ signs[first : first + COLUMNS].T  # 256 - 2 · bits apart
        i, j = np.nonzero(same >= BITS - 2 * reach)
        apart = ((BITS - same[i, j]) / 2).astype(np.int64)
        triple = np.stack([i + start, j + first, apart], axis=1)
        found.append(triple[triple[:, 0] < triple[:, 1]])
    return found


def _keyed(found: Int[np.ndarray, "m 3"], group: Int[np.ndarray, " n"]) -> Int[np.ndarray, "m 4"]:
    key = found[:, 2] + (BITS + 1) * (group[found[:, 0]] == group[found[:, 1]])
    return np.concatenate([found, key[:, None]], axis=1)


def _nearest(kept: Int[np.ndarray, "m 4"], most: int) -> Int[np.ndarray, "k 4"]:
    """The first by key where there are many too many; cutting at every block would cost more."""
    if len(kept) <= 4 * most:
        return kept
    return kept[np.argpartition(kept[:, 3], most)[:most]]
