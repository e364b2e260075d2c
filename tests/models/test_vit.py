import jax
import jax.numpy as jnp
import numpy as np
import pytest
import samples

from pefomed_jax.models import mllm, vit


def test_patches_are_a_strided_convolution_in_raster_order(model_config):
    model = mllm.build(model_config)
    embed = vit.PatchEmbed(model.vision_config, model.compute)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    params = samples.params(model)["vision"]["patch_embed"]
    expected = jax.lax.conv_general_dilated(
        images, params["kernel"], (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = expected.reshape(2, 16, -1) + params["bias"]
    ours = embed.apply({"params": params}, images)
    assert np.abs(np.asarray(ours - expected)).max() < 1e-5


def test_images_of_a_batch_do_not_meet(model_config):
    model = mllm.build(model_config)
    params = samples.params(model)
    images = np.random.default_rng(0).integers(0, 256, (2, 2, 16, 16, 3)).astype(np.uint8)

    @jax.jit
    def encode(images):
        return model.apply({"params": params}, images, method="encode")

    black = images.copy()  # a call may still read the array it was given
    black[1, 0] = 0
    before, after = encode(images), encode(black)
    changed = np.abs(np.asarray(after - before)).max(axis=(2, 3))
    assert changed[1, 0] > 0
    assert np.count_nonzero(changed) == 1


def test_positions_of_the_same_grid_and_of_a_constant():
    positions = jnp.asarray(np.random.default_rng(0).normal(size=(17, 3)), jnp.float32)
    same = vit.interpolate_positions(positions, 4, 4)
    assert np.array_equal(same, positions)
    flat = vit.interpolate_positions(jnp.ones((17, 3)), 4, 9)
    assert np.allclose(flat, 1, atol=1e-6)
    with pytest.raises(ValueError, match="17 rows, a grid of 5 needs 26"):
        vit.interpolate_positions(positions, 5, 4)
