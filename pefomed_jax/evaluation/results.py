"""Scores of a set of predictions under fixed names.

`evaluate` is what `launch/evaluate.py` and a training run share. docs/evaluation.md describes
what it makes: results.json and the lines of cases.jsonl.
"""

import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import pefomed_jax
from pefomed_jax.evaluation import groups, intervals, paired, protocols
from pefomed_jax.evaluation.measure import Measure, Skipped, joined
from pefomed_jax.evaluation.notes import notes
from pefomed_jax.evaluation.protocols import Family, Protocol
from pefomed_jax.evaluation.table import table as table

Scores = dict[str, float]
Counts = dict[str, int]
Results = dict[str, Any]  # as `evaluate` makes it
Row = Mapping[str, Any]  # one prediction: id, image, prompt, reference, prediction, fields

RESAMPLES = 1000
LATER = "not scored inside training; launch/evaluate.py does"


class Settings(NamedTuple):
    """What an evaluation does besides its protocol."""

    plugins: Mapping[str, Family] = {}  # further families of scores, by name
    group_by: Sequence[str] | None = None  # fields; None: those of few values
    resamples: int = RESAMPLES
    seed: int = 0
    split: str | None = None
    slow: bool = True  # METEOR as well


class Scored(NamedTuple):
    """All scores of one set of rows, ready to be summed otherwise; None of no row."""

    rows: Sequence[Row]
    measure: Measure | None
    skipped: dict[str, str]

    def scores(self) -> dict[str, float | None]:
        """{name: value}; None where no case counts."""
        return {} if self.measure is None else plain(self.measure.scores())


class Evaluation(NamedTuple):
    """results.json, the lines of cases.jsonl, and the scores of the test part."""

    results: Results
    cases: list[dict[str, Any]]
    test: Scored


def score(predictions: Sequence[Row], task: str, protocol: str = "") -> Scores:
    """The scores of a task ('vqa', 'mrg', 'caption') that are defined; no case, no scores.

    `protocol` '' is the task's own. METEOR and plug-ins, which take long, are left out.
    """
    chosen = protocols.get(protocol or protocols.of_task(task))
    values = score_all(predictions, chosen, Settings(slow=False)).scores()
    return {name: value for name, value in values.items() if value is not None}


def score_all(rows: Sequence[Row], protocol: Protocol, settings: Settings) -> Scored:
    """Every score of the protocol and of the plug-ins, or why it was skipped."""
    if not rows:
        return Scored(rows, None, {})
    made = protocol.measures(rows, settings.slow)
    for family in settings.plugins.values():
        made += family(rows)
    measures = [found for found in made if isinstance(found, Measure)]
    skipped = {found.name: found.why for found in made if isinstance(found, Skipped)}
    if not settings.slow:
        skipped |= dict.fromkeys(protocol.slow, LATER)
    return Scored(rows, joined(measures), skipped)


def count(predictions: Sequence[Row], task: str) -> Counts:
    """n_cases, n_empty (answers), n_cut (answers at the limit of `eval.max_new_tokens`).

    Where there are finding scores also n_unparsed (sentences).
    """
    empty = sum(not str(row["prediction"]).strip() for row in predictions)
    cut = sum(bool(row.get("cut")) for row in predictions)
    counts = {"n_cases": len(predictions), "n_empty": empty, "n_cut": cut}
    drawn = [] if task == "vqa" else protocols.drawn(predictions)
    if drawn:
        from pefomed_jax.evaluation import findings

        counts["n_unparsed"] = findings.unparsed(drawn)
    return counts


