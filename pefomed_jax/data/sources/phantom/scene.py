"""What is to be seen in a phantom: findings with side, size and zone, sampled from a seed.

Sides are the patient's: the patient's left lung is at the right of the picture.
"""

import dataclasses

import numpy as np

SIDES = ("right", "left")
LESIONS = ("effusion", "pneumothorax", "nodule", "consolidation")
FINDINGS = (
    "enlarged heart",
    *(f"{side} {kind}" for kind in LESIONS for side in SIDES),
    "line",
)
# Disjoint ranges of seeds; `base` draws the phantoms that the embedded base is pretrained on.
FIRST_SEED = {"train": 0, "val": 10_000_000, "test": 20_000_000, "base": 30_000_000}
LESION_ODDS = (0.44, 0.16, 0.13, 0.13, 0.14)  # none, then LESIONS


@dataclasses.dataclass(frozen=True)
class Lesion:
    """One finding of a lung. size: 'small' or 'large' (effusion, pneumothorax); zone: 'upper' or
    'lower' (nodule, consolidation); the other one of the two is empty."""

    kind: str
    size: str = ""
    zone: str = ""


@dataclasses.dataclass(frozen=True)
class Scene:
    """The content of one phantom; at most one lesion a lung, at most one nodule a picture."""

    seed: int
    enlarged_heart: bool
    right: Lesion | None
    left: Lesion | None
    line: bool

    @property
    def lungs(self) -> tuple[tuple[str, Lesion | None], ...]:
        return (("right", self.right), ("left", self.left))

    @property
    def findings(self) -> tuple[str, ...]:
        """Names from FINDINGS, in their order."""
        present = {f"{side} {lesion.kind}" for side, lesion in self.lungs if lesion}
        if self.enlarged_heart:
            present.add("enlarged heart")
        if self.line:
            present.add("line")
        return tuple(name for name in FINDINGS if name in present)


def rng_of(seed: int, stream: int) -> np.random.Generator:
    """Independent generators for one phantom: 0 content, 1 drawing, 2 report, 3 questions."""
    return np.random.default_rng((seed, stream))


def sample(seed: int) -> Scene:
    """The scene of a seed."""
    rng = rng_of(seed, 0)
    enlarged, line = bool(rng.random() < 0.35), bool(rng.random() < 0.3)
    right = _lesion(rng, "", crowded=False)
    left = _lesion(rng, right.kind if right else "", crowded=enlarged)
    return Scene(seed, enlarged, right, left, line)


def _lesion(rng: np.random.Generator, other: str, *, crowded: bool) -> Lesion | None:
    """crowded: the enlarged heart covers the lower zone, where a lesion would be hidden."""
    pick = int(rng.choice(len(LESION_ODDS), p=LESION_ODDS))
    first = bool(rng.random() < 0.5)
    if pick == 0:
        return None
    kind = LESIONS[pick - 1]
    if kind in ("effusion", "pneumothorax"):
        if kind == other == "pneumothorax":
            return None
        return Lesion(kind, size="small" if first else "large")
    if kind == other == "nodule":
        return None
    return Lesion(kind, zone="upper" if first or crowded else "lower")
