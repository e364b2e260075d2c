"""The rows a run is planned for: measured where the data are there, else assumed; as shapes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.batch import Batch
from pefomed_jax.data import pipeline, prepare, sources
from pefomed_jax.data.buckets import Bucket, round_up
from pefomed_jax.models import mllm
from pefomed_jax.parallel import rules
from pefomed_jax.validate import missing

TEXT = 128  # tokens of text assumed in a row where the data is not there to be measured
PROMPT = 8  # of it before the branches, where there are several
BRANCH, ANSWER = 45, 10  # of a question with its answer (VQA-RAD's, about), and of its answer


@dataclasses.dataclass(frozen=True)
class Rows:
    """(T, A, I), and where they come from."""

    shape: Bucket
    source: str


def rows(config: ConfigDict, needed: list[str] | None = None) -> Rows:
    """The largest bucket of the data, where nothing of them is `needed`; else an assumption."""
    needed = missing(config) if needed is None else needed
    if config.data.source != "phantom" and not needed:
        tokenizer = base_lib.tokenizer(config)
        splits = prepare.prepare(sources.load(config), tokenizer, config)
        counts = [f"{len(getattr(splits, s))} {s}" for s in ("train", "val", "test")]
        bucket = pipeline.make_order(splits.train, tokenizer, config).buckets[-1]
        return Rows(bucket, f"longest bucket of the data ({', '.join(counts)} cases)")
    visual, branches = mllm.visual_tokens(config.model), config.data.branches
    if config.data.buckets:
        length = config.data.buckets[-1]
        return Rows((length, length - visual, 1), "last of data.buckets")
    if branches > 1:
        length = round_up(visual + PROMPT + branches * BRANCH)
        said = f"assumed: {branches} branches of {BRANCH} tokens, {ANSWER} of them targets"
        return Rows((length, round_up(branches * ANSWER), 1), said)
    return Rows((visual + TEXT, TEXT, 1), f"assumed: {TEXT} tokens of text, all of them targets")


def batch(config: ConfigDict, mesh: Mesh, size: int, shape: Bucket) -> Batch:
    """A batch of `size` rows of (T, A, I) as shapes, placed as a run places it."""
    length, answers, images = shape
    sharding = rules.rows(mesh)

    def array(*sides: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((size, *sides), dtype, sharding=sharding)

    text, target = array(length), array(answers)
    return Batch(
        tokens=text,
        positions=text,
        branch=text,
        image_slot=text,
        target_pos=target,
        targets=target,
        weights=array(answers, dtype=jnp.float32),
        **_seen(config, images, array),
    )


def _seen(config: ConfigDict, images: int, array: Any) -> dict[str, Any]:
    vision = config.model.vision
    side, patches = vision.image_size, (vision.image_size // vision.patch_size) ** 2
    if not config.data.cache_features:
        return {"images": array(images, side, side, 3, dtype=jnp.uint8)}
    features = array(images, patches, vision.width, dtype=jnp.dtype(config.model.dtype))
    return {"images": None, "features": features}
