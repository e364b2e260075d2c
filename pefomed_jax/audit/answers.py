"""Which answers come how often, and what always giving the most frequent one would score."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from pefomed_jax.audit.counts import value
from pefomed_jax.audit.leakage import plain
from pefomed_jax.batch import Case
from pefomed_jax.evaluation import vqa

MOST = 20  # answers listed
CUT = 300  # characters of one
Parts = Mapping[str, Sequence[Case]]


def top(parts: Parts) -> list[dict[str, Any]]:
    """The most frequent training answers with the share of the cases of each split they have."""
    texts = {split: [plain(case.answer) for case in cases] for split, cases in parts.items()}
    counts = {split: collections.Counter(found) for split, found in texts.items()}
    shown = {plain(case.answer): case.answer for cases in parts.values() for case in cases}
    return [
        {"answer": shown[text][:CUT], "cases": n}
        | {split: counts[split][text] / len(found) for split, found in texts.items() if found}
        for text, n in counts["train"].most_common(MOST)
    ]


def majority(parts: Parts, protocol: str) -> dict[str, Any]:
    """The exact match of the most frequent training answer, to all and by answer type.

    {"protocol", "all": row, "types": {answer type: row}, "by_type": {split: exact match}}, a row is
    {"answer", "n": test cases, a split: exact match, None without cases}. The last is of giving
    each case the answer of its type. {} without training answers.
    """
    train = parts["train"]
    if not train:
        return {}
    names = dict.fromkeys(value(case, "answer_type") for case in train)
    rows = {name: _row(parts, protocol, name) for name in names} if any(names) else {}
    best = {name: row["answer"] for name, row in rows.items()}
    made = {"protocol": protocol, "all": _row(parts, protocol, None), "types": rows}
    if rows:
        made["by_type"] = {
            split: _score(parts[split], protocol, lambda case: best.get(value(case, "answer_type")))
            for split in parts
        }
    return made


def _row(parts: Parts, protocol: str, kind: str | None) -> dict[str, Any]:
    own = {
        split: [case for case in cases if kind is None or value(case, "answer_type") == kind]
        for split, cases in parts.items()
    }
    counts = collections.Counter(plain(case.answer) for case in own["train"])
    text = counts.most_common(1)[0][0]
    answer = next(case.answer for case in own["train"] if plain(case.answer) == text)
    scores = {split: _score(cases, protocol, lambda _: answer) for split, cases in own.items()}
    return {"answer": answer, "n": len(own["test"])} | scores


def _score(cases: Sequence[Case], protocol: str, answer: Any) -> float | None:
    rows = [
        {"prediction": answer(case) or "", "reference": case.answer, "answer_type": ""}
        for case in cases
    ]
    if not rows:
        return None
    return vqa.measures(rows, protocol)[0].scores()["exact_match"]
