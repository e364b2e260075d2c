"""The whole model: vision tower → connector → splice → decoder, pure and without files or meshes.

Letters: B rows, T tokens, I images a row, P patches, E vision width, D decoder width, A answers.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from pefomed_jax.batch import Batch
from pefomed_jax.models.cache import Cache
from pefomed_jax.models.connector import Connector
from pefomed_jax.models.layers import Adapter, Compute, LayerNorm, shard_rows, wide
from pefomed_jax.models.llama import Llama, LlamaConfig
from pefomed_jax.models.vit import VisionConfig, VisionTower

# of CLIP's image preprocessing, for pixels in 0..1
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class MLLM(nn.Module):
    """A frozen or trained pair of towers with a connector; `adapter` meets every linear layer."""

    vision_config: VisionConfig
    llm_config: LlamaConfig
    concat: int
    compute: Compute

    def setup(self) -> None:
        # the connector is trained: at least float32 over a bf16 base
        fine = dataclasses.replace(self.compute, param_dtype=wide(self.compute.param_dtype))
        self.vision = VisionTower(self.vision_config, self.compute)
        self.ln_vision = LayerNorm(1e-5, self.compute.small_dtype)
        self.connector = Connector(self.llm_config.width, self.concat, fine)
        self.llm = Llama(self.llm_config, self.compute)

    def encode(
        self,
        images: UInt8[Array, "B I S S 3"] | Float[Array, "B I S S 3"],
        deterministic: bool = True,
    ) -> Float[Array, "B I P E"]:
        """Patch features of the images, after `ln_vision`, without the class token.

        uint8 pixels are scaled to 0..1 and normalised by CLIP's mean and deviation; floats are
        taken as normalised already.
        """
        b, i, s = images.shape[:3]
        x = normalise(images, self.compute.dtype).reshape(b * i, s, s, 3)
        x = self.ln_vision(self.vision(x, deterministic)[:, 1:])
        return x.reshape(b, i, *x.shape[1:])

    def see(self, batch: Batch, deterministic: bool = True) -> Float[Array, "B visual D"]:
        """Visual tokens of all images of a row, or of their features; none where I is 0."""
        pixels = batch.images if batch.features is None else batch.features
        if pixels.shape[1] == 0:
            return jnp.zeros((len(pixels), 0, self.llm_config.width), self.compute.dtype)
        encoded = batch.features is not None
        features = pixels if encoded else self.encode(pixels, deterministic)
        return self.connect(features, deterministic)

    def connect(
        self, features: Float[Array, "B I P E"], deterministic: bool = True
    ) -> Float[Array, "B visual D"]:
        """Visual tokens of all images of a row, in order."""
        return self.connector(features, deterministic)

    def embed(
        self,
        tokens: Int[Array, "B T"],
        image_slot: Int[Array, "B T"],
        visual: Float[Array, "B visual D"],
    ) -> Float[Array, "B T D"]:
        """Token embeddings, with visual token image_slot in its place where image_slot ≥ 0."""
        text = shard_rows(self.llm.embed(tokens))
        if visual.shape[1] == 0:  # cases of text alone
            return text
        slots = jnp.maximum(image_slot, 0)[:, :, None]
        visual = shard_rows(visual)  # before it is spread over T slots
        spliced = jnp.take_along_axis(visual, slots, axis=1).astype(text.dtype)
        return shard_rows(jnp.where(image_slot[:, :, None] >= 0, spliced, text))

    def hidden(
        self,
        embeddings: Float[Array, "B T D"],
        positions: Int[Array, "B T"],
        branch: Int[Array, "B T"],
        cache: Cache | None = None,
        deterministic: bool = True,
        select: Int[Array, "B A"] | None = None,
    ) -> tuple[Float[Array, "B A D"], Cache | None]:
        """Hidden states after the final norm, of all tokens or of those that `select` names.

        With a cache, the T tokens are added to it.
        """
        return self.llm(embeddings, positions, branch, cache, deterministic, select)

    def logits(
        self, hidden: Float[Array, "*rows D"], deterministic: bool = True
    ) -> Float[Array, "*rows V"]:
        """Scores of the vocabulary, in at least float32."""
        return self.llm.logits(hidden, deterministic)

    def target_logits(self, batch: Batch, deterministic: bool = True) -> Float[Array, "B A V"]:
        """Scores at `batch.target_pos` only: the full [B, T, V] never exists."""
        batch = jax.tree.map(jnp.asarray, batch)
        x = self.embed(batch.tokens, batch.image_slot, self.see(batch, deterministic))
        where = (batch.positions, batch.branch)
        x, _ = self.hidden(x, *where, None, deterministic, batch.target_pos)
        return self.logits(shard_rows(x), deterministic)

    def __call__(self, batch: Batch, deterministic: bool = True) -> Float[Array, "B A V"]:
        return self.target_logits(batch, deterministic)


def normalise(
    images: UInt8[Array, "*rows 3"] | Float[Array, "*rows 3"], dtype: Any
) -> Float[Array, "*rows 3"]:
    """uint8 pixels → (x / 255 - MEAN) / STD, computed in at least float32; floats are only cast."""
    if images.dtype != jnp.uint8:
        return images.astype(dtype)
    x = images.astype(wide(dtype)) / 255
    return ((x - jnp.asarray(MEAN, x.dtype)) / jnp.asarray(STD, x.dtype)).astype(dtype)


def build(
    model_config: Any,
    adapter: Adapter | None = None,
    implementation: str = "plain",
    causal: bool = False,
) -> MLLM:
    """The model of `config.model`; the last two are as in `attention.choose` and `attend`."""
    compute = Compute(
        dtype=jnp.dtype(model_config.dtype),
        param_dtype=jnp.dtype(model_config.base_dtype),
        implementation=implementation,
        causal=causal,
        remat=model_config.remat,
        scan=model_config.scan,
        adapter=adapter,
    )
    vision = VisionConfig(**dict(model_config.vision))
    return MLLM(vision, LlamaConfig(**dict(model_config.llm)), model_config.concat, compute)


@functools.partial(jax.jit, static_argnums=0)
def init_params(model: MLLM, key: Array) -> dict[str, Any]:
    """A fresh base: normal(0.02) kernels, unit scales, zero biases; no adapter leaves.

    Under `jax.eval_shape` nothing is allocated. Values do not depend on the form (`scan`).
    """
    size, tokens = model.vision_config.image_size, jnp.zeros((1, 2), jnp.int32)
    batch = Batch(
        tokens=tokens,
        positions=tokens,
        branch=tokens,
        image_slot=tokens,
        target_pos=tokens,
        targets=tokens,
        weights=jnp.zeros((1, 2)),
        images=jnp.zeros((1, 1, size, size, 3), jnp.uint8),
    )
    return model.init(key, batch)["params"]


def visual_tokens(model_config: Any) -> int:
    """Visual tokens the connector makes of one image."""
    patches = (model_config.vision.image_size // model_config.vision.patch_size) ** 2
    return patches // model_config.concat


def empty_cache(model: MLLM, rows: int, slots: int, stacked: bool = False) -> Cache:
    """An empty cache for `hidden`; stacked when the parameters are."""
    c = model.llm_config
    dtype = model.compute.dtype
    return Cache.empty(c.depth, rows, slots, c.kv_heads, c.head_size, dtype, stacked)
