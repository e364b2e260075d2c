"""A path → the config of what lies there: a run, a native folder, or a bundle of foreign files.

A bundle holds `preset.json` (sizes of the tower, LoRA), `llama/` (Hugging Face),
`vision_proj.safetensors` or `.pth` (tower, ln_vision, connector) and maybe `adapter/` (peft).
"""

import json
import pathlib
import re
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax import config as config_lib
from pefomed_jax.errors import UserError
from pefomed_jax.weights import names, parts, trained

PRESET = "preset.json"
DEMO = pathlib.Path(__file__).parents[1] / "assets" / "tiny" / "demo"
EMBEDDED = {"tiny": "", "demo": str(DEMO)}  # name: what was trained over the tiny base
# ours: theirs
VISION = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "width": "vit_width",
    "depth": "vit_depth",
    "heads": "vit_heads",
    "mlp_dim": "vit_mlp",
}


def config(path: pathlib.Path | str) -> ConfigDict:
    """The config under which the path's weights are loaded.

    'tiny' is the embedded base, 'demo' the same with what a run of configs/mrg.py trained.
    Errors: UserError where there is nothing of the three kinds.
    """
    if str(path) in EMBEDDED:
        out = config_lib.make("mrg")
        out.weights.checkpoint = EMBEDDED[str(path)]
        return out
    path = pathlib.Path(path).expanduser()
    if (path / PRESET).is_file():
        return _bundle(path)
    content = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    if "made_from" in content:
        return _native(path, content)
    if "task" in content:
        return run_config(content, path)
    if not path.exists():
        raise UserError(f"there is no folder {path}; give a run's, or one of launch/convert.py")
    if "model_type" in content:
        raise UserError(
            f"{path} is a decoder without a vision tower: give it as config.weights.llm, with "
            f"config.weights.vision (its connector.safetensors as config.weights.checkpoint)"
        )
    raise UserError(
        f"{path} is no run's folder (config.json, checkpoints/), no folder that launch/convert.py "
        f"wrote, and no bundle ({PRESET}, llama/, vision_proj.safetensors)"
    )


def read_json(path: pathlib.Path) -> Any:
    """A JSON object. Errors: UserError where the file is absent or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content


def run_config(content: dict[str, Any], folder: pathlib.Path) -> ConfigDict:
    """A run's config.json as a config of today: fields it lacks are at their defaults."""
    try:
        out = config_lib.make(content["task"], content["preset"])
        with out.unlocked():
            _update(out, content)
            out.weights.checkpoint = str(folder)
    except (KeyError, TypeError) as error:  # a field that is not there, or of another kind
        raise UserError(f"{folder / 'config.json'} is no run's config ({error})") from None
    return out.lock()


def _update(config: ConfigDict, content: dict[str, Any]) -> None:
    for key, value in content.items():
        if isinstance(value, dict) and key in config:
            _update(config[key], value)
        else:
            config[key] = tuples(value)


def tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def _bundle(folder: pathlib.Path) -> ConfigDict:
    preset = read_json(folder / PRESET)
    if absent := [key for key in VISION.values() if key not in preset]:
        raise UserError(f"{folder / PRESET} has no '{absent[0]}'")
    _check_numbers(folder / PRESET, preset)
    out, adapter = config_lib.make("vqa", "small"), folder / "adapter"
    with out.unlocked():
        out.model.vision = ConfigDict({ours: preset[key] for ours, key in VISION.items()})
        out.model.concat = preset.get("concat", 4)
        out.lora.update(rank=preset.get("lora_r", 64), alpha=float(preset.get("lora_alpha", 16)))
        if (adapter / trained.ADAPTER_CONFIG).is_file():
            own = trained.read_config(adapter / trained.ADAPTER_CONFIG)
            out.lora.update(rank=own["rank"], alpha=own["alpha"], targets=targets(own["targets"]))
            out.weights.checkpoint = str(adapter)
        found = [folder / name for name in trained.CONNECTORS if (folder / name).is_file()]
        if not found:
            raise UserError(f"{folder} has no vision_proj.safetensors or vision_proj.pth")
        out.weights.update(base="", llm=str(folder / "llama"), vision=str(found[0]))
        out.tokenizer = ""
    return out.lock()


def _check_numbers(path: pathlib.Path, preset: dict[str, Any]) -> None:
    whole = (*VISION.values(), "concat", "lora_r")
    for key in (name for name in (*whole, "lora_alpha") if name in preset):
        value, kinds = preset[key], int if key in whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or value <= 0:
            raise UserError(f"{path}: {key}={value!r} is no number above 0")


def targets(modules: Any) -> str:
    """peft's target_modules (names of modules, or a regex as one string) as config.lora.targets."""
    if isinstance(modules, str):
        raise UserError(
            f"adapter_config.json: target_modules='{modules}' is a regex; list the names instead"
        )
    ends = sorted(re.escape(names.our_module(name)) for name in modules)
    return rf"^llm/(.*/)?({'|'.join(ends)})$"


def _native(folder: pathlib.Path, content: dict[str, Any]) -> ConfigDict:
    own, asked = parts.native_config(folder), content.get("asked", {})
    out = config_lib.make(content.get("task", "mrg"), "small")
    with out.unlocked():
        for name in ("dtype", "base_dtype"):
            out.model[name] = own["model"].get(name, out.model[name])
        out.quirks.update(asked.get("quirks", {}))
        out.eval.max_new_tokens = asked.get("max_new_tokens", out.eval.max_new_tokens)
        if (folder / parts.INSTRUCTIONS).is_file():
            out.data.instructions = str(folder / parts.INSTRUCTIONS)
        out.weights.base = str(folder)
        out.tokenizer = ""
        if own["lora"]:
            out.lora.update(**own["lora"])
            out.weights.checkpoint = str(folder)
    return out.lock()
