"""Which rows form global batch k: a pure function of (cases, lengths, seed, config).

Each epoch is a seeded permutation of the cases (or of a mix's draws, see `ratios`); those of one
image are dealt, in that order, into as few rows as hold them (at most `branches` a row, always
within the largest bucket), of equal size; the rows are shuffled. The rows of all epochs form one
stream, and global batch k is rows [kB, (k+1)B) of it, so none is lost where an epoch ends.
Processes and workers play no part.
The number of rows of an image is the same in every epoch: the stream can be entered anywhere.
"""

import dataclasses
import hashlib
from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Int

from pefomed_jax.data import buckets as buckets_lib
from pefomed_jax.data.buckets import Bucket
from pefomed_jax.data.ratios import Mix


@dataclasses.dataclass(frozen=True)
class GlobalBatch:
    """Rows as tuples of case indices, the epoch of each row, and the shape (T, A, I) of all."""

    rows: list[tuple[int, ...]]
    epochs: list[int]
    bucket: Bucket


@dataclasses.dataclass(frozen=True)
class _Epoch:
    members: Int[np.ndarray, " n"]  # cases, row by row
    starts: Int[np.ndarray, " r"]  # where each row begins in members, rows in shuffled order
    stops: Int[np.ndarray, " r"]
    lengths: Int[np.ndarray, " r"]
    answers: Int[np.ndarray, " r"]
    images: Int[np.ndarray, " r"]


class Order:
    """The order of a run; see the module.

    Args:
      images: the images of each case, by name.
      lengths: tokens of each case's branch, at most (a template may be shorter in some epoch).
      answers: targets of each case.
      prefix: tokens of each case's prefix, the same wherever the images are.
      batch: rows in a global batch (B).
      branches: cases in a row, at most.
      buckets: row lengths T; () chooses them.
      mix: the draws of each epoch where folders have weights; with branches = 1 only.
    Errors: UserError where one case alone is longer than the largest bucket.
    """

    def __init__(
        self,
        images: Sequence[tuple[str, ...]],
        lengths: Int[np.ndarray, " n"],
        answers: Int[np.ndarray, " n"],
        *,
        prefix: Int[np.ndarray, " n"],
        seed: int,
        batch: int,
        branches: int = 1,
        buckets: Sequence[int] = (),
        mix: Mix | None = None,
    ):
        self.seed, self.batch_size = seed, batch
        self._lengths, self._answers, self._prefix, self._mix = lengths, answers, prefix, mix
        self._images = np.asarray([len(names) for names in images], np.int64)
        self._group = None if branches == 1 else _groups(images)
        room = max(buckets) - prefix if buckets else None
        self._edges = _deal(self._group, lengths, branches, room)
        self.rows_per_epoch = len(self._edges) - 1
        self._cache: dict[int, _Epoch] = {}
        bound = (
            self._bound(lengths, prefix),
            self._bound(answers, np.zeros_like(prefix)),
            int(self._images.max(initial=0)),
        )
        self.buckets = buckets_lib.choose(*self._maxima(), bound, buckets)

    @property
    def quotas(self) -> tuple[int, ...]:
        """Draws of each folder or source in an epoch, in the order of their weights; () without."""
        return () if self._mix is None else self._mix.quotas

    @property
    def steps_per_epoch(self) -> float:
        """Global batches in an epoch; not whole where rows of two epochs share a batch."""
        return self.rows_per_epoch / self.batch_size

    def batch(self, k: int) -> GlobalBatch:
        """Global batch k >= 0."""
        rows, epochs, need = [], [], np.zeros(3, np.int64)
        for epoch, first, last in self._span(k):
            e = self._epoch(epoch)
            bounds = zip(e.starts[first:last].tolist(), e.stops[first:last].tolist(), strict=True)
            rows += [tuple(e.members[a:b].tolist()) for a, b in bounds]
            epochs += [epoch] * (last - first)
            most = [x[first:last].max() for x in (e.lengths, e.answers, e.images)]
            need = np.maximum(need, most)
        bucket = next(b for b in self.buckets if (need <= b).all())
        return GlobalBatch(rows, epochs, bucket)

    def cases(self, k: int) -> list[int]:
        """The cases of global batch k, over all processes, by index."""
        return [i for row in self.batch(k).rows for i in row]

    def waste(self, n_batches: int = 100) -> float:
        """The share of tokens that is padding, 0 to 1, in the first batches of epoch 0."""
        total = used = 0
        for k in range(min(n_batches, int(np.ceil(self.steps_per_epoch)))):
            total += self.batch_size * self.batch(k).bucket[0]
            used += sum(int(self._epoch(e).lengths[a:b].sum()) for e, a, b in self._span(k))
        return 1.0 - used / total

    def digest(self, first: int, last: int) -> str:
        """A hash of global batches first..last-1, to compare orders by."""
        text = repr([dataclasses.astuple(self.batch(k)) for k in range(first, last)])
        return hashlib.sha256(text.encode()).hexdigest()

    def _span(self, k: int) -> list[tuple[int, int, int]]:
        """(epoch, first row, last row) of the pieces of epochs that batch k is made of."""
        spans, row, stop = [], k * self.batch_size, (k + 1) * self.batch_size
        while row < stop:
            epoch, first = divmod(row, self.rows_per_epoch)
            last = min(self.rows_per_epoch, first + stop - row)
            spans.append((epoch, first, last))
            row += last - first
        return spans

    def _epoch(self, epoch: int) -> _Epoch:
        found = self._cache.get(epoch)
        if found is None:
            found = self._make(epoch)
            # two are kept: a batch may lie in both; replaced, not changed, as threads share it
            self._cache = {e: v for e, v in self._cache.items() if abs(e - epoch) == 1}
            self._cache = {**self._cache, epoch: found}
        return found

    def _make(self, epoch: int) -> _Epoch:
        rng = np.random.default_rng([self.seed, epoch])
        members = rng.permutation(len(self._lengths))
        if self._mix is not None:
            members = self._mix.draw(epoch)[members]
        shuffle = np.arange(self.rows_per_epoch)
        if self._group is not None:
            members = members[np.argsort(self._group[members], kind="stable")]
            shuffle = rng.permutation(self.rows_per_epoch)
        starts, stops = self._edges[:-1], self._edges[1:]
        firsts = members[starts]
        lengths = self._prefix[firsts] + np.add.reduceat(self._lengths[members], starts)
        answers = np.add.reduceat(self._answers[members], starts)
        columns = (starts, stops, lengths, answers, self._images[firsts])
        return _Epoch(members, *(x[shuffle] for x in columns))

    def _maxima(self) -> tuple[Int[np.ndarray, " k"], ...]:
        """The greatest length, number of targets and of images in each batch of epoch 0."""
        e = self._epoch(0)
        starts = np.arange(0, self.rows_per_epoch, self.batch_size)
        return tuple(np.maximum.reduceat(x, starts) for x in (e.lengths, e.answers, e.images))

    def _bound(self, counts: Int[np.ndarray, " n"], base: Int[np.ndarray, " n"]) -> int:
        """The greatest sum of `counts` and one `base` that a row of any epoch can have."""
        if self._group is None:
            return int((counts + base).max())
        sizes = np.diff(self._edges)
        widest = np.zeros(self._group.max() + 1, np.int64)
        first = np.concatenate([[0], np.cumsum(np.bincount(self._group))])
        np.maximum.at(widest, np.searchsorted(first, self._edges[:-1], side="right") - 1, sizes)
        ordered, rank = _ranked(self._group, counts)
        group = np.sort(self._group)
        most = np.bincount(group, np.where(rank < widest[group], ordered, 0)).astype(np.int64)
        most[self._group] += base  # adds once: indices that come again write the same
        return int(most.max())


