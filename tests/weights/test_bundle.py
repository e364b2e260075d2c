"""From a path to the config of what lies there."""

import json
import re

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.errors import UserError
from pefomed_jax.weights import bundle

SIZES = {"image_size": 28, "patch_size": 7, "vit_width": 16, "vit_depth": 2}
SIZES |= {"vit_heads": 2, "vit_mlp": 24, "lora_r": 3, "lora_alpha": 6}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def write_run(folder, **changed):
    config = config_lib.make("caption", "small")
    config.data.ratios = (("clef", 60), ("roco", 40.5))
    config.optimizer.lr = 2e-4
    config.weights.base = "tiny"
    write(folder / "config.json", config.to_dict() | changed)
    return config


def write_bundle(folder, adapter=None, **changed):
    write(folder / "preset.json", SIZES | changed)
    (folder / "llama").mkdir()
    write(folder / "vision_proj.safetensors", "")
    if adapter:
        write(folder / "adapter" / "adapter_config.json", adapter)
    return folder


def refused(path, *words):
    with pytest.raises(UserError) as caught:
        bundle.config(path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert str(word) in str(caught.value)


def test_a_run_is_its_own_config_with_itself_as_checkpoint(tmp_path):
    wanted = write_run(tmp_path)
    wanted.weights.checkpoint = str(tmp_path)
    found = bundle.config(tmp_path)
    assert found.to_dict() == wanted.to_dict()  # tuples too, which JSON has not
    assert found.is_locked
    assert bundle.config(str(tmp_path)).to_dict() == wanted.to_dict()


def test_fields_that_a_run_of_before_lacks_are_at_their_defaults(tmp_path):
    content = write_run(tmp_path).to_dict()
    del content["eval"]["train_limit"]
    del content["quirks"]
    content["optimizer"]["lr_scale"] = {"lora": 2.0, "head": 3.0}
    write(tmp_path / "config.json", content)
    found = bundle.config(tmp_path)
    assert found.eval.train_limit == 0
    assert not found.quirks.official
    assert found.optimizer.lr_scale.to_dict() == {"lora": 2.0, "connector": 1.0, "head": 3.0}


def test_tiny_is_the_embedded_base():
    found = bundle.config("tiny")
    assert (found.task, found.preset, found.weights.base) == ("mrg", "tiny", "tiny")


def test_a_bundle_gives_geometry_lora_and_paths(tmp_path):
    own = {"r": 5, "lora_alpha": 20, "target_modules": ["q_proj", "v_proj", "lm_head"]}
    found = bundle.config(write_bundle(tmp_path, own))
    assert found.model.vision.to_dict() == {
        "image_size": 28,
        "patch_size": 7,
        "width": 16,
        "depth": 2,
        "heads": 2,
        "mlp_dim": 24,
    }
    assert found.model.concat == 4
    assert (found.lora.rank, found.lora.alpha) == (5, 20.0)
    assert found.lora.targets == r"^llm/(.*/)?(head|q_proj|v_proj)$"
    assert found.weights.to_dict() == {
        "base": "",
        "llm": str(tmp_path / "llama"),
        "vision": str(tmp_path / "vision_proj.safetensors"),
        "checkpoint": str(tmp_path / "adapter"),
    }


def test_a_bundle_without_an_adapter_takes_lora_from_the_preset(tmp_path):
    found = bundle.config(write_bundle(tmp_path, concat=2))
    assert (found.lora.rank, found.lora.alpha, found.model.concat) == (3, 6.0, 2)
    assert found.weights.checkpoint == ""


def test_a_bundle_lacks_something(tmp_path):
    write_bundle(tmp_path)
    (tmp_path / "vision_proj.safetensors").unlink()
    refused(tmp_path, tmp_path, "no vision_proj.safetensors or vision_proj.pth")
    write(tmp_path / "preset.json", {k: v for k, v in SIZES.items() if k != "vit_mlp"})
    refused(tmp_path, tmp_path / "preset.json", "has no 'vit_mlp'")
    write(tmp_path / "preset.json", "[1]")
    refused(tmp_path, "holds no JSON object")


def test_targets_as_a_regex_are_refused(tmp_path):
    own = {"r": 5, "lora_alpha": 20, "target_modules": ".*q_proj"}
    write_bundle(tmp_path, own)
    refused(tmp_path, "target_modules='.*q_proj' is a regex; list the names instead")


def test_a_path_that_is_nothing(tmp_path):
    refused(tmp_path / "none", "there is no folder", tmp_path / "none", "launch/convert.py")
    refused("tinny", "there is no folder tinny")
    refused(tmp_path, tmp_path, "is no run's folder (config.json, checkpoints/)", "preset.json")
    write(tmp_path / "config.json", {"model_type": "llama"})
    refused(tmp_path, "is a decoder without a vision tower", "give it as config.weights.llm")
    refused(tmp_path / "config.json", "is no run's folder")


def test_a_damaged_config_names_its_file(tmp_path):
    path = tmp_path / "config.json"
    write(path, '{"task": ')
    refused(tmp_path, path, "is damaged")
    write(path, {"task": "vqa"})
    refused(tmp_path, path, "is no run's config ('preset')")
    write_run(tmp_path, seed="many")
    refused(tmp_path, path, "is no run's config", "seed")
    write_run(tmp_path, preset="huge")
    refused(tmp_path, "preset 'huge' is not one of tiny, small, 7b")
    write(path, {"made_from": {}, "task": "vqa"})
    refused(tmp_path, path, "is not of a native folder", "'model'")


@pytest.mark.parametrize("value", [0, -3, "16", 2.5, True, None])
def test_a_size_that_is_none(tmp_path, value):
    folder = write_bundle(tmp_path, vit_depth=value)
    refused(folder, folder / "preset.json", f"vit_depth={value!r} is no number above 0")


def test_an_adapter_on_some_layers(tmp_path):
    """peft lists full names then; every one of them counts, and no other layer."""
    names = [f"model.layers.0.self_attn.{kind}_proj" for kind in "qv"]
    folder = write_bundle(tmp_path, {"r": 5, "lora_alpha": 20, "target_modules": names})
    targets = bundle.config(folder).lora.targets
    assert re.search(targets, "llm/layers/0/attn/q_proj")
    assert not re.search(targets, "llm/layers/1/attn/q_proj")
    assert not re.search(targets, "llm/layers/0/attn/k_proj")
