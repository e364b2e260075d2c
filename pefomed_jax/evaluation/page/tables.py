"""The tables of the page as HTML: scores beside their control, groups, comparison, warnings."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pefomed_jax.evaluation import protocols
from pefomed_jax.evaluation.page import charts
from pefomed_jax.evaluation.table import number

Results = Mapping[str, Any]  # results.json

SHOWN = 20  # groups that are open at once
COUNTS = {
    "n_cases": "cases",
    "n_empty": "empty answers",
    "n_cut": "answers cut at the limit of tokens",
    "n_unparsed": "sentences that no rule could read",
}
PARTS = {"test": "test", "test_shuffled": "images shuffled", "train": "train"}


def header(results: Results, title: str) -> str:
    """Title, the figures that matter most, and the warnings."""
    split = f"split {results['split']} · " if results["split"] else ""
    said = f"protocol {results['protocol']} · {split}{charts.n_cases(_n(results))}"
    tiles = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{value}</dd><dd>{html.escape(note)}</dd></div>"
        for name, value, note in _tiles(results)
    )
    return (
        f'<p class="over">{html.escape(said)}</p><h1>{html.escape(title)}</h1>'
        f'<dl class="tiles">{tiles}</dl>{warnings(results["warnings"])}'
    )


def _n(results: Results) -> int:
    return results["counts"]["test"]["n_cases"]


def main_score(results: Results) -> str | None:
    """The score that stands for all; None where there is none."""
    main = protocols.get(results["protocol"]).main
    return next((name for name in (*main, *results["test"]) if name in results["test"]), None)


def _tiles(results: Results) -> list[tuple[str, str, str]]:
    made, main = [], main_score(results)
    for part in ("test", "test_shuffled"):
        if main is None or results[part] is None:
            continue
        span = results["intervals"].get(part, {}).get(main)
        name = main if part == "test" else f"{main}, images shuffled"
        said = f"95 %: {_span(span)}" if span else "no interval"
        made.append((name, number(results[part].get(main)), said))
    counts = results["counts"]["test"]
    empty, cut = counts["n_empty"], counts["n_cut"]
    made.append(("cases", f"{counts['n_cases']:,}", f"split {results['split'] or 'not named'}"))
    return [*made, ("empty answers", f"{empty:,}", f"{cut:,} cut at the limit of tokens")]


def warnings(notes: Sequence[str]) -> str:
    """The warnings as a box of their own; '' for none."""
    if not notes:
        return ""
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f'<section class="warnings" id="warnings"><h2>Warnings</h2><ul>{items}</ul></section>'


def name_of(text: str) -> str:
    """The name of a score or a group, which may break after an underscore."""
    return html.escape(text).replace("_", "_<wbr>")


def table(head: Iterable[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """Cells are HTML; the first of a row is its head. Wide tables scroll in their box."""
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{c}</td>" for c in rest) + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="box" tabindex="0" role="region" aria-label="{html.escape(label)}"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def scores(results: Results) -> str:
    """Every score with its interval, the control beside it; counts; what was skipped."""
    parts = [part for part in PARTS if results.get(part) is not None]
    head = ["score", *(PARTS[part] + _under("95 %") for part in parts), _key(parts)]
    rows = [_score(results, name, parts) for name in results["test"]]
    rows += [_count(results, name, parts) for name in results["counts"]["test"]]
    rows += [
        (name_of(name), f'<span class="why">skipped: {html.escape(why)}</span>')
        for name, why in results["skipped"].items()
    ]
    text = table(head, rows, "scores").replace('<td><span class="why"', _wide(len(head)))
    if results["test_shuffled"] is None:
        text += '<p class="note">No control: there are no predictions with shuffled images.</p>'
    return text


def _wide(columns: int) -> str:
    return f'<td colspan="{columns - 1}"><span class="why"'


def _key(parts: Sequence[str]) -> str:
    """The head of the column of the picture: what its signs stand for."""
    return '<span class="muted">0 to 1</span>' + "".join(
        charts.key(part, PARTS[part]) for part in parts
    )


def _score(results: Results, name: str, parts: Sequence[str]) -> list[str]:
    values = {part: results[part].get(name) for part in parts}
    spans = {part: results["intervals"].get(part, {}).get(name) for part in parts}
    cells = [number(values[part]) + _under(_span(spans[part])) for part in parts]
    return [name_of(name), *cells, charts.whiskers(values, spans)]


def _count(results: Results, name: str, parts: Sequence[str]) -> list[str]:
    counts = [results["counts"][part].get(name) for part in parts]
    cells = [("-" if count is None else f"{count:,}") + _under("") for count in counts]
    return [COUNTS.get(name, name), *cells, ""]


def _under(text: str) -> str:
    """What stands beside a value, on a phone under it."""
    return f'<small class="under">{text}</small>'


def _span(span: Sequence[float] | None, form: str = ".3f") -> str:
    return "-" if span is None else f"{span[0]:{form}} to {span[1]:{form}}"


def groups(results: Results) -> str:
    """For every field a table of its groups, the main score as bars."""
    return "\n".join(_group(results, field) for field in results["groups"])


def _group(results: Results, field: str) -> str:
    table_of, main = results["groups"][field], main_score(results)
    names = dict.fromkeys(name for group in table_of.values() for name in group)
    others = [name for name in names if name not in ("n_cases", main)]
    overall = results["test"].get(main)
    top = charts.top([group.get(main) for group in table_of.values()])
    rows = [
        (
            *(name_of(value), f"{group['n_cases']:,}", number(group.get(main))),
            charts.bar(group.get(main), overall, top),
            *(number(group.get(name)) for name in others),
        )
        for value, group in table_of.items()
    ]
    bars = f'<span class="muted">0 to {top:g}; line: all cases</span>'
    head = [name_of(field), "cases", name_of(main or ""), bars, *map(name_of, others)]
    text = table(head, rows[:SHOWN], f"scores by {field}")
    if len(rows) > SHOWN:
        more = table(head, rows[SHOWN:], f"more scores by {field}")
        text += f"<details><summary>{len(rows) - SHOWN} more groups</summary>{more}</details>"
    return f"<h3>by {html.escape(field)}</h3>{text}"


def comparison(results: Results) -> str:
    """The differences to another file of predictions, with intervals and p."""
    found = results["comparison"]
    if not found:
        return ""
    scale = '<span class="muted">each on its own scale</span>'
    head = ("score", "this", "other", "difference" + _under("95 %"), scale, "p", "test")
    rows = [_compared(name, row) for name, row in found["scores"].items()]
    said = f"with {found['file']}, over {charts.n_cases(found['n_cases'])} that both have"
    for side, ids in (("these", found["only_this"]), ("the other", found["only_other"])):
        if ids:
            some = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
            said += f"; left out, as only {side} predictions have them: {len(ids)} ({some})"
    return f'<p class="note">{html.escape(said)}.</p>' + table(head, rows, "comparison")


def _compared(name: str, row: Mapping[str, Any]) -> list[str]:
    p = "-" if row["p"] is None else "&lt;0.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
    test = html.escape(row["test"]).replace("mcnemar", "McNemar")
    if "wins" in row:
        test += f" (better in {row['wins']}, worse in {row['losses']})"
    span, found = row["interval"], number(row["difference"], "+.3f")
    cells = (number(row["this"]), number(row["other"]), found + _under(_span(span, "+.3f")))
    return [name_of(name), *cells, charts.difference(row["difference"], span), p, test]
