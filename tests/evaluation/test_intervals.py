"""Bootstrap intervals against others' computations of the same."""

import numpy as np
import pytest
from scipy import stats

from pefomed_jax.evaluation import intervals
from pefomed_jax.evaluation.measure import Measure, mean
from pefomed_jax.evaluation.text import report

RNG = np.random.default_rng(3)


def test_mean_beside_scipy():
    values = RNG.gamma(2, size=80)
    (low, high) = intervals.intervals(mean({"x": values}), 20_000, 0)["x"]
    wanted = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    spread = wanted.high - wanted.low
    assert low == pytest.approx(wanted.low, abs=0.03 * spread)
    assert high == pytest.approx(wanted.high, abs=0.03 * spread)


def test_quantiles_of_resampled_corpora_one_by_one():
    """Corpus BLEU, scored anew from the drawn texts."""
    words = np.array(["a", "b", "c", "d", "e"])
    hypotheses = [list(RNG.choice(words, RNG.integers(4, 9))) for _ in range(12)]
    references = [[list(RNG.choice(words, RNG.integers(4, 9)))] for _ in range(12)]
    bleu = report.measures(hypotheses, references)[0]
    drawn = []
    for (times,) in np.split(next(intervals.resamples(12, 200, 5)), 200):
        rows = np.repeat(np.arange(12), times)
        again = report.measures([hypotheses[i] for i in rows], [references[i] for i in rows])
        drawn.append(again[0].scores()["bleu_2"])
    np.testing.assert_allclose(intervals.distribution(bleu, 200, 5)["bleu_2"], drawn, atol=1e-12)
    wanted = np.percentile(drawn, [2.5, 97.5])
    assert intervals.intervals(bleu, 200, 5)["bleu_2"] == pytest.approx(list(wanted), abs=1e-12)


def test_resamples_are_draws_with_replacement(monkeypatch):
    whole = np.concatenate(list(intervals.resamples(50, 4000, 0)))
    assert whole.shape == (4000, 50)
    assert (whole.sum(axis=1) == 50).all()
    # binomial with n = 50, p = 1/50: mean 1, variance 0.98
    assert whole.mean() == pytest.approx(1)
    assert whole.var() == pytest.approx(0.98, abs=0.02)
    monkeypatch.setattr(intervals, "_AT_ONCE", 50 * 7)
    pieces = list(intervals.resamples(50, 4000, 0))
    assert len(pieces) > 500
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert (np.concatenate(list(intervals.resamples(50, 100, 1))) != whole[:100]).any()


def test_undefined_resamples_are_left_out():
    one_counts = mean({"x": np.array([0.25] + [np.nan] * 4)})
    drawn = intervals.distribution(one_counts, 300, 0)["x"]
    assert np.isnan(drawn).any()
    assert intervals.intervals(one_counts, 300, 0) == {"x": [0.25, 0.25]}
    none_count = mean({"x": np.full(4, np.nan)})
    assert intervals.intervals(none_count, 300, 0) == {"x": None}


def test_no_spread_no_interval():
    assert intervals.intervals(mean({"x": np.array([1.0])}), 100, 0) == {"x": None}
    assert intervals.intervals(mean({"x": np.array([1.0, 0])}), 0, 0) == {"x": None}
    empty = Measure(np.zeros((0, 2)), lambda sums: {"x": sums[..., 0]}, {"x": np.zeros(0)})
    assert intervals.intervals(empty, 100, 0) == {"x": None}
