"""Micro-F1 of the findings that reports name against those that were drawn (phantom images)."""

from collections.abc import Mapping, Sequence

from pefomed_jax.data.sources.phantom import rules


def f1(rows: Sequence[Mapping[str, object]]) -> float:
    """Micro-F1 of the named findings, in 0..1.

    A row holds `prediction` and `findings`, the list of drawn ones. Pairs of (case, finding) are
    counted over all rows: F1 = 2·hits / (named + drawn); 1 where nothing is drawn or named.
    """
    hits = total = 0
    for row in rows:
        named = rules.parse(str(row["prediction"])).findings
        drawn = frozenset(row["findings"])
        hits += len(named & drawn)
        total += len(named) + len(drawn)
    return 2 * hits / total if total else 1.0


def unparsed(rows: Sequence[Mapping[str, object]]) -> int:
    """Sentences of the predictions that no rule could read."""
    return sum(len(rules.parse(str(row["prediction"])).unparsed) for row in rows)
