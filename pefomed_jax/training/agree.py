"""How far this model is from a reference file of the PyTorch peer, tensor by tensor.

The file holds inputs (image, ids, attention_mask, labels, image_start, n_image_tokens) and what
PyTorch made of them: vit_out, ln_vision_out, image_tokens, logits, loss, grad/<name>,
train_losses and after/<name> (a few AdamW steps under train_lr_wd_b1_b2_eps).
"""

import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch
from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm, stack
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.training import restore, rounding
from pefomed_jax.training.step import make_loss_and_grad
from pefomed_jax.weights import names, trained

Arrays = dict[str, np.ndarray]
NEEDED = ("image", "ids", "attention_mask", "labels", "image_start", "n_image_tokens", "logits")


class Difference(NamedTuple):
    """max|a - b| / max|b| of one tensor."""

    name: str
    value: float
    largest: float | None = None  # with what rounding alone decided


def read(path: pathlib.Path) -> Arrays:
    """The arrays of a reference file. Errors: UserError where it is none."""
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as .npz ({error})") from None
    if absent := [key for key in NEEDED if key not in arrays]:
        raise UserError(f"{path} has no array '{absent[0]}'; write it with peer_torch.py reference")
    return arrays


def prepare(config: ConfigDict, arrays: Arrays) -> ConfigDict:
    """The config in float32, on one device, with the optimizer of the reference's steps."""
    out = config.copy_and_resolve_references()
    out.model.update(dtype="float32", base_dtype="float32", attention="auto")
    out.lora.dropout = 0.0
    out.mesh.update(data=1, fsdp=1, tensor=1)
    out.train.update(batch_size=len(arrays["ids"]), accumulate=1)
    if "train_losses" in arrays:
        lr, decay, b1, b2, eps = map(float, arrays["train_lr_wd_b1_b2_eps"])
        out.optimizer.update(lr=lr, min_lr=lr, warmup_lr=lr, warmup_steps=0, schedule="step")
        out.optimizer.update(weight_decay=decay, b1=b1, b2=b2, eps=eps, clip=0.0)
        out.train.steps = len(arrays["train_losses"])
    return out


def differences(config: ConfigDict, arrays: Arrays) -> Iterator[Difference]:
    """All that can be compared, in the order of the computation."""
    config = prepare(config, arrays)
    mesh = mesh_lib.make(config.mesh, jax.devices()[:1])
    whole = restore.restore(config, mesh)
    batch = make_batch(arrays)
    with jax.set_mesh(mesh):
        yield from _forward(whole, arrays, batch)
        yield from _gradients(whole, arrays, batch)
        if "train_losses" in arrays:
            yield from _steps(whole, arrays, batch)


def make_batch(arrays: Arrays) -> Batch:
    """The reference's rows: one branch, padding on the right, a target for every label."""
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


def _forward(whole: restore.Restored, arrays: Arrays, batch: Batch) -> Iterator[Difference]:
    def run(model: mllm.MLLM, data: Batch) -> dict[str, jax.Array]:
        features = model.encode(data.images)
        visual = model.connect(features)
        x = model.embed(data.tokens, data.image_slot, visual)
        return {
            "vit_out": model.vision(data.images[:, 0]),
            "ln_vision_out": features[:, 0],
            "image_tokens": visual,
            "logits": model.logits(model.hidden(x, data.positions, data.branch)[0]),
        }

    model = whole.pieces.model
    ours = jax.jit(lambda p, b: model.apply({"params": p}, b, method=run))(whole.params, batch)
    valid = arrays["attention_mask"] == 1
    for name, array in ours.items():
        if name not in arrays:
            continue
        theirs, mine = arrays[name], np.asarray(array)
        if name == "ln_vision_out":
            theirs = theirs[:, 1:]  # ours leaves the class token out before
        if name == "logits":
            theirs, mine = theirs[valid], mine[valid]
        yield compare(name, mine, theirs)