def _groups(images: Sequence[Hashable]) -> Int[np.ndarray, " n"]:
    """A number for each case's images, in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return np.asarray([numbers.setdefault(name, len(numbers)) for name in images], np.int64)


def _ranked(
    group: Int[np.ndarray, " n"], counts: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Counts sorted by group, the greatest first, and the rank of each within its group."""
    ordered = counts[np.lexsort((-counts, group))]
    sizes = np.bincount(group)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return ordered, np.arange(len(group)) - np.repeat(first, sizes)


def _deal(
    group: Int[np.ndarray, " n"] | None,
    lengths: Int[np.ndarray, " n"],
    branches: int,
    room: Int[np.ndarray, " n"] | None,
) -> Int[np.ndarray, " r1"]:
    """Where rows begin and end in the cases sorted by image, the same in every epoch.

    An image gets as few rows as hold its cases however they are drawn: even the longest of them
    must fit `room`, the same for all of an image, together. None: no limit.
    """
    if group is None:
        return np.arange(len(lengths) + 1)
    sizes = np.bincount(group)
    ordered, rank = _ranked(group, lengths)
    total = np.cumsum(ordered)
    before = np.repeat((total - ordered)[rank == 0], sizes)
    fits = rank < branches
    if room is not None:
        fits &= (total - before <= room[np.argsort(group, kind="stable")]) | (rank == 0)
    n_rows = -(-sizes // np.bincount(np.sort(group), fits).astype(np.int64))
    position = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row = position * np.repeat(n_rows, sizes) // np.repeat(sizes, sizes)
    new = (np.diff(row, prepend=-1) != 0) | (position == 0)
    return np.append(np.flatnonzero(new), len(group))
