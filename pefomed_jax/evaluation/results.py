"""Scores of a set of predictions under fixed names; the files and the table they end up in."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pefomed_jax.evaluation import findings, report, vqa
from pefomed_jax.evaluation.ptb import tokenise

Scores = dict[str, float]
Counts = dict[str, int]
Results = dict[str, Any]  # as `write_results` makes it
Row = Mapping[str, Any]  # one prediction: id, image, prompt, reference, prediction, fields


def score(predictions: Sequence[Row], task: str) -> Scores:
    """All scores of a task ('vqa', 'mrg', 'caption'); no case, no scores.

    vqa: exact_match, exact_match_<type>. Else bleu_1..4, rouge_l (0..1), cider (0..10), and
    finding_f1 over the cases whose fields hold `findings`.
    """
    if not predictions:
        return {}
    if task == "vqa":
        return vqa.scores(predictions)
    drawn = _drawn(predictions)
    return ({"finding_f1": findings.f1(drawn)} if drawn else {}) | _text_scores(predictions)


def count(predictions: Sequence[Row], task: str) -> Counts:
    """n_cases, n_empty (answers), n_cut (answers at the limit of `eval.max_new_tokens`).

    Where there are finding scores also n_unparsed (sentences).
    """
    empty = sum(not str(row["prediction"]).strip() for row in predictions)
    cut = sum(bool(row.get("cut")) for row in predictions)
    counts = {"n_cases": len(predictions), "n_empty": empty, "n_cut": cut}
    drawn = [] if task == "vqa" else _drawn(predictions)
    return counts | ({"n_unparsed": findings.unparsed(drawn)} if drawn else {})


def _drawn(predictions: Sequence[Row]) -> list[Row]:
    return [row for row in predictions if "findings" in row]


def _text_scores(predictions: Sequence[Row]) -> Scores:
    texts = [tokenise(str(row["prediction"])) for row in predictions]
    references = [[tokenise(str(row["reference"]))] for row in predictions]
    return {
        **report.bleu(texts, references),
        "rouge_l": report.rouge_l(texts, references),
        "cider": report.cider(texts, references),
    }


def table(results: Results) -> str:
    """Scores, then counts, each beside its control: the same questions with other images."""
    fitted = "train" in results
    lines = [f"{'score':<24}{'test':>10}{'images shuffled':>18}" + f"{'train':>10}" * fitted]
    for part, form in ((results, ".3f"), (results["counts"], "d")):
        shuffled, trained = part["test_shuffled"] or {}, part.get("train") or {}
        for name, value in part["test"].items():
            control = format(shuffled[name], form) if name in shuffled else "-"
            learnt = format(trained[name], form) if name in trained else "-"
            lines.append(f"{name:<24}{value:>10{form}}{control:>18}" + f"{learnt:>10}" * fitted)
    return "\n".join(lines)


def write_predictions(path: str | os.PathLike[str], predictions: Sequence[Row]) -> None:
    """One JSON object a line; the file is there in full or not at all."""
    _write(path, "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in predictions))


def write_results(
    path: str | os.PathLike[str], answered: Mapping[str, Sequence[Row] | None], task: str
) -> Results:
    """Scores and writes {part: scores, ..., "counts": {part: counts, ...}}; returns that.

    `answered` holds the predictions of each part: `test`, and `test_shuffled` or None where there
    is no control (one image only), and `train` where `eval.train_limit` asks for it.
    """
    results: Results = {
        part: None if rows is None else score(rows, task) for part, rows in answered.items()
    }
    results["counts"] = {
        part: None if rows is None else count(rows, task) for part, rows in answered.items()
    }
    _write(path, json.dumps(results, indent=1) + "\n")
    return results


def _write(path: str | os.PathLike[str], text: str) -> None:
    path = pathlib.Path(path)
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
