"""Measures of the scores that have no statistics of their own yet."""

import numpy as np

from pefomed_jax.evaluation import report, vqa
from pefomed_jax.evaluation.measure import Measure, mean
from pefomed_jax.evaluation.notes import texts


def vqa_measures(rows, protocol):
    """exact_match."""
    hits = [
        any(vqa.normalise(row["prediction"]) == vqa.normalise(t) for t in texts(row, "reference"))
        for row in rows
    ]
    return [mean({"exact_match": np.array(hits, float)})]


def report_measures(hypotheses, references):
    """bleu_1..4, rouge_l, cider."""
    n = len(hypotheses)
    stats = np.zeros((n, 10))
    for i, (words, refs) in enumerate(zip(hypotheses, references, strict=True)):
        nearest = min((abs(len(r) - len(words)), len(r)) for r in refs)[1]
        matched = [report._clipped_matches(words, refs, k) for k in report.ORDERS]
        possible = [max(0, len(words) - k + 1) for k in report.ORDERS]
        stats[i] = [len(words), nearest, *matched, *possible]

    def bleu(sums):
        ratio = (sums[..., 0] + 1e-15) / (sums[..., 1] + 1e-9)
        brevity = np.where(ratio >= 1, 1.0, np.exp(1 - 1 / ratio))
        logs = np.log((sums[..., 2:6] + 1e-15) / (sums[..., 6:] + 1e-9)).cumsum(-1)
        return {f"bleu_{k}": brevity * np.exp(logs[..., k - 1] / k) for k in report.ORDERS}

    pairs = list(zip(hypotheses, references, strict=True))
    rouge = [report._rouge_l(words, refs) for words, refs in pairs]
    cider = np.full(n, report.cider(hypotheses, references))
    return [Measure(stats, bleu, bleu(stats)), mean({"rouge_l": np.array(rouge), "cider": cider})]
