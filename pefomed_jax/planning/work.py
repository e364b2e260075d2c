"""How long a step takes at least: its operations and its bytes against what a device can do."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch
from pefomed_jax.data.buckets import Bucket
from pefomed_jax.models import mllm
from pefomed_jax.planning.chips import Chip
from pefomed_jax.training import flops
from pefomed_jax.training.setup import Setup

UTILISATIONS = (0.3, 0.5)  # of the peak; what a step reaches is between, where it is well fed


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one step on one device."""

    flops: float  # useful operations (`training/flops.py`)
    seconds: dict[str, float]  # {'0.3': …} at these utilisations of the bf16 peak
    travel: float  # seconds that what is sent takes on the links, nothing else going on


def of(pieces: Setup, shape: Bucket, chip: Chip, sent: float) -> Work:
    """`sent`: bytes that one device sends in a step."""
    config, devices = pieces.config, pieces.mesh.size
    cost = flops.cost(pieces.params, pieces.labels, config.model)
    done = cost.step(_full(config, shape)) * config.train.batch_size / devices
    peak = flops.peak(chip.kind, config.model.dtype)
    seconds = {str(part): done / (part * peak) for part in UTILISATIONS} if peak else {}
    return Work(done, seconds, sent / chip.link if chip.link else 0.0)


def _full(config: ConfigDict, shape: Bucket) -> Batch:
    """A row of (T, A, I) without padding, its text shared out among its branches."""
    length, answers, images = shape
    visual, branches = mllm.visual_tokens(config.model) * images, config.data.branches
    prefix = length if branches == 1 else min(length, visual + 2)
    text = length - prefix
    each = max(1, -(-text // max(1, branches)))
    after = prefix + np.arange(text) % each
    positions = np.concatenate([np.arange(prefix), after])[None]
    slots = np.where(np.arange(length) < visual, np.arange(length), -1)[None]
    zeros = np.zeros((1, answers), np.int32)
    return Batch(
        tokens=np.zeros((1, length), np.int32),
        positions=positions,
        branch=np.zeros((1, length), np.int32),
        image_slot=slots,
        target_pos=zeros,
        targets=zeros,
        weights=np.ones((1, answers), np.float32),
        images=None if config.data.cache_features else np.zeros((1, images, 1, 1, 3), np.uint8),
    )
