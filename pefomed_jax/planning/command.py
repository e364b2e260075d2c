"""`launch/plan.py`: a table over topologies, batch sizes, remat policies and dtypes."""

import dataclasses
import itertools
import json
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax import base, validate
from pefomed_jax.errors import UserError, nearest
from pefomed_jax.parallel import mesh
from pefomed_jax.planning import figure, table, worker
from pefomed_jax.planning.advice import changed
from pefomed_jax.planning.topology import Topology, parse

PROGRAMS = ("step", "generation")
SHORT = {"f32": "float32", "bf16": "bfloat16"}


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the command line asks for; empty: as the config has it."""

    topologies: Sequence[str]
    batches: Sequence[str] = ()  # rows of all devices together
    per_device: Sequence[str] = ()  # rows of each device that has rows of its own
    remats: Sequence[str] = ()
    dtypes: Sequence[str] = ()
    programs: Sequence[str] = PROGRAMS
    row: Sequence[str] = ()  # T, A, I
    advise: bool = True


def run(config: ConfigDict, asked: Asked, out: str = "", drawn: str = "") -> int:
    """Plans everything that is asked for, prints it, and writes it as JSON; 0 where all fits.

    Raises UserError, one line, for a name, a number, a mesh or a missing compiler.
    """
    config = base.adopt(config)
    validate.validate(config)
    cells = list(_cells(config, asked))
    row = _row(asked.row)
    plans = []
    for number, (made, topology) in enumerate(cells, 1):
        _say(number, len(cells), made, topology, asked.programs)
        start = time.monotonic()
        plans.append(worker.ask(made, topology, asked.programs, row, asked.advise))
        print(table.block(plans[-1]))
        print(f"  ({time.monotonic() - start:.0f} s)\n", flush=True)
        if out:
            pathlib.Path(out).write_text(json.dumps(plans, indent=1))
    return finish(plans, drawn)


def read(paths: Sequence[str], drawn: str = "") -> int:
    """Prints the tables of plans that were written before."""
    plans: list[dict[str, Any]] = []
    for path in paths:
        try:
            plans += json.loads(pathlib.Path(path).read_text())
        except ValueError as error:
            raise UserError(f"{path} holds no plans: {error}") from None
    return finish(plans, drawn)


def finish(plans: Sequence[dict[str, Any]], drawn: str = "") -> int:
    """The tables and the figure."""
    print(table.table(plans), "\n")
    print(table.scaling(plans))
    if drawn:
        figure.draw(plans, pathlib.Path(drawn))
    return 0 if all(plan["fits"] for plan in plans) else 1


def _say(
    number: int, count: int, config: ConfigDict, topology: Topology, programs: Sequence[str]
) -> None:
    slow = " (a TPU program of 7B takes minutes)" if topology.chip.platform == "tpu" else ""
    print(
        f"{number}/{count}: {topology.name}, batch {config.train.batch_size}, "
        f"remat={config.model.remat}, {config.model.dtype}: compiling {', '.join(programs)}{slow}",
        flush=True,
    )


def _cells(config: ConfigDict, asked: Asked) -> Iterator[tuple[ConfigDict, Topology]]:
    topologies = [parse(name) for name in asked.topologies]
    if asked.batches and asked.per_device:
        raise UserError("--batch and --per_device both say how many rows there are: give one")
    rows = _numbers("batch", asked.batches) or _numbers("per_device", asked.per_device) or [None]
    remats = _known("remat", asked.remats, validate.CHOICES["model.remat"])
    dtypes = _known("dtype", [SHORT.get(d, d) for d in asked.dtypes], validate.DTYPES[:2])
    _known("programs", asked.programs, PROGRAMS)
    for topology, n, remat, dtype in itertools.product(topologies, rows, remats, dtypes):
        changes: dict[str, Any] = {}
        if n is not None:
            changes["train.batch_size"] = n * (_shards(config, topology) if asked.per_device else 1)
        if remat:
            changes["model.remat"] = remat
        if dtype:
            changes |= {"model.dtype": dtype, "model.base_dtype": dtype}
        yield validate.validate(changed(config, changes)), topology


def _shards(config: ConfigDict, topology: Topology) -> int:
    data, fsdp, _ = mesh.resolve(tuple(config.mesh[a] for a in mesh.AXES), topology.count)
    return data * fsdp * config.train.accumulate


def _known(flag: str, given: Sequence[str], known: Sequence[str]) -> Sequence[str | None]:
    for name in given:
        if name not in known:
            raise UserError(
                f"--{flag}={name} is not one of {', '.join(known)}{nearest(name, known)}"
            )
    return given or [None]


def _numbers(flag: str, given: Sequence[str]) -> list[int]:
    if wrong := [text for text in given if not text.isdigit() or int(text) < 1]:
        raise UserError(f"--{flag}={wrong[0]} is no number of rows: 1 or more")
    return [int(text) for text in given]


def _row(given: Sequence[str]) -> tuple[int, int, int] | None:
    if not given:
        return None
    if len(given) > 3 or not all(text.isdigit() for text in given) or int(given[0]) < 1:
        raise UserError(f"--row={','.join(given)} is not T,A,I: tokens, targets, images of a row")
    length, answers, images = (*map(int, given), *(128, 1)[len(given) - 1 :])
    return length, min(answers, length), images
