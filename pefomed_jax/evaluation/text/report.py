"""Scores of texts against references, as the COCO caption evaluation has them.

BLEU-1..4, ROUGE-L and CIDEr of pycocoevalcap 1.2. A text is a list of words, cut by a protocol; a
case has one hypothesis and one or more references.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from pefomed_jax.evaluation.measure import Measure, Scores, mean
from pefomed_jax.evaluation.text import ngrams
from pefomed_jax.evaluation.text.lcs import common_subsequence
from pefomed_jax.evaluation.text.ngrams import ORDERS

Words = Sequence[str]
References = Sequence[Words]  # of one case

BETA = 1.2  # of ROUGE-L: recall counts more than precision
SIGMA = 6.0  # of CIDEr's penalty for other lengths, in words
# COCO adds these to numerators and denominators, so that an order without a match is not log 0.
_TINY, _SMALL = 1e-15, 1e-9


class Grams(NamedTuple):
    """The runs of n words of a set of cases; arrays of the hypotheses' rows and the references'.

    A key is case · kinds + gram; those of the hypotheses are sorted.
    """

    own: ngrams.Counts
    refs: ngrams.Counts  # text: place among all references
    owner: Int[np.ndarray, " references"]  # case of each reference
    kinds: int

    def own_keys(self) -> Int[np.ndarray, " rows"]:
        return self.own.text * self.kinds + self.own.gram

    def ref_keys(self) -> Int[np.ndarray, " rows"]:
        return self.owner[self.refs.text] * self.kinds + self.refs.gram


def measures(hypotheses: Sequence[Words], references: Sequence[References]) -> list[Measure]:
    """bleu_1 … bleu_4, rouge_l and cider of the cases, each case with its own values.

    Corpus BLEU in 0..1 (Papineni et al., 2002); the mean F measure of the longest common
    subsequence in 0..1 (Lin, 2004); mean CIDEr-D in 0..10 (Vedantam et al., 2015), whose weights of
    words come from the references of all cases and stay as they are under resampling.
    """
    check(hypotheses, references)
    # as COCO: no-break spaces inside a word ("1 1/2") cut it for BLEU and CIDEr, not for ROUGE-L
    own = [_finer(words) for words in hypotheses]
    refs = [[_finer(words) for words in texts] for texts in references]
    lengths = lengths_of(own, refs)
    grams = list(grams_of(own, refs))
    stats = np.concatenate([lengths, *bleu_stats(grams, lengths)], axis=1)
    pairs = zip(hypotheses, references, strict=True)
    others = {
        "rouge_l": np.array([_rouge_l(words, texts) for words, texts in pairs], np.float64),
        "cider": _cider(grams, own, refs),
    }
    return [Measure(stats, _bleu, _as_arrays(_bleu(stats))), mean(others)]


def check(hypotheses: Sequence[Words], references: Sequence[References]) -> None:
    """Raises ValueError where cases and references differ in number, or a case has no reference."""
    if len(hypotheses) != len(references) or not all(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses need as many sets of references, none of them empty"
        )


def _finer(words: Words) -> list[str]:
    return [part for word in words for part in (word.split() if "\xa0" in word else (word,))]


def _as_arrays(scores: Scores) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, np.float64) for name, values in scores.items()}


def lengths_of(
    hypotheses: Sequence[Words], references: Sequence[References]
) -> Float[np.ndarray, "cases 2"]:
    """Words of each hypothesis and of its reference nearest in length, the shorter of two."""
    made = []
    for words, refs in zip(hypotheses, references, strict=True):
        made.append((len(words), min((abs(len(r) - len(words)), len(r)) for r in refs)[1]))
    return np.array(made, np.float64).reshape(-1, 2)


def grams_of(hypotheses: Sequence[Words], references: Sequence[References]) -> Iterator[Grams]:
    """The runs of one word to four."""
    n = len(hypotheses)
    owner = np.repeat(np.arange(n), [len(refs) for refs in references])
    for all_texts in ngrams.counts([*hypotheses, *(r for refs in references for r in refs)]):
        text, gram, count, kinds = all_texts
        end = np.searchsorted(text, n)
        own = ngrams.Counts(text[:end], gram[:end], count[:end], kinds)
        refs = ngrams.Counts(text[end:] - n, gram[end:], count[end:], kinds)
        yield Grams(own, refs, owner, max(1, kinds))


def bleu_stats(
    grams: Sequence[Grams], lengths: Float[np.ndarray, "cases 2"]
) -> tuple[Float[np.ndarray, "cases 4"], Float[np.ndarray, "cases 4"]]:
    """Matches of each order, clipped to the reference that has most, and how many could be."""
    matched = np.zeros((len(lengths), len(ORDERS)))
    for i, found in enumerate(grams):
        keys, where = np.unique(found.ref_keys(), return_inverse=True)
        most = np.zeros(len(keys), np.int64)
        np.maximum.at(most, where, found.refs.count)
        clipped = np.minimum(found.own.count, ngrams.looked_up(found.own_keys(), keys, most))
        matched[:, i] = np.bincount(found.own.text, clipped, len(lengths))
    return matched, np.maximum(0, lengths[:, :1] + 1 - np.array(ORDERS))


def _bleu(sums: np.ndarray) -> Scores:
    """COCO's BLEU of (length, reference length, 4 matched, 4 possible)."""
    length, wanted = sums[..., 0], sums[..., 1]
    ratio = (length + _TINY) / (wanted + _SMALL)
    brevity = np.exp(np.minimum(0, 1 - 1 / ratio))
    logs = np.log((sums[..., 2:6] + _TINY) / (sums[..., 6:] + _SMALL)).cumsum(-1)
    return {f"bleu_{n}": brevity * np.exp(logs[..., n - 1] / n) for n in ORDERS}


