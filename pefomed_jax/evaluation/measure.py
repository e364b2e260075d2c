"""The one shape in which every family of scores hands over its result.

A score of a set follows from sums over its cases alone, so those of any group of cases and of any
resample cost one product with the same statistics.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Measure(NamedTuple):
    """Scores of one family: what is summed over cases, and how the sums become scores."""

    stats: np.ndarray  # float64 [cases, K]
    combine: Callable[[np.ndarray], dict[str, np.ndarray]]  # sums [..., K] -> {name: [...]}
    cases: dict[str, np.ndarray]  # {name: float64 [cases]}, NaN where a case does not count

    def scores(self, rows: np.ndarray | slice = slice(None)) -> dict[str, float]:
        """The scores of all cases or of some (indices, a bool mask); NaN: none of them counts."""
        sums = self.stats[rows].sum(axis=0)
        return {name: float(value) for name, value in self.combine(sums).items()}


class Skipped(NamedTuple):
    """A score that could not be computed, and why; it is never reported as 0."""

    name: str
    why: str


def mean(values: Mapping[str, np.ndarray]) -> Measure:
    """Scores that are the mean of their cases' values ([cases] each); NaN leaves a case out."""
    names = list(values)
    table = np.stack([np.asarray(values[name], np.float64) for name in names], axis=1)
    counted = ~np.isnan(table)
    stats = np.concatenate([np.where(counted, table, 0.0), counted], axis=1)

    def combine(sums: np.ndarray) -> dict[str, np.ndarray]:
        total, count = np.split(sums, 2, axis=-1)
        result = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return {name: result[..., i] for i, name in enumerate(names)}

    return Measure(stats, combine, {name: table[:, i] for i, name in enumerate(names)})
