"""What one split holds twice: pictures, rows, and rows that answer one question in two ways."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pefomed_jax.audit.leakage import Record, grouped, plain
from pefomed_jax.audit.twins import Twins
from pefomed_jax.batch import Case

KINDS = {
    "exact copy": "several files with the same pixels",
    "near-duplicate": "two files that show the same picture",
    "duplicate row": "the same image, question and answer",
    "contradiction": "the same image and question, different answers",
}


class Twice(NamedTuple):
    """All records, and by split and kind how many of them and of the cases in them."""

    records: list[Record]
    counts: dict[str, dict[str, tuple[int, int]]]


def find(parts: Mapping[str, Sequence[Case]], twins: Twins) -> Twice:
    """What comes twice within each split."""
    records, counts = [], {}
    for split, cases in parts.items():
        found = [{"kind": kind, "splits": [split]} | it for kind, it in _records(cases, twins)]
        counts[split] = {
            kind: (len(own), _touched(own, cases))
            for kind in KINDS
            if (own := [it for it in found if it["kind"] == kind])
        }
        records += found
    return Twice(records, counts)


def _records(cases: Sequence[Case], twins: Twins) -> Iterator[tuple[str, Record]]:
    here = {name for case in cases for name in case.images}
    split = {
        first: [name for name in group if name in here] for first, group in twins.copies().items()
    }
    for names in split.values():
        if len(names) > 1:
            yield "exact copy", {"images": [names]}
    for it in twins.near:
        if split[it.first] and split[it.second]:
            measured = {"distance": it.distance, "likeness": it.likeness}
            sides = [split[it.first][:1], split[it.second][:1]]
            yield "near-duplicate", {"images": sides} | measured
    for same in grouped(cases, lambda case: _asked(case, twins)).values():
        by_answer = grouped(same, lambda case: (plain(case.answer),))
        for group in by_answer.values():
            if len(group) > 1:
                yield "duplicate row", {"cases": [[case.id for case in group]]}
        if len(by_answer) > 1:
            sides = [[case.id for case in group] for group in by_answer.values()]
            yield "contradiction", {"cases": sides}


def _asked(case: Case, twins: Twins) -> tuple[str, ...] | None:
    """The question and all that it is about; the context of a case of text alone is in it."""
    if not case.question and not case.images:
        return None
    return (plain(case.question), *(twins.first_of.get(name, name) for name in case.images))


def _touched(records: Sequence[Record], cases: Sequence[Case]) -> int:
    def names(field: str) -> set[str]:
        return {name for it in records for name in itertools.chain(*it.get(field, ()))}

    images, ids = names("images"), names("cases")
    return sum(case.id in ids or not images.isdisjoint(case.images) for case in cases)
