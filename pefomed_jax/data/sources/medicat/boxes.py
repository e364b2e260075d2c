"""The subfigures of MedICaT: boxes in compound figures, each with its words of the caption.

A line of subcaptions_public.jsonl has `width` and `height` of the figure in pixels, `subfigures`
(`label`, and the corners of the box as `points`), the caption's `tokens` (`id`, `text`, `start` and
`end` in characters), and `subcaptions`: the ids of the tokens by label.
"""

import functools
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import captions, files
from pefomed_jax.data.sources.medicat import figures

BOX = re.compile(r"#xywh=(\d+),(\d+),(\d+),(\d+)$")
FORM = {"subfigures": list, "subcaptions": dict, "tokens": list}  # of a line; or null


class Source(files.ListSource):
    """Figures, and boxes of figures, which are cropped as they are opened."""

    def path(self, case: Case, number: int = 0) -> pathlib.Path:
        """The figure's file, also of a box of it."""
        return pathlib.Path(self.root) / BOX.sub("", case.images[number])

    def image(self, case: Case, number: int = 0) -> Image.Image:
        """The figure, or its box. Errors: ValueError for a box outside the figure."""
        whole = super().image(case, number)
        if not (found := BOX.search(case.images[number])):
            return whole
        x, y, width, height = map(int, found.groups())
        with whole:
            if x + width > whole.width or y + height > whole.height:
                raise ValueError(f"{found[0][1:]} is not in {whole.width} x {whole.height} pixels")
            return whole.crop((x, y, x + width, y + height))


class Box(NamedTuple):
    """A subfigure: where it stands in the list, and its words."""

    line: int  # counted from 1
    number: int  # in its line, from 0
    figure: dict[str, Any]
    box: Any

    @property
    def words(self) -> list[int]:
        """The ids of its tokens; [] for a box that no words are about."""
        label = self.box.get("label") if isinstance(self.box, dict) else None
        known = self.figure.get("subcaptions") or {}
        return known.get(label) or [] if isinstance(label, str) else []


def add(
    source: Source,
    name: str,
    images: captions.Images,
    lines: Iterable[Any],
    wanted: Callable[[Any], bool],
) -> None:
    """Reads the boxes of a list that have words of their own, and says how many have none.

    The rows of the list `name` are these boxes, not its lines.
    """
    rows = list(_boxes(lines, wanted))
    named = [row for row in rows if isinstance(row, files.Broken) or row.words]
    source.add("train", name, named, functools.partial(_case, images))
    if without := len(rows) - len(named):
        print(f"medicat: {without} of {len(rows)} subfigures have no caption and are left out")


def _boxes(lines: Iterable[Any], wanted: Callable[[Any], bool]) -> Iterator[Box | files.Broken]:
    for line, row in enumerate(lines, 1):
        if isinstance(row, files.Broken):
            yield row._replace(problem=f"{line} {row.problem}")
        elif not isinstance(row, dict):
            yield files.Broken("line", f"{line} is a {type(row).__name__}", "fetch the list again")
        elif "subfigures" not in row:
            yield files.Broken("subfigures", f"line {line} has none", "fetch the list again")
        elif wrong := [k for k in FORM if not isinstance(row.get(k), FORM[k] | None)]:
            problem = f"line {line} has a {type(row[wrong[0]]).__name__} there"
            yield files.Broken(wrong[0], problem, "fetch the list again")
        elif wanted(row):
            yield from (Box(line, i, row, box) for i, box in enumerate(row.get("subfigures") or ()))


def _case(images: captions.Images, row: Box, number: int, split: str) -> Case:
    paper, name = figures.key(row.figure)
    image = images.find(f"{paper}_{name}", "fig_uri")
    x, y, width, height = _pixels(row)
    if width < 1 or height < 1:
        problem = f"line {row.line}: box {row.number} is {width} x {height} pixels"
        raise files.RowError("points", problem, "an error of the release: delete the box")
    fields = figures.fields(row.figure) | {"label": row.box["label"]}
    image = f"{image}#xywh={x},{y},{width},{height}"
    case_name = f"{paper}_{name}-{row.number}"
    return captions.case(figures.split_of(paper), case_name, image, _caption(row), **fields)


def _pixels(row: Box) -> tuple[int, int, int, int]:
    """Left, top, width and height of the pixels that a box touches, within the figure."""
    edges = files.value(row.figure, "width"), files.value(row.figure, "height")
    points = files.value(row.box, "points")
    try:
        spans = [
            (min(ends), max(ends), int(edge))
            for ends, edge in zip(zip(*points, strict=True), edges, strict=True)
        ]
        low = [max(0, math.floor(least)) for least, _, _ in spans]
        high = [min(edge, math.ceil(most)) for _, most, edge in spans]
    except (TypeError, ValueError, OverflowError):
        problem = f"line {row.line}: box {row.number} has no corners x, y"
        raise files.RowError("points", problem, "fetch the list again") from None
    size = [
        0 if least == most else h - lo
        for (least, most, _), lo, h in zip(spans, low, high, strict=True)
    ]
    return low[0], low[1], size[0], size[1]


def _caption(row: Box) -> str:
    """The words of a box, apart where the figure's caption has them apart."""
    text, end = "", None
    try:
        wanted = set(row.words)
        for word in row.figure["tokens"] or ():
            if word["id"] in wanted:
                text += ("" if word["start"] == end else " ") + word["text"]
                end = word["end"]
    except (KeyError, TypeError):
        problem = f"line {row.line} has a word without id, start, end and text"
        raise files.RowError("tokens", problem, "fetch the list again") from None
    return files.text({"subcaptions": text}, "subcaptions")
