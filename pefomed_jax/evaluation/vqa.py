"""Scores of short answers, after the preparation that a protocol names.

pefomed    the normalisation of PeFoMed's evaluation on both sides, then equality
llava_med  the normalisation of LLaVA-Med's evaluation; its closed accuracy and open token recall
strict     equality but for case and outer white space
"""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np

from pefomed_jax.errors import UserError, nearest
from pefomed_jax.evaluation import tokens
from pefomed_jax.evaluation.measure import Measure, Skipped, mean

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")
# The reference evaluation passes a flag of this value where the number of replacements belongs.
_MOST_STOPS = 32
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(n) for n, word in enumerate(_NUMBERS)} | {"none": "0"}

# The names that the sources and LLaVA-Med's evaluation give to the two kinds of questions.
OPEN = frozenset(("open", "other", "number"))
CLOSED = frozenset(("closed", "yes/no"))

Row = Mapping[str, object]
Overlap = Callable[[Sequence[str], Sequence[str]], float]


class _Rules(NamedTuple):
    normal: Callable[[str], str]  # before the two sides are compared
    words: Callable[[str], list[str]]
    f1: Overlap = tokens.f1
    recall: Overlap = tokens.recall


class Case(NamedTuple):
    """One answer against the best of its references."""

    exact_match: float
    token_f1: float
    recall: float
    contains: float  # 1: a normalised reference is part of the normalised answer


def measures(rows: Sequence[Row], protocol: str) -> list[Measure | Skipped]:
    """The scores of the rows under `protocol`: 'pefomed', 'llava_med' or 'strict'.

    A row holds `prediction`, `reference` (a text, or a list of which the best counts, score by
    score) and `answer_type`. exact_match and token_f1 are of all rows, open_recall of the open ones
    and closed_accuracy (llava_med alone) of the closed ones; without any they are skipped.
    """
    rules = _rules(protocol)
    cases = [_case(row, rules) for row in rows]
    kinds = np.array([_kind(row) for row in rows], str)
    every = {
        "exact_match": np.array([case.exact_match for case in cases], np.float64),
        "token_f1": np.array([case.token_f1 for case in cases], np.float64),
    }
    found = [mean(every), _of("open_recall", [case.recall for case in cases], kinds, "open")]
    if protocol == "llava_med":
        found.append(_of("closed_accuracy", [case.contains for case in cases], kinds, "closed"))
    return found


def _of(name: str, values: Sequence[float], kinds: np.ndarray, kind: str) -> Measure | Skipped:
    """The mean of the cases of one kind."""
    if not (kinds == kind).any():
        return Skipped(name, f"no case has the answer_type {kind.upper()}")
    return mean({name: np.where(kinds == kind, np.array(values, np.float64), np.nan)})


def _rules(protocol: str) -> _Rules:
    known = {
        "pefomed": _Rules(normalise, lambda text: normalise(text).split()),
        "llava_med": _Rules(
            normalise_llava_med,
            # its word counts normalise once more what was normalised
            lambda text: normalise_llava_med(normalise_llava_med(text)).split(),
            tokens.llava_med_f1,
            tokens.llava_med_recall,
        ),
        "strict": _Rules(_strict, lambda text: _strict(text).split()),
    }
    if protocol not in known:
        raise UserError(
            f"no VQA protocol '{protocol}'{nearest(protocol, known)}; one of {', '.join(known)}"
        )
    return known[protocol]


def _case(row: Row, rules: _Rules) -> Case:
    held = row["reference"]
    references = [str(text) for text in held] if isinstance(held, list | tuple) else [str(held)]
    if not references:
        raise UserError(
            f"case '{row.get('id')}' has an empty list as its reference; give it a text"
        )
    prediction = str(row["prediction"])
    answer, words = rules.normal(prediction), rules.words(prediction)
    normal = [rules.normal(text) for text in references]
    split = [rules.words(text) for text in references]
    return Case(
        float(answer in normal),
        max(rules.f1(words, reference) for reference in split),
        max(rules.recall(words, reference) for reference in split),
        float(any(text in answer for text in normal)),
    )


def _kind(row: Row) -> str:
    """'open', 'closed' or ''."""
    kind = str(row.get("answer_type") or "").strip().lower()
    return "open" if kind in OPEN else "closed" if kind in CLOSED else ""


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
    return _words(answer).replace("x ray", "xray")


def normalise_llava_med(answer: str) -> str:
    """An answer as LLaVA-Med's evaluation compares it: `normalise`, but "x ray" stays two words."""
    return _words(answer.lower())


def _strict(answer: str) -> str:
    return answer.strip().lower()


def _words(answer: str) -> str:
    words = _strip_stops(_strip_marks(answer)).lower().split()
    words = (_DIGITS.get(word, word) for word in words)
    return " ".join(contractions().get(word, word) for word in words if word not in _ARTICLES)


def _strip_marks(answer: str) -> str:
    delete_all = _DIGIT_COMMA.search(answer) is not None
    out = answer
    for mark in _PUNCTUATION:
        delete = delete_all or f"{mark} " in answer or f" {mark}" in answer
        out = out.replace(mark, "" if delete else " ")
    return out


def _strip_stops(text: str) -> str:
    return _STOP.sub("", text, count=_MOST_STOPS)
