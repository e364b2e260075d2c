"""Prompts to be answered, in batches: one case a row, or up to n questions about one image.

The batches are a function of the cases and of the sizes alone, so they can be entered anywhere: an
answer comes from the same batch whoever asks for it, and whenever.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch, Case
from pefomed_jax.data import ahead, pipeline
from pefomed_jax.data.pipeline import Loader
from pefomed_jax.data.sources import Source
from pefomed_jax.data.tokens import Row

Shape = tuple[int, int]
Places = list[Case | None]  # the case of each lane of each row; None: no question stands there


@dataclasses.dataclass(frozen=True)
class Asked:
    """Rows of questions about one image each, and the shape of the batches that hold them."""

    loader: Loader
    groups: Sequence[tuple[Case, ...]]  # the cases of each row
    rows: Sequence[Row]
    lanes: int  # questions in a row, at most
    size: int  # rows in a batch, over all processes
    shape: Shape  # (T, I) of every batch

    @classmethod
    def of(
        cls,
        loader: Loader,
        cases: Sequence[Case],
        size: int,
        lanes: int = 1,
        shape: Shape | None = None,
    ) -> "Asked":
        """`shape`: of all batches, to share one compilation between sets of cases; default: the
        longest row's, rounded up.
        """
        groups = together(cases, lanes)
        rows = loader.encoding.question_rows(groups)
        return cls(loader, groups, rows, lanes, size, shape or shape_of(cases, rows))

    @property
    def cases(self) -> list[Case]:
        """All cases in the order in which the batches hold them."""
        return [case for group in self.groups for case in group]

    def first(self, done: int) -> int:
        """The first batch with a case past the first `done` of `cases`."""
        ends = np.cumsum([len(group) for group in self.groups])
        return int(np.searchsorted(ends, done, side="right")) // self.size

    def batches(
        self, start: int = 0, workers: int = 0, mine: Sequence[int] | None = None
    ) -> Iterator[tuple[Batch, Places]]:
        """(the rows `mine` of a batch, the cases of all its rows) from batch number `start` on.

        `mine`: numbers of rows in rising order; None: all. The last batch repeats its last row in
        the rows past its cases, so that these end when it ends; they hold no case.
        """
        mine = range(self.size) if mine is None else mine
        stop = -(-len(self.rows) // self.size)
        for k, batch in ahead.run(_Make(self, mine), start, stop, workers):
            groups = self.groups[k * self.size : (k + 1) * self.size]
            yield batch, [case for group in groups for case in self._padded(group)]

    def _padded(self, group: Sequence[Case]) -> Places:
        return [*group, *[None] * (self.lanes - len(group))]


def shape_of(cases: Sequence[Case], rows: Sequence[Row]) -> Shape:
    """(T, I) that holds these rows of these cases."""
    return pipeline.row_length(rows), pipeline.most_images(cases)


def together(cases: Sequence[Case], n: int) -> list[tuple[Case, ...]]:
    """Cases by row: those about the same images in as few rows of at most `n` as hold them.

    Their rows are of nearly equal size; all stand in the order of their first cases.
    """
    if n == 1:
        return [(case,) for case in cases]
    places: dict[tuple[str, ...], list[int]] = {}
    for i, case in enumerate(cases):
        places.setdefault(case.images, []).append(i)
    parts = [
        part.tolist()
        for indices in places.values()
        for part in np.array_split(indices, -(-len(indices) // n))
    ]
    return [tuple(cases[i] for i in part) for part in sorted(parts)]


def eval_batches(
    source: Source,
    cases: Sequence[Case],
    tokenizer: Any,
    config: ConfigDict,
    *,
    shape: Shape | None = None,
    mine: Sequence[int] | None = None,
) -> Iterator[tuple[Batch, Places]]:
    """The batches of a run's evaluation: one case a row, `eval.batch_size` rows; see `Asked`."""
    if cases:
        loader = Loader.of(source, tokenizer, config)
        asked = Asked.of(loader, cases, config.eval.batch_size, shape=shape)
        yield from asked.batches(0, config.data.workers, mine)


@dataclasses.dataclass(frozen=True)
class _Make:
    """Batch number -> the rows `mine` of it."""

    asked: Asked
    mine: Sequence[int]

    def __call__(self, k: int) -> tuple[int, Batch]:
        asked = self.asked
        picked = range(k * asked.size, min((k + 1) * asked.size, len(asked.rows)))
        mine = [picked[min(row, len(picked) - 1)] for row in self.mine]
        opened = {i: asked.loader.visual(asked.groups[i][0]) for i in dict.fromkeys(mine)}
        rows = [asked.rows[i] for i in mine]
        length, images = asked.shape
        return k, asked.loader.collate(rows, [opened[i] for i in mine], (length, 1, images))
