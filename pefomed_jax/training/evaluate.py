"""Evaluation inside a run: validation loss, answers, scores, and the shuffled control."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.batch import Batch, Case
from pefomed_jax.data import asked, pipeline
from pefomed_jax.decoding import merge
from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options
from pefomed_jax.errors import UserError, nearest
from pefomed_jax.evaluation import results
from pefomed_jax.evaluation.predict import predict
from pefomed_jax.parallel import share
from pefomed_jax.peft import masks
from pefomed_jax.training.compilations import Compilations
from pefomed_jax.training.feed import Feed
from pefomed_jax.training.state import TrainState
from pefomed_jax.training.step import weighted_nll
from pefomed_jax.validate import select_by

Progress = Callable[[int], None]


class Evaluator:
    """Answers and scores cases with the trained state; compiles once for validation and test.

    Call its methods under `jax.set_mesh(pieces.mesh)`.
    """

    def __init__(self, feed: Feed, compilations: Compilations):
        self.feed, pieces, splits = feed, feed.pieces, feed.splits
        self.config: ConfigDict = pieces.config
        self.mesh, self._compilations = pieces.mesh, compilations
        self.val = spread(splits.val, self.config.eval.val_limit)
        check_select_by(self.config, self.val)
        self.test = splits.test
        self.train = spread(splits.train, self.config.eval.train_limit)
        encoding = pipeline.Loader.of(feed.source, feed.tokenizer, self.config).encoding
        self._prompts = encoding.prompts
        # one shape for all sets of cases: one compilation
        every = [*self.val, *self.test, *self.train]
        self._shape = asked.shape_of(every, encoding.prompt_rows(every))
        options = Options(
            self.config.eval.max_new_tokens, base_lib.ends(self.config, feed.tokenizer)
        )
        self._generate = make_generate(pieces.model, options)
        self._mine = share.mine(self.mesh, self.config.eval.batch_size)
        self._dtype = pieces.model.compute.dtype
        self._nll = jax.jit(functools.partial(_nll, pieces.model))

    def validate(self, state: TrainState, frozen: Any) -> dict[str, float]:
        """`val_loss` and `val_<score>` on the validation cases; {} where there are none."""
        if not self.val:
            return {}
        rows = self.predict(state, frozen, self.val)
        scores = results.score(rows, self.config.task, self.config.eval.protocol)
        named = {f"val_{name}": value for name, value in scores.items()}
        return {"val_loss": self.loss(state, frozen), **named}

    def loss(self, state: TrainState, frozen: Any) -> float:
        """sum(w·nll) / sum(w) over the validation cases, without dropout, in nats a target."""
        total = weight = 0.0
        batches = pipeline.loss_batches(
            self.feed.source, self.val, self.feed.tokenizer, self.config, mine=self._mine
        )
        for batch, _ in batches:
            placed = share.place(batch, self.mesh)
            with self._compilations.watch(("loss", *batch.tokens.shape)):
                nll, weights = self._nll(state.trainable, frozen, placed)
            total, weight = total + float(nll), weight + float(weights)
        return total / weight

    def predict(
        self,
        state: TrainState,
        frozen: Any,
        cases: Sequence[Case],
        progress: Progress = lambda done: None,
    ) -> list[dict[str, Any]]:
        """One row per case with its greedy answer, in order."""
        with self._compilations.watch(("merge",)):
            params = masks.merge(state.trainable, frozen)
            params = merge.prepare(params, self.config.lora.alpha, self._dtype)
        batches = asked.eval_batches(
            self.feed.source,
            cases,
            self.feed.tokenizer,
            self.config,
            shape=self._shape,
            mine=self._mine,
        )

        def generate(params: Any, batch: Batch) -> Any:
            with self._compilations.watch(("generate", *batch.tokens.shape)):
                return self._generate(params, batch)

        return predict(
            generate, params, batches, self.feed.tokenizer, self._prompts, self.mesh, progress
        )


def check_select_by(config: ConfigDict, cases: Sequence[Case]) -> None:
    """Raises UserError where these cases, if there are any, have no score `train.select_by`."""
    right = [{**case.fields, "prediction": case.answer, "reference": case.answer} for case in cases]
    scores = results.score(right, config.task, config.eval.protocol)
    known, name = ["val_loss", *scores], select_by(config)
    if cases and name not in known:
        raise UserError(
            f"train.select_by='{name}' is no score of the validation cases: "
            f"{', '.join(known)}{nearest(name, known)}"
        )


def spread(cases: Sequence[Case], limit: int) -> list[Case]:
    """At most `limit` cases at even distances: the first ones would be of few images."""
    if len(cases) <= limit:
        return list(cases)
    return [cases[i] for i in np.linspace(0, len(cases) - 1, limit).round().astype(int)]


def _nll(model: Any, trainable: Any, frozen: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
    logits = model.apply({"params": masks.merge(trainable, frozen)}, batch)
    return weighted_nll(logits, batch.targets, batch.weights), jnp.sum(batch.weights)
