"""`--dry_run`: what would train, what is still needed, how much memory; nothing is allocated.

Memory figures are the compiler's, of the real training step and the real generation on abstract
arrays, so they name the compiler and the target they were made for.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.batch import Batch
from pefomed_jax.data import pipeline, prepare, sources
from pefomed_jax.data.buckets import Bucket
from pefomed_jax.decoding import merge
from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options
from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.parallel import rules
from pefomed_jax.peft import masks
from pefomed_jax.training import setup, supplied
from pefomed_jax.validate import missing, validate

GIB = 2**30
TEXT = 128  # tokens of text assumed in a row where the data is not there to be measured
# XLA's CPU pipeline hoists float32 copies of all stacked bf16 weights out of the layer loop, which
# no accelerator does: 13.5 GB of temporaries that are none.
CPU_OPTIONS = {"xla_disable_hlo_passes": "while-loop-invariant-code-motion"}


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    frozen: int
    state: int
    batch: int
    temporaries: int
    copy: int = 0  # the merged base that decoding makes where all is float32 or wider

    @property
    def total(self) -> int:
        return self.frozen + self.state + self.batch + self.temporaries + self.copy


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
    shape, measured = row_shape(config, supplied.unreadable(needed) + wrong)
    memory = step_memory(pieces, *shape), evaluation_memory(pieces, shape[0], shape[2])
    _print_memory(config, mesh, memory, shape, measured, note)
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


def row_shape(config: ConfigDict, needed: list[str]) -> tuple[Bucket, str]:
    """((T, A, I), where they come from): the largest bucket of the data, or an assumption."""
    if config.data.source != "phantom" and not needed:
        tokenizer = base_lib.tokenizer(config)
        source = sources.load(config)
        splits = prepare.prepare(source, tokenizer, config)
        counts = [f"{len(getattr(splits, s))} {s}" for s in ("train", "val", "test")]
        bucket = pipeline.make_order(splits.train, tokenizer, config).buckets[-1]
        return bucket, f"longest bucket of the data ({', '.join(counts)} cases)"
    if config.data.buckets:
        length = config.data.buckets[-1]
        return (length, length - mllm.visual_tokens(config.model), 1), "last of data.buckets"
    length = mllm.visual_tokens(config.model) + TEXT
    return (length, TEXT, 1), f"assumed: {TEXT} tokens of text, all of them targets"


def abstract_batch(config: ConfigDict, length: int, answers: int, images: int = 1) -> Batch:
    """A training batch as shapes: config.train.batch_size rows of `length` tokens."""
    return _shapes(config, config.train.batch_size, length, answers, images)


def _shapes(config: ConfigDict, rows: int, length: int, answers: int, images: int) -> Batch:
    size = config.model.vision.image_size
    text = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    target = jax.ShapeDtypeStruct((rows, answers), jnp.int32)
    return Batch(
        tokens=text,
        positions=text,
        branch=text,
        image_slot=text,
        target_pos=target,
        targets=target,
        weights=jax.ShapeDtypeStruct((rows, answers), jnp.float32),
        images=jax.ShapeDtypeStruct((rows, images, size, size, 3), jnp.uint8),
    )


def step_memory(pieces: setup.Setup, length: int, answers: int, images: int = 1) -> Memory:
    """What the compiled training step takes on each device of the mesh, for rows of (T, A, I)."""
    state, frozen = pieces.abstract_state(), pieces.abstract_frozen()
    batch = abstract_batch(pieces.config, length, answers, images)
    with jax.set_mesh(pieces.mesh):
        stats = _compile(pieces, pieces.jit_step().lower(state, frozen, batch)).memory_analysis()
    held = _bytes_a_device(frozen), _bytes_a_device(state)
    return Memory(*held, stats.argument_size_in_bytes - sum(held), stats.temp_size_in_bytes)


def evaluation_memory(pieces: setup.Setup, length: int, images: int = 1) -> Memory:
    """What answering eval.batch_size prompts of `length` tokens takes while the state stays alive.

    Prompts are rows without their answers, so the T of the training rows is enough for them.
    """
    config, state, frozen = pieces.config, pieces.abstract_state(), pieces.abstract_frozen()
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rules.rows(pieces.mesh)),
        _shapes(config, config.eval.batch_size, length, 1, images),
    )
    params, copy = masks.merge(state.trainable, frozen), 0
    with jax.set_mesh(pieces.mesh):
        if merge.merges(params, pieces.model.compute.dtype):
            arguments = params, config.lora.alpha, merge.fuses()
            made = _compile(pieces, merge.merged.lower(*arguments))
            params = jax.tree.map(
                lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
                jax.eval_shape(lambda p: merge.merged(p, *arguments[1:]), params),
                made.output_shardings,
            )
            copy = _bytes_a_device(params)
        # no end symbol: the longest answer to every prompt
        generate = make_generate(pieces.model, Options(config.eval.max_new_tokens))
        stats = _compile(pieces, generate.lower(params, batch)).memory_analysis()
    held = _bytes_a_device(frozen), _bytes_a_device(state)
    return Memory(*held, _bytes_a_device(batch), stats.temp_size_in_bytes, copy)


def _compile(pieces: setup.Setup, lowered: Any) -> Any:
    on_cpu = pieces.mesh.devices.flat[0].platform == "cpu"
    return lowered.compile(compiler_options=CPU_OPTIONS if on_cpu else None)


def _bytes_a_device(tree: Any) -> int:
    """Bytes of the shards that one device holds."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
        count = 1
        for size in shape:
            count *= size
        total += count * leaf.dtype.itemsize
    return total


def _print_memory(
    config: ConfigDict,
    mesh: Mesh,
    memory: tuple[Memory, Memory],
    shape: Bucket,
    measured: str,
    note: str,
) -> None:
    device = mesh.devices.flat[0]
    sizes = ", ".join(f"{axis}={mesh.shape[axis]}" for axis in mesh_lib.AXES)
    if note:
        print(f"note: {note}")
    print(
        f"memory on each device of a training step, batch {config.train.batch_size}, "
        f"T={shape[0]}, A={shape[1]}, I={shape[2]} ({measured}), remat={config.model.remat}, and "
        f"of the evaluation, batch {config.eval.batch_size}, prompts of at most {shape[0]} and "
        f"answers of {config.eval.max_new_tokens} tokens:"
    )
    print(f"  {'':<12}{'step':>8}{'evaluation':>18}")
    for name in (*(field.name for field in dataclasses.fields(Memory)), "total"):
        sizes_of = (getattr(each, name) / GIB for each in memory)
        print(f"  {name:<12}" + "".join(f"{size:8.2f} GiB  " for size in sizes_of).rstrip())
    print(f"  {'needed':<12}{max(each.total for each in memory) / GIB:8.2f} GiB, the larger one")
    print(
        f"compiler: XLA of jax {jax.__version__}, target {device.platform} ({device.device_kind}), "
        f"mesh {sizes}; other targets fuse otherwise, so take it as an estimate there"
    )
