"""Against a reference file of the PyTorch peer in the shared folder: another, independent model."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

pytest.importorskip("torch", reason="the comparisons with PyTorch need torch")
pytest.importorskip("peft", reason="the comparisons with PyTorch need peft")

import reference
import samples
from safetensors.numpy import load_file

from pefomed_jax.batch import Batch
from pefomed_jax.models import mllm
from pefomed_jax.peft.lora import LoRA

TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def peer(shared, tmp_path_factory):
    """(preset, arrays of the reference file, parameter tree) of the peer's `tiny`."""
    script = shared / "bench" / "peer_torch.py"
    if not script.is_file():
        pytest.skip("no PyTorch peer in the shared folder")
    out = tmp_path_factory.mktemp("peer")
    for command in (["reference", "--out", out / "tiny.npz"], ["export", "--out", out / "files"]):
        arguments = [sys.executable, script, *command, "--preset", "tiny", "--threads", "1"]
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        assert done.returncode == 0, done.stderr
    files = out / "files"
    arrays = load_file(files / "vision_proj.safetensors")
    arrays |= load_file(files / "llama" / "model.safetensors")
    arrays |= load_file(files / "adapter" / "adapter_model.safetensors")
    tree = jax.tree.map(jax.numpy.asarray, reference.tree(named(arrays)))
    return json.loads((files / "preset.json").read_text()), dict(np.load(out / "tiny.npz")), tree


def named(arrays):
    """The peer's names in those of the reference."""
    prefixes = {"visual_encoder.": "vision.", "llama_proj.": "proj.", "llama_model.": ""}
    out = {}
    for name, array in arrays.items():
        for old, new in prefixes.items():
            if name.startswith(old):
                name = new + name.removeprefix(old)
        out[name] = array
    return out


def config(preset):
    p = ConfigDict(preset)
    c = samples.small()
    c.vision.update(image_size=p.image_size, patch_size=p.patch_size, width=p.vit_width)
    c.vision.update(depth=p.vit_depth, heads=p.vit_heads, mlp_dim=p.vit_mlp)
    c.llm.update(vocab_size=p.vocab_size, width=p.hidden_size, depth=p.num_layers)
    c.llm.update(heads=p.num_heads, kv_heads=p.num_heads, mlp_dim=p.mlp_size)
    c.llm.update(norm_eps=p.rms_eps, rope_theta=p.rope_theta, tie_embeddings=False)
    return c


def batch(arrays):
    """The peer's rows: one branch, padding on the right, a target wherever there is a label."""
    tokens, valid, labels = (
        arrays[k].astype(np.int32) for k in ("ids", "attention_mask", "labels")
    )
    columns, start = np.arange(tokens.shape[1], dtype=np.int32), int(arrays["image_start"])
    slot = np.where(columns < start + arrays["n_image_tokens"], columns - start, -1)
    slot = np.broadcast_to(np.maximum(slot, -1), tokens.shape).astype(np.int32)
    wide = max((labels != -100).sum(axis=1))
    places = [np.flatnonzero(row != -100) for row in labels]
    target = np.stack([np.pad(at, (0, wide - len(at))) for at in places]).astype(np.int32)
    weights = np.stack([np.arange(wide) < len(at) for at in places]).astype(np.float32)
    return Batch(
        tokens=tokens,
        positions=np.where(valid, columns, 0).astype(np.int32),
        branch=valid - 1,
        image_slot=slot,
        target_pos=np.maximum(target - 1, 0),
        targets=np.maximum(np.take_along_axis(labels, target, axis=1), 0),
        weights=weights,
        images=arrays["image"].transpose(0, 2, 3, 1)[:, None],
    ).validate()


def forward(model, data):
    """All that the peer has written down on the way to its logits at every position."""
    tower = model.vision(data.images[:, 0])
    features = model.encode(data.images)
    visual = model.connect(features)
    x = model.embed(data.tokens, data.image_slot, visual)
    logits = model.logits(model.hidden(x, data.positions, data.branch)[0])
    return {
        "vit_out": tower,
        "ln_vision_out": features[:, 0],
        "image_tokens": visual,
        "logits": logits,
    }


def test_the_peer_of_the_shared_folder(peer):
    preset, arrays, tree = peer
    model, data = mllm.build(config(preset), LoRA(float(preset["lora_alpha"]))), batch(arrays)
    ours = jax.jit(lambda p, d: model.apply({"params": p}, d, method=forward))(tree, data)
    arrays["ln_vision_out"] = arrays["ln_vision_out"][:, 1:]  # without the class token
    valid = arrays["attention_mask"] == 1
    for name, array in ours.items():
        theirs, mine = arrays[name], np.asarray(array)
        if name == "logits":
            theirs, mine = theirs[valid], mine[valid]
        assert theirs.shape == mine.shape, name
        assert np.abs(mine - theirs).max() < TOLERANCE * np.abs(theirs).max(), name
    loss, grads = samples.value_and_grad(model, tree, data)
    assert abs(float(loss) - arrays["loss"]) < TOLERANCE * arrays["loss"]
    grad = {k.removeprefix("grad/"): v for k, v in arrays.items() if k.startswith("grad/")}
    distance = samples.apart(grads, reference.tree(named(grad)))
    assert len(distance) == len(grad) == 2 * 2 * preset["num_layers"] + 2
    assert max(distance.values()) < TOLERANCE, distance
