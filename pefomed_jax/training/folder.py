"""The folder of a run: its lock, its config, and files that are whole or not there.

    checkpoints/  config.json  metrics.jsonl  tensorboard/  loss.png
    predictions.jsonl  predictions_shuffled.jsonl
    results.json  cases.jsonl  report.html  scores.csv  cases.csv

A kill at any moment leaves a folder that the same command goes on from: metrics.jsonl is written
before the checkpoint of the same step, so a checkpoint finds its rows and later ones are cut.
"""

import fcntl
import io
import json
import os
import pathlib
import secrets
import socket
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from pefomed_jax import whole
from pefomed_jax.errors import UserError
from pefomed_jax.parallel import hosts

CHECKPOINTS = "checkpoints"
SEEN_SECONDS = 10  # in which a shared disk shows a new file to other hosts

# what may differ when a run goes on: it changes how long and how, not what is learnt
FREE = (
    "train.steps",
    "train.eval_every",
    "train.checkpoint_every",
    "train.log_every",
    "data.workers",
    "data.cache",
    "data.cache_pixels",
    "data.cache_features",
    "eval.batch_size",
    "eval.limit",
    "eval.train_limit",
    "eval.protocol",
    "mesh.",
)
RESULTS = ("results.json", "cases.jsonl", "report.html", "scores.csv", "cases.csv")
# of FREE, what makes finished results stale
RESCORES = ("train.steps", "eval.")


def lock(folder: pathlib.Path) -> io.TextIOBase:
    """Makes the folder and locks it until the handle is closed or the process ends in any way.

    Raises UserError when another run holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a+")
    except OSError as error:
        raise UserError(
            f"--workdir={folder} is no folder to write in ({error.strerror}); give another"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise UserError(
            f"{folder} is in use by another run (process {owner}); wait for it or give another "
            "--workdir"
        ) from None
    handle.truncate(0)
    handle.write(f"{os.getpid()} on {socket.gethostname()}, since {time.ctime()}\n")
    handle.flush()
    return handle


def check_shared(folder: pathlib.Path) -> None:
    """Raises UserError where this process does not see what process 0 writes into the folder.

    That is a file of its own, new and closed: a bucket that is mounted as a folder shows other
    hosts a file only once it is closed, and the lock stays open.
    """
    path, sign = folder / ".shared", secrets.token_hex(8)
    written = hosts.first_says(lambda: whole.write(path, sign) or sign)
    until = time.monotonic() + SEEN_SECONDS
    while not (path.exists() and path.read_text() == written):
        if time.monotonic() > until:
            raise UserError(
                f"--workdir={folder} is not one folder: process 0 writes where process "
                f"{jax.process_index()} on {socket.gethostname()} does not see it; give a folder "
                "on a disk that all hosts share (NFS, a bucket mounted without a cache of metadata)"
            )
        time.sleep(0.1)


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file. Raises UserError where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not UTF-8, not JSON
        raise UserError(f"{path} is damaged ({error}); repair or remove this file") from None


def latest_step(checkpoints: pathlib.Path) -> int | None:
    """The last complete checkpoint, by the names of the folders; None without any."""
    names = [path.name for path in checkpoints.glob("*") if path.name.isdigit()]
    return max(map(int, names), default=None)


def settle(folder: pathlib.Path, config: ConfigDict, goes_on: bool) -> None:
    """Writes config.json; where the run goes on, only the fields in FREE may have changed.

    Results and answers that a changed field makes stale are removed. Raises UserError with the
    difference.
    """
    path, new = folder / "config.json", flatten(config.to_dict())
    if goes_on and path.exists():
        old = flatten(read_json(path))
        changed = [key for key in new | old if new.get(key) != old.get(key)]
        if fixed := [key for key in changed if not key.startswith(FREE)]:
            said = "; ".join(f"{key} was {old.get(key)}, is {new.get(key)}" for key in fixed[:4])
            raise UserError(
                f"{folder} holds a run with another config: {said}; set it back or give another "
                "--workdir"
            )
        if any(key.startswith(RESCORES) for key in changed):
            _drop_results(folder)
    elif not goes_on:
        _drop_results(folder)
    whole.write(path, json.dumps(config.to_dict(), indent=2) + "\n")


def _drop_results(folder: pathlib.Path) -> None:
    for path in (*(folder / name for name in RESULTS), *folder.glob("predictions*.jsonl")):
        path.unlink(missing_ok=True)


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{'a.b': value}; tuples become lists, as JSON has them."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = json.loads(json.dumps(value))
    return out


def cut_rows(path: pathlib.Path, step: int) -> list[dict[str, Any]]:
    """Cuts metrics.jsonl back to the rows up to `step` and returns them.

    A line that a kill left half written is later than any checkpoint, so it goes too.
    """
    if not path.exists():
        return []
    kept, rows = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if row["step"] > step:
            break
        kept.append(line + "\n")
        rows.append(row)
    whole.write(path, "".join(kept))
    return rows
