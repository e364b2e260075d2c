"""Weights in memory as a config names them, and runs on a native folder."""

import jax
import numpy as np
import pytest
import runs
from flax.traverse_util import flatten_dict

from pefomed_jax.errors import UserError
from pefomed_jax.models import stack
from pefomed_jax.planning import dry_run
from pefomed_jax.training import convert, loop, restore
from pefomed_jax.weights import bundle


def leaves(tree):
    flat = flatten_dict(stack.unstack(tree), sep="/")
    return {path: np.asarray(x) for path, x in flat.items()}


def assert_same(have, want):
    assert have.keys() == want.keys()
    for path, value in want.items():
        np.testing.assert_array_equal(have[path], value, err_msg=path)


@pytest.fixture(scope="module")
def trained(trained_run):
    return restore.restore(bundle.config(trained_run))


@pytest.fixture(scope="module")
def native(trained_run, tmp_path_factory):
    """The run, adapter and all, as a folder for weights.base."""
    folder = tmp_path_factory.mktemp("native") / "base"
    convert.convert(bundle.config(trained_run), "native", folder)
    return folder


def on_native(pictures, native, **fields):
    """A run on the folder, whose config says nothing of sizes."""
    sized = {k: v for k, v in runs.LEARNS.items() if not k.startswith("model__")}
    return runs.config(pictures, **sized | {"weights__base": str(native)} | fields)


def test_a_run_comes_back_with_its_best_checkpoint(trained, trained_run):
    assert trained.pieces.config.weights.checkpoint == str(trained_run)
    held = leaves(trained.params)
    assert leaves(trained.state.trainable).keys() | leaves(trained.frozen).keys() == held.keys()
    lora_b = [x for path, x in held.items() if path.endswith("lora_b")]
    assert len(lora_b) == 4
    assert all(np.abs(x).max() > 0 for x in lora_b)
    assert int(trained.state.step) == 0
    moments = jax.tree.leaves(trained.state.opt_state)
    assert not any(np.asarray(x).any() for x in moments)


def test_without_a_checkpoint_adapters_are_fresh(trained, pictures):
    fresh = restore.restore(runs.config(pictures, **runs.LEARNS))
    assert_same(leaves(fresh.frozen), leaves(trained.frozen))
    for path, x in leaves(fresh.state.trainable).items():
        if path.endswith("lora_b"):
            assert not x.any()


def test_neither_data_nor_a_tokenizer_is_needed(trained_run, trained):
    config = bundle.config(trained_run)
    config.data.dir, config.tokenizer = "/no/data", "/no/tokenizer"
    config.train.batch_size = 3  # on eight devices
    assert_same(leaves(restore.restore(config).params), leaves(trained.params))


@pytest.mark.parametrize("stacked_run", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_either_form_begins_with_a_run_of_the_other(
    pictures, trained, trained_run, tmp_path, stacked_run
):
    folder = trained_run
    if stacked_run:
        fields = runs.LEARNS | {"train__steps": 1, "model__scan": True}
        assert loop.run(runs.config(pictures, **fields), tmp_path) == 0
        folder = tmp_path
    config = bundle.config(folder)
    assert config.model.scan == stacked_run
    same = restore.restore(config)
    config.model.scan = not stacked_run
    config.mesh.update(data=1, fsdp=4, tensor=2)
    other = restore.restore(config)
    assert_same(leaves(other.params), leaves(same.params))
    assert_same(leaves(other.frozen), leaves(trained.frozen))
    wanted = other.pieces.abstract_state().trainable
    placed = jax.tree.map(lambda x, s: x.sharding == s.sharding, other.state.trainable, wanted)
    assert all(jax.tree.leaves(placed))


@pytest.mark.slow
def test_layers_that_a_stack_cannot_tell_apart(pictures, tmp_path):
    targets = {"lora__targets": r"^llm/layers/1/attn/q_proj$", "train__steps": 1}
    assert loop.run(runs.config(pictures, **runs.LEARNS | targets), tmp_path) == 0
    config = bundle.config(tmp_path)
    assert any("lora_b" in path for path in leaves(restore.restore(config).state.trainable))
    config.model.scan, config.lora.targets = True, r"^llm/layers/attn/q_proj$"
    with pytest.raises(UserError, match=r"lora_a' for some layers only; set model.scan=False$"):
        restore.restore(config)


def test_a_native_folder_decides_over_sizes_and_holds_all_but_what_trains(
    pictures, native, trained, capsys
):
    config = on_native(pictures, native)
    config.model.llm.width = 8
    begun = restore.restore(config)
    assert "holds a trained adapter, which is left out here" in capsys.readouterr().out
    assert begun.pieces.config.model.llm.to_dict() == trained.pieces.config.model.llm.to_dict()
    assert_same(leaves(begun.frozen), leaves(trained.frozen))
    have, before = leaves(begun.state.trainable), leaves(trained.state.trainable)
    for path, value in have.items():
        if path.startswith("connector"):
            np.testing.assert_array_equal(value, before[path])
        elif path.endswith("lora_b"):
            assert not value.any()


def test_a_native_folder_can_be_base_and_checkpoint(pictures, native, trained, capsys):
    begun = restore.restore(on_native(pictures, native, weights__checkpoint=str(native)))
    assert "left out" not in capsys.readouterr().out
    assert_same(leaves(begun.params), leaves(trained.params))
    config = on_native(pictures, native, weights__checkpoint=str(native), lora__rank=2)
    with pytest.raises(UserError, match=r"LoRA rank is 8, config.lora.rank is 2; set --config"):
        restore.restore(config)


@pytest.mark.slow
def test_a_run_on_a_native_folder_trains_resumes_and_is_planned(pictures, native, tmp_path, capsys):
    settings = {"train__steps": 2, "train__eval_every": 2, "train__checkpoint_every": 1}
    dry_run.plan(on_native(pictures, native, **settings))
    said = capsys.readouterr().out
    assert "nothing is missing: every file this config names is there" in said
    assert "float32[32,8]" in said  # the folder's width
    assert loop.run(on_native(pictures, native, **settings), tmp_path) == 0
    assert "step 2/2" in capsys.readouterr().out
    settings |= {"train__steps": 3, "train__eval_every": 3}
    assert loop.run(on_native(pictures, native, **settings), tmp_path) == 0
    assert "going on after step 2" in capsys.readouterr().out
    assert [row["step"] for row in runs.rows(tmp_path)] == [1, 2, 3]
    assert len(runs.questions(pictures, tmp_path)) == 8


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weights__base": ""}, "still needed: vision tower weights: --config.weights.vision=PATH"),
        ({"weights__base": "/no/base"}, "weights.base='/no/base' is not one of"),
        ({"weights__llm": "/no/llama"}, "decoder weights: '/no/llama' does not exist; correct"),
        ({"weights__vision": "eva.pth"}, "vision tower weights: 'eva.pth' does not exist"),
        ({"weights__checkpoint": "runs/x"}, "'runs/x' does not exist; correct --config.weights.ch"),
    ],
)
def test_what_is_not_there_is_one_line(pictures, fields, words):
    with pytest.raises(UserError) as caught:
        restore.restore(runs.config(pictures, **fields))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_base_under_the_same_checkpoint_is_refused(trained_run):
    config = bundle.config(trained_run)
    config.seed = 43
    with pytest.raises(UserError, match=r"was trained on another base .*set config.weights and"):
        restore.restore(config)
