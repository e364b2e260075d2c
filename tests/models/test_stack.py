import jax
import jax.numpy as jnp
import numpy as np
import pytest
import samples

from pefomed_jax.models import mllm, stack


def trees_equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b))


@pytest.mark.parametrize("library", [np, jnp])
def test_there_and_back(model_config, library):
    tree = jax.tree.map(library.asarray, samples.params(mllm.build(model_config)))
    stacked = stack.stack(tree)
    kernel = stacked["llm"]["layers"]["attn"]["q_proj"]["kernel"]
    assert isinstance(kernel, type(tree["ln_vision"]["scale"]))
    assert np.array_equal(kernel[1], tree["llm"]["layers"]["1"]["attn"]["q_proj"]["kernel"])
    assert stacked["vision"]["blocks"]["norm1"]["scale"].shape == (2, 16)
    assert trees_equal(stack.unstack(stacked), tree)
    assert stack.stack(stacked) == stacked
    assert stack.unstack(tree) == tree


def test_eleven_layers_keep_their_order():
    layers = {str(i): {"scale": np.full(2, i)} for i in range(11)}
    stacked = stack.stack({"llm": {"layers": dict(sorted(layers.items()))}})
    assert np.array_equal(stacked["llm"]["layers"]["scale"][:, 0], np.arange(11))


def test_abstract_and_partial_trees(model_config):
    tree = abstract(model_config)
    stacked = stack.stack(tree)
    assert stacked["llm"]["layers"]["mlp"]["up_proj"]["kernel"].shape == (2, 32, 48)
    assert jax.tree.all(jax.tree.map(lambda a, b: a == b, stack.unstack(stacked), dict(tree)))
    only = {"connector": tree["connector"]}
    assert stack.stack(only) == only


def test_layers_with_other_leaves_cannot_be_stacked(model_config):
    tree = samples.params(mllm.build(model_config))
    tree["llm"]["layers"]["1"]["attn"]["q_proj"]["lora_a"] = jnp.zeros((32, 2))
    with pytest.raises(ValueError, match=r"llm/layers: layer 1 has other .*model\.scan=False"):
        stack.stack(tree)


def test_init_has_the_same_values_in_either_form(model_config):
    def init(key):
        return {"attn": {"kernel": jax.random.normal(key, (2, 3))}, "scale": jnp.ones(3)}

    plain = stack.init_layers(init, 3, jax.random.key(3), stacked=False)
    stacked = stack.init_layers(init, 3, jax.random.key(3), stacked=True)
    assert trees_equal(stack.stack({"llm": {"layers": plain}}), {"llm": {"layers": stacked}})
    kernels = stacked["attn"]["kernel"]
    assert not np.array_equal(kernels[0], kernels[1])


def test_a_model_is_made_in_the_form_of_its_config(model_config):
    plain = abstract(model_config)
    model_config.scan = True
    assert jax.tree.all(
        jax.tree.map(lambda a, b: a == b, stack.stack(plain), abstract(model_config))
    )


def abstract(config):
    model = mllm.build(config)
    return jax.eval_shape(lambda key: mllm.init_params(model, key), jax.random.key(0))


def test_unknown_remat_policy_is_named(model_config):
    model_config.remat = "some"
    with pytest.raises(ValueError, match="'some' is not one of none, dots, full"):
        samples.params(mllm.build(model_config))
