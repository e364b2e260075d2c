"""The data sets by name: the configs that each serves, and its own fields of `config.data.<name>`.

Every set has `dir` beside these: where it lies, `config.data.dir` where that is empty.
"""

from typing import Any

ALL, QUESTIONS, TEXTS = ("caption", "vqa", "mrg"), ("vqa",), ("caption", "mrg")

TASKS = {  # config.task
    "phantom": ALL,
    "vqa_rad": QUESTIONS,
    "slake": QUESTIONS,
    "pathvqa": QUESTIONS,
    "roco": TEXTS,
    "clef": TEXTS,
    "medicat": TEXTS,
    "mimic_cxr": TEXTS,
    "iu_xray": TEXTS,
    "medexpqa": QUESTIONS,
    "mediqa_m3g": QUESTIONS,
    "vqa_med": QUESTIONS,
    "folder": ALL,
    "pefomed": ALL,
}

OPTIONS: dict[str, dict[str, Any]] = {
    "slake": {"language": "en"},
    "medexpqa": {"language": "en", "grounding": "none"},
    "mediqa_m3g": {"language": "en"},
    "mimic_cxr": {"sections": "findings", "views": "frontal"},
    "iu_xray": {"views": "both"},
}

CHOICES: dict[str, tuple[str, ...]] = {  # of an option, by "set.field"
    "slake.language": ("en", "zh", "all"),
}


def defaults() -> dict[str, dict[str, Any]]:
    """The fields of config.data of each set."""
    return {name: {"dir": "", **OPTIONS.get(name, {})} for name in TASKS if name != "phantom"}
