"""Scores of texts against references, as the COCO caption evaluation has them.

BLEU-1..4, ROUGE-L, CIDEr. A text is a list of words (`ptb.tokenise`); a case has one hypothesis and
one or more references.
"""

import math
from collections import Counter
from collections.abc import Sequence

Words = Sequence[str]
References = Sequence[Words]  # of one case

ORDERS = (1, 2, 3, 4)
# COCO adds these to numerators and denominators, so that an order without a match is not log 0.
_TINY, _SMALL = 1e-15, 1e-9


def ngrams(words: Words, n: int) -> Counter[tuple[str, ...]]:
    """How often each run of n words occurs."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu(hypotheses: Sequence[Words], references: Sequence[References]) -> dict[str, float]:
    """Corpus BLEU-1..4 in 0..1 (Papineni et al., 2002), under the names bleu_1 … bleu_4.

    Matches and lengths are summed over cases; for brevity counts the reference nearest in length.
    """
    matched, possible = Counter(), Counter()
    length = reference_length = 0
    for words, refs in zip(hypotheses, references, strict=True):
        length += len(words)
        reference_length += min((abs(len(r) - len(words)), len(r)) for r in refs)[1]
        for n in ORDERS:
            possible[n] += max(0, len(words) - n + 1)
            matched[n] += _clipped_matches(words, refs, n)
    ratio = (length + _TINY) / (reference_length + _SMALL)
    brevity = 1.0 if ratio >= 1 else math.exp(1 - 1 / ratio)
    scores, log_sum = {}, 0.0
    for n in ORDERS:
        log_sum += math.log((matched[n] + _TINY) / (possible[n] + _SMALL))
        scores[f"bleu_{n}"] = brevity * math.exp(log_sum / n)
    return scores


def _clipped_matches(words: Words, refs: References, n: int) -> int:
    most = Counter()
    for ref in refs:
        most |= ngrams(ref, n)
    return (ngrams(words, n) & most).total()


def rouge_l(hypotheses: Sequence[Words], references: Sequence[References]) -> float:
    """Mean over cases of the F measure (beta 1.2) of the longest common subsequence (Lin, 2004)."""
    pairs = zip(hypotheses, references, strict=True)
    scores = [_rouge_l(words, refs) for words, refs in pairs]
    return sum(scores) / len(scores)


def _rouge_l(words: Words, refs: References, beta: float = 1.2) -> float:
    common = [(common_subsequence(words, r), len(r)) for r in refs]
    precision = max((c for c, _ in common), default=0) / max(1, len(words))
    recall = max((c / max(1, n) for c, n in common), default=0)
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def common_subsequence(a: Words, b: Words) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def cider(hypotheses: Sequence[Words], references: Sequence[References]) -> float:
    """Mean CIDEr-D over cases, 0..10 (Vedantam et al., 2015): n up to 4, sigma 6.

    Word weights come from the references of the whole set: a single case scores 0, and scores of
    subsets cannot be averaged.
    """
    seen = Counter()
    for refs in references:
        seen.update({gram for r in refs for n in ORDERS for gram in ngrams(r, n)})
    log_cases = math.log(len(references))

    def weigh(words: Words, n: int) -> dict[tuple[str, ...], float]:
        counts = ngrams(words, n)
        return {g: c * (log_cases - math.log(max(1, seen[g]))) for g, c in counts.items()}

    total = 0.0
    for words, refs in zip(hypotheses, references, strict=True):
        for n in ORDERS:
            own = weigh(words, n)
            total += sum(_cosine(own, weigh(r, n)) * _length_penalty(words, r) for r in refs) / len(
                refs
            )
    return 10 * total / len(ORDERS) / len(hypotheses)


def _length_penalty(words: Words, ref: Words, sigma: float = 6.0) -> float:
    # COCO measures lengths in word pairs, which differs from words for an empty text only
    delta = max(0, len(words) - 1) - max(0, len(ref) - 1)
    return math.exp(-(delta**2) / (2 * sigma**2))


def _cosine(own: dict, ref: dict) -> float:
    """Cosine of two weighted n-gram vectors, the hypothesis clipped to the reference."""
    norms = math.hypot(*own.values()) * math.hypot(*ref.values())
    if norms == 0:
        return 0.0
    return sum(min(w, ref[g]) * ref[g] for g, w in own.items() if g in ref) / norms
