"""The files that a plan finds: each is opened on its own, whatever else is still missing."""

import pathlib
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.data import prepare, prompts, sources
from pefomed_jax.errors import UserError
from pefomed_jax.training import setup, stage
from pefomed_jax.validate import FOLDER
from pefomed_jax.weights import trained


def inspect(pieces: setup.Setup, needed: list[str]) -> list[str]:
    """What is wrong with the files that are there, one line each, printed too.

    `needed`: the lines of `validate.missing`. The data are read here only where something else is
    missing or wrong; otherwise the plan measures them anyway.
    """
    config, wrong = pieces.config, []

    def attempt(check: Callable[[], Any]) -> Any:
        try:
            return check()
        except UserError as error:
            wrong.append(str(error))
            print(f"to put right: {error}")

    def there(field: str, value: str) -> bool:
        return bool(value) and not any(f"--config.{field}" in line for line in needed)

    tokenizer = None
    if there("tokenizer", config.tokenizer):
        tokenizer = attempt(lambda: base_lib.tokenizer(config))
    if there("weights.checkpoint", config.weights.checkpoint):
        attempt(lambda: _checkpoint(pieces))
    if there("data.instructions", config.data.instructions):
        attempt(lambda: prompts.make(config))
    listed = config.data.source != "phantom" and not any(line.startswith(FOLDER) for line in needed)
    if listed and (unreadable(needed) or wrong):  # else the rows are measured anyway
        attempt(lambda: _data(config, tokenizer))
    return wrong


def unreadable(needed: list[str]) -> list[str]:
    """Of what is needed, that without which the data cannot be measured: not the weights."""
    return [line for line in needed if "--config.weights." not in line]


def _checkpoint(pieces: setup.Setup) -> None:
    trainable, path = pieces.abstract_state().trainable, pieces.config.weights.checkpoint
    if trained.is_foreign(pathlib.Path(path).expanduser()):
        print(f"weights.checkpoint: {path} (its tensors are compared when the run starts)")
        return
    with stage.opened(pieces.config, trainable) as (checkpoints, step):
        fresh = checkpoints.fresh(step)
    said = f", but for {', '.join(fresh)}" if fresh else ""
    print(f"weights.checkpoint: step {step} has what trains{said} (its base is not compared here)")


def _data(config: ConfigDict, tokenizer: Any) -> None:
    splits = prepare.prepare(sources.load(config), tokenizer, config)
    counts = [f"{len(getattr(splits, name))} {name}" for name in ("train", "val", "test")]
    print(f"data.dir: {', '.join(counts)} cases, every image opens")
