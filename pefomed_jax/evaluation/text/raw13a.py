"""BLEU as sacrebleu computes it: its 13a tokeniser (mteval-v13a), exponential smoothing, cased."""

import re
from collections.abc import Sequence

import numpy as np

from pefomed_jax.evaluation.measure import Measure, Scores
from pefomed_jax.evaluation.text import report
from pefomed_jax.evaluation.text.ngrams import ORDERS
from pefomed_jax.evaluation.text.report import References, Words

_ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
# Marks stand alone; so do full stop and comma unless digits are on both sides, and a hyphen behind
# a digit.
_MARK = re.compile(r"([{-~\[-` -&(-+:-@/])")
_STOP_BEHIND = re.compile(r"([^0-9])([.,])")
_STOP_BEFORE = re.compile(r"([.,])([^0-9])")
_HYPHEN = re.compile(r"([0-9])(-)")


def words(text: str) -> list[str]:
    """The words of a text, marks among them, in the case they have.

    >>> words("A 1.2-cm nodule (left), stable.")
    ['A', '1.2', '-', 'cm', 'nodule', '(', 'left', ')', ',', 'stable', '.']
    """
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in _ENTITIES.items():
        line = line.replace(entity, sign)
    line = _MARK.sub(r" \1 ", f" {line} ")
    line = _STOP_BEHIND.sub(r"\1 \2 ", line)
    line = _STOP_BEFORE.sub(r" \1 \2", line)
    return _HYPHEN.sub(r"\1 \2 ", line).split()


def bleu(hypotheses: Sequence[Words], references: Sequence[References]) -> Measure:
    """bleu_1 … bleu_4: sacrebleu's corpus BLEU of at most so many orders, in 0..1."""
    report.check(hypotheses, references)
    lengths = report.lengths_of(hypotheses, references)
    grams = list(report.grams_of(hypotheses, references))
    stats = np.concatenate([lengths, *report.bleu_stats(grams, lengths)], axis=1)
    return Measure(stats, _bleu, {k: np.asarray(v) for k, v in _bleu(stats).items()})


def _bleu(sums: np.ndarray) -> Scores:
    """Of (length, reference length, 4 matched, 4 possible); an order without matches counts as
    half, then a quarter, ... of one match, and one that no text is long enough for makes 0.
    """
    length, wanted, matched, possible = np.split(sums, (1, 2, 6), axis=-1)
    halvings = np.cumsum((matched == 0) & (possible > 0), axis=-1)
    counted = np.where(matched > 0, matched, 0.5**halvings)
    logs = np.log(np.where(possible > 0, counted / np.maximum(possible, 1), 1)).cumsum(-1)
    brevity = np.exp(np.minimum(0, 1 - wanted / np.maximum(length, 1e-9)))[..., 0]
    made = {}
    for n in ORDERS:
        defined = (possible[..., :n] > 0).all(-1) & (matched[..., :n] > 0).any(-1)
        made[f"bleu_{n}"] = np.where(defined, brevity * np.exp(logs[..., n - 1] / n), 0.0)
    return made
