"""Metrics of an answer and one reference: of several references the best counts."""

from collections.abc import Callable, Sequence

import numpy as np

from pefomed_jax.evaluation.clinical.metric import answers, references
from pefomed_jax.evaluation.protocols import Row

Values = dict[str, float]
Pair = list[str]  # answer, reference


def best(
    rows: Sequence[Row], score: Callable[[list[Pair]], list[Values]], by: str
) -> dict[str, np.ndarray]:
    """{name: float64 [cases]}: values of each case against the reference with the best `by`."""
    refs = references(rows)
    pairs = [
        [own, ref] for own, several in zip(answers(rows), refs, strict=True) for ref in several
    ]
    found = iter(score(pairs))
    chosen = [max((next(found) for _ in several), key=lambda v: v[by]) for several in refs]
    return {name: np.array([v[name] for v in chosen], np.float64) for name in chosen[0]}
