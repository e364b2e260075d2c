import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pefomed_jax.models.connector import Connector
from pefomed_jax.models.layers import Compute


def test_joins_consecutive_tokens_of_each_image():
    connector = Connector(5, 4, Compute())
    features = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8, 6)), jnp.float32)
    params = connector.init(jax.random.key(0), features)["params"]
    params["proj"]["bias"] = jnp.arange(5.0)
    visual = connector.apply({"params": params}, features)
    assert visual.shape == (2, 3 * 2, 5)
    joined = np.concatenate(np.asarray(features[1, 2, 4:8]))  # last four patches of the third image
    expected = joined @ params["proj"]["kernel"] + np.arange(5.0)
    assert np.abs(np.asarray(visual[1, 5]) - expected).max() < 1e-6


def test_patches_that_cannot_be_joined_are_an_error():
    with pytest.raises(ValueError, match=r"9 patches .* by 4: change model\.concat"):
        Connector(5, 4, Compute()).init(jax.random.key(0), jnp.zeros((1, 1, 9, 6)))
