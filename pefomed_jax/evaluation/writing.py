"""The files that an evaluation leaves; each is there in full or not at all."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence

from pefomed_jax import whole
from pefomed_jax.evaluation import page, protocols, results


def write_results(
    path: str | os.PathLike[str],
    answered: Mapping[str, Sequence[results.Row] | None],
    task: str,
    protocol: str = "",
    images: page.Images | None = None,
) -> results.Results:
    """A run's results at `path`, and beside it what `write` writes; returns the results.

    `answered` holds the predictions of each part: `test`, and `test_shuffled` or None where there
    is no control (one image only), and `train` where `eval.train_limit` asks for it.
    """
    chosen = protocols.get(protocol or protocols.of_task(task))
    made = results.evaluate(answered, chosen, results.Settings(split="test", slow=False))
    write(pathlib.Path(path).parent, made, images)
    return made.results


def write(
    folder: str | os.PathLike[str],
    made: results.Evaluation,
    images: page.Images | None = None,
) -> None:
    """results.json, cases.jsonl, the page and its tables for spreadsheets."""
    folder = pathlib.Path(folder)
    write_predictions(folder / "cases.jsonl", made.cases)
    held = {} if made.test.measure is None else made.test.measure.cases
    names = [name for name in held if not name.startswith("exact_match_")]
    for name, text in page.files(made.results, made.cases, names, images).items():
        whole.write(folder / name, text)
    text = json.dumps(made.results, indent=1, ensure_ascii=False, allow_nan=False)
    whole.write(folder / "results.json", text + "\n")


def write_predictions(path: str | os.PathLike[str], predictions: Sequence[results.Row]) -> None:
    """One JSON object a line."""
    lines = (json.dumps(dict(row), ensure_ascii=False) + "\n" for row in predictions)
    whole.write(path, "".join(lines))
