"""The base's own words for what is seen: short, and in no wording that reports use.

The decoder learns these words from pictures, and how reports say the same from text alone. A line
is never named from a picture: that is left to the fine-tuning run.
"""

import numpy as np

from pefomed_jax.data.sources.phantom.scene import LESIONS, Lesion, Scene

WORDS = {
    "effusion": "water",
    "pneumothorax": "air",
    "nodule": "spot",
    "consolidation": "patch",
    "small": "little",
    "large": "much",
    "upper": "high",
    "lower": "low",
    "left": "sinister",
    "right": "dexter",
    "enlarged heart": "big pump",
    "normal heart": "good pump",
    "line": "tube",
    "none": "nothing",
}


def words(scene: Scene, rng: np.random.Generator | None = None, *, line: bool = True) -> str:
    """Such as "big pump, water sinister little, tube", in random order where rng is given."""
    parts = [WORDS["enlarged heart" if scene.enlarged_heart else "normal heart"]]
    parts += [_lung(side, lesion) for side, lesion in scene.lungs]
    if line and scene.line:
        parts.append(WORDS["line"])
    if rng is not None:
        parts = [parts[i] for i in rng.permutation(len(parts))]
    return ", ".join(parts)


def questions(scene: Scene) -> list[tuple[str, str]]:
    """Question and answer in plain words: each side, each kind of lesion, and the heart."""
    sides = [(f"{WORDS[side]}?", _said(lesion)) for side, lesion in scene.lungs]
    kinds = []
    for kind in LESIONS:
        where = [WORDS[side] for side, lesion in scene.lungs if lesion and lesion.kind == kind]
        kinds.append((f"{WORDS[kind]}?", " ".join(where) or WORDS["none"]))
    return [*sides, *kinds, ("pump?", "big" if scene.enlarged_heart else "good")]


def _said(lesion: Lesion | None) -> str:
    if lesion is None:
        return WORDS["none"]
    return f"{WORDS[lesion.kind]} {WORDS[lesion.size or lesion.zone]}"


def _lung(side: str, lesion: Lesion | None) -> str:
    if lesion is None:
        return f"{WORDS['none']} {WORDS[side]}"
    return f"{WORDS[lesion.kind]} {WORDS[side]} {WORDS[lesion.size or lesion.zone]}"
