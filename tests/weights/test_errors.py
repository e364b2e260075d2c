"""What is wrong with a file is said in one line: the file, the key, and the way out."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pefomed_jax.weights import hub, llama_config, parts
from weights import foreign
from weights.foreign import refused

ROOT = pathlib.Path(__file__).parents[2]
KEY = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def made():
    return foreign.config()


@pytest.fixture
def llama(tmp_path, made):
    """A sound folder, in one file."""
    arrays = foreign.draw(foreign.llama_shapes(made.model.llm))
    foreign.write_llama(tmp_path / "llama", made, arrays)
    return tmp_path / "llama"


def read(folder, made):
    return lambda: parts.decoder(folder, foreign.abstract(made)["llm"], tied=False)


def change(path, **arrays):
    """The file with other arrays; None takes one away."""
    own = load_file(path) | {key.replace("__", "."): array for key, array in arrays.items()}
    save_file({key: array for key, array in own.items() if array is not None}, path)
    return path


def test_a_key_that_is_missing(llama, made):
    path = change(llama / "model.safetensors", **{KEY: None})
    refused(read(llama, made), path, f"no tensor '{KEY}'", "llm/layers/1/mlp/up_proj/kernel")


def test_keys_of_a_wrapped_module(llama, made):
    path = llama / "model.safetensors"
    save_file({f"module.{key}": x for key, x in load_file(path).items()}, path)
    refused(read(llama, made), path, "no tensor 'model.", "save the module inside Distributed")


def test_a_key_too_many(llama, made):
    path = change(llama / "model.safetensors", model__extra=np.ones(2, np.float32))
    refused(read(llama, made), path, "'model.extra' has no place", "see config.model")


def test_a_layer_too_many(llama, made):
    made.model.llm.depth = 1
    said = f"{llama / 'model.safetensors'}: 'model.layers.1."
    refused(read(llama, made), said, "and 8 more has no place in this model")


def test_a_wrong_shape(llama, made):
    path = change(llama / "model.safetensors", **{KEY: np.ones((48, 31), np.float32)})
    refused(read(llama, made), path, f"'{KEY}' is [48, 31], this model has [48, 32]", "size")


def test_whole_numbers_are_no_weights(llama, made):
    path = change(llama / "model.safetensors", **{KEY: np.ones((48, 32), np.int32)})
    refused(read(llama, made), path, f"'{KEY}' holds whole numbers, no weights")


@pytest.mark.parametrize("cut", [4, 200, -1])
def test_safetensors_cut_short(llama, made, cut):
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    refused(read(llama, made), path, "damaged or cut short", "copy it again")


@pytest.mark.parametrize("header", [b"{not json", b"[1, 2]", b'{"a": 3}'])
def test_a_damaged_header(llama, made, header):
    path = llama / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 64)
    refused(read(llama, made), path, "damaged or cut short", "copy it again")


def test_offsets_outside_the_file(llama, made):
    path = llama / "model.safetensors"
    row = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 1 << 40]}
    header = json.dumps({KEY: row}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    refused(read(llama, made), path, "damaged or cut short", "copy it again")


@pytest.fixture
def sharded(tmp_path, made):
    arrays = foreign.draw(foreign.llama_shapes(made.model.llm))
    foreign.write_llama(tmp_path / "sharded", made, arrays, shards=3)
    return tmp_path / "sharded"


def test_a_shard_that_is_not_there(sharded, made):
    (sharded / "model-00002-of-00003.safetensors").unlink()
    index = sharded / "model.safetensors.index.json"
    said = "names model-00002-of-00003.safetensors, which is not there (1 of 3 files are absent)"
    refused(read(sharded, made), index, said, "copy what is missing")


def test_a_key_that_is_in_no_shard(sharded, made):
    index = sharded / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    change(sharded / places[KEY], **{KEY: None})
    refused(read(sharded, made), index, f"'{KEY}' is not in {places[KEY]}", "copy that file again")


def test_a_key_in_another_shard_than_the_index_says(sharded, made):
    index = sharded / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    right = content["weight_map"][KEY]
    other = next(name for name in content["weight_map"].values() if name != right)
    content["weight_map"][KEY] = other
    index.write_text(json.dumps(content))
    refused(read(sharded, made), index, f"'{KEY}' is not in {other}")


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', '{"metadata": {}}'])
def test_a_damaged_index(sharded, made, text):
    index = sharded / "model.safetensors.index.json"
    index.write_text(text)
    refused(read(sharded, made), index, "is damaged", "copy it again")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "mistral"}, "has model_type 'mistral'; only 'llama' can be read"),
        ({"attention_bias": True}, "attention_bias=True is not supported, only False"),
        ({"mlp_bias": True}, "mlp_bias=True is not supported, only False"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu is not supported, only silu"),
        ({"head_dim": 16}, "head_dim=16 is not hidden_size / num_attention_heads"),
        ({"hidden_size": None}, "has no 'hidden_size'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic' is not"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "only default, linear, llama3"),
        ({"rope_scaling": {"type": "linear"}}, "rope_type 'linear' has no 'factor'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "has no 'low_freq_factor'"),
        ({"hidden_size": "32"}, "hidden_size='32' is no number above 0; copy the file again"),
        ({"num_hidden_layers": True}, "num_hidden_layers=True is no number above 0"),
        ({"vocab_size": 64.0}, "vocab_size=64.0 is no number above 0"),
        ({"rms_norm_eps": 0}, "rms_norm_eps=0 is no number above 0"),
        ({"rope_theta": "1e4", "rope_parameters": None}, "rope_theta='1e4' is no number above 0"),
        ({"rope_scaling": {"type": "linear", "factor": -2}}, "factor=-2 is no number above 0"),
        ({"quantization_config": {"bits": 4}}, "quantised weights cannot be read"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5 is not supported, only 1"),
    ],
)
def test_a_decoder_that_this_one_is_not(llama, fields, said):
    path = llama / "config.json"
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    refused(lambda: llama_config.read(llama), path, said)


def test_a_decoder_without_a_config(llama):
    path = llama / "config.json"
    path.write_text("{")
    refused(lambda: llama_config.read(llama), path, "is damaged", "copy it again")
    path.unlink()
    refused(lambda: llama_config.read(llama), path, "give a Hugging Face LLaMA folder")


def test_no_folder_and_no_hub_id(tmp_path):
    refused(lambda: hub.folder(str(tmp_path / "no")), tmp_path / "no", "there is no folder", "give")


HUB = """
from pefomed_jax.weights import hub
try:
    hub.folder("nobody/llama")
