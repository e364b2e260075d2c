"""An audit as plain text for the terminal: no texts, they may be under a data use agreement."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pefomed_jax.audit.gather import SPLITS
from pefomed_jax.audit.leakage import KINDS
from pefomed_jax.audit.rows import KINDS as WITHIN
from pefomed_jax.audit.warn import percent

Audit = Mapping[str, Any]
OPEN = 8  # values of a type
COLUMNS = ("cases", "unused", "images", "patients", "studies", "questions", "answers")


def table(audit: Audit) -> str:
    """Splits, types, lengths, images, what is shared, bad rows; then the warnings."""
    parts = (_splits, _sources, _types, _majority, _lengths, _pictures, _shared, _bad, _said)
    blocks = ("\n".join(part(audit)) for part in parts)
    return "\n\n".join(block for block in blocks if block)


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = (cell.rjust(width + 3) for cell, width in zip(rest, widths[1:], strict=True))
        yield first.ljust(widths[0]) + "".join(cells)


def _n(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _splits(audit: Audit) -> Iterator[str]:
    table = [["split", *COLUMNS, "words (median, most)"]]
    for split in SPLITS:
        row = audit["splits"][split]
        words = f"{row['median_words']:g}, {row['most_words']:,}" if row["cases"] else "-"
        table.append([split, *(_n(row[name]) for name in COLUMNS), words])
    yield from _columns(table)


def _sources(audit: Audit) -> Iterator[str]:
    rows = [[name, *(_n(row[split]) for split in SPLITS)] for name, row in audit["sources"].items()]
    yield from _columns([["source", *SPLITS], *rows]) if rows else ()


def _types(audit: Audit) -> Iterator[str]:
    tables = [[[field, *SPLITS], *_values(values)] for field, values in audit["types"].items()]
    yield "\n\n".join("\n".join(_columns(rows)) for rows in tables)


def _values(values: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """The first rows, and the sum of the others."""
    rows = [[f"  {name}", *(_n(row[s]) for s in SPLITS)] for name, row in values.items()]
    others = list(values.values())[OPEN:]
    if len(others) < 2:
        return rows
    rest = [_n(sum(row[split] for row in others)) for split in SPLITS]
    return [*rows[:OPEN], [f"  {len(others)} others", *rest]]


def _majority(audit: Audit) -> Iterator[str]:
    found = audit["majority"]
    if not found or audit["credentialed"]:
        return
    yield f"always the most frequent training answer (exact match, protocol {found['protocol']})"
    rows = [
        ["all", found["all"]],
        *([name or "(none)", row] for name, row in found["types"].items()),
    ]
    cells = [
        [f"  {name}", row["answer"][:24], *(_share(row[s]) for s in SPLITS), _n(row["n"])]
        for name, row in rows
    ]
    if "by_type" in found:
        own = [_share(found["by_type"][split]) for split in SPLITS]
        cells.append(["  all, by type", "", *own, _n(found["all"]["n"])])
    yield from _columns([["  cases", "answer", *SPLITS, "test cases"], *cells])


def _share(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _lengths(audit: Audit) -> Iterator[str]:
    found = audit["lengths"]
    if "problem" in found:
        return
    rows, answers = found["rows"], found["answers"]
    yield (
        f"tokens of a row: median {rows['median']}, 99 % within {rows['p99']}, most {rows['most']} "
        f"({found['prefix']} of them before the question); of an answer: most {answers['most']}"
    )
    cells = [["  row length", "answers", "images", "batches", "rows", "padding"]]
    for bucket in found["buckets"]:
        padding = "-" if bucket["padding"] is None else percent(bucket["padding"])
        names = ("tokens", "answers", "images", "batches", "rows")
        cells.append([f"  {_n(bucket['tokens'])}", *(_n(bucket[k]) for k in names[1:]), padding])
    yield from _columns(cells)
    yield (
        f"padding {percent(found['padding'])} of all tokens; {found['rows_per_epoch']:,} rows, "
        f"{found['steps_per_epoch']:,.1f} steps an epoch, {found['epochs']:,.1f} epochs in "
        f"{found['steps']:,} steps"
    )


def _pictures(audit: Audit) -> Iterator[str]:
    found = audit["pictures"]
    modes = ", ".join(f"{n:,} {mode}" for mode, n in found["modes"].items())
    size = " × ".join(map(str, found["median"])) or "-"
    yield (
        f"images: {found['opened']:,} of {found['images']:,} open; modes {modes or '-'}; "
        f"{found['n_sizes']:,} sizes, median {size}; {found['small']:,} smaller than the model's "
        f"{found['model']}, {found['long']:,} longer than 2:1"
    )


def _shared(audit: Audit) -> Iterator[str]:
    rows = [
        [f"  {pair}: {KINDS[kind]}", _n(records), f"{_n(cases[0])} / {_n(cases[1])}"]
        for pair, kinds in audit["leakage"]["counts"].items()
        for kind, (records, cases) in kinds.items()
    ]
    rows += [
        [f"  {split}: {WITHIN[kind]}", _n(records), _n(cases)]
        for split, kinds in audit["within"].items()
        for kind, (records, cases) in kinds.items()
    ]
    if not rows:
        yield "nothing is shared between splits, nothing comes twice within one"
        return
    yield from _columns([["shared between splits, twice within one", "found", "cases"], *rows])
    if (share := audit["leakage"]["questions"]) is not None:
        yield f"  {percent(share)} of test questions are worded as in training, of any image: usual"


def _bad(audit: Audit) -> Iterator[str]:
    bad = audit["bad"]
    yield f"bad rows: {bad['rows']:,} of {bad['total']:,}"
    rows = [[f"  {problem}", _n(n)] for problem, n in bad["problems"].items()]
    yield from _columns(rows) if rows else ()
    if bad["rows"]:
        yield f"  the first: {bad['first']}"


def _said(audit: Audit) -> Iterator[str]:
    yield from (f"warning: {line}" for line in audit["warnings"])