def evaluate(
    answered: Mapping[str, Sequence[Row] | None], protocol: Protocol, settings: Settings
) -> Evaluation:
    """Scores, intervals, groups, warnings of `test`, of `test_shuffled` or None, and of others.

    The rows of `test_shuffled` answer the same cases in the same order about other images; those
    of text alone, which have no control, are not among them.
    """
    parts = {
        name: None if rows is None else score_all(rows, protocol, settings)
        for name, rows in answered.items()
    }
    test = parts["test"]
    assert test is not None
    counts = {k: None if p is None else count(p.rows, protocol.task) for k, p in parts.items()}
    results: Results = {
        "protocol": protocol.name,
        "task": protocol.task,
        "split": settings.split,
        **{name: None if part is None else part.scores() for name, part in parts.items()},
        "counts": counts,
        "intervals": _intervals(parts, settings),
        "skipped": test.skipped,
        "groups": groups.tables(test.rows, test.measure, settings.group_by),
        "signature": signature(protocol, counts["test"], settings),
        "warnings": _warnings(test, parts.get("test_shuffled"), protocol, settings),
        "comparison": None,
    }
    return Evaluation(results, cases(test, protocol), test)


def _intervals(
    parts: Mapping[str, Scored | None], settings: Settings
) -> dict[str, dict[str, list[float] | None]]:
    """Of each part that there is."""
    draw = (settings.resamples, settings.seed)
    return {
        name: {} if part.measure is None else intervals.intervals(part.measure, *draw)
        for name, part in parts.items()
        if part is not None
    }


def signature(protocol: Protocol, counts: Counts, settings: Settings) -> str:
    """All that the scores of a table depend on besides the texts, in one line."""
    parts = {
        "protocol": protocol.name,
        "tokeniser": protocol.tokeniser,
        "truncation": protocol.truncation,
        "split": settings.split or "-",
        "cases": counts["n_cases"],
        "empty": counts["n_empty"],
        "cut": counts["n_cut"],
        **({"metrics": "+".join(settings.plugins)} if settings.plugins else {}),
        "resamples": settings.resamples,
        "seed": settings.seed,
        **protocol.versions(settings.slow),
        "pefomed_jax": pefomed_jax.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    return "|".join(f"{name}:{value}" for name, value in parts.items())


def _warnings(
    test: Scored, shuffled: Scored | None, protocol: Protocol, settings: Settings
) -> list[str]:
    if test.measure is None:
        return []
    made = notes(test.rows) + protocol.notes(test.rows)
    if shuffled is None or shuffled.measure is None:
        return made
    made += [f"images shuffled: {note}" for note in notes(shuffled.rows) if "empty" in note]
    draw = (settings.resamples, settings.seed)
    made += _uncontrolled(test, shuffled)
    asked = {row["id"] for row in shuffled.rows}
    own = test.measure.of([i for i, row in enumerate(test.rows) if row["id"] in asked])
    compared = paired.compare(own, shuffled.measure, *draw)
    name = next(name for name in protocol.main if name in compared)
    found = compared[name]
    if found["interval"] is not None and found["interval"][0] <= 0:
        low, high = found["interval"]
        made.append(
            f"images shuffled: {name} is {found['other']:.3f}, of the test {found['this']:.3f} "
            f"(difference {low:+.3f} to {high:+.3f}): the answers may not depend on the images"
        )
    return made


def _uncontrolled(test: Scored, shuffled: Scored) -> list[str]:
    """A line where the two columns are not about the same cases."""
    if (n := len(test.rows) - len(shuffled.rows)) == 0:
        return []
    total = len(test.rows)
    return [f"images shuffled: {n} of {total} cases are of text alone and have no such control"]


def cases(scored: Scored, protocol: Protocol) -> list[dict[str, Any]]:
    """One flat row a case: id, match, its own scores (None: not counted), then the row's fields.

    A field of the row with the name of a score gives way to it.
    """
    if scored.measure is None:
        return []
    own = {k: v for k, v in scored.measure.cases.items() if not k.startswith("exact_match_")}
    if protocol.matches is not None:
        matches = protocol.matches(scored.rows)
    else:
        matches = (own["exact_match"] == 1).tolist()
    made = []
    for i, (row, match) in enumerate(zip(scored.rows, matches, strict=True)):
        values = plain({name: float(column[i]) for name, column in own.items()})
        first = {"id": row["id"], "match": match, **values}
        made.append(first | {name: value for name, value in row.items() if name not in first})
    return made


def plain(values: Mapping[str, float]) -> dict[str, float | None]:
    """NaN, which JSON does not have, as None."""
    return {name: None if math.isnan(value) else float(value) for name, value in values.items()}
