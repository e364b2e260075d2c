"""Checkpoints of what trains: small files that name the frozen base they belong to.

A thin layer over Orbax. Each step holds `state` (trainable tree, optimizer, step, random key) and
`meta` (JSON: base fingerprint, trainable shapes, score, the caller's extra). Saving is
asynchronous; a step appears under its number only when it is complete, so a killed run finds the
one before.
"""

import contextlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from absl import logging as absl_logging
from flax.traverse_util import flatten_dict, unflatten_dict

from pefomed_jax.errors import UserError
from pefomed_jax.parallel import paths
from pefomed_jax.training import forms
from pefomed_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints in one folder: the last one and the best one by score are kept.

    `trainable` (arrays or shapes) and `base` (the fingerprint) say what a checkpoint must match.
    With read_only nothing in the folder is touched: it may be a run that is still going.
    """

    def __init__(self, folder: Path, trainable: Any, base: str, read_only: bool = False):
        self.folder = Path(folder).absolute()
        self._want = {"base": base, "trainable": _shapes(trainable)}
        self._scores: dict[int, float] = {}
        with _quiet():
            options = ocp.CheckpointManagerOptions(
                preservation_policy=_LastAndBest(self),
                create=not read_only,
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
            )
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_names=("state", "meta")
            )
        self._scores = {
            step: meta["score"]
            for step in self._manager.all_steps()
            if (meta := self._meta(step)) and meta["score"] is not None
        }

    @property
    def latest(self) -> int | None:
        """The last complete step."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The step with the highest score, the later of equal ones; None without any score."""
        return max(self._scores, key=lambda step: (self._scores[step], step), default=None)

    def score(self, step: int) -> float | None:
        """The score that the step was saved with."""
        return self._scores.get(step)

    def save(
        self,
        step: int,
        state: TrainState,
        score: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Starts saving; returns once the state is copied, so that it may be donated.

        `score`: higher is better (NaN counts as none). `extra` is any JSON the caller wants back.
        """
        if score is not None and math.isnan(score):
            score = None
        if score is not None:
            self._scores[step] = float(score)
        meta = {**self._want, "score": score, "extra": extra or {}}
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        self._manager.save(step, args=args)
        self._scores = {s: v for s, v in self._scores.items() if s in self._manager.all_steps()}

    def restore(
        self, abstract: TrainState, step: int | None = None
    ) -> tuple[TrainState, dict[str, Any]]:
        """(state, extra) of a step (default: the last), placed as `abstract` says.

        `abstract` holds ShapeDtypeStructs with shardings (`state.abstract`); they may be of another
        mesh than the one that saved. Raises UserError when the checkpoint belongs to another base,
        rank or trainable set.
        """
        step = self.latest if step is None else step
        if step is None or step not in self._manager.all_steps():
            raise UserError(f"{self.folder}: no checkpoint {step or ''}".rstrip())
        meta = self._meta(step)
        if meta is None:
            raise UserError(f"{self.folder / str(step)}: unreadable; delete this folder")
        _check(f"{self.folder / str(step)}", meta, self._want)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        with _readable(self.folder / str(step)):
            return self._manager.restore(step, args=args)["state"], meta["extra"]

    def fresh(self, step: int) -> list[str]:
        """The trainable paths that a step of another stage has not; they start anew.

        Its layers may be stacked where this run's are not, and the other way round. Raises
        UserError where the step has others, other shapes, a leaf for some layers only, or another
        base; an empty `base` is not compared.
        """
        where = f"weights.checkpoint: {self.folder / str(step)}"
        meta = self._meta(step)
        if meta is None:
            raise UserError(f"{where}: unreadable; give another run's folder")
        have = _by_layer(meta["trainable"])
        _check_stage(where, meta["base"], have, self._want)
        absent = []
        for path, shape in self._want["trainable"].items():
            places = [place in have for place in paths.canonical(path, shape)]
            if any(places) and not all(places):
                raise UserError(f"{where} has '{path}' for some layers only; set model.scan=False")
            absent += [path] * (not any(places))
        return sorted(absent)

    def restore_trainable(self, abstract: Any, step: int) -> Any:
        """The leaves of `abstract` (shapes with shardings) that the step has, and only those.

        The optimizer's state is not read, so it may be of other groups.
        """
        absent = self.fresh(step)
        leaves = flatten_dict(abstract, sep="/")
        held = {path: leaf for path, leaf in leaves.items() if path not in absent}
        saved = self._meta(step)["trainable"]
        item = {"trainable": unflatten_dict(forms.saved_as(held, saved), sep="/")}
        args = ocp.args.PyTreeRestore(
            item=item,
            restore_args=ocp.checkpoint_utils.construct_restore_args(item),
            partial_restore=True,
        )
        with (
            ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader,
            _readable(self.folder / str(step)),
        ):
            read = reader.restore(self.folder / str(step) / "state", args=args)["trainable"]
        return unflatten_dict(forms.back(flatten_dict(read, sep="/"), held), sep="/")

    def wait(self) -> None:
        """Returns when the save under way is complete; raises what went wrong in it."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then releases the threads."""
        self._manager.close()

    def _meta(self, step: int) -> dict[str, Any] | None:
        """None for a step that a killed run was deleting."""
        try:
            args = ocp.args.Composite(meta=ocp.args.JsonRestore())
            return self._manager.restore(step, args=args)["meta"]
        except (FileNotFoundError, KeyError, json.JSONDecodeError):
            return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Orbax's warnings that a folder opened to be read will only be read."""
    level = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    try:
        yield
    finally:
        absl_logging.set_verbosity(level)


class _LastAndBest:
    """Orbax's protocol for what to keep; its own policy would write scores into a file apart."""

    def __init__(self, owner: Checkpoints):
        self._owner = owner

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        keep = {checkpoints[-1].step, self._owner.best} if checkpoints else set()
        return [checkpoint.step in keep for checkpoint in checkpoints]


def _shapes(trainable: Any) -> dict[str, list[int]]:
    return {path: list(leaf.shape) for path, leaf in flatten_dict(trainable, sep="/").items()}


@contextlib.contextmanager
def _readable(where: Path) -> Iterator[None]:
    """Turns whatever the storage library raises about damaged files into one line."""
    try:
        yield
    except Exception as error:
        logging.debug("%s", where, exc_info=True)
        reason = str(error).strip().split("\n")[0][:120] or type(error).__name__
        raise UserError(
            f"{where}: its data cannot be read ({reason}); delete this folder"
        ) from error


def _by_layer(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """Canonical paths and shapes, whichever form the layers have."""
    return {
        place: shape[paths.is_stacked(path) :]
        for path, shape in shapes.items()
        for place in paths.canonical(path, shape)
    }


def _check_stage(where: str, base: str, have: dict[str, list[int]], want: dict[str, Any]) -> None:
    """Raises UserError where a checkpoint cannot begin this run's stage."""
    mine = _by_layer(want["trainable"])
    if not have.keys() & mine.keys():
        raise UserError(f"{where} trains nothing that this run trains; see config.trainable")
    for path in sorted(have):
        if path not in mine:
            raise UserError(
                f"{where} trains '{path}', this run does not: name it in config.trainable (and "
                f"config.lora.targets), or what it learnt is lost"
            )
        if have[path] != mine[path] and path.endswith("/lora_a"):
            raise UserError(
                f"{where} has LoRA rank {have[path][-1]}, config.lora.rank is {mine[path][-1]}; "
                f"set --config.lora.rank={have[path][-1]}"
            )
        if have[path] != mine[path]:
            raise UserError(
                f"{where} has '{path}' of shape {have[path]}, this run {mine[path]}; set "
                f"config.model as in that run"
            )
    if want["base"] and base != want["base"]:
        raise UserError(
            f"{where} was trained on another base ({base[:12]}, here "
            f"{want['base'][:12]}); set config.weights and config.seed as in that run"
        )


def _check(where: str, meta: dict[str, Any], want: dict[str, Any]) -> None:
    """Raises UserError where the checkpoint is not of this run's base and trainable set."""
    have_shapes, want_shapes = meta["trainable"], want["trainable"]
    if odd := sorted(have_shapes.keys() ^ want_shapes.keys()):
        side = "trains" if odd[0] in have_shapes else "does not train"
        raise UserError(
            f"{where} {side} '{odd[0]}', this run does the opposite ({len(odd)} such parameters); "
            f"set config.trainable and config.lora.targets as they were, or another --workdir"
        )
    for path, shape in want_shapes.items():
        if have_shapes[path] == shape:
            continue
        if path.endswith("/lora_a"):
            raise UserError(
                f"{where} has LoRA rank {have_shapes[path][-1]}, config.lora.rank is {shape[-1]}; "
                f"set it as it was, or another --workdir"
            )
        raise UserError(f"{where} has '{path}' of shape {have_shapes[path]}, this run {shape}")
    if meta["base"] != want["base"]:
        raise UserError(
            f"{where} was trained on another base ({meta['base'][:12]}, here "
            f"{want['base'][:12]}); give the same weights, or another --workdir"
        )
