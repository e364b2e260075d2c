"""Shapes (T, A, I) that a run compiles: few, and large enough for every row of every epoch."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from pefomed_jax.errors import UserError

MAX_BUCKETS = 3
MIN_SAVING = 0.1  # of all tokens: what one more shape must save to be worth its compilation

Bucket = tuple[int, int, int]  # tokens, targets, images


def round_up(n: int) -> int:
    """The next multiple of 8 up to 32, of 16 up to 256, of 64 above."""
    step = 8 if n <= 32 else 16 if n <= 256 else 64
    return -(-n // step) * step


def choose(
    lengths: Int[np.ndarray, " k"],
    answers: Int[np.ndarray, " k"],
    images: Int[np.ndarray, " k"],
    bound: Bucket,
    given: Sequence[int],
) -> tuple[Bucket, ...]:
    """Buckets, smallest first, from the greatest row of each batch of one epoch.

    `lengths`, `answers` and `images` are those greatest values, `bound` what no row of any epoch
    exceeds. The lengths are `given` or chosen: the bound, then greedily whatever saves most
    padding, as long as it saves MIN_SAVING. A bucket's A and I hold what the batches that fit its
    T have.
    Errors: the bound exceeds the largest given length.
    """
    if given:
        edges = sorted({int(t) for t in given})
        if bound[0] > edges[-1]:
            raise UserError(
                f"data.buckets: a row of {bound[0]} tokens is longer than the largest bucket "
                f"({edges[-1]}); raise it to {round_up(bound[0])} or lower data.branches"
            )
    else:
        edges = _edges(lengths, round_up(bound[0]))
    shorter = [(t, lengths <= t) for t in edges[:-1]]
    fitting = [
        (t, round_up(int(answers[fits].max(initial=1))), int(images[fits].max(initial=0)))
        for t, fits in shorter
    ]
    return (*fitting, (edges[-1], round_up(bound[1]), bound[2]))


def _edges(lengths: Int[np.ndarray, " k"], largest: int) -> list[int]:
    edges = [largest]
    steps = np.unique([round_up(int(n)) for n in np.unique(lengths)])
    while len(edges) < MAX_BUCKETS:
        costs = {int(t): _cost(lengths, [*edges, int(t)]) for t in steps if t not in edges}
        best = min(costs, key=costs.__getitem__, default=None)
        if best is None or costs[best] > (1 - MIN_SAVING) * _cost(lengths, edges):
            break
        edges.append(best)
    return sorted(edges)


def _cost(lengths: Int[np.ndarray, " k"], edges: list[int]) -> int:
    ordered = np.sort(np.asarray(edges))
    return int(ordered[np.searchsorted(ordered, lengths)].sum())
