"""One plan: a config on one topology, asked of its compiler; everything as plain figures."""

import dataclasses
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax
from jax.errors import JaxRuntimeError
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pefomed_jax.errors import UserError
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.planning import advice, collectives, compiled, hlo, memory, shapes, work
from pefomed_jax.planning.topology import Topology
from pefomed_jax.training import setup

ACCELERATORS = ("tpu", "gpu")


def make(
    config: ConfigDict,
    topology: Topology,
    programs: Sequence[str],
    row: Any = None,
    advise: bool = False,
) -> dict:
    """The plan of a config: its figures, by the names that `table` and the JSON file use.

    `row`: (T, A, I), else as `shapes.rows` finds it. `advise`: look for what would make it fit.
    Raises UserError as `setup.assemble` does.
    """
    config = fitted(config, topology)
    pieces = assemble(config, topology)
    rows = shapes.Rows(tuple(row), "given") if row else shapes.rows(config)
    made = {name: _program(pieces, name, rows.shape, topology) for name in programs}
    step = made.get("step", {}).get("collectives", {})
    sent = sum(each["bytes"] for each in step.values())
    fits = all(each["fits"] for each in made.values())
    plan = {
        **_facts(config, topology, pieces.mesh, rows),
        "programs": made,
        "fits": fits,
        "work": dataclasses.asdict(work.of(pieces, rows.shape, topology.chip, sent)),
        "replicated": memory.replicated(
            {"state": pieces.abstract_state(), "frozen": pieces.abstract_frozen()}
        ),
    }
    if advise and not fits:
        plan["advice"] = str(_advice(pieces, topology, programs, rows.shape))
    return plan


def _advice(
    pieces: setup.Setup, topology: Topology, programs: Sequence[str], shape: Any
) -> advice.Advice:
    def other(config: ConfigDict) -> setup.Setup:
        return assemble(fitted(config, topology), topology)

    def needed(config: ConfigDict) -> float:
        made = other(config)
        return max(compiled.needed(made, name, shape, portable=True) for name in programs)

    print(f"{topology.name}: does not fit; looking for what would make it fit", flush=True)
    return advice.suggest(
        pieces,
        topology.limit,
        held=lambda config: memory.held(other(config)).total,
        needed=needed,
        say=lambda line: print(line, flush=True),
    )


def fitted(config: ConfigDict, topology: Topology) -> ConfigDict:
    """The config with batches raised to the next size that its mesh divides."""
    data, fsdp, _ = mesh_lib.resolve(
        tuple(config.mesh[axis] for axis in mesh_lib.AXES), topology.count
    )
    shards, new = data * fsdp, config.copy_and_resolve_references()
    for part, unit in (("train", shards * config.train.accumulate), ("eval", shards)):
        new[part].batch_size = -(-config[part].batch_size // unit) * unit
    if topology.chip.platform == "gpu" and config.model.attention == "auto":
        new.model.attention = "xla"  # cuDNN can only be tried on the device
    return new


def assemble(config: ConfigDict, topology: Topology) -> setup.Setup:
    """The pieces of the run on the topology's devices."""
    devices = topology.devices()
    if len(devices) != topology.count:
        raise UserError(
            f"--topology={topology.name}: this compiler shows {len(devices)} devices for "
            f"{topology.count} chips"
        )
    return setup.assemble(config, mesh_lib.make(config.mesh, devices))


def _facts(config: ConfigDict, topology: Topology, mesh: Mesh, rows: shapes.Rows) -> dict:
    vision, llm = config.model.vision, config.model.llm
    return {
        "name": f"{config.task}:{config.preset}",
        "topology": topology.name,
        "device": topology.chip.kind,
        "devices": topology.count,
        "mesh": {axis: mesh.shape[axis] for axis in mesh_lib.AXES},
        "batch": config.train.batch_size,
        "accumulate": config.train.accumulate,
        "eval_batch": config.eval.batch_size,
        "new_tokens": config.eval.max_new_tokens,
        "row": list(rows.shape),
        "row_source": rows.source,
        "branches": config.data.branches,
        "remat": config.model.remat,
        "dtype": config.model.dtype,
        "base_dtype": config.model.base_dtype,
        "model": [vision.width, vision.depth, vision.image_size, llm.width, llm.depth],
        "limit": topology.limit,
        "bandwidth": topology.chip.bandwidth,
        "link": topology.chip.link,
        "compiler": compiler(topology.chip.platform),
    }


def compiler(platform: str) -> str:
    """Which compiler a plan is of: its figures are good for no other."""
    package = {"tpu": "libtpu", "gpu": "jax-cuda13-plugin"}.get(platform)
    try:
        extra = f", {package} {metadata.version(package)}" if package else ""
    except metadata.PackageNotFoundError:
        extra = ""
    return f"XLA of jax {jax.__version__}{extra}"


def _program(pieces: setup.Setup, name: str, shape: Any, topology: Topology) -> dict:
    start, limit = time.monotonic(), topology.limit
    try:
        made = getattr(compiled, name)(pieces, shape, portable=True)
    except compiled.TooLarge as error:
        seconds = time.monotonic() - start
        return _figures(error.memory, limit, seconds) | {"fits": False, "refused": str(error)}
    figures = _figures(made.memory, limit, time.monotonic() - start)
    try:
        text = made.text
    except JaxRuntimeError as error:  # the compiler is newer than what JAX reads its programs with
        return figures | {"unread": str(error).partition("\n")[0]}
    return figures | _sent(text, pieces, topology)


def _sent(text: str, pieces: setup.Setup, topology: Topology) -> dict:
    """What a program sends, by its text."""
    # of a loop of answers the compiler cannot know the turns: the longest answer is meant
    unknown = max(1, pieces.config.eval.max_new_tokens - 1)
    found = collectives.of(hlo.parse(text), topology.count, unknown)
    inside = [each for each in found if each.kind == "all-gather" and each.loops]
    outside = [each for each in found if each.kind == "all-gather" and not each.loops]
    return {
        "collectives": {
            kind: dataclasses.asdict(total) for kind, total in collectives.totals(found).items()
        },
        "largest_gather": {
            place: max((each.size for each in some), default=0)
            for place, some in (("in_loop", inside), ("outside", outside))
        },
    }


def _figures(used: memory.Memory, limit: float, seconds: float) -> dict:
    return {
        "memory": dataclasses.asdict(used) | {"total": used.total},
        "fits": used.total <= limit,
        "compile_seconds": round(seconds, 1),
    }
