"""How often each run of words occurs in each of many texts, by sorting whole sets of them at once.

Memory and time follow the words of all texts together, so one text of megabytes is nothing special.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

ORDERS = (1, 2, 3, 4)


class Counts(NamedTuple):
    """The runs of one length: row by row a text, one of its runs, and how often it is there."""

    text: Int[np.ndarray, " rows"]  # sorted
    gram: Int[np.ndarray, " rows"]  # 0 .. kinds - 1, sorted within a text
    count: Int[np.ndarray, " rows"]
    kinds: int


def counts(texts: Sequence[Sequence[str]]) -> Iterator[Counts]:
    """The runs of one word, of two, three and four."""
    known: dict[str, int] = {}
    words = np.array([known.setdefault(w, len(known)) for text in texts for w in text], np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    starts, gram, kinds = np.arange(len(words)), words, len(known)
    for n in ORDERS:
        if n > 1:
            # a run of n is one of n - 1 and the word after it, where that is of the same text
            inside = starts + n - 1 < len(words)
            starts, gram = starts[inside], gram[inside]
            same = owner[starts] == owner[starts + n - 1]
            starts, gram = starts[same], gram[same]
            grown = gram * len(known) + words[starts + n - 1]
            found, gram = np.unique(grown, return_inverse=True)
            kinds = len(found)
        rows, count = np.unique(owner[starts] * max(1, kinds) + gram, return_counts=True)
        yield Counts(rows // max(1, kinds), rows % max(1, kinds), count, kinds)


def looked_up(
    wanted: Int[np.ndarray, " wanted"],
    keys: Int[np.ndarray, " keys"],
    values: Int[np.ndarray, " keys"],
) -> Int[np.ndarray, " wanted"]:
    """The values of the wanted keys, 0 for one that is not there; `keys` are sorted."""
    if not len(keys):
        return np.zeros_like(wanted)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)
