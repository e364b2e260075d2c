"""The connector: neighbouring visual tokens joined and projected to the decoder's width.

Letters: B rows, I images a row, P patches, E vision width, D decoder width.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from pefomed_jax.models.layers import Compute


class Connector(nn.Module):
    """Joins `concat` consecutive tokens (raster order) and projects them linearly, with bias.

    As in MiniGPT-v2 (Chen et al., 2023), with concat = 4.
    """

    width: int  # D
    concat: int
    compute: Compute

    def setup(self) -> None:
        self.proj = self.compute.linear(self.width, use_bias=True)

    def __call__(
        self, features: Float[Array, "B I P E"], deterministic: bool = True
    ) -> Float[Array, "B visual {self.width}"]:
        b, i, p, e = features.shape
        if p % self.concat:
            raise ValueError(
                f"{p} patches an image cannot be joined by {self.concat}: change model.concat"
            )
        x = features.reshape(b, i * p // self.concat, self.concat * e)
        return self.proj(x, deterministic)
