"""Scores and cases as CSV for spreadsheets.

UTF-8 with a byte order mark, without which Excel reads another encoding. A text that begins like a
formula gets an apostrophe in front, and one longer than a cell of Excel is cut and says so.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

MARK = "\ufeff"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
CELL = 32_000  # characters; Excel takes 32,767
SCORES = (
    *("protocol", "split", "part", "field", "group", "n_cases", "score", "value", "low", "high"),
    *("p", "note"),
)


def scores(results: Mapping[str, Any]) -> str:
    """One row a score of a part (test, test_shuffled, train), of a group, of the comparison.

    `low` and `high` are the ends of the 95 % interval; without a value, `note` says why.
    """
    first = {"protocol": results["protocol"], "split": results["split"]}
    rows = [first | row for row in (*_parts(results), *_groups(results), *_compared(results))]
    return _csv(SCORES, rows)


def _parts(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for part, counts in results["counts"].items():
        if counts is None:
            continue
        n = counts["n_cases"]
        for name, value in results[part].items():
            low, high = results["intervals"].get(part, {}).get(name) or (None, None)
            row = {"part": part, "n_cases": n, "score": name, "value": value}
            yield row | {"low": low, "high": high}
        for name, value in counts.items():
            yield {"part": part, "n_cases": n, "score": name, "value": value}
    for name, why in results["skipped"].items():
        yield {"part": "test", "score": name, "note": f"skipped: {why}"}


def _groups(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for field, table in results["groups"].items():
        for group, values in table.items():
            row = {"part": "test", "field": field, "group": group, "n_cases": values["n_cases"]}
            for name, value in values.items():
                if name != "n_cases":
                    yield row | {"score": name, "value": value}


def _compared(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    found = results["comparison"]
    if not found:
        return
    for name, row in found["scores"].items():
        first = {"n_cases": found["n_cases"], "score": name, "note": found["file"]}
        yield first | {"part": "compared_this", "value": row["this"]}
        yield first | {"part": "compared_other", "value": row["other"]}
        low, high = row["interval"] or (None, None)
        span = {"low": low, "high": high, "p": row["p"], "note": row["test"]}
        yield first | {"part": "difference", "value": row["difference"]} | span


def cases(found: Sequence[Mapping[str, Any]]) -> str:
    """One row a case; what is no text or number (several references, say) is JSON."""
    return _csv(list(dict.fromkeys(name for case in found for name in case)), found)


def _csv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow([cell(name) for name in names])
    writer.writerows([cell(row.get(name)) for name in names] for row in rows)
    return MARK + made.getvalue()


def cell(value: Any) -> str:
    """A value as a cell: empty for None, whole digits of numbers, safe text."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else repr(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > CELL:
        text = f"{text[:CELL]} … [{len(text)} characters]"
    # NUL ends a text in some readers; white space before a sign does not stop all spreadsheets
    text = text.replace("\0", "\ufffd")
    risky = text.startswith(FORMULA) or text.lstrip().startswith(FORMULA)
    return "'" + text if risky else text
