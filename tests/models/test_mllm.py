import jax
import jax.numpy as jnp
import numpy as np
import pytest
import samples
from flax.traverse_util import flatten_dict

from pefomed_jax import config
from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options
from pefomed_jax.models import mllm, stack
from pefomed_jax.peft.lora import LoRA


def test_parameter_counts_of_the_7b_preset():
    preset = config.make("mrg", "7b").model
    model = mllm.build(preset)
    tree = jax.eval_shape(lambda key: mllm.init_params(model, key), jax.random.key(0))
    counts = {k: sum(leaf.size for leaf in jax.tree.leaves(v)) for k, v in tree.items()}
    assert counts == {
        "vision": 986_975_872,
        "ln_vision": 2_816,
        "connector": 23_072_768,
        "llm": 6_738_415_616,
    }
    small = ("norm1", "norm2", "q_bias", "v_bias", "cls_token", "pos_embed", "ln_vision")
    for path, leaf in flatten_dict(tree).items():
        kept = path[0] == "connector" or not set(small).isdisjoint(path)
        assert leaf.dtype == ("float32" if kept else "bfloat16"), path
    assert mllm.visual_tokens(preset) == 256


def test_tree_paths_are_those_of_the_architecture(model_config):
    model = mllm.build(model_config)
    tree = jax.eval_shape(lambda key: mllm.init_params(model, key), jax.random.key(0))
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    linear = {"proj": (16, 16), "fc1": (16, 32), "fc2": (32, 16)}
    expected = {
        "vision/patch_embed/kernel": (4, 4, 3, 16),
        "vision/patch_embed/bias": (16,),
        "vision/cls_token": (16,),
        "vision/pos_embed": (17, 16),
        "ln_vision/scale": (16,),
        "ln_vision/bias": (16,),
        "connector/proj/kernel": (64, 32),
        "connector/proj/bias": (32,),
        "llm/embed/embedding": (64, 32),
        "llm/norm/scale": (32,),
        "llm/head/kernel": (32, 64),
    }
    for i in range(2):
        at = f"vision/blocks/{i}"
        expected |= {f"{at}/{n}/{k}": (16,) for n in ("norm1", "norm2") for k in ("scale", "bias")}
        expected |= {f"{at}/attn/qkv/kernel": (16, 48)}
        expected |= {f"{at}/attn/{n}_bias": (16,) for n in "qv"}
        for name, shape in linear.items():
            module = f"{at}/{'attn' if name == 'proj' else 'mlp'}/{name}"
            expected |= {f"{module}/kernel": shape, f"{module}/bias": shape[1:]}
        at = f"llm/layers/{i}"
        expected |= {f"{at}/{n}_norm/scale": (32,) for n in ("attn", "mlp")}
        expected |= {f"{at}/attn/{n}_proj/kernel": (32, 32) for n in "qo"}
        expected |= {f"{at}/attn/{n}_proj/kernel": (32, 16) for n in "kv"}
        expected |= {f"{at}/mlp/{n}_proj/kernel": (32, 48) for n in ("gate", "up")}
        expected |= {f"{at}/mlp/down_proj/kernel": (48, 32)}
    assert shapes == expected


def test_pixels_are_normalised_by_clip(model_config):
    model = mllm.build(model_config)
    tree = samples.params(model)
    images = np.random.default_rng(0).integers(0, 256, (1, 1, 16, 16, 3)).astype(np.uint8)
    pixels = (images / 255 - [0.48145466, 0.4578275, 0.40821073]) / np.asarray(
        [0.26862954, 0.26130258, 0.27577711]
    )
    encode = jax.jit(lambda x: model.apply({"params": tree}, x, method="encode"))
    a, b = encode(images), encode(pixels.astype(np.float32))
    assert a.shape == (1, 1, 16, 16)
    assert np.abs(np.asarray(a - b)).max() < 1e-5


def test_visual_tokens_go_into_their_slots(model_config):
    model = mllm.build(model_config)
    tree = samples.params(model)
    tokens = jnp.asarray([[7, 0, 0, 9]], jnp.int32)
    slots = jnp.asarray([[-1, 2, 0, -1]], jnp.int32)
    visual = jnp.arange(4.0)[None, :, None] * jnp.ones((1, 4, 32)) + 100
    x = model.apply({"params": tree}, tokens, slots, visual, method="embed")[0]
    table = tree["llm"]["embed"]["embedding"]
    assert np.array_equal(x[0], table[7])
    assert np.array_equal(x[3], table[9])
    assert np.array_equal(x[1:3, 0], [102.0, 100.0])


def run(model, tree, data, method=None):
    return jax.jit(lambda p, d: model.apply({"params": p}, d, method=method))(tree, data)


def test_features_stand_for_images(model_config):
    model = mllm.build(model_config)
    tree = samples.params(model)
    data = samples.batch(model_config, samples.rows(model_config, [[(3, 2)], [(2, 4)]]), 2)
    features = run(model, tree, data.images, "encode")
    assert features.shape == (2, 2, 16, 16)
    again = run(model, tree, data.replace(images=None, features=features))
    assert np.abs(np.asarray(run(model, tree, data) - again)).max() < 1e-6


