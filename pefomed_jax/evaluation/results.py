"""Scores of a set of predictions under fixed names; the files and the table they end up in."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pefomed_jax.evaluation import findings, report, vqa
from pefomed_jax.evaluation.ptb import tokenise

Scores = dict[str, float | int]
Row = Mapping[str, Any]  # one prediction: id, image, prompt, reference, prediction, fields

SELECT_BY = {"vqa": "exact_match", "mrg": "cider", "caption": "cider"}  # by task
COUNTS = ("n_cases", "n_empty", "n_unparsed")


def select_by(task: str, source: str) -> str:
    """The score that picks the best checkpoint where `train.select_by` names none."""
    return "finding_f1" if task == "mrg" and source == "phantom" else SELECT_BY[task]


def score(predictions: Sequence[Row], task: str) -> Scores:
    """All scores of a task ('vqa', 'mrg', 'caption'), with n_cases and n_empty.

    vqa: exact_match, exact_match_<type>. Else bleu_1..4, rouge_l (0..1), cider (0..10), and
    finding_f1 over the cases whose fields hold `findings`. No case, no scores: only the counts.
    """
    empty = sum(not str(row["prediction"]).strip() for row in predictions)
    counts = {"n_cases": len(predictions), "n_empty": empty}
    if not predictions:
        return counts
    if task == "vqa":
        return vqa.scores(predictions) | counts
    drawn = [row for row in predictions if "findings" in row]
    return (findings.scores(drawn) if drawn else {}) | _text_scores(predictions) | counts


def _text_scores(predictions: Sequence[Row]) -> Scores:
    texts = [tokenise(str(row["prediction"])) for row in predictions]
    references = [[tokenise(str(row["reference"]))] for row in predictions]
    return {
        **report.bleu(texts, references),
        "rouge_l": report.rouge_l(texts, references),
        "cider": report.cider(texts, references),
    }


def table(test: Scores, shuffled: Scores | None) -> str:
    """The scores line by line, each beside its control: the same questions with other images.

    `shuffled` is None where there is no control (one image only).
    """
    lines = [f"{'score':<24}{'test':>10}{'images shuffled':>18}"]
    for name, value in test.items():
        other = (shuffled or {}).get(name)
        control = "-" if other is None else _show(name, other)
        lines.append(f"{name:<24}{_show(name, value):>10}{control:>18}")
    return "\n".join(lines)


def _show(name: str, value: float | int) -> str:
    return f"{value:.0f}" if name in COUNTS else f"{value:.3f}"


def write_predictions(path: str | os.PathLike[str], predictions: Sequence[Row]) -> None:
    """One JSON object a line; the file is there in full or not at all."""
    _write(path, "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in predictions))


def write_results(
    path: str | os.PathLike[str], test: Scores, shuffled: Scores | None
) -> dict[str, Scores | None]:
    """Writes and returns {"test": ..., "test_shuffled": ...}."""
    results = {"test": test, "test_shuffled": shuffled}
    _write(path, json.dumps(results, indent=1) + "\n")
    return results


def _write(path: str | os.PathLike[str], text: str) -> None:
    path = pathlib.Path(path)
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
