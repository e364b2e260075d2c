"""A run from its config to its results; started again, it goes on where it stopped.

Order of things at a step: metrics row, then the checkpoint. An evaluation belongs to the row of its
step and its score to the checkpoint of its step, so neither is lost or done twice over a restart.
"""

import contextlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.data.buckets import Bucket
from pefomed_jax.errors import UserError
from pefomed_jax.parallel import hosts, share
from pefomed_jax.training import begun, flops, restore, setup, tested
from pefomed_jax.training.checkpoint import Checkpoints
from pefomed_jax.training.compilations import Compilations
from pefomed_jax.training.evaluate import Evaluator
from pefomed_jax.training.feed import Feed
from pefomed_jax.training.fingerprint import fingerprint
from pefomed_jax.training.folder import CHECKPOINTS
from pefomed_jax.training.logging import Log, Row, Silent
from pefomed_jax.training.stop import Stop
from pefomed_jax.validate import missing, select_by, validate

Check = Callable[[setup.Setup, Bucket], None]  # on rows of (T, A, I); raises to refuse
INTERRUPTED = 75  # exit code: stopped by a signal, saved


def run(config: ConfigDict, workdir: pathlib.Path, check: Check | None = None) -> int:
    """Trains, evaluates and writes the run's folder; returns an exit code of `cli`.

    `check` is asked before weights are read (`planning/check.py`: do they fit?).

    Raises UserError, one line, for whatever the user can put right.
    """
    config = base_lib.adopt(config)
    validate(config)
    if need := missing(config):
        raise UserError(f"still needed: {'; '.join(need)} (--dry_run shows the whole plan)")
    pieces = setup.assemble(config)
    with contextlib.ExitStack() as held:
        if not begun.take(config, workdir, held):
            return 0
        print(pieces.table, flush=True)
        with jax.set_mesh(pieces.mesh):
            return Run(pieces, workdir, check).all()


