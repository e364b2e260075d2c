"""Before a run loads anything: its folder, and that all its processes are alike."""

import contextlib
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from pefomed_jax import __version__
from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import results
from pefomed_jax.parallel import hosts
from pefomed_jax.training import folder as run_folder
from pefomed_jax.training.folder import CHECKPOINTS


def take(config: ConfigDict, workdir: pathlib.Path, held: contextlib.ExitStack) -> bool:
    """Takes the folder for this run; False where the whole run is in it, whose scores are printed.

    Process 0 locks it until `held` is closed. Raises UserError where the processes differ, or the
    folder is in use or of another run.
    """
    hosts.check_same(_alike(config))
    if hosts.first_says(lambda: _finished(config, workdir, held)):
        return False
    run_folder.check_shared(workdir)
    return True


def _finished(config: ConfigDict, workdir: pathlib.Path, held: contextlib.ExitStack) -> bool:
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
