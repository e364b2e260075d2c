"""Exact match of short answers after the normalisation of PeFoMed's VQA evaluation."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")
# The reference evaluation passes a flag of this value where the number of replacements belongs.
_MOST_STOPS = 32
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(n) for n, word in enumerate(_NUMBERS)} | {"none": "0"}


@functools.cache
def contractions() -> dict[str, str]:
    """Contractions without their apostrophe → with it, from the public VQA evaluation."""
    file = resources.files("pefomed_jax.evaluation") / "vqa_contractions.json"
    return json.loads(file.read_text(encoding="utf-8"))


def normalise(answer: str) -> str:
    """An answer as it is compared: punctuation, case, number words, articles, contractions.

    A mark next to a space anywhere in the answer (and any mark, when a digit-comma-digit occurs) is
    deleted, else it becomes a space: "x-ray" → "xray", "left - right" → "left right".
    """
    words = _strip_stops(_strip_marks(answer)).lower().split()
    words = (_DIGITS.get(word, word) for word in words)
    words = [contractions().get(word, word) for word in words if word not in _ARTICLES]
    return " ".join(words).replace("x ray", "xray")


def _strip_marks(answer: str) -> str:
    delete_all = _DIGIT_COMMA.search(answer) is not None
    out = answer
    for mark in _PUNCTUATION:
        delete = delete_all or f"{mark} " in answer or f" {mark}" in answer
        out = out.replace(mark, "" if delete else " ")
    return out


def _strip_stops(text: str) -> str:
    return _STOP.sub("", text, count=_MOST_STOPS)


def scores(rows: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """exact_match over all rows and exact_match_<type> for every `answer_type` there is, in 0..1.

    A row holds `prediction`, `reference` and, where its source has types, `answer_type`.
    """
    hits: dict[str, list[bool]] = {"exact_match": []}
    for row in rows:
        hit = normalise(str(row["prediction"])) == normalise(str(row["reference"]))
        hits["exact_match"].append(hit)
        if kind := _type_name(row.get("answer_type")):
            hits.setdefault(f"exact_match_{kind}", []).append(hit)
    return {name: sum(hit) / len(hit) for name, hit in sorted(hits.items()) if hit}


def _type_name(answer_type: object) -> str:
    return re.sub(r"\W+", "_", str(answer_type or "").strip().lower()).strip("_")
