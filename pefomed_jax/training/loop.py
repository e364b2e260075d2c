"""A run from its config to its results; started again, it goes on where it stopped.

Order of things at a step: metrics row, then the checkpoint. An evaluation belongs to the row of its
step and its score to the checkpoint of its step, so neither is lost or done twice over a restart.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from pefomed_jax import __version__
from pefomed_jax import base as base_lib
from pefomed_jax.data import facts, kept, pipeline, prepare, sources
from pefomed_jax.data.buckets import Bucket
from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import results, writing
from pefomed_jax.parallel import hosts, share
from pefomed_jax.training import features, flops, restore, setup
from pefomed_jax.training import folder as run_folder
from pefomed_jax.training.checkpoint import Checkpoints
from pefomed_jax.training.compilations import Compilations
from pefomed_jax.training.evaluate import Evaluator
from pefomed_jax.training.fingerprint import fingerprint
from pefomed_jax.training.folder import CHECKPOINTS
from pefomed_jax.training.logging import Log, Row, Silent
from pefomed_jax.training.shares import Shares
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
    hosts.check_same(_alike(config))
    with contextlib.ExitStack() as held:
        if hosts.first_says(lambda: _opened(config, workdir, held)):
            return 0
        run_folder.check_shared(workdir)
        print(pieces.table, flush=True)
        with jax.set_mesh(pieces.mesh):
            return Run(pieces, workdir, check).all()


def _opened(config: ConfigDict, workdir: pathlib.Path, held: contextlib.ExitStack) -> bool:
    """Locks the run's folder and settles what is in it; True where the run is finished."""
    held.enter_context(run_folder.lock(workdir))
    at = run_folder.latest_step(workdir / CHECKPOINTS)
    if at is not None and at > config.train.steps:
        raise UserError(
            f"{workdir} stands at step {at}, train.steps is {config.train.steps}: raise it or "
            "give another --workdir"
        )
    run_folder.settle(workdir, config, goes_on=at is not None)
    if at != config.train.steps or not (workdir / "results.json").exists():
        return False
    scores = run_folder.read_json(workdir / "results.json")
    print(f"{workdir} is finished at step {at}; raise train.steps to go on")
    print(results.table(scores))
    return True


def _alike(config: ConfigDict) -> dict[str, Any]:
    """What all processes of a run must have alike; places of files may have other names."""
    fields = run_folder.flatten(config.to_dict()).items()
    own = {f"--config.{name}": v for name, v in fields if not name.endswith((".dir", ".cache"))}
    return {"version of pefomed_jax": __version__, "version of jax": jax.__version__, **own}


