"""What is wrong with a file is said in one line: the file, the key, and the way out."""

import json
import os
import pathlib
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pefomed_jax.errors import UserError
from pefomed_jax.training import convert
from pefomed_jax.weights import export, hub, llama_config, parts, trained
from weights import foreign

ROOT = pathlib.Path(__file__).parents[2]
KEY = "model.layers.1.mlp.up_proj.weight"


def refused(call, *said):
    """The error is one line that says all of it."""
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert [part for part in map(str, said) if part not in text] == [], text


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


def trained_tree(made):
    whole = foreign.abstract(made, adapters=True)
    layers = {
        i: {"attn": {f"{k}_proj": lora(layer["attn"][f"{k}_proj"]) for k in "qv"}}
        for i, layer in whole["llm"]["layers"].items()
    }
    return {"llm": {"layers": layers}, "connector": whole["connector"]}


def lora(module):
    return {key: leaf for key, leaf in module.items() if key.startswith("lora_")}


def adapter(folder, made):
    shapes = foreign.lora_shapes(made, "base_model.model.", "")
    arrays = foreign.draw(shapes | foreign.connector_shapes(made.model))
    return pathlib.Path(foreign.write_adapter(folder, made, arrays))


def test_an_adapter_of_another_rank_or_alpha(tmp_path, made):
    folder, tree = adapter(tmp_path / "adapter", made), trained_tree(made)
    trained.read(folder, tree, made.lora)  # is sound
    file = folder / "adapter_config.json"
    for key, ours, theirs in (("rank", 5, "3"), ("alpha", 8.0, "6")):
        other = made.lora.copy_and_resolve_references()
        other[key] = ours
        said = f"LoRA {key} is {theirs}, config.lora.{key} is {ours:g}"
        way_out = f"set --config.lora.{key}={theirs}"
        refused(lambda lora=other: trained.read(folder, tree, lora), file, said, way_out)


def test_an_adapter_whose_file_has_another_rank(tmp_path, made):
    folder = adapter(tmp_path / "adapter", made)
    wide = foreign.config(lora__rank=5)
    path = folder / "adapter_model.safetensors"
    save_file(foreign.draw(foreign.lora_shapes(wide, "base_model.model.", "")), path)
    said = "its LoRA rank is 5; set --config.lora.rank=5"
    refused(lambda: trained.read(folder, trained_tree(made), made.lora), path, said, "lora_A")


@pytest.mark.parametrize("option", ["use_rslora", "use_dora", "fan_in_fan_out"])
def test_an_adapter_that_is_no_plain_lora(tmp_path, made, option):
    folder = adapter(tmp_path / "adapter", made)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {option: True}))
    call = lambda: trained.read(folder, trained_tree(made), made.lora)  # noqa: E731
    refused(call, file, f"{option}=True is not supported, only plain LoRA")


def test_an_adapter_with_half_its_layers_or_other_modules(tmp_path, made):
    folder, tree = adapter(tmp_path / "adapter", made), trained_tree(made)
    path = folder / "adapter_model.safetensors"
    sound = load_file(path)
    save_file({k: v for k, v in sound.items() if ".layers.1." not in k}, path)
    missing = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    refused(lambda: trained.read(folder, tree, made.lora), f"no tensor '{missing}'")
    extra = {k.replace("q_proj", "k_proj"): v for k, v in sound.items() if "q_proj" in k}
    save_file(sound | extra, path)
    said = "k_proj.lora_A.weight' and 3 more has no place"
    refused(lambda: trained.read(folder, tree, made.lora), path, said, "config.lora.targets")


def test_a_native_folder_of_another_rank(tmp_path, made, llama):
    save_file(foreign.tower_files(made, "", "float32", True), tmp_path / "tower.safetensors")
    folder = adapter(tmp_path / "adapter", made)
    fields = {"weights__llm": str(llama), "weights__vision": str(tmp_path / "tower.safetensors")}
    config = foreign.config(**fields, weights__checkpoint=str(folder))
    convert.convert(config, "native", tmp_path / "native")
    other = foreign.config(lora__rank=2).lora
    said = "LoRA rank is 3, config.lora.rank is 2; set --config.lora.rank=3"
    call = lambda: trained.read(tmp_path / "native", trained_tree(made), other)  # noqa: E731
    refused(call, tmp_path / "native" / "config.json", said)


def official(torch, path, made, **extra):
    shapes = foreign.lora_shapes(made, foreign.OFFICIAL, ".default")
    arrays = foreign.draw(shapes | foreign.connector_shapes(made.model))
    model = {key: torch.from_numpy(array) for key, array in arrays.items()}
    torch.save({"model": model | extra}, path)
    return path


def test_an_official_checkpoint_of_another_rank(tmp_path, made):
    torch = pytest.importorskip("torch", reason="official checkpoints are PyTorch's")
    path = official(torch, tmp_path / "x.pth", foreign.config(lora__rank=4))
    said = "its LoRA rank is 4; set --config.lora.rank=4"
    refused(lambda: trained.read(path, trained_tree(made), made.lora), path, "lora_A.default", said)


def test_an_official_checkpoint_of_another_decoder(tmp_path, made):
    torch = pytest.importorskip("torch", reason="official checkpoints are PyTorch's")
    path = official(torch, tmp_path / "x.pth", foreign.config(model__llm__width=40))
    said = "q_proj.lora_A.default.weight' is [3, 40], this model has [3, 32]"
    way_out = "belong to a decoder or a tower of another size"
    refused(lambda: trained.read(path, trained_tree(made), made.lora), path, said, way_out)


