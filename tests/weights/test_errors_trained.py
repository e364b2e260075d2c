"""What is wrong with an adapter or an official checkpoint is said in one line."""

import json
import pathlib
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pefomed_jax.training import convert
from pefomed_jax.weights import parts, trained
from weights import foreign
from weights.foreign import refused


@pytest.fixture
def made():
    return foreign.config()


@pytest.fixture
def llama(tmp_path, made):
    """A sound folder, in one file."""
    arrays = foreign.draw(foreign.llama_shapes(made.model.llm))
    foreign.write_llama(tmp_path / "llama", made, arrays)
    return tmp_path / "llama"


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


OPTIONS = {"use_rslora": True, "use_dora": True, "fan_in_fan_out": True, "peft_type": "XLORA"}
OPTIONS |= {"layers_to_transform": [0], "layer_replication": [[0, 2]], "init_lora_weights": "olora"}
OPTIONS |= {"alora_invocation_tokens": [7]}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_adapter_that_is_no_plain_lora(tmp_path, made, option):
    folder, value = adapter(tmp_path / "adapter", made), OPTIONS[option]
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {option: value}))
    call = lambda: trained.read(folder, trained_tree(made), made.lora)  # noqa: E731
    refused(call, file, f"{option}={value} is not supported, only plain LoRA")


@pytest.mark.parametrize("modules", [None, [], "", 3])
def test_an_adapter_that_names_no_modules(tmp_path, made, modules):
    folder = adapter(tmp_path / "adapter", made)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target_modules": modules}))
    call = lambda: trained.read(folder, trained_tree(made), made.lora)  # noqa: E731
    refused(call, file, f"is damaged or no LoRA's (ValueError('target_modules={modules}'))")


def test_a_checkpoint_with_nothing_that_trains(tmp_path, made):
    folder = adapter(tmp_path / "adapter", made)
    tree = {"llm": {"layers": {"0": {"mlp": {"up_proj": {"lora_a": np.ones((32, 3))}}}}}}
    call = lambda: trained.read(folder, tree, made.lora)  # noqa: E731
    refused(call, folder, "holds nothing that trains here", "config.lora.targets")


def test_a_start_that_leaves_the_base_alone_is_plain(tmp_path, made):
    folder = adapter(tmp_path / "adapter", made)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init_lora_weights": "gaussian"}))
    trained.read(folder, trained_tree(made), made.lora)


def test_one_matrix_in_two_spellings(tmp_path, made):
    folder = adapter(tmp_path / "adapter", made)
    path = folder / "adapter_model.safetensors"
    sound = load_file(path)
    key = next(key for key in sound if key.endswith("lora_A.weight"))
    other = key.replace("lora_A.weight", "lora_A.default.weight")
    save_file(sound | {other: sound[key] + 1}, path)
    call = lambda: trained.read(folder, trained_tree(made), made.lora)  # noqa: E731
    refused(call, folder, f"'{key}'", f"'{other}'", "which are one")


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


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle 2", "pickle 4"])
def test_a_pickle_with_code_is_not_run(tmp_path, made, form):
    torch = pytest.importorskip("torch", reason="PyTorch files need torch")
    bad, trace = tmp_path / "bad.pth", tmp_path / "trace"
    content = {"model": {"llama_proj.bias": torch.ones(2)}, "config": Code(trace)}
    if form.startswith("pickle"):  # no file of torch.save
        bad.write_bytes(pickle.dumps(content["config"], int(form[-1])))
    else:
        torch.save(content, bad, _use_new_zipfile_serialization=form == "zip")
    said = ("holds code (io.open), which is never run", "save its tensors alone")
    if form == "pickle 4":  # torch cannot read its words, so nothing is known of what it holds
        said = ("pickled in a way that is never run", "save its tensors alone")
    for call in (
        lambda: trained.read(bad, trained_tree(made), made.lora),
        lambda: parts.tower(bad, foreign.abstract(made), 2),
    ):
        refused(call, bad, *said)
    assert not trace.exists()
    if form == "zip":  # a reader that runs code would have made it
        torch.load(bad, weights_only=False)["config"].close()
        assert trace.exists()


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
