"""Pictures of the page: tokens of rows with the buckets drawn in, and sizes of images."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pefomed_jax.audit.warn import percent
from pefomed_jax.evaluation.page import charts
from pefomed_jax.evaluation.page.tables import table

Audit = Mapping[str, Any]
WIDTH, HEIGHT = 480, 270
LEFT, UPPER, RIGHT, LOWER = 58.0, 42.0, 452.0, 236.0


def lengths(audit: Audit) -> str:
    """The histogram of row lengths, and the buckets with what is padding in them."""
    found = audit["lengths"]
    if "problem" in found:
        return f'<p class="note">{html.escape(found["problem"])}</p>'
    rows, answers = found["rows"], found["answers"]
    said = (
        f"median {rows['median']:,}, 99 % within {rows['p99']:,}, most {rows['most']:,} tokens; "
        f"{found['prefix']:,} of them before the question (image, marks); answers: median "
        f"{answers['median']:,}, most {answers['most']:,}"
    )
    keys = '<span class="key"><i class="fill"></i>rows</span>'
    keys += '<span class="key"><i class="dashes"></i>length that rows are padded to</span>'
    figure = _figure("tokens of a row", keys, _histogram(found), said)
    return f'<div class="charts wide">{figure}{_buckets(found)}</div>'


def _figure(name: str, keys: str, drawn: str, said: str) -> str:
    label = html.escape(f"{name}: {said}")
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{drawn}</svg>'
    return (
        f"<figure><div><h3>{name}</h3>{keys}</div>{svg}"
        f"<figcaption>{html.escape(said)}</figcaption></figure>"
    )


def _histogram(found: Mapping[str, Any]) -> str:
    counts, width = found["histogram"]["counts"], found["histogram"]["width"]
    most, end = charts.nice(max(counts)), width * len(counts)
    step, scale = (RIGHT - LEFT) / len(counts), (LOWER - UPPER) / most
    drawn = _across(most)
    for i, n in enumerate(counts):
        if n:
            x, y = LEFT + (i + 0.06) * step, LOWER - n * scale
            box = f'x="{x:.1f}" y="{y:.1f}" width="{0.88 * step:.1f}" height="{n * scale:.1f}"'
            title = f"{i * width} to {(i + 1) * width - 1} tokens: {n:,} rows"
            drawn += f'<rect class="bar" {box}><title>{title}</title></rect>'
    for i, bucket in enumerate(found["buckets"]):
        x = LEFT + bucket["tokens"] / end * (RIGHT - LEFT)
        drawn += f'<line class="edge" x1="{x:.1f}" x2="{x:.1f}" y1="{UPPER}" y2="{LOWER}"/>'
        y = UPPER - 6 - 16 * (i % 2)
        anchor = "end" if x > RIGHT - 20 else "middle"
        place = f'x="{x + 4 * (anchor == "end"):.1f}" y="{y}" text-anchor="{anchor}"'
        drawn += f'<text class="edge-name" {place}>{bucket["tokens"]:,}</text>'
    for value in _ticks(end):
        x = LEFT + value / end * (RIGHT - LEFT)
        drawn += f'<text class="x" x="{x:.1f}" y="{LOWER + 22}">{value:,}</text>'
    return drawn


def _across(most: float | int) -> str:
    drawn = ""
    for part in (0, most / 2, most) if most % 2 == 0 else (0, most):
        y = LOWER - part / most * (LOWER - UPPER)
        drawn += f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        drawn += f'<text class="y" x="{LEFT - 8}" y="{y + 4:.1f}">{part:,.6g}</text>'
    return drawn


def _ticks(end: float | int) -> list[int]:
    """About five round numbers from 0."""
    unit = 10 ** math.floor(math.log10(max(1, end / 2)))
    step = next(unit * k for k in (1, 2, 5, 10) if end / (unit * k) <= 5.5)
    return list(range(0, math.floor(end) + 1, max(1, int(step))))


def _buckets(found: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{bucket['tokens']:,}",
            f"{bucket['answers']:,}",
            f"{bucket['images']:,}",
            f"{bucket['rows']:,}",
            "-" if bucket["padding"] is None else percent(bucket["padding"]),
            charts.bar(bucket["padding"], found["padding"], 1.0),
        ]
        for bucket in found["buckets"]
    ]
    scale = '<span class="muted">line: all</span>'
    head = ("tokens", "of an answer", "images", "rows", "padding", scale)
    said = (
        f"{percent(found['padding'])} of all tokens are padding, over "
        f"{found['measured_batches']:,} batches of {found['batch_size']:,} rows. "
        f"{found['cases_per_epoch']:,} cases are {found['rows_per_epoch']:,} rows, "
        f"{found['steps_per_epoch']:,.1f} steps an epoch; "
        f"{found['steps']:,} steps are {found['epochs']:,.1f} epochs."
    )
    shown = table(head, rows, "buckets")
    return f'<div>{shown}<p class="note">{said}</p></div>'


def images(audit: Audit) -> str:
    """Width and height of all images, their modes and kinds of files."""
    found = audit["pictures"]
    if not found["sizes"]:
        return '<p class="note">No image opens.</p>'
    said = (
        f"{found['opened']:,} of {found['images']:,} images open, {found['n_sizes']:,} sizes, "
        f"median {found['median'][0]:,} × {found['median'][1]:,}; {found['small']:,} smaller than "
        f"the model's square of {found['model']:,}, {found['long']:,} longer than 2:1"
    )
    keys = '<span class="key"><i class="outline"></i>the model\'s square</span>'
    figure = _figure("pixels of an image", keys, _sizes(found), said)
    tables = "".join(
        _counted(name, found[key], found["opened"])
        for name, key in (("mode", "modes"), ("file", "kinds"))
    )
    return f'<div class="charts wide">{figure}<div>{tables}</div></div>'


def _counted(name: str, counts: Mapping[str, int], total: int) -> str:
    rows = [
        [html.escape(value), f"{n:,}", percent(n / total), charts.bar(n / total, None, 1.0)]
        for value, n in counts.items()
    ]
    shown = table((name, "images", "share", ""), rows, f"by {name}")
    return f'<div class="stacked">{shown}</div>'


def _sizes(found: Mapping[str, Any]) -> str:
    """Widths and heights on one scale that doubles; the area of a dot is the number of images."""
    sides = [side for w, h, _ in found["sizes"] for side in (w, h)] + [found["model"]]
    low = math.floor(math.log2(min(sides)))
    high = max(low + 1, math.ceil(math.log2(max(sides))))
    most = max(n for *_, n in found["sizes"])

    def at(w: float | int, h: float | int) -> tuple[float, float]:
        x, y = ((math.log2(side) - low) / (high - low) for side in (w, h))
        return LEFT + x * (RIGHT - LEFT), LOWER - y * (LOWER - UPPER)

    drawn = _doubling(range(low, high + 1), at)
    for w, h, n in sorted(found["sizes"], key=lambda it: -it[2]):
        x, y = at(w, h)
        radius = 2 + 9 * math.sqrt(n / most) if most > 1 else 3.5
        title = f"{w:,} × {h:,}: {n:,}"
        drawn += f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{title}'
        drawn += "</title></circle>"
    x, y = at(found["model"], found["model"])
    return drawn + f'<rect class="model" x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12"/>'


def _doubling(powers: Sequence[int], at: Any) -> str:
    """Grid and numbers at powers of two, and the diagonal of squares."""
    drawn = ""
    (x1, y1), (x2, y2) = at(2 ** powers[0], 2 ** powers[0]), at(2 ** powers[-1], 2 ** powers[-1])
    for power in powers:
        x, y = at(2**power, 2**power)
        drawn += f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{UPPER}" y2="{LOWER}"/>'
        drawn += f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        drawn += f'<text class="x" x="{x:.1f}" y="{LOWER + 22}">{2**power}</text>'
        drawn += f'<text class="y" x="{LEFT - 8}" y="{y + 4:.1f}">{2**power}</text>'
    return drawn + f'<line class="even" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'
