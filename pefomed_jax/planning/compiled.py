"""The programs of a run, compiled from shapes for the devices of its mesh, here or not.

The step is the one that trains: called later with arrays of the same shapes, it does not compile
again.
"""

import dataclasses
import re
from typing import Any

import jax
from jax.errors import JaxRuntimeError

from pefomed_jax.data.buckets import Bucket
from pefomed_jax.decoding import merge
from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options
from pefomed_jax.models import mllm, stack
from pefomed_jax.peft import masks
from pefomed_jax.planning import shapes
from pefomed_jax.planning.memory import Memory, a_device, held
from pefomed_jax.training.setup import Setup

PROGRAMS = ("step", "generation")
# For figures, not for running. XLA's CPU pipeline hoists float32 copies of all stacked bf16 weights
# out of the layer loop, which no accelerator does: 13.5 GB of temporaries that are none there. Its
# GPU pipeline chooses tiles of Triton products by trying them, without a device it takes cuBLAS.
PORTABLE = {
    "cpu": {"xla_disable_hlo_passes": "while-loop-invariant-code-motion"},
    "gpu": {"xla_gpu_enable_triton_gemm": False},
}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class TooLarge(Exception):
    """The compiler found no way into the device's memory; `bytes` is what it says is needed."""

    def __init__(self, message: str, held: Memory):
        found = re.search(r"\(([\d.]+)([KMGT]?)(?:iB)?\)|Used ([\d.]+)([KMGT]?)", message)
        number, unit = (found[1] or found[3], found[2] or found[4]) if found else ("0", "")
        self.bytes = float(number) * _UNITS[unit or ""]
        self.memory = dataclasses.replace(held, temporaries=int(self._rest(message, held)))
        super().__init__(message)

    def _rest(self, message: str, held: Memory) -> float:
        return self.bytes if "temporaries" in message else max(0.0, self.bytes - held.total)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program and its memory on one device."""

    memory: Memory
    program: Any  # jax.stages.Compiled

    @property
    def text(self) -> str:
        return self.program.as_text()


def step(pieces: Setup, shape: Bucket, portable: bool = False) -> Compiled:
    """The training step on rows of (T, A, I). Raises TooLarge."""
    config, mesh = pieces.config, pieces.mesh
    batch = shapes.batch(config, mesh, config.train.batch_size, shape)
    memory = dataclasses.replace(held(pieces), batch=a_device(batch))
    arguments = pieces.abstract_state(), pieces.abstract_frozen(), batch
    with jax.set_mesh(mesh):
        program = _compile(pieces.jit_step().lower(*arguments), memory, _options(pieces, portable))
    return Compiled(_with_temporaries(memory, program), program)


def generation(pieces: Setup, shape: Bucket, portable: bool = False) -> Compiled:
    """Answers to eval.batch_size prompts while the state stays alive. Raises TooLarge.

    Prompts are rows without their answers, so the T of the training rows is enough for them.
    """
    config, mesh, options = pieces.config, pieces.mesh, _options(pieces, portable)
    batch = shapes.batch(config, mesh, config.eval.batch_size, (shape[0], 1, shape[2]))
    memory = dataclasses.replace(held(pieces), batch=a_device(batch))
    params = masks.merge(pieces.abstract_state().trainable, pieces.abstract_frozen())
    # no end symbol: the longest answer to every prompt
    generate = make_generate(pieces.model, Options(config.eval.max_new_tokens))
    with jax.set_mesh(mesh):
        if merge.merges(params, pieces.model.compute.dtype):
            params = _merged(pieces, params, memory, options)
            memory = dataclasses.replace(memory, copy=a_device(params))
        program = _compile(generate.lower(params, batch), memory, options)
    memory = dataclasses.replace(memory, cache=_cache(pieces, batch, params))
    return Compiled(_with_temporaries(memory, program), program)


def needed(pieces: Setup, program: str, shape: Bucket, portable: bool = False) -> int:
    """Bytes on one device of one of PROGRAMS, whether they are there or not."""
    try:
        return {"step": step, "generation": generation}[program](
            pieces, shape, portable
        ).memory.total
    except TooLarge as error:
        return error.memory.total


def _merged(pieces: Setup, params: Any, memory: Memory, options: dict[str, Any] | None) -> Any:
    arguments = params, pieces.config.lora.alpha, merge.fuses()
    made = _compile(merge.merged.lower(*arguments), memory, options)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(lambda p: merge.merged(p, *arguments[1:]), params),
        made.output_shardings,
    )


def _cache(pieces: Setup, batch: Any, params: Any) -> int:
    """Keys and values of prompts and answers, split by rows alone."""
    stacked, new = stack.is_stacked(params["llm"]["layers"]), pieces.config.eval.max_new_tokens
    rows, length = batch.tokens.sharding.shard_shape(batch.tokens.shape)
    slots = length + max(1, new - 1)
    cache = jax.eval_shape(lambda: mllm.empty_cache(pieces.model, rows, slots, stacked))
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((cache.k, cache.v)))


def _options(pieces: Setup, portable: bool) -> dict[str, Any] | None:
    return PORTABLE.get(pieces.mesh.devices.flat[0].platform) if portable else None


def _compile(lowered: Any, memory: Memory, options: dict[str, Any] | None) -> Any:
    try:
        return lowered.compile(compiler_options=options)
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TooLarge(str(error), memory) from error


def _with_temporaries(memory: Memory, program: Any) -> Memory:
    stats = program.memory_analysis()
    made = stats.output_size_in_bytes - stats.alias_size_in_bytes
    rest = stats.temp_size_in_bytes + max(0, made) - memory.cache
    return dataclasses.replace(memory, temporaries=max(0, rest))
