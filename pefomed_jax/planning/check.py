"""Does the run fit into the devices that are here? Asked before any weight is read.

Small models are let through by a bound that needs no compiler. Else the real programs are compiled;
the step is the one that trains afterwards, so its compilation is not lost.
"""

import dataclasses
import math
from typing import Any

import jax
from ml_collections import ConfigDict

from pefomed_jax.data.buckets import Bucket
from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm
from pefomed_jax.models.layers import wide
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.planning import advice, compiled, host, memory
from pefomed_jax.training import setup

SMALL = 0.25  # of the limit: what is bounded below this is not compiled


def check(pieces: setup.Setup, shape: Bucket) -> None:
    """Raises UserError, with what to change, where rows of (T, A, I) would not fit."""
    room = limit(pieces)
    if room is None or bound(pieces, shape) < SMALL * room:
        return
    size = needed(pieces, shape)
    if size <= room:
        return
    print("this run does not fit; looking for what would make it fit", flush=True)
    found = advice.suggest(
        pieces,
        room,
        held=lambda config: memory.held(_assembled(config, pieces)).total,
        needed=lambda config: needed(_assembled(config, pieces), shape),
        say=lambda line: print(line, flush=True),
    )
    raise UserError(
        f"this run needs {size / 2**30:.2f} GiB on each device and {room / 2**30:.2f} GiB are "
        f"there; {found}; --nocheck_memory starts it all the same"
    )


def limit(pieces: setup.Setup) -> float | None:
    """Bytes that this run can have on each device; None where the device does not tell."""
    here = [d for d in pieces.mesh.devices.flat if d.process_index == jax.process_index()]
    if here[0].platform == "cpu":
        return host.available() / len(here)
    stats = here[0].memory_stats() or {}
    return float(stats["bytes_limit"]) if "bytes_limit" in stats else None


def needed(pieces: setup.Setup, shape: Bucket) -> int:
    """Bytes on one device of the larger of the run's programs, by the compiler."""
    return max(compiled.needed(pieces, program, shape) for program in compiled.PROGRAMS)


def _assembled(config: ConfigDict, pieces: setup.Setup) -> setup.Setup:
    return setup.assemble(config, mesh_lib.make(config.mesh, list(pieces.mesh.devices.flat)))


def bound(pieces: setup.Setup, shape: Bucket) -> int:
    """Bytes that no program of the run exceeds on one device; generous, and without a compiler.

    Held: weights, state and a second base. Step: every value that a layer makes, of every layer
    that gradients go through, as if nothing were computed again or overwritten, gradients and
    moments once more, and what is gathered of the weights. Answers: caches and scores of the
    vocabulary.
    """
    held = memory.held(pieces)
    config, shards = pieces.config, pieces.mesh.shape["data"] * pieces.mesh.shape["fsdp"]
    whole = sum(math.prod(x.shape) for x in jax.tree.leaves(pieces.params))
    size = wide(config.model.dtype).itemsize
    rows = [math.ceil(n / shards) for n in (config.train.batch_size, config.eval.batch_size)]
    seen = 2 if advice.tower_frozen(pieces) else config.model.vision.depth
    step = _activations(config, shape, rows[0], config.model.llm.depth, seen)
    answered = shape[0] + config.eval.max_new_tokens, 1, shape[2]
    answers = _activations(config, answered, rows[1], 2, 2) + _cache(config, answered[0], rows[1])
    grads = 2 * dataclasses.replace(held, frozen=0).total
    return held.total + grads + 2 * whole * size + size * max(step, answers)


def _activations(config: ConfigDict, shape: Bucket, rows: int, decoder: int, tower: int) -> int:
    """Numbers that so many layers make of so many rows, forwards and backwards."""
    length, targets, images = shape
    patches = (config.model.vision.image_size // config.model.vision.patch_size) ** 2 + 1
    llm, vision = config.model.llm, config.model.vision
    pixels = 4 * rows * images * vision.image_size**2 * 3
    scores = 6 * rows * max(targets, 1) * llm.vocab_size
    visual = 4 * rows * images * mllm.visual_tokens(config.model) * (llm.width + 4 * vision.width)
    text = rows * length * decoder * _layer(llm, length)
    return (
        text + rows * images * patches * tower * _layer(vision, patches) + pixels + scores + visual
    )


def _cache(config: ConfigDict, length: int, rows: int) -> int:
    """Keys and values, and once more while they are written."""
    return 4 * rows * length * config.model.llm.width * config.model.llm.depth


def _layer(sizes: Any, length: int) -> int:
    """Numbers a token: residuals, norms and projections; the MLP; attention's weights."""
    return 24 * sizes.width + 8 * sizes.mlp_dim + 6 * sizes.heads * length
