"""Batches: grain carries out the order (open, tokenise, collate), nothing is decided here.

Grain's random-access stage maps the number of a batch to the batch: the same ones come out for any
number of worker processes, and a run goes on at any of them. Each process makes only those rows of
every global batch that its devices hold (`mine`, of `parallel/share.py`).
"""

import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import PIL
from jaxtyping import UInt8
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch, Case
from pefomed_jax.data import ahead, augment, images, lengths, ratios
from pefomed_jax.data.augment import Augment
from pefomed_jax.data.buckets import Bucket, round_up
from pefomed_jax.data.encoding import Encoding
from pefomed_jax.data.kept import Kept
from pefomed_jax.data.order import Order
from pefomed_jax.data.sources import Source
from pefomed_jax.data.store import Store
from pefomed_jax.data.tokens import Row, collate


@dataclasses.dataclass(frozen=True)
class Loader:
    """Opens images and encodes rows; travels to worker processes."""

    source: Source
    encoding: Encoding
    size: int  # side of the square image, pixels
    seed: int
    fit: str
    augment: Augment

    @classmethod
    def of(cls, source: Source, tokenizer: Any, config: ConfigDict) -> "Loader":
        encoding, augment = Encoding.of(tokenizer, config), Augment(**config.data.augment)
        size = config.model.vision.image_size
        return cls(source, encoding, size, config.seed, config.data.fit, augment)

    @property
    def preparation(self) -> tuple[object, ...]:
        """All that decides about a square beside its image: two loaders may share what is kept."""
        window = getattr(self.source, "window", None)  # of a mixture: of all its parts
        plain = self.encoding.prompts.quirks.plain_convert
        return self.size, self.fit, window, plain, PIL.__version__

    def visual(self, case: Case, epoch: int = -1) -> list[np.ndarray]:
        """The images of a case as an epoch shows them, or their features; -1: evaluation."""
        if self.features is not None:
            return [self.features[name] for name in case.images]
        return [self.image(case, epoch, i) for i in range(len(case.images))]

    @property
    def features(self) -> Store | None:
        """What the tower made of the images, where that is kept."""
        return self.source.features if isinstance(self.source, Kept) else None

    def square(self, case: Case, number: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """An image as a run without augmentation shows it."""
        if isinstance(self.source, Kept) and self.source.squares is not None:
            kept = self.source.squares[case.images[number]]
            return np.broadcast_to(kept, (*kept.shape[:2], 3))
        plain = self.encoding.prompts.quirks.plain_convert
        return images.prepare(self.source.image(case, number), self.size, self.fit, plain)

    def image(self, case: Case, epoch: int = -1, number: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """An image as an epoch shows it."""
        quirks = self.encoding.prompts.quirks
        name = f"{case.id}/{number}" if number else case.id
        rng = np.random.default_rng([self.seed, epoch + 1, zlib.crc32(name.encode())])
        if quirks.random_crop_flip:
            picture = self.source.image(case, number)
            return images.random_crop_flip(picture, self.size, rng, quirks.plain_convert)
        square = self.square(case, number)
        return square if epoch < 0 else augment.apply(square, self.augment, rng)

    def collate(
        self, rows: Sequence[Row | None], visual: Sequence[list[np.ndarray]], shape: Bucket
    ) -> Batch:
        """Rows with the images of each as one batch; rows past the images are padding."""
        length, answers, n = shape
        kept = self.features
        size, dtype = (
            ((self.size, self.size, 3), np.uint8) if kept is None else (kept.shape, kept.dtype)
        )
        stack = np.zeros((len(rows), n, *size), dtype)
        for row, shown in zip(stack, visual, strict=False):
            for i, each in enumerate(shown):
                row[i] = each
        return collate(rows, length, answers, stack, self.encoding.encoder.pad)


def make_order(cases: Sequence[Case], tokenizer: Any, config: ConfigDict) -> Order:
    """The order of a run over these training cases; every length is measured once, here."""
    encoding = Encoding.of(tokenizer, config)
    measured = lengths.of(encoding, cases, config.data.cache)
    weighted = config.data.ratios and not encoding.prompts.quirks.ignore_ratios
    return Order(
        [case.images for case in cases],
        measured.lengths,
        measured.answers,
        prefix=encoding.prefixes(cases),
        seed=config.seed,
        batch=config.train.batch_size,
        branches=config.data.branches,
        buckets=tuple(config.data.buckets),
        mix=ratios.make(cases, config.data.ratios, config.seed) if weighted else None,
    )


def train_batches(
    source: Source,
    cases: Sequence[Case],
    tokenizer: Any,
    config: ConfigDict,
    *,
    start: int = 0,
    mine: Sequence[int] | None = None,
    order: Order | None = None,
) -> Iterator[tuple[int, Batch, int]]:
    """(k, the rows `mine` of global batch k, cases in all its rows), k = start..steps-1.

    `mine`: numbers of rows in rising order; None: all. `order` is make_order's, where the caller
    has it already. Close the iterator (or exhaust it) to end the worker processes. With
    `data.workers`, absl's flags must be parsed, as app.run does.
    """
    order = make_order(cases, tokenizer, config) if order is None else order
    mine = range(order.batch_size) if mine is None else mine
    make = _TrainBatch(Loader.of(source, tokenizer, config), cases, order, mine)
    for k, batch in ahead.run(make, start, config.train.steps, config.data.workers):
        yield k, batch, len(order.cases(k))


def loss_batches(
    source: Source,
    cases: Sequence[Case],
    tokenizer: Any,
    config: ConfigDict,
    *,
    mine: Sequence[int] | None = None,
) -> Iterator[tuple[Batch, int]]:
    """(the rows `mine` of a batch with answers, cases in all its rows), in order.

    Under the prompt of evaluation, one case a row, `eval.batch_size` rows over all processes, one
    shape; the last batch is filled up with rows of padding, which weigh nothing. `mine`: as above.
    """
    if not cases:
        return
    loader = Loader.of(source, tokenizer, config)
    rows = loader.encoding.eval_rows(cases)
    longest = max(len(row.targets) for row in rows)
    shape = (row_length(rows), round_up(longest), most_images(cases))
    b = config.eval.batch_size
    make = _LossBatch(loader, cases, rows, shape, b, range(b) if mine is None else mine)
    for k, batch in ahead.run(make, 0, -(-len(cases) // b), config.data.workers):
        yield batch, len(cases[k * b : (k + 1) * b])


def row_length(rows: Sequence[Row]) -> int:
    """T that holds all of these rows."""
    return round_up(max(len(row.tokens) for row in rows))


def most_images(cases: Sequence[Case]) -> int:
    """I that holds the images of each of these cases."""
    return max((len(case.images) for case in cases), default=0)


def control_images(cases: Sequence[Case]) -> list[Case]:
    """The same questions about other images: a fixed roll by half over the distinct sets of them.

    No case keeps its images, and none of text alone is among them; [] where there is one set only,
    which admits no control.
    """
    cases = [case for case in cases if case.images]
    names = list(dict.fromkeys(case.images for case in cases))
    if len(names) < 2:
        return []
    half = len(names) // 2
    other = dict(zip(names, [*names[-half:], *names[:-half]], strict=True))
    return [dataclasses.replace(case, images=other[case.images]) for case in cases]


@dataclasses.dataclass(frozen=True)
class _TrainBatch:
    """Global batch number -> the rows `mine` of it."""

    loader: Loader
    cases: Sequence[Case]
    order: Order
    mine: Sequence[int]

    def __call__(self, k: int) -> tuple[int, Batch]:
        plan = self.order.batch(k)
        rows = [[self.cases[i] for i in plan.rows[row]] for row in self.mine]
        epochs = [plan.epochs[row] for row in self.mine]
        encoded = self.loader.encoding.train_rows(rows, epochs)
        visual = [self.loader.visual(row[0], e) for row, e in zip(rows, epochs, strict=True)]
        return k, self.loader.collate(encoded, visual, plan.bucket)


@dataclasses.dataclass(frozen=True)
class _LossBatch:
    """Batch number -> the rows `mine` of `size` cases in turn, filled up."""

    loader: Loader
    cases: Sequence[Case]
    rows: Sequence[Row]
    shape: Bucket
    size: int
    mine: Sequence[int]

    def __call__(self, k: int) -> tuple[int, Batch]:
        picked = range(k * self.size, min((k + 1) * self.size, len(self.cases)))
        there = [picked[row] for row in self.mine if row < len(picked)]
        visual = [self.loader.visual(self.cases[i]) for i in there]
        missing = len(self.mine) - len(there)
        rows: list[Row | None] = [*(self.rows[i] for i in there), *[None] * missing]
        return k, self.loader.collate(rows, visual, self.shape)