class Run:
    """One start of a run: everything loaded, the state where the last start left it."""

    def __init__(self, pieces: setup.Setup, workdir: pathlib.Path, check: Check | None = None):
        config = pieces.config
        self.pieces, self.config, self.workdir, self.stop = pieces, config, workdir, Stop()
        self.steps = config.train.steps
        self.tokenizer = base_lib.tokenizer(config)
        self.source = sources.load(config)
        listed = workdir if hosts.is_first() else None
        self.splits = prepare.prepare(self.source, self.tokenizer, config, listed)
        self.data = {"data": prepare.digest(self.splits)}  # stands in every checkpoint
        hosts.check_same({"data": (self.data, prepare.digest_of(self.splits.test))})
        self.order = pipeline.make_order(self.splits.train, self.tokenizer, config)
        self.shares = Shares.of(self.splits.train)
        self.cost = flops.cost(pieces.params, pieces.labels, config.model)
        devices = pieces.mesh.devices.flatten()
        peak = flops.peak(devices[0].device_kind, config.model.dtype)
        self.peak = None if peak is None else peak * len(devices)
        self.compilations = Compilations()
        if check is not None:
            check(pieces, self.order.buckets[-1])
        base = base_lib.load(config, pieces.model, pieces.base)
        self.frozen = pieces.frozen(base)
        self.source = self._kept()
        self.evaluator = Evaluator(
            pieces, self.source, self.splits, self.tokenizer, self.compilations
        )
        self.abstract = pieces.abstract_state()
        self.checkpoints = Checkpoints(
            workdir / CHECKPOINTS, self.abstract.trainable, fingerprint(self.frozen)
        )
        self.state = self._first_or_restored(base)
        hosts.wait("restored")  # nothing is cut before all have read
        log = Log if hosts.is_first() else Silent
        self.log = log(workdir, int(self.state.step), self.steps, config.train.log_every)
        self._say_start()

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

    def _kept(self) -> sources.Source:
        """The source, with what config.data asks to keep of the images of this run."""
        data, cases = self.config.data, [*self.splits.train, *self.splits.val, *self.splits.test]
        loader = pipeline.Loader.of(self.source, self.tokenizer, self.config)
        if data.cache_features:
            return features.kept(self.pieces, self.frozen, loader, cases)
        if data.cache_pixels:
            made_by = loader.square, loader.preparation
            return kept.squares(self.source, cases, *made_by, self.config)
        return self.source

    def _first_or_restored(self, base: Any) -> Any:
        if self.checkpoints.latest is not None:
            state, extra = self.checkpoints.restore(self.abstract)
            if extra.get("data", self.data["data"]) != self.data["data"]:
                raise UserError(
                    f"{self.workdir} began with other training or validation cases than are in "
                    f"{self.source.name} now; put the data back or give another --workdir"
                )
            return state
        return restore.begin(self.pieces, base).state

    def _say_start(self) -> None:
        config, devices = self.config, self.pieces.mesh.devices.flatten()
        n = {name: len(getattr(self.splits, name)) for name in ("train", "val", "test")}
        scored = len(self.evaluator.val)
        part = f" ({scored} of them scored)" if scored < n["val"] else ""
        say = self.log.say
        say(
            f"{config.task} on {self.source.name}: {n['train']} training, {n['val']} validation"
            f"{part}, {n['test']} test cases; {self.order.steps_per_epoch:.1f} steps an epoch, "
            f"rows of (T, A, I) = {', '.join(map(str, self.order.buckets))}, "
            f"{self.order.waste():.0%} padding"
        )
        say(
            f"{len(devices)} × {devices[0].device_kind}, mesh {dict(self.pieces.mesh.shape)}, "
            f"attention {self.pieces.model.compute.implementation}, {config.model.dtype} over "
            f"{config.model.base_dtype}"
        )
        for line in self.shares.lines(self.order.quotas, config.data.ratios):
            say(line)
        if not self.evaluator.val:
            say("no validation cases: the last checkpoint is the one that is tested")
        if step := int(self.state.step):
            say(f"going on after step {step} in {self.workdir}")

    def train(self) -> None:
        """Steps until the last one, or until asked to stop.

        A row is written one step behind, so that the device does not wait for the host.
        """
        step_fn, waiting, done = self.pieces.jit_step(), None, 0.0
        with contextlib.closing(self._batches()) as batches:  # ends its workers, come what may
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

    def _batches(self) -> Iterator[Any]:
        return pipeline.train_batches(
            self.source,
            self.splits.train,
            self.tokenizer,
            self.config,
            start=int(self.state.step),
            mine=share.mine(self.pieces.mesh, self.order.batch_size),
            order=self.order,
        )

    def _row(self, step: int, metrics: Any) -> Row:
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        if not values.pop("finite"):
            way = "or optimizer.clip" if self.config.optimizer.clip else "or set optimizer.clip=1"
            raise UserError(
                f"step {step}: the run has diverged (loss {values['loss']:g}, gradient norm "
                f"{values['grad_norm']:g}, parameters that are not finite are not saved); lower "
                f"optimizer.lr {way}, in another --workdir"
            )
        epoch = step / self.order.steps_per_epoch
        return {
            "step": step,
            "epoch": epoch,
            **values,
            **self.shares.counts(self.order, step - 1),
        }

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
                self.checkpoints.save(step, self.state, score=score, extra=self.data)
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
        test = self._answer("predictions.jsonl", self.evaluator.test)
        control = pipeline.control_images(self.evaluator.test)
        shuffled = self._answer("predictions_shuffled.jsonl", control) if control else None
        answered = {"test": test, "test_shuffled": shuffled}
        if fitted := self.evaluator.train:
            answered["train"] = self._answer("predictions_train.jsonl", fitted)
        if hosts.is_first():
            self._write(answered)
        self.log.say(f"{self.compilations}; everything is in {self.workdir}")

    def _write(self, answered: dict[str, Any]) -> None:
        path, protocol = self.workdir / "results.json", self.config.eval.protocol
        places = facts.places(self.source, self.evaluator.test)
        scores = writing.write_results(
            *(path, answered, self.config.task, protocol),
            images=lambda name: self.source.image(*places[name]),
        )
        self.log.say(results.table(scores))

    def _answer(self, name: str, cases: list[Any]) -> list[results.Row]:
        def progress(done: int) -> None:
            self.log.overwrite(f"{name}: {done}/{len(cases)}")

        rows = self.evaluator.predict(self.state, self.frozen, cases, progress)
        if hosts.is_first():
            writing.write_predictions(self.workdir / name, rows)
        return rows
