"""The embedded base: it loads in either form, its tokenizer returns any text, it stays small."""

import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from pefomed_jax import base, validate
from pefomed_jax import config as config_lib
from pefomed_jax.data import prompts
from pefomed_jax.data.sources.phantom import questions, scene, text
from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm, stack
from pefomed_jax.pretrain import tokenizer as tokenizer_lib
from pefomed_jax.training import setup


@pytest.fixture(scope="module")
def config():
    return config_lib.make("mrg")


@pytest.fixture(scope="module")
def tokenizer(config):
    return base.tokenizer(config)


def test_the_assets_are_at_most_six_megabytes():
    files = [path for path in base.ASSETS.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {base.WEIGHTS, base.MADE, "tokenizer.json"}
    assert sum(path.stat().st_size for path in files) <= 6_000_000
    made = json.loads((base.ASSETS / base.MADE).read_text())
    assert {"seed", "vision_steps", "decoder_steps", "vision", "decoder"} <= made.keys()
    assert made["vision"]["micro"] > 0.95


def test_the_tiny_base_loads_in_base_dtype_with_a_fresh_connector(config):
    config = config.copy_and_resolve_references()
    model = mllm.build(config.model)
    tree = base.load(config, model)
    abstract = jax.eval_shape(lambda k: mllm.init_params(model, k), jax.random.key(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), tree) == jax.tree.map(
        lambda x: (x.shape, x.dtype), abstract
    )
    config.seed = config.seed + 1
    other = base.load(config, model)
    same = jax.tree.map(np.array_equal, tree, other)
    assert not same["connector"]["proj"]["kernel"]
    assert all(jax.tree.leaves({k: v for k, v in same.items() if k != "connector"}))


def test_stacked_and_half_precision_forms_hold_the_same_weights(config):
    config = config.copy_and_resolve_references()
    plain = base.load(config, mllm.build(config.model))
    config.model.update(scan=True, base_dtype="bfloat16")
    stacked = base.load(config, mllm.build(config.model))
    back = flatten_dict(stack.unstack(stacked))
    for path, leaf in flatten_dict(plain).items():
        if path[0] != base.FRESH:
            small = {"norm1", "norm2", "q_bias", "v_bias", "cls_token", "pos_embed", "ln_vision"}
            dtype = "bfloat16" if small.isdisjoint(path) else "float32"
            assert back[path].dtype == dtype, path
            np.testing.assert_array_equal(back[path], leaf.astype(dtype))


def test_leaves_are_placed_as_the_shardings_say(config):
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    model = mllm.build(config.model)
    abstract = jax.eval_shape(lambda k: mllm.init_params(model, k), jax.random.key(0))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), abstract)
    tree = base.load(config, model, like)
    assert all(leaf.sharding == whole for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("kind", ["tiny", "random"])
def test_what_trains_is_in_float32_over_a_bf16_base(kind):
    config = config_lib.make("mrg")
    config.model.base_dtype = config.model.dtype = "bfloat16"
    config.weights.base = kind
    config.trainable = (("mlp_norm|k_proj", "own"), ("lora_[ab]$", "lora"), (".*", "frozen"))
    pieces = setup.assemble(config)
    tree = flatten_dict(base.load(config, pieces.model, pieces.base))
    for path, leaf in flatten_dict(pieces.base).items():
        trains = not {"mlp_norm", "k_proj"}.isdisjoint(path)
        assert tree[path].dtype == leaf.dtype
        assert leaf.dtype == jnp.float32 if trains else True, path
    assert tree["llm", "layers", "0", "attn", "q_proj", "kernel"].dtype == jnp.bfloat16


def test_random_weights_are_of_the_seed_and_the_scale_of_a_fresh_model(config, model_config):
    config = config.copy_and_resolve_references()
    config.weights.base = "random"
    model = mllm.build(model_config)
    first, again = base.load(config, model), base.load(config, model)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    leaves = flatten_dict(first, sep="/")
    abstract = jax.eval_shape(lambda k: mllm.init_params(model, k), jax.random.key(0))
    assert {path: leaf.shape for path, leaf in leaves.items()} == {
        path: leaf.shape for path, leaf in flatten_dict(abstract, sep="/").items()
    }
    for path, leaf in leaves.items():
        if path.endswith(("scale", "bias")):
            assert (leaf == path.endswith("scale")).all(), path
        else:
            assert 0.01 < leaf.std() < 0.03, path
    drawn = [leaf.ravel()[:8].tolist() for path, leaf in leaves.items() if path.endswith("kernel")]
    assert len({tuple(values) for values in drawn}) == len(drawn)


def test_another_size_or_base_is_one_line(config):
    config = config.copy_and_resolve_references()
    config.model.llm.width = 80
    with pytest.raises(UserError, match=r"llm/.* \[.*160.*\], config.model asks for \[.*80.*\]"):
        base.load(config, mllm.build(config.model))
    config.weights.base = ""
    with pytest.raises(UserError, match=r"weights\.base=random"):
        base.load(config, mllm.build(config.model))


def test_the_tokenizer_files_come_from_the_code(tmp_path):
    tokenizer_lib.write(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (base.ASSETS / name).read_bytes()


def test_ids_are_laid_out_like_llama(tokenizer, config):
    assert len(tokenizer) == config.model.llm.vocab_size == tokenizer_lib.SIZE
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<unk>", "<s>", "</s>"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer("A nodule")["input_ids"][0] == 1
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    assert tokenizer.convert_tokens_to_ids(pieces) == list(range(3, 259))


@pytest.mark.parametrize(
    ("content", "ends"),
    [
        ("{}", (2,)),
        ('{"eos_token_id": null}', (2,)),
        ('{"eos_token_id": 2}', (2,)),
        ('{"eos_token_id": [7, 2, 9]}', (2, 7, 9)),
    ],
)
def test_what_ends_an_answer(tmp_path, tokenizer, content, ends):
    config = config_lib.make("mrg")
    assert base.ends(config, tokenizer) == (2,)
    (tmp_path / "generation_config.json").write_text(content)
    config.tokenizer = str(tmp_path)
    assert base.ends(config, tokenizer) == ends
    (tmp_path / "generation_config.json").write_text("[")
    with pytest.raises(UserError, match=r"generation_config\.json is damaged"):
        base.ends(config, tokenizer)


ODD = (
    *("", " ", "  two  blanks ", "line\nbreak\ttab", "Ärzte größer 3.5 × 2 µm", "胸部X線 🫁"),
    *("<0x41>", "▁under", "\x00\x7f\u2028", "[INST] <Img> </Img> [/INST]"),
)


@pytest.mark.parametrize("words", ODD)
def test_text_comes_back(tokenizer, words):
    assert back(tokenizer, words) == words


def test_random_text_of_any_script_comes_back(tokenizer):
    rng = random.Random(0)
    ranges = [(1, 128), (128, 0xD800), (0xE000, 0x110000)]
    for _ in range(1000):
        words = "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(20)))
        assert back(tokenizer, words) == words


def back(tokenizer, words: str) -> str:
    ids = tokenizer(words, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    return tokenizer.decode(ids, skip_special_tokens=True)


def test_words_of_reports_and_prompts_are_single_pieces(tokenizer):
    for seed in range(100):
        content = scene.sample(seed)
        lines = [text.report(content), *(q.question for q in questions.ask(content))]
        for line in lines:
            marks = sum(line.count(mark) for mark in ".,:?")
            assert len(tokenizer.tokenize(line)) == len(line.split()) + marks, line
    for line in (line for lines in prompts.INSTRUCTIONS.values() for line in lines):
        words = line.replace(prompts.SLOT, "")
        assert len(tokenizer.tokenize(words)) <= 1.3 * len(words.split()) + 2, line
    for mark in tokenizer_lib.MARKS:
        assert tokenizer.tokenize(mark.strip()) == [mark]


def test_a_missing_tokenizer_is_one_line(config, tmp_path):
    config = config.copy_and_resolve_references()
    for folder, words in (
        ("", "is empty"),
        ("/no/such", "no folder"),
        (str(tmp_path), "tokenizer.json"),
    ):
        config.tokenizer = folder
        with pytest.raises(UserError, match=words) as error:
            base.tokenizer(config)
        assert "\n" not in str(error.value)


LLAMA = {"model_type": "llama", "vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3}
LLAMA |= {"num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 80}
LLAMA |= {"rms_norm_eps": 1e-6, "rope_theta": 5e5, "tie_word_embeddings": False}


def write_llama(folder, tokenizer=True):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    if tokenizer:
        (folder / "tokenizer.json").write_text("{}")
    return str(folder)


def test_a_llama_folder_gives_sizes_and_tokenizer(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.weights.llm = write_llama(tmp_path / "llama")
    adopted = base.adopt(config)
    assert adopted.model.llm.to_dict() == {
        "vocab_size": 96,
        "width": 48,
        "depth": 3,
        "heads": 6,
        "kv_heads": 2,
        "mlp_dim": 80,
        "norm_eps": 1e-6,
        "rope_theta": 5e5,
        "rope_scaling": (),
        "tie_embeddings": False,
    }
    assert adopted.tokenizer == config.weights.llm
    assert adopted.model.vision == config.model.vision
    assert adopted.is_locked
    assert config.model.llm.width == 160  # what was given stays as it is
    assert base.adopt(adopted).to_dict() == adopted.to_dict()
    config.tokenizer = "/of/my/own"
    assert base.adopt(config).tokenizer == "/of/my/own"


def test_a_llama_folder_without_a_tokenizer_asks_for_one(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.weights.llm = write_llama(tmp_path / "llama", tokenizer=False)
    adopted = base.adopt(config)
    assert adopted.tokenizer == ""
    assert any("--config.tokenizer=PATH" in line for line in validate.missing(adopted))


def write_native(folder, tokenizer):
    folder.mkdir()
    model = config_lib.make("mrg", "small").model.to_dict()
    model["llm"] |= {"rope_scaling": ["linear", 2.0], "depth": 3}
    model["concat"] = 16
    own = {"model": model, "lora": None, "tokenizer": tokenizer, "made_from": {}}
    (folder / "config.json").write_text(json.dumps(own))
    return str(folder)


@pytest.mark.parametrize("tokenizer", ["tiny", ".", ""])
def test_a_native_folder_gives_all_sizes(config, tmp_path, tokenizer):
    config = config.copy_and_resolve_references()
    config.weights.base = write_native(tmp_path / "native", tokenizer)
    adopted = base.adopt(config)
    assert adopted.model.llm.rope_scaling == ("linear", 2.0)
    assert (adopted.model.llm.depth, adopted.model.llm.width) == (3, 512)
    assert (adopted.model.concat, adopted.model.vision.width) == (16, 384)
    assert adopted.model.remat == config.model.remat
    own = {"tiny": "tiny", ".": config.weights.base, "": ""}
    assert adopted.tokenizer == own[tokenizer]
    config.weights.llm = write_llama(tmp_path / "llama")  # the decoder of its own wins
    assert base.adopt(config).model.llm.width == 48
    assert base.adopt(config).model.vision.width == 384


def test_what_is_not_there_is_left_to_missing(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.weights.llm = str(tmp_path / "gone")
    adopted = base.adopt(config)
    assert adopted.model.to_dict() == config.model.to_dict()
    assert validate.missing(adopted) == [
        f"decoder weights: '{tmp_path / 'gone'}' does not exist; correct --config.weights.llm"
    ]
    config.weights.update(llm="", base=str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"weights\.base='.*gone' is not one of .*, nor a folder"):
        validate.validate(base.adopt(config))


def test_a_folder_of_another_kind_as_base_is_one_line(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.weights.base = write_llama(tmp_path / "llama")
    with pytest.raises(UserError, match=r"config\.json is not of a native folder") as error:
        base.adopt(config)
    assert "\n" not in str(error.value)


def test_random_weights_are_the_same_in_either_form(config, model_config):
    config = config.copy_and_resolve_references()
    config.weights.base = "random"
    plain = base.load(config, mllm.build(model_config))
    model_config.scan = True
    stacked = base.load(config, mllm.build(model_config))
    jax.tree.map(np.testing.assert_array_equal, stack.unstack(stacked), plain)
