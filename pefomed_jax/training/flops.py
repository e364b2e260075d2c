"""Useful floating-point operations of a training step, for the MFU of the progress line.

A weight of a matrix costs 2 operations a token forward, 2 more where a gradient passes through to
something trained before it, and 2 more where it is trained itself: 6 trained, 4 frozen behind
something trained, 2 frozen in front of everything trained (the vision tower of a LoRA run). The
head counts at target positions only; attention counts the pairs that see each other, backward twice
the forward. What is computed again (remat) or for padding is not useful and not counted. That an
unrolled last layer answers for targets alone is not deducted (less than 1 in L).
"""

import dataclasses
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from pefomed_jax.batch import Batch
from pefomed_jax.peft.masks import FROZEN, Tree

# Dense bf16 peak of one device in FLOP/s, by the vendors' data sheets; the first match counts.
PEAKS = (
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("A100", 312e12),
    ("L40", 362e12),
    ("L4", 121e12),
    ("TPU v6", 918e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v4", 275e12),
)
ORDER = ("vision", "ln_vision", "connector", "llm")  # the way of the data through the modules


@dataclasses.dataclass(frozen=True)
class Cost:
    """Operations of one training step for each of the things it works on."""

    token: float  # a text or image token in the decoder
    target: float  # a position that meets the head
    pair: float  # a (query, key) pair in the decoder
    visual: float  # a visual token in the connector
    image: float  # an image in the vision tower
    slots: int  # visual tokens an image

    def step(self, batch: Batch) -> float:
        """Operations of a step on this batch (on its rows here, where processes share it)."""
        valid = np.asarray(batch.branch) >= 0
        # a token sees itself, and all before it in its own branch and the prefix: its position
        pairs = (np.asarray(batch.positions) + 1)[valid].sum(dtype=np.int64)
        visual = np.count_nonzero(np.asarray(batch.image_slot) >= 0)
        images = 0 if batch.images is None else visual / self.slots
        return (
            self.token * np.count_nonzero(valid)
            + self.target * np.count_nonzero(batch.weights)
            + self.pair * float(pairs)
            + self.visual * visual
            + self.image * images
        )


def cost(params: Tree, labels: Tree, model_config: Any) -> Cost:
    """The cost of a step: `params` are arrays or shapes, `labels` their groups (`peft/masks.py`).

    `model_config` is `config.model`.
    """
    leaves, groups = flatten_dict(params, sep="/"), flatten_dict(labels, sep="/")
    trained = {path.split("/")[0] for path, group in groups.items() if group != FROZEN}
    first = min((ORDER.index(module) for module in trained), default=len(ORDER))
    sums = dict.fromkeys(("vision", "connector", "layers", "head"), 0.0)
    for path, leaf in leaves.items():
        if part := _part(path, model_config.llm.tie_embeddings):
            behind = ORDER.index(path.split("/")[0]) >= first
            factor = 6 if groups[path] != FROZEN else 4 if behind else 2
            sums[part] += factor * float(np.prod(leaf.shape))
    vision, llm = model_config.vision, model_config.llm
    patches = (vision.image_size // vision.patch_size) ** 2
    passes = 3 if first == 0 else 1  # over the tower's attention
    attention = 4 * (patches + 1) ** 2 * vision.width * vision.depth * passes
    return Cost(
        token=sums["layers"],
        target=sums["head"],
        pair=(3 if trained else 1) * 4.0 * llm.width * llm.depth,
        visual=sums["connector"],
        image=sums["vision"] * (patches + 1) + attention,
        slots=patches // model_config.concat,
    )


def _part(path: str, tied: bool) -> str | None:
    """Which product a leaf takes part in; None for vectors and for tables that are looked up."""
    if path.startswith("llm/head/") or (tied and path == "llm/embed/embedding"):
        return "head"
    if not path.endswith(("/kernel", "/lora_a", "/lora_b")):
        return None
    return "layers" if path.startswith("llm/") else path.split("/")[0]


def peak(device_kind: str, dtype: Any) -> float | None:
    """FLOP/s that one device (by `jax.Device.device_kind`) can reach; None where not known.

    Only bf16 peaks are known: of any other `dtype` (that of the computation) there is none.
    """
    if str(dtype) != "bfloat16":
        return None
    return next((flops for name, flops in PEAKS if name in device_kind), None)
