"""Loss, logits and every gradient against PyTorch: BLIP-2's vision model, LLaMA and peft's LoRA."""

import contextlib

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="the comparisons with PyTorch need torch")
pytest.importorskip("peft", reason="the comparisons with PyTorch need peft")

import reference
import samples
import torch

from pefomed_jax.models import mllm, vit
from pefomed_jax.peft.lora import LoRA

# raised between peft and transformers
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TOLERANCE = {"float32": 5e-5, "float64": 1e-9}
RANK, ALPHA = 3, 2.0


@contextlib.contextmanager
def precision(dtype: str):
    with jax.enable_x64(dtype == "float64"):
        yield


def build_reference(config, dtype, targets):
    model = reference.Reference(config, RANK, ALPHA, targets)
    reference.randomise(model, seed=3)
    return reference.double(model) if dtype == "float64" else model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("tied", "targets", "images"),
    [
        (False, ["q_proj", "v_proj"], 1),
        (True, ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], 2),
    ],
)
def test_loss_logits_and_gradients(model_config, dtype, tied, targets, images):
    model_config.llm.tie_embeddings = tied
    model_config.update(dtype=dtype, base_dtype=dtype)
    rows = samples.rows(model_config, [[(5, 4)], [(2, 3)], [(7, 1)]])
    batch = samples.batch(model_config, rows, images)
    peer = build_reference(model_config, dtype, targets)
    logits, loss = peer.loss(batch)
    loss.backward()
    with precision(dtype):
        model = mllm.build(model_config, LoRA(ALPHA))
        tree = jax.tree.map(jax.numpy.asarray, reference.tree(reference.weights(peer)))

        def both(p):
            logits = model.apply({"params": p}, batch)
            return samples.nll(logits, batch), logits

        (value, ours), grads = jax.jit(jax.value_and_grad(both, has_aux=True))(tree)
        ours = np.asarray(ours)
    theirs = np.take_along_axis(logits.detach().numpy(), batch.target_pos[:, :, None], axis=1)
    tolerance = TOLERANCE[dtype]
    assert str(ours.dtype) == dtype
    assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()
    assert abs(float(value) - loss.item()) < tolerance * loss.item()
    distance = samples.apart(grads, reference.tree(reference.gradients(peer)))
    assert max(distance.values()) < tolerance, distance
    assert sum("lora_" in path for path in distance) == 2 * 2 * len(targets)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vision_tower(model_config, dtype):
    model_config.vision.update(image_size=24, patch_size=8, depth=3)
    peer = reference.vision_model(model_config).eval()
    reference.randomise(peer, seed=1)
    peer = peer.to(getattr(torch, dtype))
    images = np.random.default_rng(0).normal(size=(2, 24, 24, 3)).astype(dtype)
    with torch.no_grad():
        states = peer.embeddings(torch.from_numpy(images).permute(0, 3, 1, 2))
        theirs = peer.encoder(inputs_embeds=states).last_hidden_state.numpy()
    names = {f"vision.{name}": array for name, array in reference.weights(peer).items()}
    model_config.update(dtype=dtype, base_dtype=dtype)
    with precision(dtype):
        model = mllm.build(model_config)
        tower = vit.VisionTower(model.vision_config, model.compute)
        tree = jax.tree.map(jax.numpy.asarray, reference.tree(names)["vision"])
        ours = np.asarray(jax.jit(tower.apply)({"params": tree}, jax.numpy.asarray(images)))
    assert np.abs(ours - theirs).max() < TOLERANCE[dtype] * np.abs(theirs).max()


@pytest.mark.parametrize(("grid_from", "grid_to"), [(16, 32), (5, 7), (9, 4), (4, 4)])
def test_bicubic_positions(grid_from, grid_to):
    positions = np.random.default_rng(0).normal(size=(1 + grid_from**2, 6)).astype(np.float32)
    square = torch.from_numpy(positions[1:]).reshape(1, grid_from, grid_from, 6)
    theirs = torch.nn.functional.interpolate(
        square.permute(0, 3, 1, 2), size=(grid_to, grid_to), mode="bicubic", align_corners=False
    )
    theirs = theirs.permute(0, 2, 3, 1).reshape(-1, 6).numpy()
    ours = np.asarray(vit.interpolate_positions(jax.numpy.asarray(positions), grid_from, grid_to))
    assert np.array_equal(ours[0], positions[0])
    assert np.abs(ours[1:] - theirs).max() < 1e-5