except hub.UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "setting", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_a_hub_id_without_a_network(tmp_path, setting):
    proxies = {key for key in os.environ if key.lower().endswith("_proxy")}
    env = {k: v for k, v in os.environ.items() if k not in proxies and not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", HUB],
        env=env | setting | {"HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("'nobody/llama' is no folder here and cannot be fetched from the")
    assert done.stdout.count("\n") == 1
    assert done.stdout.rstrip().endswith("or see to network, name and login")


@pytest.mark.parametrize("fault", ["cut", "there", "hub"])
def test_convert_says_it_in_one_line(tmp_path, made, llama, fault):
    save_file(foreign.tower_files(made, "", "float32", True), tmp_path / "tower.safetensors")
    out, weights = tmp_path / "out", str(llama)
    if fault == "cut":
        path = llama / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        said = f"error: {path} is damaged or cut short ("
    elif fault == "there":
        out.write_text("mine")
        said = f"error: {out} is there already; give another --out, or remove it\n"
    else:
        weights, said = "nobody/llama", "error: 'nobody/llama' is no folder here and cannot be"
    sizes = {f"model.vision.{key}": value for key, value in made.model.vision.items()}
    fields = {"weights.base": "", "weights.llm": weights, "tokenizer": ""} | sizes
    fields["weights.vision"] = tmp_path / "tower.safetensors"
    done = subprocess.run(
        [sys.executable, "launch/convert.py", "--config=configs/mrg.py", f"--out={out}"]
        + [f"--config.{key}={value}" for key, value in fields.items()],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert out.exists() == (fault == "there")
    assert not list(tmp_path.glob(".*"))
