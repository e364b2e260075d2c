"""The PyTorch peer of the shared folder, in this process, with other decoders than its own."""

import argparse
import functools
import importlib.util
import json

import numpy as np
import pytest
import torch
import transformers

SIZES = {"image_size": 28, "patch_size": 7, "vit_depth": 2, "rms_eps": 1e-5, "rope_theta": 1e4}


def load(shared):
    """The module peer_torch.py, or a skip where it is not there."""
    script = shared / "bench" / "peer_torch.py"
    if not script.is_file():
        pytest.skip("no PyTorch peer in the shared folder")
    spec = importlib.util.spec_from_file_location("peer_torch", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(seed):
    """Sizes at random: (preset, key/value heads, tied)."""
    rng = np.random.default_rng(seed)
    heads, kv_heads = [(4, 4), (4, 2), (6, 1), (6, 3)][seed % 4]
    vit_heads = int(rng.choice([2, 4]))
    preset = SIZES | {
        "vit_heads": vit_heads,
        "vit_width": vit_heads * int(rng.choice([8, 12])),
        "vit_mlp": int(rng.integers(20, 60)),
        "hidden_size": heads * int(rng.choice([8, 12])),
        "num_layers": int(rng.integers(1, 4)),
        "num_heads": heads,
        "mlp_size": int(rng.integers(40, 90)),
        "vocab_size": int(rng.integers(60, 130)),
        "lora_r": int(rng.integers(2, 9)),
        "lora_alpha": int(rng.integers(9, 20)),
    }
    return preset, kv_heads, bool(seed % 2)


def patch_llama(monkeypatch, kv_heads, tied):
    """The peer's decoder with so many key/value heads, its head tied or not."""
    real = transformers.LlamaConfig

    def other(**options):
        own = {"num_key_value_heads": kv_heads, "tie_word_embeddings": tied}
        return real(**(options | own))

    monkeypatch.setattr(transformers, "LlamaConfig", other)


def write(module, monkeypatch, folder, preset, kv_heads, tied, seed):
    """The peer's own export and reference file, for these sizes."""
    patch_llama(monkeypatch, kv_heads, tied)
    path = folder / "preset_in.json"
    path.write_text(json.dumps(preset))
    options = dict(preset=str(path), seed=seed, shard="40KB", attn="sdpa", new=2, lr=1e-3, steps=4)
    make = functools.partial(argparse.Namespace, **options)
    module.cmd_export(make(out=str(folder / "files")), preset)
    module.cmd_reference(make(out=str(folder / "reference.npz")), preset)
    return folder / "files", folder / "reference.npz"


def logits(model, arrays):
    """The peer's logits on the inputs of a reference file."""
    image, ids, mask = (torch.from_numpy(arrays[k]) for k in ("image", "ids", "attention_mask"))
    with torch.no_grad():
        return model(image, ids, int(arrays["image_start"]), mask).numpy()


def loss(model, arrays):
    """The peer's loss on the inputs of a reference file."""
    names = ("image", "ids", "attention_mask", "labels")
    image, ids, mask, labels = (torch.from_numpy(arrays[k]) for k in names)
    with torch.no_grad():
        return model(image, ids, int(arrays["image_start"]), mask, labels).item()