class Run:
    """One start of a run: everything loaded, the state where the last start left it."""

    def __init__(self, pieces: setup.Setup, workdir: pathlib.Path, check: Check | None = None):
        config = pieces.config
        self.pieces, self.config, self.workdir, self.stop = pieces, config, workdir, Stop()
        self.steps = config.train.steps
        self.feed = Feed.of(pieces, workdir if hosts.is_first() else None)
        self.cost = flops.cost(pieces.params, pieces.labels, config.model)
        devices = pieces.mesh.devices.flatten()
        peak = flops.peak(devices[0].device_kind, config.model.dtype)
        self.peak = None if peak is None else peak * len(devices)
        self.compilations = Compilations()
        if check is not None:
            check(pieces, self.feed.order.buckets[-1])
        base = base_lib.load(config, pieces.model, pieces.base)
        self.frozen = pieces.frozen(base)
        self.feed = self.feed.keeping(self.frozen)
        self.evaluator = Evaluator(self.feed, self.compilations)
        self.abstract = pieces.abstract_state()
        self.checkpoints = Checkpoints(
            workdir / CHECKPOINTS, self.abstract.trainable, fingerprint(self.frozen)
        )
        self.state = self._first_or_restored(base)
        hosts.wait("restored")  # nothing is cut before all have read
        log = Log if hosts.is_first() else Silent
        self.log = log(workdir, int(self.state.step), self.steps, config.train.log_every)
        for line in (*self.feed.lines(len(self.evaluator.val)), pieces.machine()):
            self.log.say(line)
        if step := int(self.state.step):
            self.log.say(f"going on after step {step} in {workdir}")

    def all(self) -> int:
        """Trains to the end, then answers the test cases with the best state."""
        try:
            with self.stop:
                self.train()
                self.checkpoints.wait()
                stops = self.stop.at(self.steps + 1)  # while the last step was evaluated
            if stops:
                step = int(self.state.step)
                self.log.say(f"stopped and saved at step {step}; the same command goes on")
                return INTERRUPTED
            self.finish()
            return 0
        finally:
            self.log.close()
            self.checkpoints.close()

    def _first_or_restored(self, base: Any) -> Any:
        if self.checkpoints.latest is not None:
            state, extra = self.checkpoints.restore(self.abstract)
            if extra.get("data", self.feed.digest) != self.feed.digest:
                raise UserError(
                    f"{self.workdir} began with other training or validation cases than are in "
                    f"{self.feed.source.name} now; put the data back or give another --workdir"
                )
            return state
        return restore.begin(self.pieces, base).state

    def train(self) -> None:
        """Steps until the last one, or until asked to stop.

        A row is written one step behind, so that the device does not wait for the host.
        """
        step_fn, waiting, done = self.pieces.jit_step(), None, 0.0
        given = self.feed.batches(int(self.state.step))
        with contextlib.closing(given) as batches:  # ends its workers, come what may
            for k, batch, _ in self.log.timed(batches):
                placed = share.place(batch, self.pieces.mesh)
                shape = ("train", *batch.tokens.shape, batch.targets.shape[1])
                with self.compilations.watch(shape) as new:
                    self.state, metrics = step_fn(self.state, self.frozen, placed)
                if waiting:
                    self.log.step(self._row(*waiting), done, self.peak)
                part = len(batch.tokens) / len(placed.tokens)
                waiting, done = (k + 1, metrics), self.cost.step(batch) / part
                stops = self.stop.at(k + 1)
                if new or self._due(k + 1) or stops:
                    row, waiting = self._row(*waiting), None
                    self._milestone(k + 1, row, done, new)
                if stops:
                    return

    def _row(self, step: int, metrics: Any) -> Row:
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        if not values.pop("finite"):
            way = "or optimizer.clip" if self.config.optimizer.clip else "or set optimizer.clip=1"
            raise UserError(
                f"step {step}: the run has diverged (loss {values['loss']:g}, gradient norm "
                f"{values['grad_norm']:g}, parameters that are not finite are not saved); lower "
                f"optimizer.lr {way}, in another --workdir"
            )
        epoch = step / self.feed.order.steps_per_epoch
        counts = self.feed.shares.counts(self.feed.order, step - 1)
        return {"step": step, "epoch": epoch, **values, **counts}

    def _evaluates(self, step: int) -> bool:
        return step % self.config.train.eval_every == 0 or step == self.steps

    def _due(self, step: int) -> bool:
        return self._evaluates(step) or step % self.config.train.checkpoint_every == 0

    def _milestone(self, step: int, row: Row, done: float, compiled: bool) -> None:
        """Evaluation where one is due, the row, then the checkpoint where one is due."""
        score = None
        if self._evaluates(step):
            with self.log.aside():
                row |= self.evaluator.validate(self.state, self.frozen)
            score = self._score(row)
        self.log.step(row, done, self.peak, compiled)
        with self.log.aside():
            if self._due(step) or self.stop.asked:
                self.log.keep()
                extra = {"data": self.feed.digest}
                self.checkpoints.save(step, self.state, score=score, extra=extra)
            if score is not None:
                said = f"{select_by(self.config)} {abs(score):.3f}"
                self.log.say(f"validation at step {step}: loss {row['val_loss']:.4f}, {said}")
                self.log.draw()

    def _score(self, row: Row) -> float | None:
        """What selects the best checkpoint, higher is better; None without validation cases."""
        name = select_by(self.config)
        value = row.get(f"val_{name.removeprefix('val_')}")
        return -value if name == "val_loss" and value is not None else value

    def finish(self) -> None:
        """The test split, and the control with shuffled images, answered by the best state."""
        best = self.checkpoints.best
        if best is not None and best != int(self.state.step):
            self.state = self.checkpoints.restore(self.abstract, best)[0]
        why = "" if best is None else f", the best by {select_by(self.config)}"
        self.log.say(f"test with the checkpoint of step {int(self.state.step)}{why}")
        tested.write(self.evaluator, self.state, self.frozen, self.workdir, self.log)
        self.log.say(f"{self.compilations}; everything is in {self.workdir}")
