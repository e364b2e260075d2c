"""Two sets of predictions of the same cases."""

import numpy as np
import pytest
from scipy import stats

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import paired
from pefomed_jax.evaluation.measure import mean


def rows(names, **fields):
    return [{"id": name, "prediction": "x", "reference": "y", **fields} for name in names]


def test_pairs_are_in_the_order_of_the_first():
    made = paired.pair(rows("abc", k=1), rows("cab", k=2))
    assert [row["id"] for row in made.own] == [row["id"] for row in made.other] == list("abc")
    assert {row["k"] for row in made.other} == {2}
    assert (made.only_own, made.only_other) == ([], [])


def test_cases_of_one_side_only():
    with pytest.raises(UserError) as caught:
        paired.pair(rows("abc"), rows("bcdefghij"))
    said = str(caught.value)
    assert "1 only in --predictions (a), 7 only in --compare (d, e, f, g, h, ...)" in said
    assert said.endswith("add --common_only to compare those that both have")
    made = paired.pair(rows("abc"), rows("bcd"), common_only=True)
    assert [row["id"] for row in made.own] == ["b", "c"]
    assert (made.only_own, made.only_other) == (["a"], ["d"])
    with pytest.raises(UserError, match="1 only in --shuffled=x") as caught:
        paired.pair(rows("a"), rows("ab"), ("--predictions", "--shuffled=x"))
    assert "--common_only" not in str(caught.value)


def test_other_references_are_other_cases():
    other = rows("ab")
    other[1]["reference"] = "z"
    with pytest.raises(UserError, match="case 'b' has one reference in --predictions and another"):
        paired.pair(rows("ab"), other)
    with pytest.raises(UserError, match="have no case in common"):
        paired.pair(rows("ab"), rows("cd"), common_only=True)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (3, 11), (40, 22), (0, 9)])
def test_mcnemar_beside_scipy(wins, losses):
    wanted = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert paired.mcnemar(wins, losses) == pytest.approx(wanted, rel=1e-9)
    assert paired.mcnemar(losses, wins) == paired.mcnemar(wins, losses)


def test_mcnemar_of_many_cases():
    # the normal approximation with continuity correction: z = (600 - 500.5) / sqrt(1100 / 4)
    z = (600 - 550 - 0.5) / np.sqrt(1100 / 4)
    assert paired.mcnemar(600, 500) == pytest.approx(2 * stats.norm.sf(z), rel=0.01)
    assert paired.mcnemar(20_000, 10_000) < 1e-200


def test_right_or_wrong_is_compared_by_mcnemar():
    a = np.array([1, 1, 1, 1, 1, 0, 0, 1, np.nan], float)
    b = np.array([0, 0, 0, 0, 1, 0, 1, 0, 1.0], float)
    names = ("exact_match", "exact_match_open", "closed_accuracy")
    made = paired.compare(mean(dict.fromkeys(names, a)), mean(dict.fromkeys(names, b)), 500, 0)
    for name in names:
        found = made[name]
        assert (found["wins"], found["losses"], found["test"]) == (5, 1, "mcnemar")
        assert found["p"] == pytest.approx(stats.binomtest(5, 6).pvalue)
        assert found["this"] == pytest.approx(6 / 8)
        assert found["other"] == pytest.approx(3 / 9)
        assert found["difference"] == pytest.approx(6 / 8 - 3 / 9)


def test_other_scores_by_the_paired_bootstrap():
    rng = np.random.default_rng(0)
    a = rng.normal(0.5, 0.1, 60)
    b = a - rng.normal(0.02, 0.05, 60)
    found = paired.compare(mean({"x": a}), mean({"x": b}), 20_000, 0)["x"]
    assert found["test"] == "paired bootstrap"
    assert found["difference"] == pytest.approx((a - b).mean())
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval()
    assert found["interval"] == pytest.approx([low, high], abs=0.002)
    assert found["p"] == pytest.approx(test.pvalue, abs=0.01)
    # not paired, the interval would be this wide
    wide = np.diff(stats.ttest_ind(a, b).confidence_interval())[0]
    assert np.diff(found["interval"])[0] < 0.6 * wide


def test_nothing_to_choose_between():
    same = mean({"x": np.array([0.1, 0.9, 0.4])})
    found = paired.compare(same, same, 200, 0)["x"]
    assert (found["difference"], found["interval"], found["p"]) == (0.0, [0.0, 0.0], 1.0)


def test_one_case_or_none_that_counts():
    one = paired.compare(mean({"x": np.array([1.0])}), mean({"x": np.array([0.0])}), 100, 0)["x"]
    assert (one["difference"], one["interval"], one["p"]) == (1.0, None, None)
    none = mean({"x": np.array([np.nan, np.nan]), "exact_match": np.array([np.nan, np.nan])})
    made = paired.compare(none, none, 100, 0)
    assert made["x"]["p"] is None
    assert made["exact_match"]["p"] is None
    assert np.isnan(made["x"]["difference"])


def test_scores_of_one_side_only_are_left_out():
    both = paired.compare(mean({"x": np.ones(3), "y": np.ones(3)}), mean({"x": np.ones(3)}), 50, 0)
    assert list(both) == ["x"]