def _rouge_l(words: Words, refs: References) -> float:
    """Precision and recall are each those of the best reference for them; an empty text counts as
    one empty word, so that it equals another.
    """
    words = words or [""]
    common = [(common_subsequence(words, ref or [""]), max(1, len(ref))) for ref in refs]
    precision = max(shared for shared, _ in common) / len(words)
    recall = max(shared / length for shared, length in common)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _cider(
    grams: Sequence[Grams], hypotheses: Sequence[Words], references: Sequence[References]
) -> Float[np.ndarray, " cases"]:
    """Ten times the mean over orders and references of the clipped cosines of weighted runs."""
    n_refs = np.array([len(refs) for refs in references])
    penalty = np.array(
        [
            _length_penalty(words, ref)
            for words, refs in zip(hypotheses, references, strict=True)
            for ref in refs
        ]
    )
    total = sum(_cosines(found, len(hypotheses)) for found in grams) * penalty
    owner = grams[0].owner
    return 10 * np.bincount(owner, total, len(hypotheses)) / n_refs / len(ORDERS)


def _cosines(found: Grams, n_cases: int) -> Float[np.ndarray, " references"]:
    """Of each reference with its hypothesis, whose weights are clipped to the reference's."""
    in_cases = np.unique(found.ref_keys())  # a run counts once in the references of a case
    cases_with = np.bincount(in_cases % found.kinds, minlength=found.kinds)
    weight = math.log(n_cases) - np.log(np.maximum(1, cases_with))
    own = found.own.count * weight[found.own.gram]
    refs = found.refs.count * weight[found.refs.gram]
    there = ngrams.looked_up(found.ref_keys(), found.own_keys(), found.own.count)
    clipped = np.minimum(there * weight[found.refs.gram], refs) * refs
    n_refs = len(found.owner)
    norms = np.sqrt(np.bincount(found.refs.text, refs**2, n_refs))
    norms *= np.sqrt(np.bincount(found.own.text, own**2, n_cases))[found.owner]
    shared = np.bincount(found.refs.text, clipped, n_refs)
    return np.divide(shared, norms, out=np.zeros(n_refs), where=norms > 0)


def _length_penalty(words: Words, ref: Words) -> float:
    # COCO measures lengths in word pairs, which differs from words for an empty text only
    delta = max(0, len(words) - 1) - max(0, len(ref) - 1)
    return math.exp(-(delta**2) / (2 * SIGMA**2))
