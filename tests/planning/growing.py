"""Prints what a plan says of a first step on this CPU, and what the process then grew by.

python tests/planning/growing.py PRESET ROWS LENGTH ANSWERS
"""

import ctypes
import gc
import json
import pathlib
import sys

import jax
import jax.numpy as jnp

from pefomed_jax import base as base_lib
from pefomed_jax import config as config_lib
from pefomed_jax.parallel import rules
from pefomed_jax.planning import compiled, shapes
from pefomed_jax.training import setup

STATUS = pathlib.Path("/proc/self/status")


def status(field: str) -> int:
    """VmRSS (now) or VmHWM (the peak), in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main(preset: str, rows: str, length: str, answers: str) -> None:
    config = config_lib.make("mrg", preset)
    config.train.batch_size = int(rows)
    shape = int(length), int(answers), 1
    pieces = setup.assemble(config)
    planned = compiled.step(pieces, shape).memory
    base = base_lib.load(config, pieces.model, pieces.base)
    state, frozen = pieces.first_state(base), pieces.frozen(base)
    del base
    batch = jax.tree.map(
        lambda x: jax.device_put(jnp.zeros(x.shape, x.dtype), rules.rows(pieces.mesh)),
        shapes.batch(config, pieces.mesh, config.train.batch_size, shape),
    )
    jax.block_until_ready((state, frozen, batch))
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what compiling left
    before = status("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    with jax.set_mesh(pieces.mesh):
        jax.block_until_ready(pieces.jit_step()(state, frozen, batch))
    grown = status("VmHWM") - before
    print(json.dumps({"planned": planned.temporaries, "grown": grown}))


if __name__ == "__main__":
    main(*sys.argv[1:])
