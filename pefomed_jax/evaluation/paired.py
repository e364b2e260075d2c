"""Whether one set of predictions is better than another of the same cases.

Scores that are right or wrong in each case: McNemar's exact test. All others: the paired bootstrap.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import intervals
from pefomed_jax.evaluation.measure import Measure

Row = Mapping[str, Any]
_NAMED = 5  # ids shown in an error
_RIGHT_OR_WRONG = ("exact_match", "closed_accuracy")  # and exact_match_<type>


class Pairs(NamedTuple):
    """The same cases of two sets in the order of the first, and the ids that only one has."""

    own: list[Row]
    other: list[Row]
    only_own: list[str]
    only_other: list[str]


def pair(
    own: Sequence[Row],
    other: Sequence[Row],
    names: tuple[str, str] = ("--predictions", "--compare"),
    common_only: bool = False,
) -> Pairs:
    """Rows by id. Raises UserError where a case is missing on one side, unless `common_only`, and
    where a case has another reference on the other side: then it is not the same case.

    `names` are those of the two sides in errors.
    """
    theirs = {row["id"]: row for row in other}
    ours = {row["id"] for row in own}
    missing = [row["id"] for row in own if row["id"] not in theirs]
    extra = [name for name in theirs if name not in ours]
    if (missing or extra) and not common_only:
        raise UserError(
            f"the two files differ in their cases: {_some(f'only in {names[0]}', missing)}, "
            f"{_some(f'only in {names[1]}', extra)}; predict the same ones"
            + (", or add --common_only to compare those that both have" * (names[1] == "--compare"))
        )
    both = [row for row in own if row["id"] in theirs]
    if not both:
        raise UserError(f"{names[0]} and {names[1]} have no case in common; compare the same cases")
    for row in both:
        if row["reference"] != theirs[row["id"]]["reference"]:
            raise UserError(
                f"case '{row['id']}' has one reference in {names[0]} and another in {names[1]}: "
                "they are not answers to the same cases; compare those of one data set"
            )
    return Pairs(both, [theirs[row["id"]] for row in both], missing, extra)


def compare(own: Measure, other: Measure, count: int, seed: int) -> dict[str, dict[str, Any]]:
    """{score: this, other, difference, interval (95 %), p, test}, of the same cases in order.

    `p` is two-sided. NaN and None: not defined on both sides, or for want of a second case.
    """
    ours, theirs = own.scores(), other.scores()
    left, right = (intervals.distribution(m, count, seed) for m in (own, other))
    made = {}
    for name in [name for name in ours if name in theirs]:
        difference, drawn = ours[name] - theirs[name], left[name] - right[name]
        if len(own.stats) < 2:
            drawn = drawn[:0]  # one case drawn again and again has no spread
        made[name] = {"this": ours[name], "other": theirs[name], "difference": difference}
        made[name]["interval"] = intervals.percentiles(drawn)
        made[name] |= _test(own, other, name, drawn, difference)
    return made


def _test(
    own: Measure,
    other: Measure,
    name: str,
    drawn: Float[np.ndarray, " resamples"],
    difference: float,
) -> dict[str, Any]:
    a, b = own.cases.get(name), other.cases.get(name)
    if name.startswith(_RIGHT_OR_WRONG) and a is not None and b is not None:
        counted = ~(np.isnan(a) | np.isnan(b))
        wins = int(np.sum((a > b)[counted]))
        losses = int(np.sum((a < b)[counted]))
        p = mcnemar(wins, losses) if counted.any() else None
        return {"p": p, "test": "mcnemar", "wins": wins, "losses": losses}
    return {"p": bootstrap_p(drawn, difference), "test": "paired bootstrap"}


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact p (McNemar, 1947): only cases in which one of the two is right count.

    2·P(X ≤ min(wins, losses)), X binomial with n = wins + losses and 1/2; at most 1.
    """
    n = wins + losses
    log_all = math.lgamma(n + 1) - n * math.log(2)
    ks = range(min(wins, losses) + 1)
    tail = (math.exp(log_all - math.lgamma(k + 1) - math.lgamma(n - k + 1)) for k in ks)
    return min(1.0, 2 * math.fsum(tail))


def bootstrap_p(drawn: Float[np.ndarray, " resamples"], difference: float) -> float | None:
    """Two-sided p: how often the differences of resamples, shifted to a mean of 0, are as far off.

    (1 + count) / (1 + resamples), as Riezler and Maxwell (2005): never 0; None: not defined.
    """
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn) or math.isnan(difference):
        return None
    far = np.abs(drawn - drawn.mean()) >= abs(difference) - 1e-12
    return float((1 + far.sum()) / (1 + len(drawn)))


def _some(what: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names)} {what}" + (f" ({shown})" if names else "")