def test_target_logits_are_those_of_their_positions(model_config):
    model = mllm.build(model_config)
    tree = samples.params(model)
    data = samples.batch(model_config, samples.rows(model_config, [[(3, 2)], [(2, 4)]]))

    def everywhere(model, data):
        x = model.embed(data.tokens, data.image_slot, model.connect(model.encode(data.images)))
        return model.logits(model.hidden(x, data.positions, data.branch)[0])

    logits = np.asarray(run(model, tree, data, everywhere))
    chosen = np.take_along_axis(logits, data.target_pos[..., None], 1)
    assert np.abs(chosen - run(model, tree, data)).max() < 1e-5


def test_bfloat16_gives_float32_logits_near_those_of_float32(model_config):
    data = samples.batch(model_config, samples.rows(model_config, [[(3, 2)]]))
    exact = mllm.build(model_config)
    tree = samples.params(exact)
    wide = np.asarray(run(exact, tree, data))
    model_config.dtype = "bfloat16"
    narrow = run(mllm.build(model_config), tree, data)
    assert narrow.dtype == jnp.float32
    assert 0 < np.abs(np.asarray(narrow) - wide).max() < 0.1 * np.abs(wide).max()


@pytest.fixture(scope="module")
def unrolled():
    """(batch, adapter, key, parameters, loss, gradients) of the plain form, dropout on."""
    config = samples.small()
    data = samples.batch(config, samples.rows(config, [[(3, 2), (2, 2)], [(2, 4)]]))
    adapter, key = LoRA(alpha=2.0, dropout=0.3), jax.random.key(5)
    model = mllm.build(config, adapter)
    tree = samples.params(model, targets="llm/.*q_proj$|vision/.*fc1$")
    return data, adapter, key, tree, *samples.value_and_grad(model, tree, data, key)


@pytest.mark.parametrize(("scan", "remat"), [(True, "none"), (False, "full"), (True, "dots")])
def test_scan_and_remat_change_neither_loss_nor_gradient(model_config, unrolled, scan, remat):
    data, adapter, key, tree, value, grads = unrolled
    model_config.update(scan=scan, remat=remat)
    form = stack.stack(tree) if scan else tree
    other, other_grads = samples.value_and_grad(mllm.build(model_config, adapter), form, data, key)
    assert abs(other - value) < 1e-6 * value
    distance = samples.apart(stack.unstack(other_grads), grads)
    assert max(distance.values()) < 2e-5, distance


def test_every_layer_and_key_draws_masks_of_its_own(model_config):
    data = samples.batch(model_config, samples.rows(model_config, [[(3, 2)]]))
    tree = samples.params(mllm.build(model_config))

    def masks(key):
        drawn = []

        def spy(module, x, y, deterministic):
            assert not deterministic
            drawn.append(jax.random.key_data(module.make_rng("dropout")))
            return y

        model = mllm.build(model_config, spy)
        model.apply({"params": tree}, data, deterministic=False, rngs={"dropout": key})
        return drawn

    # by block 4 layers of the tower, 7 of the decoder; connector and head
    drawn = [np.asarray(x).tobytes() for key in (0, 1) for x in jax.jit(masks)(jax.random.key(key))]
    assert len(set(drawn)) == len(drawn) == 2 * (2 * 4 + 1 + 2 * 7 + 1)


def test_a_row_of_one_image_beside_rows_of_two(model_config):
    """An image that no slot names, as padding is, changes nothing; nor does one at the front."""
    model = mllm.build(model_config)
    params = samples.params(model)
    one = samples.batch(model_config, samples.rows(model_config, [[(3, 2)], [(4, 1)]]))
    spare = np.random.default_rng(1).integers(0, 256, one.images.shape, np.uint8)
    padded = one.replace(images=np.concatenate([one.images, spare], axis=1))
    expected = run(model, params, one)
    np.testing.assert_allclose(run(model, params, padded), expected, rtol=1e-5, atol=1e-6)
    n = mllm.visual_tokens(model_config)
    second = np.where(one.image_slot >= 0, one.image_slot + n, -1).astype(np.int32)
    moved = one.replace(
        image_slot=second, images=np.concatenate([spare, one.images], axis=1)
    ).validate()
    np.testing.assert_allclose(run(model, params, moved), expected, rtol=1e-5, atol=1e-6)


def test_rows_of_text_alone_need_no_image(model_config):
    model = mllm.build(model_config)
    params = {"params": samples.params(model)}
    rows = samples.rows(model_config, [[(3, 2)], [(4, 1)]])
    some = samples.batch(model_config, rows)
    blind = some.replace(image_slot=np.full_like(some.image_slot, -1))
    bare = blind.replace(images=some.images[:, :0]).validate()
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(apply(params, bare), apply(params, blind), rtol=1e-5, atol=1e-6)
    assert np.abs(apply(params, bare) - apply(params, some)).max() > 1e-3
    generate = make_generate(model, Options(4))
    tokens = [np.asarray(generate(params["params"], b).tokens) for b in (bare, blind)]
    np.testing.assert_array_equal(*tokens)
