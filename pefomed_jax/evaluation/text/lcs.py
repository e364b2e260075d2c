"""Length of the longest common subsequence, one machine word's worth of places at a time."""

from collections.abc import Sequence


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest sequence of words that both have in this order, not in one piece.

    Bit-parallel (Hyyrö, 2004): a step a word of the longer, on an integer of a bit for each word of
    the shorter. A bit is 0 where the row of the classical table goes up.
    """
    short, long = sorted((a, b), key=len)
    places: dict[str, int] = {}
    for i, word in enumerate(short):
        places[word] = places.get(word, 0) | 1 << i
    every = (1 << len(short)) - 1
    row = every
    for word in long:
        hit = row & places.get(word, 0)
        if hit:
            row = ((row + hit) | (row - hit)) & every
    return len(short) - row.bit_count()
