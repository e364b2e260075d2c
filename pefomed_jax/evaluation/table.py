"""Results as a table of plain text for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]  # results.json


def table(results: Results) -> str:
    """Scores, then counts, each beside its control: the same questions with other images.

    Below: what was skipped, groups, the comparison, the warnings and the signature, where the
    results hold them.
    """
    parts = [_scores(results), _groups(results), _comparison(results), _said(results)]
    return "\n\n".join(part for part in parts if part)


def _scores(results: Results) -> str:
    spans = results.get("intervals", {}).get("test", {})
    columns = ["test_shuffled", *(["train"] if "train" in results else [])]
    wide = 17 if spans else 0
    lines = [f"{'score':<24}{'test':>10}{'95 %':>{wide}}{'images shuffled':>18}"]
    lines[0] = lines[0] if spans else f"{'score':<24}{'test':>10}{'images shuffled':>18}"
    lines[0] += f"{'train':>10}" * (len(columns) - 1)
    for part, form in ((results, ".3f"), (results["counts"], "d")):
        for name, value in part["test"].items():
            line = f"{name:<24}{number(value, form):>10}"
            if spans:
                line += f"{_span(spans.get(name)) if part is results else '':>{wide}}"
            for column, width in zip(columns, (18, 10), strict=False):
                line += f"{number((part.get(column) or {}).get(name), form):>{width}}"
            lines.append(line)
    lines += [f"{name:<24}skipped: {why}" for name, why in results.get("skipped", {}).items()]
    return "\n".join(lines)


def _groups(results: Results) -> str:
    tables = []
    for field, groups in results.get("groups", {}).items():
        names = list(dict.fromkeys(name for group in groups.values() for name in group))
        first = max(24, *(len(value) + 2 for value in groups))
        lines = [f"{field:<{first}}" + "".join(f"{n:>{len(n) + 2}}" for n in names)]
        for value, group in groups.items():
            cells = (
                f"{number(group.get(n), 'd' if n == 'n_cases' else '.3f'):>{len(n) + 2}}"
                for n in names
            )
            lines.append(f"{value:<{first}}" + "".join(cells))
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _comparison(results: Results) -> str:
    found = results.get("comparison")
    if not found:
        return ""
    lines = [f"compared with {found['file']}, {found['n_cases']} cases"]
    for side, ids in (("--predictions", found["only_this"]), ("--compare", found["only_other"])):
        if ids:
            lines.append(f"only in {side}, left out: {len(ids)} ({_some(ids)})")
    head = f"{'score':<24}{'this':>10}{'other':>10}{'difference':>12}{'95 %':>18}{'p':>9}  test"
    lines.append(head)
    for name, row in found["scores"].items():
        cells = f"{number(row['this']):>10}{number(row['other']):>10}"
        cells += f"{number(row['difference'], '+.3f'):>12}{_span(row['interval'], '+.3f'):>18}"
        lines.append(f"{name:<24}{cells}{_p(row['p']):>9}  {_test(row)}")
    return "\n".join(lines)


def _said(results: Results) -> str:
    lines = [f"warning: {note}" for note in results.get("warnings", ())]
    if "signature" in results:
        lines.append(results["signature"])
    return "\n".join(lines)


def number(value: float | int | None, form: str = ".3f") -> str:
    """A score or count; '-' for none."""
    return "-" if value is None else format(value, form)


def _span(span: Sequence[float] | None, form: str = ".3f") -> str:
    return "-" if span is None else f"{span[0]:{form}} {span[1]:{form}}"


def _p(p: float | None) -> str:
    if p is None:
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _test(row: Mapping[str, Any]) -> str:
    if "wins" not in row:
        return str(row["test"])
    return f"{row['test']} (better in {row['wins']}, worse in {row['losses']})"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
