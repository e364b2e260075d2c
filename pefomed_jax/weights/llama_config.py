"""config.json of a Hugging Face LLaMA folder ↔ config.model.llm."""

import json
import pathlib
from typing import Any

from pefomed_jax.errors import UserError
from pefomed_jax.weights import hub, parts

# ours: theirs
SIZES = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "norm_eps": "rms_norm_eps",
}
# what LLaMA has and this decoder assumes
FIXED = {"attention_bias": False, "mlp_bias": False, "hidden_act": "silu"}
SCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def load(folder: pathlib.Path) -> dict[str, Any]:
    """The content of config.json. Errors: UserError where it is absent, damaged, no LLaMA's."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give a Hugging Face LLaMA folder") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); copy it again") from None
    if not isinstance(content, dict) or content.get("model_type") != "llama":
        kind = content.get("model_type") if isinstance(content, dict) else None
        raise UserError(f"{path} has model_type '{kind}'; only 'llama' can be read")
    return content


def read(folder: pathlib.Path) -> dict[str, Any]:
    """config.model.llm of the folder. Errors: UserError for what this decoder cannot compute."""
    path, content = folder / "config.json", load(folder)
    if absent := [key for key in SIZES.values() if key not in content]:
        raise UserError(f"{path} has no '{absent[0]}'; copy it again")
    for key, value in FIXED.items():
        if content.get(key, value) != value:
            raise UserError(f"{path}: {key}={content[key]} is not supported, only {value}")
    _check_plain(path, content)
    out = {ours: _number(path, content, theirs) for ours, theirs in SIZES.items()}
    head_size = content.get("head_dim") or out["width"] // out["heads"]
    if head_size * out["heads"] != out["width"]:
        raise UserError(f"{path}: head_dim={head_size} is not hidden_size / num_attention_heads")
    rope = _rope(content)
    theta = {"rope_theta": 10000.0, **content, **rope}
    return out | {
        "kv_heads": content.get("num_key_value_heads") or out["heads"],
        "norm_eps": float(out["norm_eps"]),
        "rope_theta": float(_number(path, theta, "rope_theta")),
        "rope_scaling": _scaling(path, rope),
        "tie_embeddings": bool(content.get("tie_word_embeddings", False)),
    }


def _check_plain(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Raises UserError where the weights are packed, or only some positions turn."""
    if content.get("quantization_config"):
        raise UserError(f"{path}: quantised weights cannot be read; give those they were made from")
    part = _rope(content).get("partial_rotary_factor", content.get("partial_rotary_factor"))
    if part not in (None, 1, 1.0):
        raise UserError(f"{path}: partial_rotary_factor={part} is not supported, only 1")


def _number(path: pathlib.Path, content: dict[str, Any], key: str) -> int | float:
    """A field that is above 0; whole where it counts something."""
    value = content[key]
    kinds = (int, float) if key in ("rms_norm_eps", "rope_theta", *SCALING) else int
    if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
        raise UserError(f"{path}: {key}={value!r} is no number above 0; copy the file again")
    return value


def _rope(content: dict[str, Any]) -> dict[str, Any]:
    """rope_parameters of transformers 5, or rope_scaling of before."""
    return content.get("rope_parameters") or content.get("rope_scaling") or {}


def _scaling(path: pathlib.Path, rope: dict[str, Any]) -> tuple[Any, ...]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return ()
    keys = {"linear": SCALING[:1], "llama3": SCALING}.get(kind)
    if keys is None:
        raise UserError(
            f"{path}: rope_type '{kind}' is not supported, only default, linear, llama3"
        )
    if absent := [key for key in keys if key not in rope]:
        raise UserError(f"{path}: rope_type '{kind}' has no '{absent[0]}'; copy the file again")
    return (kind, *(float(_number(path, rope, key)) for key in keys))


def origin(weights: Any) -> dict[str, Any]:
    """The config.json that config.weights' decoder came with; {} where it came with none."""
    if weights.llm:
        return load(hub.folder(weights.llm, weights=False))
    if weights.base in ("", "tiny", "random"):
        return {}
    return parts.native_config(pathlib.Path(weights.base).expanduser())["llama"]


def dump(llm: Any, dtype: str, origin: dict[str, Any]) -> dict[str, Any]:
    """config.json of a decoder: that of its origin, or one for sizes of ours."""
    if origin:
        return {k: v for k, v in origin.items() if k != "torch_dtype"} | {"dtype": dtype}
    kind, *numbers = llm.rope_scaling or ("default",)
    keys = SCALING if kind == "llama3" else ("factor",)
    scaling = dict(zip(keys, numbers, strict=False))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **{theirs: llm[ours] for ours, theirs in SIZES.items()},
        **FIXED,
        "num_key_value_heads": llm.kv_heads,
        "head_dim": llm.width // llm.heads,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": kind, "rope_theta": llm.rope_theta, **scaling},
        "tie_word_embeddings": llm.tie_embeddings,
        "dtype": dtype,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
