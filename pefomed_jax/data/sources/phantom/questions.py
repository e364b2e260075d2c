"""Question–answer pairs about a scene, balanced: no answer can be guessed from the question alone.

Each type is asked with the odds that make its answers equally frequent over many scenes.
"""

import dataclasses

from pefomed_jax.data.sources.phantom.scene import LESION_ODDS, LESIONS, Lesion, Scene, rng_of

ASK = 0.12  # how often a scene is asked for each finding with answer yes, and with answer no
HEART_ODDS, LINE_ODDS = 0.35, 0.30
PRESENCE = {
    "enlarged heart": ("Is the heart enlarged?", "Is there cardiomegaly?"),
    "effusion": ("Is there a pleural effusion?", "Is a pleural effusion seen?"),
    "pneumothorax": ("Is there a pneumothorax?", "Is a pneumothorax seen?"),
    "nodule": ("Is there a nodule?", "Is a nodule seen?"),
    "consolidation": ("Is there consolidation?", "Is consolidation seen?"),
    "line": ("Is there a central line?", "Is a central line in place?"),
}
SIDE = ("On which side is the {kind}?", "Which side shows the {kind}?")
SIZE = ("How large is the {kind}?", "What size is the {kind}?")
ZONE = ("In which zone is the {kind}?", "Which zone shows the {kind}?")
WHICH = ("What is seen in the {side} lung?", "Which finding does the {side} lung show?")
NOTHING = "no abnormality"


@dataclasses.dataclass(frozen=True)
class Question:
    """answer_type: CLOSED (yes, no) or OPEN; question_type: presence, side, size, zone, finding."""

    question: str
    answer: str
    answer_type: str
    question_type: str


def ask(scene: Scene) -> list[Question]:
    """The questions of a scene, a pure function of it; a few scenes have none."""
    rng = rng_of(scene.seed, 3)
    asked = []
    for odds, wordings, words, answer, about in [*_presence(scene), *_lungs(scene)]:
        wording = wordings[int(rng.integers(len(wordings)))]
        if rng.random() < odds:
            form = "CLOSED" if about == "presence" else "OPEN"
            asked.append(Question(wording.format(**words), answer, form, about))
    return asked


def _presence(scene: Scene) -> list[tuple]:
    """(odds, wordings, words, answer, question_type) of the questions for yes or no."""
    present = {lesion.kind for _, lesion in scene.lungs if lesion} | set(scene.findings)
    return [
        (ASK / share, wordings, {}, "yes" if name in present else "no", "presence")
        for name, wordings in PRESENCE.items()
        for share in [prevalence(name) if name in present else 1 - prevalence(name)]
    ]


def _lungs(scene: Scene) -> list[tuple]:
    """The same of the open questions: which finding, its side, size and zone."""
    possible = []
    same = scene.right and scene.left and scene.right.kind == scene.left.kind
    for side, lesion in scene.lungs:
        # an empty lung is as frequent an answer as one lesion
        odds = 0.6 if lesion else 0.6 * LESION_ODDS[1] / LESION_ODDS[0]
        answer = lesion.kind if lesion else NOTHING
        possible.append((odds, WHICH, {"side": side}, answer, "finding"))
        if lesion and not same:
            possible += _describe(side, lesion, crowded=scene.enlarged_heart and side == "left")
    return possible


def _describe(side: str, lesion: Lesion, *, crowded: bool) -> list[tuple]:
    words = {"kind": lesion.kind}
    possible = [(0.5, SIDE, words, side, "side")]
    if lesion.size:
        possible.append((0.7, SIZE, words, lesion.size, "size"))
    elif not crowded:  # beside an enlarged heart the zone is always the upper one
        possible.append((0.7, ZONE, words, lesion.zone, "zone"))
    return possible


def prevalence(name: str) -> float:
    """The share of scenes with this finding, on any side."""
    if name in ("enlarged heart", "line"):
        return HEART_ODDS if name == "enlarged heart" else LINE_ODDS
    return 1 - (1 - LESION_ODDS[1 + LESIONS.index(name)]) ** 2
