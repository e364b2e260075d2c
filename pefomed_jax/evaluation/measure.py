"""The one shape in which every family of scores hands over its result.

A score of a set follows from sums over its cases alone, so those of any group of cases and of any
resample cost one product with the same statistics.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Scores = dict[str, np.ndarray | np.float64]  # numpy makes a number of what has no axis left


class Measure(NamedTuple):
    """Scores of one family: what is summed over cases, and how the sums become scores."""

    stats: np.ndarray  # float64 [cases, K]
    combine: Callable[[np.ndarray], Scores]  # sums [..., K] -> {name: [...]}
    cases: dict[str, np.ndarray]  # {name: float64 [cases]}, NaN where a case does not count

    def scores(self, rows: np.ndarray | list[int] | slice = slice(None)) -> dict[str, float]:
        """The scores of all cases or of some (indices, a bool mask); NaN: none of them counts."""
        sums = self.stats[rows].sum(axis=0)
        return {name: float(value) for name, value in self.combine(sums).items()}

    def of(self, rows: list[int]) -> "Measure":
        """The same of some of the cases."""
        cases = {name: values[rows] for name, values in self.cases.items()}
        return Measure(self.stats[rows], self.combine, cases)


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

    def combine(sums: np.ndarray) -> Scores:
        total, count = np.split(sums, 2, axis=-1)
        result = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return {name: result[..., i] for i, name in enumerate(names)}

    return Measure(stats, combine, {name: table[:, i] for i, name in enumerate(names)})


def joined(measures: Sequence[Measure]) -> Measure:
    """Several families over the same cases as one; of a name that two have, the last counts."""
    ends = np.cumsum([0, *(measure.stats.shape[1] for measure in measures)])

    def combine(sums: np.ndarray) -> Scores:
        made: Scores = {}
        for measure, start, end in zip(measures, ends, ends[1:], strict=False):
            made |= measure.combine(sums[..., start:end])
        return made

    stats = np.concatenate([measure.stats for measure in measures], axis=1)
    return Measure(stats, combine, {k: v for m in measures for k, v in m.cases.items()})
