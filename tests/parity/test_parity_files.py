"""Files as PyTorch programs write them, against what PyTorch makes of them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="the comparisons with PyTorch need torch")

import torch
import torch.nn.functional as F
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file
from transformers import LlamaConfig, LlamaForCausalLM
from weights import foreign

from pefomed_jax import base
from pefomed_jax import config as config_lib
from pefomed_jax.models import mllm
from pefomed_jax.models.llama import Llama
from pefomed_jax.training import restore, setup
from pefomed_jax.weights import names, trained

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 16}
SCALINGS = {"llama3": LLAMA3, "linear": {"factor": 4.0}, "default": {}}


def save_llama(folder, rope_type="default", tied=False, **options):
    """A random LLaMA of transformers in a folder, in float32."""
    torch.manual_seed(3)
    rope = {"rope_type": rope_type, "rope_theta": 500.0, **SCALINGS[rope_type]}
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
        max_position_embeddings=64, tie_word_embeddings=tied, rope_parameters=rope,
    )  # fmt: skip
    llama = LlamaForCausalLM(config).eval()
    llama.save_pretrained(folder, **options)
    return llama


def ours(folder, tokens):
    """Our logits for the decoder in the folder; its config.json decides over the sizes."""
    config = foreign.config(weights__base="random", weights__llm=str(folder))
    config = base.adopt(config)
    model = mllm.build(config.model)
    tree = base.load(config, model)["llm"]
    llama = Llama(model.llm_config, model.compute)
    at = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)

    def run(module):
        x, _ = module(module.embed(jnp.asarray(tokens)), at, jnp.zeros_like(at))
        return module.logits(x)

    return np.asarray(llama.apply({"params": tree}, method=run))


def near(mine, theirs):
    return np.abs(mine - theirs).max() < 5e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("old", [False, True], ids=["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("rope_type", SCALINGS)
def test_rotary_scaling_as_in_transformers(tmp_path, rope_type, old):
    llama = save_llama(tmp_path, rope_type)
    if old:  # as transformers 4 wrote it
        path = tmp_path / "config.json"
        content = json.loads(path.read_text())
        rope = content.pop("rope_parameters")
        content["rope_theta"] = rope.pop("rope_theta")
        content["rope_scaling"] = rope if rope_type != "default" else None
        path.write_text(json.dumps(content))
    tokens = np.random.default_rng(0).integers(0, 64, (2, 60))  # far beyond the first context
    with torch.no_grad():
        theirs = llama(torch.from_numpy(tokens)).logits.numpy()
    assert near(ours(tmp_path, tokens), theirs)


@pytest.mark.parametrize("tied", [False, True])
def test_bin_files_with_an_index(tmp_path, tied):
    llama = save_llama(tmp_path, tied=tied)
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    keys = sorted(state)
    halves = {"pytorch_model-1.bin": keys[::2], "pytorch_model-2.bin": keys[1::2]}
    for name, part in halves.items():
        content = {key: torch.from_numpy(state[key]) for key in part}
        if name.endswith("1.bin"):  # as in files of old
            content["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
            if tied:
                content["lm_head.weight"] = torch.from_numpy(state["model.embed_tokens.weight"])
        torch.save(content, tmp_path / name)
    places = {key: name for name, part in halves.items() for key in part}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    tokens = np.random.default_rng(0).integers(0, 64, (1, 12))
    with torch.no_grad():
        theirs = llama(torch.from_numpy(tokens)).logits.numpy()
    assert near(ours(tmp_path, tokens), theirs)


def test_an_eva_file_in_half_precision(tmp_path, capsys):
    """A 224-px file for 448 px, with the block, norm and head that the official model drops."""
    config = foreign.config(weights__base="random", model__vision__image_size=32)
    rng, half = np.random.default_rng(1), torch.float16
    shapes = foreign.tower_shapes(config.model.vision)
    shapes |= {f"blocks.2.{k.split('.', 2)[2]}": v for k, v in shapes.items() if "blocks.1." in k}
    shapes |= {"norm.weight": (16,), "norm.bias": (16,), "head.weight": (5, 16), "head.bias": (5,)}
    shapes["pos_embed"] = (1, 17, 16)
    state = {k: torch.from_numpy(rng.normal(size=s)).to(half) for k, s in shapes.items()}
    path = tmp_path / "eva_vit_g.pth"
    torch.save(state, path)
    config.weights.vision = str(path)
    tree = base.load(config, mllm.build(config.model))
    said = capsys.readouterr().out
    for words in (
        "'blocks.2.",
        "'head.bias'",
        "no ln_vision: it is the identity",
        "4 × 4 to 8 × 8",
    ):
        assert words in said
    grid = state["pos_embed"][:, 1:].float().reshape(1, 4, 4, 16).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(8, 8), mode="bicubic", align_corners=False)
    theirs = grid.permute(0, 2, 3, 1).reshape(64, 16).numpy()
    mine = np.asarray(tree["vision"]["pos_embed"])
    assert np.abs(mine[1:] - theirs).max() < 1e-5
    np.testing.assert_array_equal(mine[0], state["pos_embed"][0, 0].float().numpy())
    np.testing.assert_array_equal(
        tree["vision"]["blocks"]["1"]["attn"]["qkv"]["kernel"],
        state["blocks.1.attn.qkv.weight"].float().numpy().T,
    )
    assert (np.asarray(tree["ln_vision"]["scale"]) == 1).all()
    assert (np.asarray(tree["ln_vision"]["bias"]) == 0).all()


@pytest.mark.parametrize("spelling", [".default", ""])
def test_minigpt_v2_files_in_both_spellings(tmp_path, capsys, spelling):
    config = foreign.config(weights__base="random")
    pieces = setup.assemble(config, one_device())
    abstract = pieces.abstract_state().trainable
    rng, state = np.random.default_rng(2), {}
    for entry in trained.table(flatten_dict(abstract, sep="/"), names.OFFICIAL):
        shape = names.TURNS[entry.turn].theirs(np.zeros(leaf(abstract, entry.path).shape)).shape
        state[entry.foreign.replace(".default", spelling)] = rng.normal(size=shape)
    assert any(f"lora_A{spelling}.weight" in key for key in state)
    buffers = "llama_model.base_model.model.model.layers.1.self_attn.rotary_emb.inv_freq"
    content = {key: torch.from_numpy(value).float() for key, value in state.items()}
    torch.save({"model": content | {buffers: torch.ones(4)}, "epoch": 3}, tmp_path / "x.pth")
    config.weights.checkpoint = str(tmp_path / "x.pth")
    tree = restore.restore(config, one_device()).state.trainable
    assert "inv_freq' ignored" in capsys.readouterr().out
    for entry in trained.table(flatten_dict(abstract, sep="/"), names.OFFICIAL):
        theirs = state[entry.foreign.replace(".default", spelling)].astype(np.float32)
        mine = names.TURNS[entry.turn].theirs(np.asarray(leaf(tree, entry.path)))
        np.testing.assert_array_equal(mine, theirs)


def leaf(tree, path):
    return flatten_dict(tree, sep="/")[path]


def one_device():
    return jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"), devices=jax.devices()[:1])


def test_seven_billion_parameters_have_each_name_once():
    """Against the index of the real decoder, on shapes alone."""
    with torch.device("meta"):
        theirs = LlamaForCausalLM(LlamaConfig()).state_dict()
    config = config_lib.make("mrg", "7b")
    model = mllm.build(config.model)
    abstract = jax.eval_shape(lambda key: mllm.init_params(model, key), jax.random.key(0))
    leaves = flatten_dict({"llm": abstract["llm"]}, sep="/")
    entries = {e.path: e for e in names.llama(32, False)}
    covered = [p for path, x in leaves.items() for p in names.canonical(path, x)]
    assert sorted(covered) == sorted(entries)
    assert sorted(e.foreign for e in entries.values()) == sorted(theirs)
    assert len(theirs) == 291
    for path, x in leaves.items():
        for place in names.canonical(path, x):
            own = x.shape[1:] if place != path else x.shape
            turned = names.TURNS[entries[place].turn].theirs(np.broadcast_to(np.int8(0), own))
            assert turned.shape == tuple(theirs[entries[place].foreign].shape), place


def test_the_official_checkpoint_has_130_tensors():
    config = config_lib.make("vqa", "7b")
    abstract = setup.assemble(config, one_device()).abstract_state().trainable
    leaves = flatten_dict(abstract, sep="/")
    entries = trained.table(leaves, names.OFFICIAL)
    assert len(entries) == len({e.foreign for e in entries}) == 130
    assert sum(int(np.prod(x.shape)) for x in leaves.values()) == 56_627_200
    assert (
        "llama_model.base_model.model.model.layers.31.self_attn.v_proj.lora_B.default.weight"
        in {e.foreign for e in entries}
    )
