"""What trained, out of a parameter tree: PEFT adapter and official .pth."""

import io
import json
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from pefomed_jax.errors import UserError
from pefomed_jax.weights import export, hub, names, output
from pefomed_jax.weights.files import TORCH_SUFFIXES


def adapter(out: pathlib.Path, trainable: export.Tree, config: ConfigDict, card: str) -> None:
    """A folder that peft loads, with connector.safetensors for all that trained beside LoRA.

    Errors: UserError where something trained in the decoder that is no LoRA.
    """
    leaves = export.leaves_of(trainable)
    lora = {path: leaf for path, leaf in leaves.items() if path.endswith(export.LORA)}
    rest = {path: leaf for path, leaf in leaves.items() if path not in lora}
    if not lora:
        raise UserError("nothing here is LoRA; export with --to=pth or --to=merged")
    if own := [path for path in rest if path.startswith("llm/")]:
        raise UserError(
            f"'{own[0]}' trained, which a PEFT adapter cannot hold; export with --to=pth or "
            f"--to=merged"
        )
    modules = [path.removesuffix("/lora_a") for path in lora if path.endswith("/lora_a")]
    arrays = dict(export.turned(export.names_for(lora, names.PEFT), lora))
    others = dict(export.turned(export.names_for(rest, names.OFFICIAL), rest))
    with output.whole(out, export.n_bytes(arrays) + export.n_bytes(others)) as part:
        part.mkdir()
        save_file(arrays, part / "adapter_model.safetensors", output.PT)
        if others:
            save_file(others, part / "connector.safetensors", output.PT)
        output.json_file(part / "adapter_config.json", adapter_config(modules, leaves, config))
        (part / "README.md").write_text(card, encoding="utf-8")


def adapter_config(modules: list[str], leaves: export.Leaves, config: ConfigDict) -> dict[str, Any]:
    """peft's adapter_config.json for these modules."""
    full = [names.decoder_module(module) for module in modules]
    ends = sorted({name.rsplit(".", 1)[-1] for name in full})
    everywhere = {
        names.decoder_module(path.removesuffix("/kernel"))
        for end in ends
        for path in (e.path for e in names.llama(config.model.llm.depth, False))
        if path.endswith(f"/{end}/kernel") or (end == "lm_head" and path == names.HEAD[0])
    }
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": hub.public(config.weights.llm) or None,
        "r": int(config.lora.rank),
        "lora_alpha": config.lora.alpha,
        "lora_dropout": config.lora.dropout,
        "target_modules": ends if everywhere == set(full) else sorted(full),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "use_rslora": False,
        "use_dora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "modules_to_save": None,
    }


def check_pth(out: pathlib.Path) -> None:
    """Errors: UserError where `out` is no name that a checkpoint of PyTorch is read by."""
    if out.suffix not in TORCH_SUFFIXES:
        raise UserError(f"--out={out}: a PyTorch checkpoint is one file; end its name in .pth")


def pth(out: pathlib.Path, trainable: export.Tree, config: ConfigDict, card: str) -> None:
    """The checkpoint of the official code: {'model': what trained, under its names, ...}."""
    try:
        import torch
    except ImportError:
        raise UserError("a .pth needs torch: pip install 'pefomed_jax[convert]'") from None
    check_pth(out)
    leaves = export.leaves_of(trainable)
    arrays = dict(export.turned(export.names_for(leaves, names.OFFICIAL), leaves))
    model = {name: _to_torch(array) for name, array in arrays.items()}
    plain = json.loads(json.dumps(config.to_dict()))
    plain["weights"] = {key: hub.public(name) for key, name in config.weights.items()}
    plain["data"] |= {key: hub.public(plain["data"][key]) for key in ("dir", "cache")}
    with output.whole(out, export.n_bytes(arrays)) as part:
        buffer = io.BytesIO()  # so that a full disk is the system's error, not torch's
        torch.save({"model": model, "config": plain, "epoch": 0, "card": card}, buffer)
        part.write_bytes(buffer.getbuffer())


def _to_torch(array: np.ndarray) -> Any:
    import torch

    array = np.array(array, order="C")  # its own, and writable
    if array.dtype == export.DTYPES["bfloat16"]:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)