def test_an_official_checkpoint_with_a_q_former(tmp_path, made):
    torch = pytest.importorskip("torch", reason="official checkpoints are PyTorch's")
    for key in ("Qformer.bert.encoder.layer.0.output.dense.weight", "query_tokens"):
        path = official(torch, tmp_path / "x.pth", made, **{key: torch.ones(2, 2)})
        said = f"'{key}' belongs to a Q-Former, this connector is linear"
        refused(lambda p=path: trained.read(p, trained_tree(made), made.lora), path, said, "give a")


def test_a_tower_file_with_a_q_former(tmp_path, made, capsys):
    """BLIP-2's: its tower and ln_vision serve here, the rest is named."""
    arrays = foreign.tower_files(made, "visual_encoder.", "float32", False)
    arrays |= foreign.draw(foreign.norm_shapes(made.model) | {"query_tokens": (1, 4, 8)})
    save_file(arrays | {"Qformer.x.weight": np.ones(4)}, tmp_path / "blip2.safetensors")
    tree = parts.tower(tmp_path / "blip2.safetensors", foreign.abstract(made), 2)
    assert tree.keys() == {"vision", "ln_vision"}
    np.testing.assert_array_equal(tree["ln_vision"]["scale"], arrays["ln_vision.weight"])
    assert "'Qformer.x.weight' and 1 more ignored: a Q-Former;" in capsys.readouterr().out


class Code:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("new", [True, False, None])
def test_a_pickle_with_code_is_not_run(tmp_path, made, new):
    torch = pytest.importorskip("torch", reason="PyTorch files need torch")
    bad, trace = tmp_path / "bad.pth", tmp_path / "trace"
    content = {"model": {"llama_proj.bias": torch.ones(2)}, "config": Code(trace)}
    if new is None:  # no file of torch.save
        bad.write_bytes(pickle.dumps({"model": Code(trace)}))
    else:
        torch.save(content, bad, _use_new_zipfile_serialization=new)
    said = ("never run", "save its tensors alone") if new is not None else ()
    for call in (
        lambda: trained.read(bad, trained_tree(made), made.lora),
        lambda: parts.tower(bad, foreign.abstract(made), 2),
    ):
        refused(call, bad, *said)
    assert not trace.exists()
    if new is not None:
        torch.load(bad, weights_only=False)["config"].close()
        assert trace.exists()  # it would have been made


@pytest.mark.parametrize("cut", [0, 10, -100])
def test_a_torch_file_cut_short(tmp_path, made, cut):
    torch = pytest.importorskip("torch", reason="PyTorch files need torch")
    path = official(torch, tmp_path / "x.pth", made)
    path.write_bytes(path.read_bytes()[:cut])
    refused(lambda: trained.read(path, trained_tree(made), made.lora), path, "damaged", "copy")


def test_a_torch_file_that_holds_no_tensors(tmp_path, made):
    torch = pytest.importorskip("torch", reason="PyTorch files need torch")
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    call = lambda: trained.read(tmp_path / "x.pth", trained_tree(made), made.lora)  # noqa: E731
    refused(call, tmp_path / "x.pth", "'epoch' is int, not a tensor")


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


def test_out_that_is_there(tmp_path, made):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    said = (tmp_path / "out", "is there already", "give another --out, or remove it")
    absent = foreign.config(weights__llm="no/where", weights__vision="nowhere")
    refused(lambda: convert.convert(absent, "merged", tmp_path / "out"), *said)  # reads nothing
    arrays = {"llm": {"norm": {"scale": np.ones(2)}}}
    refused(lambda: export.native(tmp_path / "out", arrays, made, (), ""), *said)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_a_disk_without_room_is_seen_before(tmp_path, made, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    arrays = {"llm": {"norm": {"scale": np.ones(200, np.float32)}}}
    said = (tmp_path / "out", "takes 0.00 GB, the disk has 0.00 GB left; make room or give another")
    refused(lambda: export.native(tmp_path / "out", arrays, made, (), ""), *said)
    assert list(tmp_path.iterdir()) == []


FULL = """
import pathlib, resource, sys
import numpy as np
from pefomed_jax import config as config_lib
from pefomed_jax.weights import export, output

layout, out = sys.argv[1], pathlib.Path(sys.argv[2])
config = config_lib.make("mrg", "tiny")
output.SHARD = 150_000
width = config.model.llm.width
connector = {"proj": {"kernel": np.ones((512, width), np.float32)}}  # 320 kB
lora = {"lora_a": np.ones((9, 8), np.float32), "lora_b": np.ones((8, 9), np.float32)}
small = {"attn": {"q_proj": lora}}
tree = {"llm": {"layers": {"0": small}}, "connector": connector}
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    if layout == "native":
        export.native(out, tree, config, (), "card")
    elif layout == "tower":
        export.tower(out, {"connector": connector}, config)
    else:
        getattr(export, layout)(out, tree, config, "card")
except export.UserError as error:
    print(error)
"""


@pytest.mark.parametrize("layout", ["native", "adapter", "tower", "pth"])
def test_a_disk_that_fills_while_writing(tmp_path, layout):
    if layout == "pth":
        pytest.importorskip("torch", reason="a .pth needs torch")
    out = tmp_path / "made" / {"tower": "out.safetensors", "pth": "out.pth"}.get(layout, "out")
    done = subprocess.run(
        [sys.executable, "-c", FULL, layout, str(out)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out} could not be written (")
    assert done.stdout.endswith("); nothing is left of it\n")
    assert "too large" in done.stdout
    assert list((tmp_path / "made").iterdir()) == []


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
