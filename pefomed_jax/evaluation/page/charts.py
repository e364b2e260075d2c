"""Pictures of the page as inline SVG: intervals, bars, distributions."""

import html
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pefomed_jax.evaluation.notes import texts

Case = Mapping[str, Any]
Number = float | int
Value = Number | None

LONG, MARGIN = 168, 6  # of an interval's picture
LEAST = 0.001  # that the axis of a difference reaches: the last digit that is shown
BINS = 20
BOX = (40.0, 12.0, 264.0, 146.0)  # left, top, right, bottom of a histogram's plot


STEPS = (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10)


def top(values: Sequence[Value]) -> Number:
    """The end of an axis from 0 for scores: 1 where none is greater."""
    most = max((value for value in values if value is not None), default=0.0)
    return 1.0 if most <= 1 else nice(most)


def nice(most: Number) -> Number:
    """The next round number."""
    if most <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(most))
    return next(unit * step for step in STEPS if most <= unit * step * (1 + 1e-9))


def n_cases(n: int) -> str:
    """'1 case', '2 cases'."""
    return "1 case" if n == 1 else f"{n:,} cases"


def _sign(part: str, x: Number, y: Number) -> str:
    if part == "test":
        return f'<circle class="test" cx="{x:.1f}" cy="{y}" r="4"/>'
    if part == "test_shuffled":
        return f'<rect class="shuffled" x="{x - 3.5:.1f}" y="{y - 3.5}" width="7" height="7"/>'
    return f'<path class="train" d="M{x:.1f} {y - 5}l5 9h-10z"/>'


def key(part: str, name: str) -> str:
    """What a sign stands for."""
    svg = f'<svg width="14" height="14" aria-hidden="true">{_sign(part, 7, 7)}</svg>'
    return f'<span class="key">{svg}{name}</span>'


def whiskers(values: Mapping[str, Value], spans: Mapping[str, Sequence[Number] | None]) -> str:
    """The values of one score as signs over one axis from 0, each with its interval as a line."""
    end = top([*values.values(), *(edge for span in spans.values() if span for edge in span)])
    shown = [(part, value) for part, value in values.items() if value is not None]
    height = 12 * max(1, len(shown)) + 4
    drawn = f'<path class="axis" d="M{MARGIN} {height - 1}H{LONG - MARGIN}"/>'
    for row, (part, value) in enumerate(shown):
        y = 12 * row + 7
        if span := spans.get(part):
            drawn += _line(*(_at(edge, 0, end) for edge in span), y, part)
        drawn += _sign(part, _at(value, 0, end), y)
    svg = f'<svg class="whiskers" {_box(height)} aria-hidden="true">{drawn}</svg>'
    return svg + (f'<span class="muted">to {end:g}</span>' if end != 1 else "")


def _box(height: int) -> str:
    return f'viewBox="0 0 {LONG} {height}" width="{LONG}" height="{height}"'


def _at(value: Number, low: Number, high: Number) -> Number:
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return MARGIN + (LONG - 2 * MARGIN) * share


def _line(x1: Number, x2: Number, y: Number, part: str) -> str:
    return f'<line class="span of-{part}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y}" y2="{y}"/>'


def difference(value: Value, span: Sequence[Number] | None) -> str:
    """A difference with its interval, a line at 0, and how far its own axis reaches to both sides.

    Scores have scales of their own: on a common axis CIDEr would squeeze all others to dots.
    """
    if value is None:
        return ""
    reach = nice(max(LEAST, *map(abs, (value, *(span or ())))))
    middle = _at(0, -reach, reach)
    drawn = f'<path class="axis" d="M{MARGIN} 15H{LONG - MARGIN}M{middle} 0V15"/>'
    if span:
        drawn += _line(*(_at(edge, -reach, reach) for edge in span), 8, "test")
    drawn += _sign("test", _at(value, -reach, reach), 8)
    svg = f'<svg class="whiskers" {_box(16)} aria-hidden="true">{drawn}</svg>'
    return f'{svg}<span class="muted">±{reach:g}</span>'


def bar(value: Value, overall: Value, end: Number) -> str:
    """A score from 0 to `end` as a bar, and a line where that of all cases is."""
    drawn = '<rect class="track" y="3" width="100" height="10"/>'
    if value is not None:
        drawn += f'<rect class="bar" y="3" width="{max(0.0, 100 * value / end):.2f}" height="10"/>'
    if overall is not None and 0 <= overall <= end:
        x = 100 * overall / end
        drawn += f'<line class="overall" x1="{x:.2f}" x2="{x:.2f}" y1="0" y2="16"/>'
    box = 'viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true"'
    return f'<svg class="bars" {box}>{drawn}</svg>'


class Bins(NamedTuple):
    """Counts of values between edges at even distances from 0."""

    width: Number
    counts: list[list[int]]  # [series, bins]
    more: bool  # the last bin also holds all that is greater


