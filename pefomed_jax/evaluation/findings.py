"""Micro-F1 of the findings that reports name against those that were drawn (phantom images)."""

from collections.abc import Mapping, Sequence

import numpy as np

from pefomed_jax.data.sources.phantom import rules
from pefomed_jax.evaluation.measure import Measure

Row = Mapping[str, object]


def f1(rows: Sequence[Row]) -> float:
    """Micro-F1 of the named findings, in 0..1.

    A row holds `prediction` and `findings`, the list of drawn ones. Pairs of (case, finding) are
    counted over all rows: F1 = 2·hits / (named + drawn); 1 where nothing is drawn or named.
    """
    return measure(rows).scores()["finding_f1"] if rows else 1.0


def measure(rows: Sequence[Row]) -> Measure:
    """`finding_f1` as `f1` has it; rows without `findings` do not count."""
    stats = np.array([_counts(row) for row in rows], np.float64).reshape(-1, 3)
    return Measure(stats, _f1, _f1(stats))


def _counts(row: Row) -> tuple[int, int, int]:
    """(hits, named + drawn, whether the row counts)."""
    if row.get("findings") is None:
        return 0, 0, 0
    named = rules.parse(str(row["prediction"])).findings
    drawn = frozenset(row["findings"])
    return len(named & drawn), len(named) + len(drawn), 1


def _f1(sums: np.ndarray) -> dict[str, np.ndarray]:
    hits, total, counted = np.moveaxis(sums, -1, 0)
    value = np.where(total > 0, 2 * hits / np.maximum(total, 1), 1.0)
    return {"finding_f1": np.where(counted > 0, value, np.nan)}


def unparsed(rows: Sequence[Row]) -> int:
    """Sentences of the predictions that no rule could read."""
    return sum(len(rules.parse(str(row["prediction"])).unparsed) for row in rows)
