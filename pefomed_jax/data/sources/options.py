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

COLUMNS = ("image", "question", "answer", "id", "split", "patient", "study")  # of a folder's table

OPTIONS: dict[str, dict[str, Any]] = {
    "roco": {"subset": "radiology"},
    "clef": {"test": "none"},
    "medicat": {"images": "figures", "radiology_only": True},
    "slake": {"language": "en"},
    "medexpqa": {"language": "en", "grounding": "none"},
    "mediqa_m3g": {"language": "en", "max_images": 0, "test": ""},
    "mimic_cxr": {
        "sections": "findings",
        "views": "frontal",
        "max_images": 2,  # of a study in a case, with views=study
        "last_paragraph": False,  # as findings, where a report heads neither them nor impression
        "indication": False,  # kept as a field
        "reports": "",  # folder or zip file, where they lie elsewhere
        "partial": False,  # leave out studies that were not fetched
    },
    "iu_xray": {"views": "both", "sections": "findings"},
    "folder": {"table": "", **dict.fromkeys(COLUMNS, ""), "test_fraction": 0.1},
}

CHOICES: dict[str, tuple[str, ...]] = {  # of an option, by "set.field"
    "roco.subset": ("radiology", "non-radiology", "all"),
    "clef.test": ("none", "valid"),
    "medicat.images": ("figures", "subfigures"),
    "slake.language": ("en", "zh", "all"),
    "mimic_cxr.sections": ("findings", "impression", "both", "full"),
    "mimic_cxr.views": ("frontal", "frontals", "lateral", "any", "study"),
    "iu_xray.views": ("both", "frontal", "each"),
    "iu_xray.sections": ("findings", "impression", "both"),
    "medexpqa.language": ("en", "es", "fr", "it", "all"),
    "medexpqa.grounding": ("none", "full", "incorrect", "hidden", "rag7", "rag32"),
    "mediqa_m3g.language": ("en", "zh", "es"),
}


def defaults() -> dict[str, dict[str, Any]]:
    """The fields of config.data of each set."""
    return {name: {"dir": "", **OPTIONS.get(name, {})} for name in TASKS if name != "phantom"}
