"""The vision tower: a pre-norm ViT as in EVA-CLIP (Sun et al., 2023), without its final norm.

Letters: B images, S pixels a side, p patch size, T = 1 + P tokens (class token first), E width.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pefomed_jax.models.attention import attend_all
from pefomed_jax.models.layers import INIT, Compute, LayerNorm, shard_rows, split_heads
from pefomed_jax.models.stack import Tree, apply_layers, init_layers

NORM_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """Sizes of the tower; image_size and patch_size in pixels."""

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_dim: int

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


class Attention(nn.Module):
    """Self-attention from one fused product; queries and values have a bias, keys have none."""

    config: VisionConfig
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T E"], deterministic: bool) -> Float[Array, "B T E"]:
        e, c = x.shape[-1], self.compute
        q_bias = self.param("q_bias", nn.initializers.zeros, (e,), c.small_dtype)
        v_bias = self.param("v_bias", nn.initializers.zeros, (e,), c.small_dtype)
        q, k, v = jnp.split(c.linear(3 * e, "qkv")(x, deterministic), 3, axis=-1)
        q, v = q + q_bias.astype(q.dtype), v + v_bias.astype(v.dtype)
        q, k, v = (split_heads(y, self.config.heads) for y in (q, k, v))
        y = attend_all(q, k, v, c.implementation).reshape(x.shape)
        return c.linear(e, "proj", use_bias=True)(y, deterministic)


class MLP(nn.Module):
    """Two linear layers with the exact (erf) GELU between them."""

    config: VisionConfig
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B T E"], deterministic: bool) -> Float[Array, "B T E"]:
        c = self.compute
        y = c.linear(self.config.mlp_dim, "fc1", use_bias=True)(x, deterministic)
        y = jax.nn.gelu(y, approximate=False)
        return c.linear(x.shape[-1], "fc2", use_bias=True)(y, deterministic)


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x))."""

    config: VisionConfig
    compute: Compute

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T E"], deterministic: bool = True
    ) -> Float[Array, "B T E"]:
        dtype = self.compute.small_dtype
        y = LayerNorm(NORM_EPS, dtype, name="norm1")(x)
        x = x + Attention(self.config, self.compute, name="attn")(y, deterministic)
        y = LayerNorm(NORM_EPS, dtype, name="norm2")(x)
        return x + MLP(self.config, self.compute, name="mlp")(y, deterministic)


class PatchEmbed(nn.Module):
    """A convolution with stride p = its kernel size, as one product over cut patches."""

    config: VisionConfig
    compute: Compute

    @nn.compact
    def __call__(self, images: Float[Array, "B S S 3"]) -> Float[Array, "B P E"]:
        p, g, e = self.config.patch_size, self.config.grid, self.config.width
        dtype = self.compute.dtype
        kernel = self.param("kernel", INIT, (p, p, 3, e), self.compute.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (e,), self.compute.param_dtype)
        x = images.astype(dtype).reshape(-1, g, p, g, p, 3).swapaxes(2, 3)
        x = x.reshape(-1, g * g, p * p * 3)
        return x @ kernel.astype(dtype).reshape(-1, e) + bias.astype(dtype)


class VisionTower(nn.Module):
    """Normalised images → token states: the class token, then the patches in raster order."""

    config: VisionConfig
    compute: Compute

    def setup(self) -> None:
        c, dtype = self.config, self.compute.small_dtype
        self.patch_embed = PatchEmbed(c, self.compute)
        self.cls_token = self.param("cls_token", INIT, (c.width,), dtype)
        self.pos_embed = self.param("pos_embed", INIT, (1 + c.grid**2, c.width), dtype)
        # get_variable: `param` would refuse layers that an adapter has given leaves of its own
        self.blocks = (
            self.get_variable("params", "blocks")
            if self.has_variable("params", "blocks")
            else self.param("blocks", self._init_blocks)
        )

    def _init_blocks(self, key: Array) -> dict:
        x = jnp.zeros((1, 2, self.config.width), self.compute.dtype)
        block = Block(self.config, self.compute, parent=None)
        return init_layers(
            lambda k: block.init(k, x)["params"], self.config.depth, key, self.compute.scan
        )

    def __call__(
        self, images: Float[Array, "B S S 3"], deterministic: bool = True
    ) -> Float[Array, "B T E"]:
        patches = self.patch_embed(images)
        dtype = patches.dtype
        first = jnp.broadcast_to(self.cls_token.astype(dtype), (len(images), 1, self.config.width))
        x = jnp.concatenate([first, patches], axis=1) + self.pos_embed.astype(dtype)
        random = not deterministic and self.has_rng("dropout")
        key = self.make_rng("dropout") if random else None
        block = Block(self.config, self.compute, parent=None)

        def layer(params: Tree, x: Array, state: None, i: int | Array) -> tuple[Array, None]:
            rngs = {} if key is None else {"dropout": jax.random.fold_in(key, i)}
            return block.apply({"params": params}, shard_rows(x), deterministic, rngs=rngs), state

        return apply_layers(layer, self.blocks, x, remat=self.compute.remat)[0]


def interpolate_positions(
    pos_embed: Float[Array, "T E"], grid_from: int, grid_to: int
) -> Float[Array, "U E"]:
    """Positions [1 + grid_from², E] for another grid: bicubic, a = -0.75, pixel centres at halves.

    The class token's position stays. Equal to torch's `interpolate(mode='bicubic',
    align_corners=False)`; `jax.image.resize` differs (a = -0.5).

    Raises:
      ValueError: pos_embed has not 1 + grid_from² rows.
    """
    if len(pos_embed) != 1 + grid_from**2:
        raise ValueError(
            f"pos_embed has {len(pos_embed)} rows, a grid of {grid_from} needs {1 + grid_from**2}"
        )
    weights = jnp.asarray(_bicubic(grid_from, grid_to), pos_embed.dtype)
    grid = pos_embed[1:].reshape(grid_from, grid_from, -1)
    with jax.default_matmul_precision("highest"):
        grid = jnp.einsum("yi,xj,ije->yxe", weights, weights, grid)
    return jnp.concatenate([pos_embed[:1], grid.reshape(grid_to**2, -1)])


def _bicubic(size: int, new_size: int, a: float = -0.75) -> np.ndarray:
    """Weights [new_size, size] of Keys' cubic convolution, with the border repeated outwards."""
    centre = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    weights = np.zeros((new_size, size))
    for offset in range(-1, 3):
        tap = np.floor(centre).astype(int) + offset
        d = np.abs(centre - tap)
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * (d**3 - 5 * d**2 + 8 * d - 4)
        np.add.at(
            weights, (np.arange(new_size), tap.clip(0, size - 1)), np.where(d <= 1, near, far)
        )
    return weights
