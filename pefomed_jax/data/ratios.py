"""Folders mixed by weight (`data.ratios`) instead of by size, as a pure function of (seed, epoch).

An epoch keeps its number of rows, one a training case; folder f gets the share w_f / Σw of them,
rounded by largest remainder. A folder's own cases are a stream of seeded permutations of which
epoch e takes the next draws, [e q_f, (e+1) q_f): none comes again before all others have come.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from pefomed_jax.batch import Case
from pefomed_jax.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Mix:
    """The cases of each folder, by index, and how many draws of them an epoch has."""

    seed: int
    members: tuple[Int[np.ndarray, "_"], ...]
    quotas: tuple[int, ...]

    def draw(self, epoch: int) -> Int[np.ndarray, " r"]:
        """The cases of an epoch, folder by folder."""
        return np.concatenate([self._take(f, q * epoch, q) for f, q in enumerate(self.quotas)])

    def _take(self, folder: int, start: int, count: int) -> Int[np.ndarray, " r"]:
        cases = self.members[folder]
        first, offset = divmod(start, len(cases))
        passes = range(first, first + -(-(offset + count) // len(cases)))
        rngs = (np.random.default_rng([self.seed, folder, n]) for n in passes)
        drawn = [rng.permutation(cases) for rng in rngs]
        return np.concatenate([cases[:0], *drawn])[offset : offset + count]


def make(cases: Sequence[Case], ratios: Sequence[tuple[str, float | int]], seed: int) -> Mix:
    """The mix of (folder, weight) pairs. Errors: a folder without cases, or without a weight."""
    found: dict[str, list[int]] = collections.defaultdict(list)
    for i, case in enumerate(cases):
        found[case.source].append(i)
    named = [name for name, _ in ratios]
    known = ", ".join(filter(None, found)) or "none, the lists lie in data.dir itself"
    away = f"(folders: {known}); --config.data.ratios='()' mixes by size"
    for name in named:
        if name not in found:
            close = nearest(name, list(found))
            raise UserError(f"data.ratios: no training case in a folder '{name}'{close} {away}")
    if left := set(found) - set(named):
        raise UserError(f"data.ratios: no weight for '{min(left)}', 0 leaves it out {away}")
    members = tuple(np.asarray(found[name], np.int64) for name in named)
    return Mix(seed, members, _quotas(len(cases), [weight for _, weight in ratios]))


def _quotas(total: int, weights: Sequence[float | int]) -> tuple[int, ...]:
    """Whole numbers in proportion to the weights that add up to `total`."""
    exact = np.asarray(weights, np.float64) * total / sum(weights)
    quotas = np.floor(exact).astype(int)
    most = np.argsort(quotas - exact, kind="stable")[: total - quotas.sum()]
    quotas[most] += 1
    return tuple(quotas.tolist())
