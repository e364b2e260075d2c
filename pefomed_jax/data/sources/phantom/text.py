"""What is written about a scene: the report and the short caption, in several wordings by seed."""

import numpy as np

from pefomed_jax.data.sources.phantom.scene import Lesion, Scene, rng_of

HEART = {
    True: (
        "The heart is enlarged.",
        "The cardiac silhouette is enlarged.",
        "There is cardiomegaly.",
    ),
    False: ("The heart is normal in size.", "Heart size is normal.", "The heart is not enlarged."),
}
SIZED = (
    "There is a {size} {side} {noun}.",
    "A {size} {noun} is seen on the {side}.",
    "A {size} {side} {noun} is present.",
)
NOUN = {"effusion": "pleural effusion", "pneumothorax": "pneumothorax"}
ZONED = {
    "nodule": (
        "There is a round nodule in the {side} {zone} zone.",
        "A nodule is seen in the {side} {zone} zone.",
        "A nodule projects over the {side} {zone} zone.",
    ),
    "consolidation": (
        "There is consolidation in the {side} {zone} zone.",
        "Consolidation is seen in the {side} {zone} zone.",
        "The {side} {zone} zone shows consolidation.",
    ),
}
BILATERAL = (
    "There are {size} bilateral pleural effusions.",
    "{size} pleural effusions are seen on both sides.",
)
CLEAR = (
    "The lungs are clear.",
    "No nodule or consolidation.",
    "No consolidation or nodule is seen.",
)
WITHOUT = ("No {noun}.", "No {noun} is seen.", "There is no {noun}.")
DRY = ("No pleural effusion or pneumothorax.", "There is no pneumothorax or pleural effusion.")
LINE = {
    True: ("A central line is in place.", "A central line is present.", "There is a central line."),
    False: ("No central line.", "No central line is seen.", ""),
}
NORMAL = ("No acute abnormality.", "Normal chest.", "No acute disease.")


def report(scene: Scene) -> str:
    """FINDINGS and IMPRESSION; every drawn finding is named in both, and nothing else is."""
    rng = rng_of(scene.seed, 2)
    sentences = [_pick(rng, HEART[scene.enlarged_heart]), *_lungs(scene, rng)]
    sentences += [*_pleura(scene, rng), _pick(rng, LINE[scene.line])]
    findings = " ".join(filter(None, sentences))
    return f"FINDINGS: {findings} IMPRESSION: {_impression(scene, rng)}"


def caption(scene: Scene) -> str:
    """One sentence that names every drawn finding."""
    rng = rng_of(scene.seed, 4)
    film = _pick(rng, ("Chest film", "Frontal chest film", "Chest radiograph"))
    return f"{film} with {_join(_phrases(scene) or ['no abnormality'])}."


def _lungs(scene: Scene, rng: np.random.Generator) -> list[str]:
    found = [
        _pick(rng, ZONED[lesion.kind]).format(side=side, zone=lesion.zone)
        for side, lesion in scene.lungs
        if lesion and lesion.zone
    ]
    if not found and not (scene.right or scene.left):
        return [_pick(rng, CLEAR)]
    return found or [_pick(rng, CLEAR[1:])]


def _pleura(scene: Scene, rng: np.random.Generator) -> list[str]:
    sized = [(side, lesion) for side, lesion in scene.lungs if lesion and lesion.size]
    if not sized:
        return [_pick(rng, DRY)]
    if len(sized) == 2 and sized[0][1] == sized[1][1]:
        text = _pick(rng, BILATERAL).format(size=sized[0][1].size)
        sentences = [text[0].upper() + text[1:]]
    else:
        sentences = [_pick(rng, SIZED).format(side=side, **_words(x)) for side, x in sized]
    present = {lesion.kind for _, lesion in sized}
    absent = [NOUN[kind] for kind in NOUN if kind not in present]
    return sentences + [_pick(rng, WITHOUT).format(noun=noun) for noun in absent]


def _words(lesion: Lesion) -> dict[str, str]:
    return {"size": lesion.size, "noun": NOUN[lesion.kind]}


def _impression(scene: Scene, rng: np.random.Generator) -> str:
    phrases = _phrases(scene, article=False)
    if scene.findings in ((), ("line",)):
        return " ".join([_pick(rng, NORMAL), *(["Central line."] if phrases else [])])
    text = _join(phrases)
    return f"{text[0].upper()}{text[1:]}."


def _phrases(scene: Scene, *, article: bool = True) -> list[str]:
    """One noun phrase a finding."""
    phrases = ["enlarged heart"] if scene.enlarged_heart else []
    for side, lesion in scene.lungs:
        if lesion and lesion.size:
            phrases.append(f"{lesion.size} {side} {lesion.kind}")
        elif lesion:
            phrases.append(f"{side} {lesion.zone} {lesion.kind}")
    if scene.line:
        phrases.append("central line")
    if not article:
        return phrases
    return [("an " if phrase.startswith("e") else "a ") + phrase for phrase in phrases]


def _join(phrases: list[str]) -> str:
    head, last = ", ".join(phrases[:-1]), phrases[-1]
    return f"{head} and {last}" if head else last


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
