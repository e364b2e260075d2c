"""The tables of names: nothing twice, nothing forgotten, and every turn can be undone."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from pefomed_jax import config as config_lib
from pefomed_jax.models import mllm
from pefomed_jax.weights import names
from weights import foreign

DEPTHS = (1, 3, 11, 40)
MODULES = [f"{part}/{kind}_proj" for part, kinds in
           (("attn", "qkvo"), ("mlp", ("gate", "up", "down"))) for kind in kinds]  # fmt: skip
PATTERNS = {"same": (5, 3), "linear": (5, 3), "conv": (5, 3, 2, 4), "row": (1, 1, 5),
            "table": (1, 4, 5)}  # fmt: skip


def assert_bijective(entries):
    for side in ("path", "foreign"):
        found = [getattr(entry, side) for entry in entries]
        assert len(set(found)) == len(found), side
    assert {entry.turn for entry in entries} <= names.TURNS.keys()


@pytest.mark.parametrize("depth", DEPTHS)
def test_no_path_and_no_foreign_name_twice(depth):
    for tied in (True, False):
        assert_bijective(names.llama(depth, tied))
        assert_bijective(names.official(depth + 1, depth, tied))
    assert_bijective(names.vision(depth))
    modules = [f"llm/layers/{i}/{m}" for i in range(depth) for m in MODULES] + ["llm/head"]
    for spelling in (names.PEFT, names.OFFICIAL):
        entries = names.lora(modules, spelling)
        assert len(entries) == 2 * len(modules)
        assert_bijective([*entries, *names.official(depth, depth, False)])


@pytest.mark.parametrize("scan", [True, False])
def test_native_paths_are_not_there_twice(scan):
    abstract = flatten_dict(foreign.abstract(foreign.config(model__scan=scan)), sep="/")
    entries = names.native(abstract)
    assert_bijective(entries)
    assert all(entry.path == entry.foreign for entry in entries)
    assert len(entries) == len(
        flatten_dict(foreign.abstract(foreign.config(model__scan=False)), sep="/")
    )


@pytest.mark.parametrize("dtype", foreign.DTYPES)
@pytest.mark.parametrize("turn", PATTERNS)
def test_a_turn_and_its_inverse_give_the_same_bytes(turn, dtype):
    theirs = foreign.draw({"x": PATTERNS[turn]}, dtype)["x"]
    forth, back = names.TURNS[turn]
    ours = forth(theirs)
    assert np.shares_memory(ours, theirs)  # a view: big tensors are not copied to be turned
    assert (back(ours).dtype, back(ours).shape) == (theirs.dtype, theirs.shape)
    assert np.ascontiguousarray(back(ours)).tobytes() == theirs.tobytes()
    assert forth(back(ours)).tobytes() == ours.tobytes()


def test_turns_as_torch_and_we_mean_them():
    x = np.arange(120).reshape(5, 3, 2, 4)  # [out, in, rows, columns]
    conv = names.TURNS["conv"].ours(x)
    assert conv.shape == (2, 4, 3, 5)
    assert conv[1, 3, 2, 4] == x[4, 2, 1, 3]
    assert conv[0, 3, 1, 2] == x[2, 1, 0, 3]
    linear = names.TURNS["linear"].ours(x[..., 0, 0])
    assert linear.shape == (3, 5)
    assert linear[2, 4] == x[4, 2, 0, 0]


@pytest.mark.parametrize("tied", [True, False])
def test_the_table_covers_7b_with_its_shapes(tied):
    model = config_lib.make("mrg", "7b").model
    model.llm.tie_embeddings = tied
    model.scan = False
    abstract = jax.eval_shape(lambda k: mllm.init_params(mllm.build(model), k), jax.random.key(0))
    leaves = flatten_dict(abstract, sep="/")
    before = foreign.OFFICIAL
    shapes = {before + key: shape for key, shape in foreign.llama_shapes(model.llm).items()}
    shapes |= foreign.tower_shapes(model.vision, "visual_encoder.")
    shapes |= foreign.norm_shapes(model) | foreign.connector_shapes(model)
    table = names.official(39, 32, tied)
    assert {entry.path for entry in table} == leaves.keys()
    found = {
        e.foreign: names.TURNS[e.turn].theirs(np.broadcast_to(0, leaves[e.path].shape)).shape
        for e in table
    }
    assert found == shapes
    assert found["visual_encoder.blocks.38.attn.qkv.weight"] == (4224, 1408)
    assert found["llama_proj.weight"] == (4096, 5632)


def test_an_official_checkpoint_has_130_tensors():
    modules = [f"llm/layers/{i}/attn/{m}_proj" for i in range(32) for m in "qv"]
    table = [*names.lora(modules, names.OFFICIAL), *map(names.Entry._make, names.CONNECTOR)]
    found = {entry.foreign for entry in table}
    before = "llama_model.base_model.model.model.layers."
    assert len(table) == len(found) == 130
    assert f"{before}31.self_attn.v_proj.lora_B.default.weight" in found
    assert f"{before}0.self_attn.q_proj.lora_A.default.weight" in found


@pytest.mark.parametrize("module", ["vision/blocks/0/attn/qkv", "connector/proj", "llm/norm"])
def test_lora_outside_the_decoder_has_no_name(module):
    with pytest.raises(ValueError, match=f"'{module}' is not a linear layer of the decoder"):
        names.lora([module])
