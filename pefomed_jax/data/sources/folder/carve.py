"""A test part for folders that have none."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable

from pefomed_jax.batch import Case
from pefomed_jax.data.sources.files import ListSource

UNITS = (("patient_id", "patients"), ("study_id", "studies"), ("", "images"))


def set_aside(source: ListSource, fraction: float) -> None:
    """Moves `fraction` of the groups of training cases to a test split where there is none.

    A group is what patients, studies and images join. Which groups are moved depends on their
    names alone: those with the smallest digests. Prints a line.
    """
    train = source.cases("train")
    if source.cases("test") or not train:
        return
    groups = joined(train)
    n = min(len(groups) - 1, max(1, round(fraction * len(groups)))) if fraction else 0
    if n < 1:
        print(f"folder: no test split, and none set aside (test_fraction={fraction})")
        return
    chosen = sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest())[:n]
    aside = {case.id for name in chosen for case in groups[name]}
    total = len(train)
    _move(source, [case for case in train if case.id in aside])
    word = next(w for field, w in UNITS if not field or any(field in c.fields for c in train))
    print(
        f"folder: no test split: {n} of {len(groups)} groups of {word} ({len(aside)} of "
        f"{total} cases) set aside for it by data.folder.test_fraction={fraction}"
    )


def joined(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """The cases by group, in order: two that share a patient, a study or an image are in one."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        leader.setdefault(name, name)
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    marked = [(case, _marks(case)) for case in cases]
    for _, marks in marked:
        for other in marks[1:]:
            one, two = sorted((find(marks[0]), find(other)))
            leader[two] = one  # the smaller name leads, whatever the order of the rows
    groups: dict[str, list[Case]] = collections.defaultdict(list)
    for case, marks in marked:
        groups[find(marks[0])].append(case)
    return groups


def _marks(case: Case) -> list[str]:
    """What a case shares with others; a patient's name sorts first, and so names the group."""
    marks = [f"{i}={case.fields[f]}" for i, (f, _) in enumerate(UNITS) if f in case.fields]
    return marks + [f"{len(UNITS)}={image}" for image in case.images]


def _move(source: ListSource, cases: list[Case]) -> None:
    """Out of training, under ids of the test split; each still knows its row."""
    gone = {case.id: f"test-{case.id.removeprefix('train-')}" for case in cases}
    where = {name: source.where.pop(old) for old, name in gone.items()}
    moved = [dataclasses.replace(case, id=gone[case.id], split="test") for case in cases]
    left = [case for case in source.cases("train") if case.id not in gone]
    others = {split: source.cases(split) for split in source.splits}
    source.take(others | {"train": left, "test": moved})
    source.where |= where
