"""What two splits share: images, patients, studies, questions about one image, report texts.

Each record is one line of leakage.jsonl: its `kind`, the two `splits`, and for either split the
`images` or ids of `cases` (or the `value` they share). Question texts that come again about other
images are no leakage, and only counted.
"""

import collections
import itertools
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pefomed_jax.audit.twins import Twins
from pefomed_jax.batch import Case

Record = dict[str, Any]
Parts = Mapping[str, Sequence[Case]]

KINDS = {  # of a record, and what it says
    "same file": "one image file in both",
    "exact copy": "another file with the same pixels",
    "near-duplicate": "another file that shows the same picture",
    "patient": "a patient_id in both",
    "study": "a study_id in both",
    "question": "the same question about the same image",
    "text": "the same report or caption, word for word",
}
IMAGES = ("same file", "exact copy", "near-duplicate")
PAIRS = (("train", "val"), ("train", "test"), ("val", "test"))


class Shared(NamedTuple):
    """How much of one kind two splits share."""

    records: int
    cases: tuple[int, int]  # of either split that are touched


class Leakage(NamedTuple):
    """All records, and their counts by the two splits and the kind."""

    records: list[Record]
    counts: dict[str, dict[str, Shared]]  # 'train/test' -> kind
    images: dict[str, tuple[int, int]]  # 'train/test' -> cases whose image the other split has too
    questions: float | None  # share of test questions whose text is in training, about any image


def plain(text: str) -> str:
    """A text without its case, form of letters, blanks and closing marks: to compare by."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(" .?!:;")


def find(parts: Parts, twins: Twins) -> Leakage:
    """Everything that the splits share, pair by pair."""
    records, counts, images = [], {}, {}
    for pair in PAIRS:
        if not all(parts[split] for split in pair):
            continue
        either = (parts[pair[0]], parts[pair[1]])
        found = [{"kind": kind, "splits": pair} | it for kind, it in _records(either, twins)]
        name = "/".join(pair)
        counts[name] = {
            kind: _shared(own, either)
            for kind in KINDS
            if (own := [it for it in found if it["kind"] == kind])
        }
        of_images = _shared([it for it in found if it["kind"] in IMAGES], either)
        images[name] = of_images.cases
        records += found
    return Leakage(records, counts, images, _questions(parts))


def _records(either: tuple[Sequence[Case], ...], twins: Twins) -> Iterator[tuple[str, Record]]:
    yield from _images(either, twins)
    for kind, key in (("patient", _named("patient_id")), ("study", _named("study_id"))):
        yield from ((kind, it) for it in _common(either, key))
    yield from (("question", it) for it in _common(either, lambda case: _asked(case, twins)))
    yield from (("text", it) for it in _common(either, _text))


def _images(either: tuple[Sequence[Case], ...], twins: Twins) -> Iterator[tuple[str, Record]]:
    names = [dict.fromkeys(name for case in cases for name in case.images) for cases in either]
    for name in names[0]:
        if name in names[1]:
            yield "same file", {"images": [[name], [name]]}
    copies = twins.copies()
    split = {
        first: [[name for name in group if name in names[side]] for side in (0, 1)]
        for first, group in copies.items()
    }
    for sides in split.values():
        if all(sides) and len({*sides[0], *sides[1]}) > 1:
            yield "exact copy", {"images": sides}
    for it in twins.near:
        for one, two in ((it.first, it.second), (it.second, it.first)):
            sides = [split[one][0], split[two][1]]
            if all(sides):
                measured = {"distance": it.distance, "likeness": it.likeness}
                yield "near-duplicate", {"images": sides} | measured


def _common(
    either: tuple[Sequence[Case], ...], key: Callable[[Case], tuple[str, ...] | None]
) -> Iterator[Record]:
    """What cases of both splits have in common under `key`; None: a case has none."""
    held = [grouped(cases, key) for cases in either]
    for value, cases in held[0].items():
        if value in held[1]:
            ids = [[case.id for case in side] for side in (cases, held[1][value])]
            yield {"value": " ".join(value[:1]), "cases": ids}


def grouped(
    cases: Iterable[Case], key: Callable[[Case], tuple[str, ...] | None]
) -> dict[tuple[str, ...], list[Case]]:
    """Cases by what `key` makes of them, those without left out."""
    found: dict[tuple[str, ...], list[Case]] = collections.defaultdict(list)
    for case in cases:
        if (value := key(case)) is not None:
            found[value].append(case)
    return found


def _named(field: str) -> Callable[[Case], tuple[str, ...] | None]:
    def key(case: Case) -> tuple[str, ...] | None:
        value = case.fields.get(field)
        return None if value in (None, "") else (str(value), case.source)

    return key


def _asked(case: Case, twins: Twins) -> tuple[str, ...] | None:
    """A question with the pictures it is about, if any, whichever of their copies these are."""
    if not case.question:
        return None
    return (plain(case.question), *(twins.first_of.get(name, name) for name in case.images))


def _text(case: Case) -> tuple[str, ...] | None:
    return None if case.question else (plain(case.answer),)


def _shared(records: Sequence[Record], either: tuple[Sequence[Case], ...]) -> Shared:
    touched = []
    for side, cases in enumerate(either):
        images = {name for it in records for name in it.get("images", ((), ()))[side]}
        ids = {name for it in records for name in it.get("cases", ((), ()))[side]}
        touched.append(sum(case.id in ids or not images.isdisjoint(case.images) for case in cases))
    return Shared(len(records), (touched[0], touched[1]))


def _questions(parts: Parts) -> float | None:
    known = {plain(case.question) for case in parts["train"] if case.question}
    asked = [plain(case.question) in known for case in parts["test"] if case.question]
    return sum(asked) / len(asked) if asked and known else None


def pairs_of(record: Record) -> list[tuple[str, str]]:
    """The pairs of different image files that a record of images stands for."""
    return [pair for pair in itertools.product(*record["images"]) if pair[0] != pair[1]]
