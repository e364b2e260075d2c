"""`--dry_run`: what would train, what is still needed, how much memory; nothing is allocated.

Memory figures are the compiler's, of the real training step and the real generation on abstract
arrays, so they name the compiler and the target they were made for.
"""

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.errors import UserError
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.planning import check, compiled, report, shapes, table
from pefomed_jax.planning.memory import Memory
from pefomed_jax.training import setup, supplied
from pefomed_jax.validate import missing, validate

GIB = 2**30


def plan(config: ConfigDict) -> None:
    """Prints the plan of a run. Raises UserError for what no further file could mend."""
    config = base_lib.adopt(config)
    validate(config)
    mesh, note = _mesh(config)
    pieces = setup.assemble(config, mesh)
    print(pieces.table)
    print()
    needed = missing(config)
    print(
        "still needed:" if needed else "nothing is missing: every file this config names is there"
    )
    for line in needed:
        print(f"  {line}")
    print()
    wrong = supplied.inspect(pieces, needed)
    rows = shapes.rows(config, supplied.unreadable(needed) + wrong)
    if note:
        print(f"note: {note}")
    _print_memory(pieces, rows)
    if wrong:
        raise UserError(wrong[0])


def _mesh(config: ConfigDict) -> tuple[Mesh, str]:
    """The config's mesh, or one device where this machine has not got so many."""
    try:
        return mesh_lib.make(config.mesh), ""
    except UserError as error:
        ones = dict.fromkeys(mesh_lib.AXES, 1)
        mesh = mesh_lib.make(ones, jax.devices()[:1])
        return mesh, f"{error}; the figures below are for one device holding everything"


def _print_memory(pieces: setup.Setup, rows: shapes.Rows) -> None:
    config, (length, answers, images) = pieces.config, rows.shape
    print(
        f"memory on each device of a training step, batch {config.train.batch_size}, "
        f"T={length}, A={answers}, I={images} ({rows.source}), remat={config.model.remat}, and "
        f"of the evaluation, batch {config.eval.batch_size}, prompts of at most {length} and "
        f"answers of {config.eval.max_new_tokens} tokens:"
    )
    memory = measured(pieces, rows)
    print(f"  {'':<12}{'step':>8}{'evaluation':>18}")
    for name in table.KINDS:
        sizes = (getattr(each, name) / GIB for each in memory)
        print(f"  {name:<12}" + "".join(f"{size:8.2f} GiB  " for size in sizes).rstrip())
    _print_needed(pieces, max(each.total for each in memory))


def measured(pieces: setup.Setup, rows: shapes.Rows) -> tuple[Memory, Memory]:
    """Of the step and of the evaluation, as other targets than a CPU would have them."""
    programs = (compiled.step, compiled.generation)
    step, answers = (program(pieces, rows.shape, portable=True).memory for program in programs)
    return step, answers


def _print_needed(pieces: setup.Setup, size: int) -> None:
    device, room = pieces.mesh.devices.flat[0], check.limit(pieces)
    there = "" if room is None else f"; {room / GIB:.2f} GiB are there"
    print(f"  {'needed':<12}{size / GIB:8.2f} GiB, the larger one{there}")
    sizes = ", ".join(f"{axis}={pieces.mesh.shape[axis]}" for axis in mesh_lib.AXES)
    print(
        f"compiler: {report.compiler(device.platform)}, target {device.platform} "
        f"({device.device_kind}), mesh {sizes}; other targets fuse otherwise: launch/plan.py asks "
        "their compilers"
    )
