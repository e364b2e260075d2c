"""How many of what, by split, by source and by type."""

import collections
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pefomed_jax.audit.leakage import plain
from pefomed_jax.batch import Case

TYPES = ("answer_type", "question_type", "layout", "modality")  # fields with few values
MOST = 30  # values of a field that are listed


def splits(
    parts: Mapping[str, Sequence[Case]], unused: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Of every split: cases, images, patients, studies, questions, answers and their words."""
    return {split: _split(cases) | {"unused": unused[split]} for split, cases in parts.items()}


def _split(cases: Sequence[Case]) -> dict[str, Any]:
    words = [len(case.answer.split()) for case in cases]
    asked = [case.question for case in cases if case.question]
    return {
        "cases": len(cases),
        "images": len({name for case in cases for name in case.images}),
        "most_images": max((len(case.images) for case in cases), default=0),
        "without_image": sum(not case.images for case in cases),
        "patients": _distinct(cases, "patient_id"),
        "studies": _distinct(cases, "study_id"),
        "questions": len({plain(text) for text in asked}),
        "answers": len({plain(case.answer) for case in cases}),
        "median_words": statistics.median(words) if words else None,
        "most_words": max(words, default=None),
    }


def _distinct(cases: Sequence[Case], field: str) -> int | None:
    """None where no case has the field."""
    found = {(case.source, str(it)) for case in cases if (it := case.fields.get(field))}
    return len(found) or None


def sources(parts: Mapping[str, Sequence[Case]]) -> dict[str, dict[str, int]]:
    """Cases by part of a mixture and split; {} where there is one."""
    names = dict.fromkeys(case.source for cases in parts.values() for case in cases)
    if len(names) < 2:
        return {}
    return {
        name or "(no name)": {
            split: sum(case.source == name for case in cases) for split, cases in parts.items()
        }
        for name in names
    }


def types(parts: Mapping[str, Sequence[Case]]) -> dict[str, dict[str, dict[str, int]]]:
    """Of every field that tells a type: {value: {split: cases}}, the most frequent first."""
    return {field: table for field in TYPES if (table := _type(parts, field))}


def _type(parts: Mapping[str, Sequence[Case]], field: str) -> dict[str, dict[str, int]]:
    by_split = {
        split: collections.Counter(value(case, field) for case in cases)
        for split, cases in parts.items()
    }
    every = sum(by_split.values(), collections.Counter())
    if set(every) <= {""}:
        return {}
    return {
        name or "(none)": {split: by_split[split][name] for split in parts}
        for name, _ in every.most_common(MOST)
    }


def value(case: Case, field: str) -> str:
    """A field as text; '' where the case has none."""
    held = case.fields.get(field)
    return "" if held is None else str(held).strip()
