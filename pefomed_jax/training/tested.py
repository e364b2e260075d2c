"""The end of a run: its best state answers the test cases, with right and with shuffled images."""

import pathlib
from typing import Any

from pefomed_jax.data import facts, pipeline
from pefomed_jax.evaluation import results, writing
from pefomed_jax.parallel import hosts
from pefomed_jax.training.evaluate import Evaluator
from pefomed_jax.training.logging import Log
from pefomed_jax.training.state import TrainState

Answered = dict[str, list[results.Row] | None]


def write(
    evaluator: Evaluator, state: TrainState, frozen: Any, workdir: pathlib.Path, log: Log
) -> None:
    """predictions*.jsonl, results.json, the page and the tables; process 0 writes them."""

    def answer(name: str, cases: list[Any]) -> list[results.Row]:
        def progress(done: int) -> None:
            log.overwrite(f"{name}: {done}/{len(cases)}")

        rows = evaluator.predict(state, frozen, cases, progress)
        if hosts.is_first():
            writing.write_predictions(workdir / name, rows)
        return rows

    test = answer("predictions.jsonl", evaluator.test)
    control = pipeline.control_images(evaluator.test)
    shuffled = answer("predictions_shuffled.jsonl", control) if control else None
    answered: Answered = {"test": test, "test_shuffled": shuffled}
    if fitted := evaluator.train:
        answered["train"] = answer("predictions_train.jsonl", fitted)
    if hosts.is_first():
        log.say(results.table(_scored(answered, evaluator, workdir / "results.json")))


def _scored(answered: Answered, evaluator: Evaluator, path: pathlib.Path) -> dict[str, Any]:
    config, source = evaluator.config, evaluator.feed.source
    places = facts.places(source, evaluator.test)
    return writing.write_results(
        *(path, answered, config.task, config.eval.protocol),
        images=lambda name: source.image(*places[name]),
    )
