"""Pairs of images whose looks (256 bits each, see data/facts.py) are few bits apart.

Every pair is compared, exactly, as a product of vectors of ±1. Bands of bits of which one must
agree (pigeonhole) are faster on random looks only: those of chest films have most bits in common,
and a band of them would hold nearly all films.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8
from tqdm import tqdm

BITS = 256
# copies of the images in four public sets are apart, at most: re-encoded 21, half the size 32,
# cropped by 2 % 42, by 4 % 61 (9 of 10 within 50); of chest films 1 % of all pairs are within 53
REACH = 56
PLAIN = 24  # bits: a look with fewer set, or unset, is of a picture without features
MOST = 10_000  # pairs kept between groups, and as many within
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

    Pairs of two groups come first, then those of one; of either the `most` nearest are kept.
    """
    signs = np.unpackbits(looks, axis=1).astype(np.float32) * 2 - 1
    between, within = _Nearest(reach, most), _Nearest(reach, most)
    with tqdm(total=len(looks), desc="looks compared", delay=2, disable=None) as bar:
        for start in range(0, len(looks), ROWS):
            rows = slice(start, start + ROWS)
            for first in range(start, len(looks), COLUMNS):
                columns = slice(first, first + COLUMNS)
                same = signs[rows] @ signs[columns].T  # 256 - 2 · bits apart
                if first == start:
                    same[np.tri(*same.shape, dtype=bool)] = -BITS - 1  # a pair is met once
                apart = group[rows, None] != group[columns]
                _settle(same, apart, start, first, between, within)
            bar.update(min(ROWS, len(looks) - start))
    found = np.concatenate([between.sorted(), within.sorted()])
    return found, between.total + within.total - len(found)


def _settle(
    same: Float32[np.ndarray, "r c"],
    apart: Bool[np.ndarray, "r c"],
    start: int,
    first: int,
    between: "_Nearest",
    within: "_Nearest",
) -> None:
    """The pairs of a block go where they belong; `apart`: those of two groups."""
    if np.count_nonzero(same >= between.wanted) <= between.most:  # as a rule
        found = _pairs(same, between.wanted, start, first)
        other = apart[found[:, 0] - start, found[:, 1] - first]
        between.take(found[other])
        within.take(found[~other])
    else:
        between.add(np.where(apart, same, -BITS - 1), start, first)
        within.add(np.where(apart, -BITS - 1, same), start, first)


def _pairs(
    same: Float32[np.ndarray, "r c"], least: int, start: int, first: int
) -> Int[np.ndarray, "m 3"]:
    i, j = np.nonzero(same >= least)
    apart = ((BITS - same[i, j]) / 2).astype(np.int64)
    return np.stack([i + start, j + first, apart], axis=1)


class _Nearest:
    """The nearest pairs so far; `total` counts all within the reach."""

    def __init__(self, reach: int, most: int):
        self.total, self.most = 0, most
        self._least = self.wanted = BITS - 2 * reach  # products: the greater, the nearer
        self._kept = np.zeros((0, 3), np.int64)

    def add(self, same: Float32[np.ndarray, "r c"], start: int, first: int) -> None:
        """All products of looks from `start` with looks from `first`, however many are near."""
        total = self.total + int(np.count_nonzero(same >= self.wanted))
        while np.count_nonzero(same >= self._least) > 4 * self.most:
            if np.count_nonzero(same >= self._least + 2) < self.most:
                break
            self._least += 2
        self.take(_pairs(same, self._least, start, first))
        self.total = total

    def take(self, found: Int[np.ndarray, "m 3"]) -> None:
        """Pairs within the reach."""
        self.total += len(found)
        self._kept = np.concatenate([self._kept, found])
        if len(self._kept) > 4 * self.most:  # cutting every time would cost more
            self._kept = self._kept[np.argpartition(self._kept[:, 2], self.most)[: self.most]]
            self._least = max(self._least, BITS - 2 * int(self._kept[:, 2].max()))

    def sorted(self) -> Int[np.ndarray, "m 3"]:
        """The nearest first."""
        order = np.lexsort((self._kept[:, 1], self._kept[:, 0], self._kept[:, 2]))
        return self._kept[order][: self.most]