def _gradients(whole: restore.Restored, arrays: Arrays, batch: Batch) -> Iterator[Difference]:
    loss_and_grad = make_loss_and_grad(whole.pieces.model, 1)
    key = jax.random.key(0)
    loss, grads = jax.jit(loss_and_grad)(whole.state.trainable, whole.frozen, batch, key)
    if "loss" in arrays:
        yield compare("loss", np.asarray(loss), arrays["loss"])
    yield from _tree("grad/", grads, arrays)


def _steps(whole: restore.Restored, arrays: Arrays, batch: Batch) -> Iterator[Difference]:
    """Losses and parameters of the reference's AdamW steps."""
    count, gradients = len(arrays["train_losses"]), _gradients_of(whole.state.trainable, arrays)
    twin = rounding.twin(whole, batch, gradients, count)
    step, state, losses = whole.pieces.jit_step(), whole.state, []
    for _ in range(count):
        state, metrics = step(state, whole.frozen, batch)
        losses.append(float(metrics["loss"]))
    yield compare("train_losses", np.asarray(losses), arrays["train_losses"])
    others = {entry.foreign: array for entry, array in _named(twin)}
    for entry, mine in _named(state.trainable, arrays, "after/"):
        theirs = arrays[f"after/{entry.foreign}"]
        found = compare(f"after/{entry.foreign}", mine, theirs)
        further = rounding.beyond(mine, theirs, others[entry.foreign])
        largest = max(float(np.abs(theirs).max(initial=0.0)), 1e-30)
        yield Difference(found.name, further / largest, found.value)


def _gradients_of(trainable: Any, arrays: Arrays) -> Any:
    """The reference's gradients as a tree of ours."""
    leaves = {
        entry.path: jnp.asarray(names.TURNS[entry.turn].ours(arrays[f"grad/{entry.foreign}"]))
        for entry, _ in _named(trainable, arrays, "grad/")
    }
    tree = unflatten_dict(leaves, sep="/")
    stacked = any(names.paths.is_stacked(path) for path in flatten_dict(trainable, sep="/"))
    return stack.stack(tree) if stacked else tree


def _tree(prefix: str, tree: Any, arrays: Arrays) -> Iterator[Difference]:
    for entry, mine in _named(tree, arrays, prefix):
        yield compare(prefix + entry.foreign, mine, arrays[prefix + entry.foreign])


def _named(
    tree: Any, arrays: Arrays | None = None, prefix: str = ""
) -> Iterator[tuple[names.Entry, np.ndarray]]:
    """Every leaf as the official layout has it; with arrays, both sides must have the same ones."""
    leaves = flatten_dict(stack.unstack(tree), sep="/")
    table = {entry.foreign: entry for entry in trained.table(leaves, names.OFFICIAL)}
    theirs = {key.removeprefix(prefix) for key in arrays or () if key.startswith(prefix)}
    if arrays is not None and (odd := sorted(table.keys() ^ theirs)):
        side = "the reference" if odd[0] in theirs else "this model"
        raise UserError(f"'{prefix}{odd[0]}' is in {side} only; see what trains in both")
    for entry in table.values():
        yield entry, names.TURNS[entry.turn].theirs(np.asarray(leaves[entry.path]))


def compare(name: str, mine: np.ndarray, theirs: np.ndarray) -> Difference:
    """max|mine - theirs| / max|theirs|; NaN anywhere is infinite. Errors: UserError by shape."""
    if mine.shape != theirs.shape:
        raise UserError(f"'{name}' is {list(mine.shape)} here, {list(theirs.shape)} in the file")
    apart = np.abs(mine.astype(np.float64) - theirs).max(initial=0.0)
    value = float(apart / max(np.abs(theirs).max(initial=0.0), 1e-30))
    return Difference(name, value if np.isfinite(value) else float("inf"))


def worst_of_kinds(found: list[Difference]) -> list[Difference]:
    """The largest of all layers for each kind of tensor, in the order they came."""
    worst: dict[str, Difference] = {}
    for each in found:
        kind = ".".join("*" if part.isdigit() else part for part in each.name.split("."))
        if kind not in worst or each.value > worst[kind].value:
            worst[kind] = each
    return list(worst.values())
