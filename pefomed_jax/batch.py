"""The types that cross rooms: `Case` (one scored example) and `Batch` (what a step consumes).

Letters: B rows, T tokens, I images a row, P patches, E vision width, A answer positions.
"""

import dataclasses
from typing import Any

import flax.struct
import numpy as np

Array = Any  # a NumPy array on the host, a jax.Array on the device, a ShapeDtypeStruct in a plan


@dataclasses.dataclass(frozen=True)
class Case:
    """One scored example: a question (or a request for a report) about images, with its answer.

    `images` are what the source reads them by: paths, or keys of its own; two views of a chest, the
    photographs of a dermatology case, or none for a case of text alone. `fields` are the source's
    own columns (`answer_type`, drawn findings, ...), written next to the prediction; where it knows
    them, `patient_id` and `study_id` are among them, and no patient is then split over two splits.
    """

    id: str
    images: tuple[str, ...]
    question: str  # empty for reports and captions: the instruction comes from `data/prompts.py`
    answer: str
    split: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def source(self) -> str:
        """The part of a mixture, or the folder of lists, that it is from; '' where there is one."""
        return self.id.partition("/")[0] if "/" in self.id else ""

    @property
    def image(self) -> str:
        """The first of its images; '' for a case of text alone."""
        return self.images[0] if self.images else ""


@flax.struct.dataclass
class Batch:
    """Rows of one global batch; see docs/architecture.md for the meaning of each array."""

    tokens: Array  # int32 [B, T]
    positions: Array  # int32 [B, T]
    branch: Array  # int32 [B, T]
    image_slot: Array  # int32 [B, T]
    target_pos: Array  # int32 [B, A]
    targets: Array  # int32 [B, A]
    weights: Array  # float32 [B, A]
    images: Array | None = None  # uint8 [B, I, H, W, 3]
    features: Array | None = None  # float [B, I, P, E], instead of images

    def validate(self) -> "Batch":
        """Raises ValueError when a shape or a dtype is off; returns itself."""
        b, t = self.tokens.shape
        a = self.targets.shape[1]
        for name in ("tokens", "positions", "branch", "image_slot"):
            _expect(name, getattr(self, name), (b, t), np.int32)
        for name in ("target_pos", "targets"):
            _expect(name, getattr(self, name), (b, a), np.int32)
        _expect("weights", self.weights, (b, a), np.float32)
        if (self.images is None) == (self.features is None):
            raise ValueError("a batch holds images or features, exactly one of them")
        pixels = self.images if self.features is None else self.features
        if pixels.shape[0] != b or pixels.ndim != (5 if self.features is None else 4):
            raise ValueError(f"images or features have shape {pixels.shape} for {b} rows")
        return self


def _expect(name: str, array: Array, shape: tuple[int, ...], dtype: Any) -> None:
    if tuple(array.shape) != shape or array.dtype != dtype:
        want = f"{np.dtype(dtype)}{list(shape)}"
        raise ValueError(f"batch.{name} is {array.dtype}{list(array.shape)}, expected {want}")
