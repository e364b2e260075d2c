"""Micro-F1 of the findings that reports name against those that were drawn (phantom images)."""

from collections.abc import Mapping, Sequence

from pefomed_jax.data.sources.phantom import rules


def scores(rows: Sequence[Mapping[str, object]]) -> dict[str, float | int]:
    """finding_f1 in 0..1, and n_unparsed: sentences of the predictions that no rule could read.

    A row holds `prediction` and `findings`, the list of drawn ones. Pairs of (case, finding) are
    counted over all rows: F1 = 2·hits / (named + drawn); 1 where nothing is drawn or named.
    """
    hits = total = unparsed = 0
    for row in rows:
        parsed = rules.parse(str(row["prediction"]))
        drawn = frozenset(row["findings"])
        hits += len(parsed.findings & drawn)
        total += len(parsed.findings) + len(drawn)
        unparsed += len(parsed.unparsed)
    return {"finding_f1": 2 * hits / total if total else 1.0, "n_unparsed": unparsed}
