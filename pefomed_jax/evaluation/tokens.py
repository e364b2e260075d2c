"""Overlap of the words of two short answers, per case, each between 0 and 1."""

from collections import Counter
from collections.abc import Sequence


def f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of the two multisets of words, as SQuAD scores an answer; two empty ones are equal."""
    if not answer or not reference:
        return float(len(answer) == len(reference))
    shared = _shared(answer, reference)
    return 2 * shared / (len(answer) + len(reference))


def recall(answer: Sequence[str], reference: Sequence[str]) -> float:
    """The share of the reference's words that the answer has, each as often as it is there."""
    if not reference:
        return float(not answer)
    return _shared(answer, reference) / len(reference)


def _shared(answer: Sequence[str], reference: Sequence[str]) -> int:
    return (Counter(answer) & Counter(reference)).total()


def llava_med_f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """F1 as LLaVA-Med's evaluation counts it (`llava_med_recall`); 0 when either is empty."""
    shared, total = _llava_med_counts(answer, reference)
    if not shared:
        return 0.0
    precision, found = shared / len(answer), shared / total
    return 2 * precision * found / (precision + found)


def llava_med_recall(answer: Sequence[str], reference: Sequence[str]) -> float:
    """Token recall as LLaVA-Med's evaluation counts it; 0 when either is empty.

    A shared word counts as often as the *answer* holds it, a missing one as often as the reference
    does: s / (s + m). "left left" for "left lung" has a recall of 2/3, and not of 1/2.
    """
    shared, total = _llava_med_counts(answer, reference)
    return shared / total if shared else 0.0


def _llava_med_counts(answer: Sequence[str], reference: Sequence[str]) -> tuple[int, int]:
    """Shared words counted in the answer, and they together with the missing ones."""
    there, wanted = set(answer), set(reference)
    shared = sum(word in wanted for word in answer)
    return shared, shared + sum(word not in there for word in reference)
