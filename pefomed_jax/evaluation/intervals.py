"""How far scores would move with other cases: bootstrap intervals (Efron and Tibshirani, 1993).

Cases are drawn with replacement, as many as there are; all scores follow from one product of the
drawn counts with the measures' statistics. What a score takes from the whole set (the word weights
of CIDEr) stays as it is.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from pefomed_jax.evaluation.measure import Measure

LEVEL = 0.95
_AT_ONCE = 1 << 22  # drawn counts held at a time


def resamples(n_cases: int, count: int, seed: int) -> Iterator[Int[np.ndarray, "resamples cases"]]:
    """How often each case is drawn in each of `count` resamples, in pieces that fit in memory.

    The same for the same arguments, however many pieces: two sets of the same cases can be paired.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // max(1, n_cases))
    for start in range(0, count, step):
        rows = min(step, count - start)
        drawn = rng.integers(0, n_cases, (rows, n_cases))
        drawn += np.arange(rows)[:, None] * n_cases
        yield np.bincount(drawn.ravel(), minlength=rows * n_cases).reshape(rows, n_cases)


def distribution(
    measure: Measure, count: int, seed: int
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """Each score in each resample, none for a `count` of 0; NaN where no case that counts was
    drawn.
    """
    pieces = [draws @ measure.stats for draws in resamples(len(measure.stats), count, seed)]
    return measure.combine(np.concatenate([np.zeros_like(measure.stats[:0]), *pieces]))


def intervals(measure: Measure, count: int, seed: int) -> dict[str, list[float] | None]:
    """{score: [low, high]} of 95 % (percentiles); None where fewer than two cases give no spread.

    Resamples in which a score is not defined are left out of it.
    """
    if len(measure.stats) < 2 or count < 1:
        return dict.fromkeys(measure.combine(measure.stats.sum(axis=0)))
    return {name: percentiles(v) for name, v in distribution(measure, count, seed).items()}


def percentiles(values: Float[np.ndarray, " resamples"]) -> list[float] | None:
    """[low, high] that hold the middle 95 % of the values that are numbers; None of none."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]