def distributions(cases: Sequence[Case], names: Sequence[str]) -> str:
    """Words of answers and references, and every score of the cases, as histograms."""
    if not cases:
        return ""
    own = [len(case["prediction"].split()) for case in cases]
    references = [_nearest(case, n) for case, n in zip(cases, own, strict=True)]
    made = [_lengths(own, references)]
    for name in names:
        values = [case[name] for case in cases if case[name] is not None]
        made += [_of_score(name, values)] * bool(values)
    return f'<div class="charts">{"".join(made)}</div>'


def _nearest(case: Case, own: int) -> int:
    return min((len(t.split()) for t in texts(case, "reference")), key=lambda n: (abs(n - own), n))


def _lengths(own: Sequence[int], references: Sequence[int]) -> str:
    both = sorted([*own, *references])
    most = both[int(0.99 * (len(both) - 1))]  # few cases must not squeeze all others
    width = math.ceil((most + 1) / BINS)
    bins = _binned([own, references], width, both[-1], max(6, min(BINS, both[-1] // width + 1)))
    said = (
        f"answers: median {_median(own)}, most {max(own):,}; "
        f"references: median {_median(references)}, most {max(references):,}"
    )
    keys = '<span class="key"><i class="fill"></i>answers</span>'
    keys += '<span class="key"><i class="outline"></i>references</span>'
    return _figure("words", said, keys, bins)


def _of_score(name: str, values: Sequence[Number]) -> str:
    if set(values) <= {0.0, 1.0}:
        right = sum(value == 1 for value in values)
        said = f"{n_cases(len(values))}: {len(values) - right:,} at 0, {right:,} at 1"
        return _figure(name, said, "", Bins(1, [[len(values) - right, right]], False))
    end = top(values)
    bins = _binned([values], end / BINS, max(values))
    said = f"{n_cases(len(values))}: median {_median(values)}, {values.count(0):,} at 0"
    return _figure(name, said, "", bins)


def _median(values: Sequence[Number]) -> str:
    return f"{statistics.median(values):.3g}"


def _binned(series: Sequence[Sequence[Number]], width: Number, most: Number, n: int = BINS) -> Bins:
    counts = [[0] * n for _ in series]
    for values, row in zip(series, counts, strict=True):
        for value in values:
            row[max(0, min(n - 1, int(value / width + 1e-9)))] += 1
    return Bins(width, counts, most > width * n * (1 + 1e-9))


def _figure(name: str, said: str, keys: str, bins: Bins) -> str:
    label = html.escape(f"{name}: {said}")
    svg = f'<svg viewBox="0 0 280 170" role="img" aria-label="{label}">{_plot(bins)}</svg>'
    head = f"<h3>{html.escape(name)}</h3>{keys}"
    return f"<figure><div>{head}</div>{svg}<figcaption>{html.escape(said)}</figcaption></figure>"


def _plot(bins: Bins) -> str:
    left, upper, right, lower = BOX
    n, end = len(bins.counts[0]), nice(max(map(max, bins.counts)))
    step, scale = (right - left) / n, (lower - upper) / end
    drawn = ""
    for part in (0, end / 2, end) if end % 2 == 0 else (0, end):
        y = lower - part * scale
        drawn += f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        drawn += f'<text class="y" x="{left - 6}" y="{y + 4:.1f}">{part:,.4g}</text>'
    for i, count in enumerate(bins.counts[0]):
        box = (left + (i + 0.06) * step, lower - count * scale, 0.88 * step, count * scale)
        drawn += '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'.format(
            *box
        )
        drawn += f"<title>{_range(bins, i)}: {count:,}</title></rect>"
    for counts in bins.counts[1:]:
        path = "".join(f"V{lower - c * scale:.1f}h{step:.2f}" for c in counts)
        drawn += f'<path class="outline" d="M{left} {lower}{path}V{lower}"/>'
    return drawn + _below(bins, step)


def _range(bins: Bins, i: int) -> str:
    if bins.width == 1:
        return f"{i}" + (" or more" if bins.more and i == len(bins.counts[0]) - 1 else "")
    low = f"{i * bins.width:g}"
    last = bins.more and i == len(bins.counts[0]) - 1
    return f"{low} or more" if last else f"{low} to {(i + 1) * bins.width:g}"


def _below(bins: Bins, step: Number) -> str:
    """Ticks: at the middle of whole numbers, at edges else; the last says 'or more'."""
    left, _, _, lower = BOX
    n = len(bins.counts[0])
    whole = bins.width == 1
    made = ""
    for i in range(0, n + (not whole), 1 if n <= 10 else 5):
        x = left + (i + 0.5 * whole) * step
        more = "+" if bins.more and i == n - whole else ""
        made += f'<text class="x" x="{x:.1f}" y="{lower + 17}">{i * bins.width:g}{more}</text>'
    return made
