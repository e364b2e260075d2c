"""The tables of the page: header and warnings, splits, types, answers, bad rows, what is shared."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from pefomed_jax.audit.gather import SPLITS
from pefomed_jax.audit.leakage import KINDS
from pefomed_jax.audit.rows import KINDS as WITHIN
from pefomed_jax.audit.warn import percent
from pefomed_jax.data.sources.files import BadRow
from pefomed_jax.evaluation.page import charts
from pefomed_jax.evaluation.page.tables import name_of, table, warnings

Audit = Mapping[str, Any]
SHOWN = 50  # bad rows on the page
OPEN = 12  # values of a type before the rest is folded away
COLUMNS = {
    "cases": "cases",
    "unused": "past the limit",
    "images": "images",
    "most_images": "most images a case",
    "without_image": "without image",
    "patients": "patients",
    "studies": "studies",
    "questions": "questions",
    "answers": "answers",
}


def header(audit: Audit) -> str:
    """What was audited, the figures that matter most, and the warnings."""
    said = f"data audit · configs/{audit['task']}.py · preset {audit['preset']}"
    place = f'<p class="note">{html.escape(audit["dir"])}</p>' if audit["dir"] else ""
    tiles = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd><dd>{html.escape(note)}</dd></div>"
        for name, value, note in _tiles(audit)
    )
    notes = "".join(f'<p class="note">{html.escape(line)}</p>' for line in audit["notes"])
    good = "" if audit["warnings"] else '<p class="note fine">Nothing to warn of was found.</p>'
    return (
        f'<p class="over">{html.escape(said)}</p><h1>{html.escape(audit["source"])}</h1>{place}'
        f'<dl class="tiles">{tiles}</dl>{warnings(audit["warnings"])}{good}{notes}'
    )


def _tiles(audit: Audit) -> list[tuple[str, str, str]]:
    counts = {split: audit["splits"][split]["cases"] for split in SPLITS}
    bad, lengths = audit["bad"], audit["lengths"]
    _, touched = audit["leakage"]["images"].get("train/test", (0, 0))
    share = percent(touched / counts["test"]) if counts["test"] else "-"
    after = "the run would stop" if bad["run_stops"] else "the run would skip them"
    made = [
        ("cases", f"{sum(counts.values()):,}", " · ".join(f"{n:,} {s}" for s, n in counts.items())),
        ("bad rows", f"{bad['rows']:,}", after if bad["rows"] else f"of {bad['total']:,}"),
        ("test cases with a training image", share, f"{touched:,} of {counts['test']:,}"),
    ]
    if lengths["steps_per_epoch"]:
        steps = f"{lengths['steps_per_epoch']:,.1f}"
        said = f"{lengths['batch_size']:,} rows each; {lengths['epochs']:,.1f} epochs in the run"
        made.append(("steps an epoch", steps, said))
    if "padding" in lengths:
        made.append(("padding", percent(lengths["padding"]), "of all tokens"))
    return made


def splits(audit: Audit) -> str:
    """Cases and what they hold by split, then by source, then by the fields that tell a type."""
    held = [name for name in COLUMNS if any(_telling(audit, split, name) for split in SPLITS)]
    rows = [
        [
            split,
            *(_n(audit["splits"][split][name]) for name in held),
            _words(audit["splits"][split]),
        ]
        for split in SPLITS
    ]
    head = ["split", *(COLUMNS[name] for name in held), "words of an answer"]
    made = table(head, rows, "splits")
    if audit["sources"]:
        made += _by_split("source", audit["sources"], audit)
    return made + "".join(_by_split(name, rows, audit) for name, rows in audit["types"].items())


def _telling(audit: Audit, split: str, name: str) -> bool:
    value = audit["splits"][split][name]
    least = {"most_images": 1, "unused": 0, "without_image": 0}.get(name)
    return value is not None and (least is None or value > least)


def _words(row: Mapping[str, Any]) -> str:
    if not row["cases"]:
        return "-"
    return f"median {row['median_words']:g}, most {row['most_words']:,}"


def _n(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _by_split(name: str, values: Mapping[str, Mapping[str, int]], audit: Audit) -> str:
    totals = {split: audit["splits"][split]["cases"] for split in SPLITS}
    rows = [
        [name_of(value), *(_part(row[split], totals[split]) for split in SPLITS)]
        for value, row in values.items()
    ]
    head = [name_of(name), *SPLITS]
    made = f'<h3 class="part">by {html.escape(name)}</h3>' + table(head, rows[:OPEN], f"by {name}")
    return made + folded(head, rows[OPEN:], name)


def folded(head: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> str:
    """The rest of a table, folded away; '' where there is none."""
    if not rows:
        return ""
    more = table(head, rows, f"more of {name}")
    return f"<details><summary>{len(rows)} more</summary>{more}</details>"


def _part(n: int, total: int) -> str:
    share = f' <small class="muted">{percent(n / total)}</small>' if total and n else ""
    return f"{n:,}{share}"


def answers(audit: Audit) -> str:
    """The most frequent training answers, and what always giving one of them would score."""
    top = audit["top"]
    if not top:
        return '<p class="note">No training answers.</p>'
    most = max(row["train"] for row in top)
    rows = [
        [
            html.escape(row["answer"]),
            f"{row['cases']:,}",
            charts.bar(row["train"], None, most),
            *(percent(row[split]) if split in row else "-" for split in SPLITS),
        ]
        for row in top
    ]
    scale = f'<span class="muted">0 to {percent(most)} of training</span>'
    head = ["answer", "cases", scale, *SPLITS]
    listed = table(head, rows[:OPEN], "answers") + folded(head, rows[OPEN:], "answers")
    intro = '<h3 class="part">most frequent in training</h3>'
    return _majority(audit) + intro + listed


def _majority(audit: Audit) -> str:
    found = audit["majority"]
    if not found:
        return ""
    rows = [("all", found["all"]), *((name or "(none)", it) for name, it in found["types"].items())]
    cells = [
        [
            html.escape(name),
            html.escape(row["answer"]),
            *(_score(row[split]) for split in SPLITS),
            f"{row['n']:,}",
        ]
        for name, row in rows
    ]
    if "by_type" in found:
        own = [_score(found["by_type"][split]) for split in SPLITS]
        cells.append(["all, by type", "", *own, f"{found['all']['n']:,}"])
    head = ("cases", "answer", *SPLITS, "test cases")
    return (
        '<h3 class="part">always the most frequent training answer</h3><p class="note">The exact '
        f"match (protocol {html.escape(found['protocol'])}) that needs no image: what a model has "
        "to exceed.</p>" + table(head, cells, "majority")
    )


def _score(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def bad(audit: Audit, listed: Sequence[BadRow]) -> str:
    """What is wrong with how many rows, and the first of them."""
    found = audit["bad"]
    if not listed:
        return f'<p class="note fine">None of {found["total"]:,} rows.</p>'
    after = "would stop over them" if found["run_stops"] else "would skip them"
    said = (
        f"{found['rows']:,} of {found['total']:,} rows ({percent(found['share'])}). With "
        f"data.max_bad_fraction={found['allowed']:g} the run {after}. All are in bad_rows.jsonl."
    )
    kinds = table(
        ("problem", "rows"),
        [[html.escape(name), f"{n:,}"] for name, n in found["problems"].items()],
        "kinds of bad rows",
    )
    rows = [
        [*map(html.escape, (f"{row.file}, row {row.row}", row.field, row.problem, row.remedy))]
        for row in listed[:SHOWN]
    ]
    first = table(("where", "field", "what is wrong", "how to mend it"), rows, "bad rows")
    first = first.replace("<td>", '<td class="left">')
    first = first.replace('<th scope="col">', '<th scope="col" class="left">')
    head = f'<h3 class="part">the first {min(SHOWN, len(listed))}</h3>'
    return f'<p class="note">{html.escape(said)}</p>{kinds}{head}{first}'


def shared(audit: Audit) -> str:
    """What two splits share, and what one holds twice, in figures."""
    rows = [
        [
            f"{pair.replace('/', ' and ')}: {KINDS[kind]}",
            f"{records:,}",
            *(_touched(audit, s, n) for s, n in zip(pair.split("/"), cases, strict=True)),
        ]
        for pair, kinds in audit["leakage"]["counts"].items()
        for kind, (records, cases) in kinds.items()
    ]
    head = ("two splits: what both have", "found", "cases of the first", "of the second")
    between = table(head, rows, "between splits")
    if not rows:
        between = '<p class="note fine">The splits share nothing that was looked for.</p>'
    return between + _wording(audit) + _within(audit)


def _touched(audit: Audit, split: str, n: int) -> str:
    return _part(n, audit["splits"][split]["cases"])


def _wording(audit: Audit) -> str:
    share, twins, said = audit["leakage"]["questions"], audit["twins"], []
    if share is not None:
        said.append(
            f"{percent(share)} of test questions are worded like a training question about some "
            "image; that is usual"
        )
    if twins["plain"]:
        said.append(
            f"{twins['plain']:,} pictures have no features (nearly one grey): of these only exact "
            "copies are found"
        )
    return "".join(f'<p class="note">{html.escape(line)}.</p>' for line in said)


def _within(audit: Audit) -> str:
    rows = [
        [f"{split}: {WITHIN[kind]}", f"{records:,}", _touched(audit, split, cases)]
        for split, kinds in audit["within"].items()
        for kind, (records, cases) in kinds.items()
    ]
    head = '<h3 class="part">within one split</h3>'
    if not rows:
        return head + '<p class="note fine">Nothing comes twice.</p>'
    return head + table(("what comes twice", "found", "cases"), rows, "within a split")
