"""What happens to a source before a run: rows checked, a validation split carved, limits taken.

Bad rows are found here, before training: unreadable rows (by the source), images that do not open,
rows longer than the largest bucket. All are listed in `bad_rows.jsonl` of the run's folder and
skipped as long as they are no more than `data.max_bad_fraction` of the rows.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data import facts
from pefomed_jax.data import lengths as lengths_lib
from pefomed_jax.data.encoding import Encoding
from pefomed_jax.data.facts import Fact
from pefomed_jax.data.sources import Source
from pefomed_jax.data.sources.files import BadRow, ListSource
from pefomed_jax.data.sources.mixture import Mixture
from pefomed_jax.errors import UserError

BAD_ROWS = "bad_rows.jsonl"


@dataclasses.dataclass(frozen=True)
class Splits:
    """The cases of a run; `notes` are lines worth printing."""

    train: list[Case]
    val: list[Case]
    test: list[Case]
    notes: tuple[str, ...] = ()


def prepare(
    source: Source, tokenizer: Any, config: ConfigDict, workdir: str | pathlib.Path | None = None
) -> Splits:
    """The cases that a run uses, checked. Prints what a reader of the log should know.

    `data.limit` takes the first n training cases in the set's order (after the carving),
    `eval.limit` the first n test cases. Without a tokenizer (None: a dry run that lacks it)
    lengths are not checked. Errors: UserError for too many bad rows, or no case left.
    """
    read = {split: source.cases(split) for split in ("train", "val", "test")}
    bad = [*getattr(source, "bad_rows", ())]
    total = sum(map(len, read.values())) + len(bad)
    train, val, notes = carve(source.name, read["train"], read["val"], config)
    train = train[: config.data.limit or None]
    test, said = tested(source.name, read["test"], val, config)
    notes += said
    encoding = None if tokenizer is None else Encoding.of(tokenizer, config)
    checked, looked = [], {}
    for cases, trained in ((train, True), (val, True), (test, False)):
        known = seen(source, cases, config)
        looked |= known
        found = check(source, cases, known, encoding, config, trained)
        bad += found.values()
        checked.append([case for i, case in enumerate(cases) if i not in found])
    notes += facts.reminder(looked.values())
    notes += settle(bad, total, config, None if workdir is None else _bad_rows_of(workdir))
    for name, cases in zip(("training", "test"), checked[::2], strict=True):
        if not cases:
            raise UserError(f"data: no {name} case is left in {source.name}; see config.data")
    for note in notes:
        print(note)
    return Splits(*checked, notes=tuple(notes))


def split(source: Source, name: str, config: ConfigDict, listed: pathlib.Path | None) -> list[Case]:
    """The cases that a run calls 'train', 'val' or 'test', their images checked, as it limits them.

    Bad rows, those of the source's other splits among them, are listed in the file `listed`. Prints
    notes. Errors: UserError for too many bad rows, or no case.
    """
    read = {part: source.cases(part) for part in ("train", "val", "test")}
    bad = [*getattr(source, "bad_rows", ())]
    total = sum(map(len, read.values())) + len(bad)
    train, val, notes = carve(source.name, read["train"], read["val"], config)
    parts = {
        "train": train[: config.data.limit or None],
        "val": val,
        "test": tested(source.name, read["test"], val, config)[0],
    }
    found = check(
        source, parts[name], seen(source, parts[name], config), None, config, trained=False
    )
    notes = notes if name != "test" else []
    for note in notes + settle([*bad, *found.values()], total, config, listed):
        print(note)
    cases = [case for i, case in enumerate(parts[name]) if i not in found]
    if not cases:
        raise UserError(f"{source.name} has no case in the split '{name}'; give another --split")
    return cases


def digest(splits: Splits) -> str:
    """64 hex digits over the training and validation cases and their order."""
    return digest_of([*splits.train, *splits.val])


def digest_of(cases: Sequence[Case]) -> str:
    """64 hex digits over these cases and their order."""
    sums = hashlib.sha256()
    for case in cases:
        row = (case.split, case.id, case.images, case.question, case.answer)
        sums.update(json.dumps(row).encode())
    return sums.hexdigest()


def tested(
    name: str, test: list[Case], val: list[Case], config: ConfigDict
) -> tuple[list[Case], list[str]]:
    """The cases that are answered at the end: of a set without a test split those of validation."""
    note = f"{name} has no test split: the validation cases are answered at the end"
    cases, said = (test, []) if test or not val else (val, [note])
    return cases[: config.eval.limit or None], said


def carve(
    name: str, train: list[Case], val: list[Case], config: ConfigDict
) -> tuple[list[Case], list[Case], list[str]]:
    """Training and validation cases; where a set has no validation split, some are set aside.

    Whole patients are, or studies, or images: what the set's own fields tell apart.
    """
    if val or not train:
        return train, val, []
    word, belongs = unit(train)
    names = list(dict.fromkeys(belongs))
    n = min(len(names) - 1, max(1, round(config.data.val_fraction * len(names))))
    if config.data.val_fraction <= 0 or n < 1:
        return train, [], [f"{name} has no validation split and none is carved"]
    chosen = np.random.default_rng([config.seed, len(names)]).permutation(len(names))[:n]
    aside = {names[i] for i in chosen}
    of_val = [it in aside for it in belongs]
    val = [
        dataclasses.replace(c, split="val")
        for c, is_val in zip(train, of_val, strict=True)
        if is_val
    ]
    train = [c for c, is_val in zip(train, of_val, strict=True) if not is_val]
    note = (
        f"{name} has no validation split: {n} of {len(names)} training {word} "
        f"({len(val)} cases) set aside for validation, {len(train)} cases left to train on"
    )
    return train, val, [note]


def unit(cases: Sequence[Case]) -> tuple[str, list[str]]:
    """What must not be parted, in a word, and which of them each case belongs to.

    A case belongs to its patient, where the set knows no patient to its study, else to its images.
    """
    found = [_unit(case) for case in cases]
    words = dict.fromkeys(word for word, _ in found)
    return " or ".join(words), [
        f"{case.source}/{name}" for case, (_, name) in zip(cases, found, strict=True)
    ]


def _unit(case: Case) -> tuple[str, str]:
    for field, word in (("patient_id", "patients"), ("study_id", "studies")):
        if name := case.fields.get(field):
            return word, f"{field} {name}"
    return ("images", "\n".join(case.images)) if case.images else ("cases", case.id)


def seen(source: Source, cases: Sequence[Case], config: ConfigDict) -> dict[str, Fact]:
    """The facts of all images of these cases; {} where all are drawings of ours."""
    return facts.of(source, cases, config.data.cache) if _is_read(source) else {}


def check(
    source: Source,
    cases: Sequence[Case],
    known: Mapping[str, Fact],
    encoding: Encoding | None,
    config: ConfigDict,
    trained: bool,
) -> dict[int, BadRow]:
    """Bad rows by the index of their case; `known`: what is `seen` of their images."""
    bad: dict[int, BadRow] = {}
    for i, case in enumerate(cases):
        for name in case.images:
            if name in known and (problem := known[name].problem):
                problem, remedy = f"{name} {problem}", "replace the file or delete the row"
                bad.setdefault(i, _bad(source, case, "image", problem, remedy))
    if encoding and trained and config.data.buckets and cases:
        largest = max(config.data.buckets)
        measured = lengths_lib.of(encoding, cases, config.data.cache)
        lengths = measured.lengths + encoding.prefixes(cases)
        for i in np.flatnonzero(lengths > largest).tolist():
            problem = f"{lengths[i]} tokens with prompt and image, the largest bucket is {largest}"
            remedy = f"shorten the row or raise data.buckets to {lengths[i]}"
            bad.setdefault(i, _bad(source, cases[i], "answer", problem, remedy))
    return bad


def _bad(source: Source, case: Case, field: str, problem: str, remedy: str) -> BadRow:
    if isinstance(source, Mixture):
        part, own = source.own(case)
        row = _bad(part, own, field, problem, remedy)
        return dataclasses.replace(row, file=f"{part.name}/{row.file}")
    if isinstance(source, ListSource):
        return BadRow(*source.where[case.id], field, problem, remedy)
    return BadRow(case.id, 1, field, problem, remedy)


def _is_read(source: Source) -> bool:
    """Whether it has files of somebody else's, not only drawings of ours."""
    parts = source.parts.values() if isinstance(source, Mixture) else [source]
    return any(isinstance(part, ListSource) for part in parts)


def _bad_rows_of(workdir: str | pathlib.Path) -> pathlib.Path:
    return pathlib.Path(workdir) / BAD_ROWS


def settle(
    bad: list[BadRow], total: int, config: ConfigDict, path: pathlib.Path | None
) -> list[str]:
    """Lists the bad rows in a file. Errors: more of them than may be skipped."""
    listed = list_bad(bad, path)
    if not bad:
        return []
    share = len(bad) / total
    if share > config.data.max_bad_fraction:
        raise UserError(
            f"{bad[0]} ({len(bad)} of {total} rows are bad{listed}; "
            f"--config.data.max_bad_fraction={np.ceil(share * 1e4) / 1e4:g} would skip them)"
        )
    return [f"skipped {len(bad)} bad rows of {total}{listed}; the first: {bad[0]}"]


def list_bad(bad: list[BadRow], path: pathlib.Path | None) -> str:
    """Writes the rows to `path`, or removes it where there are none; says where they are."""
    if path is None:
        return ""
    if not bad:
        path.unlink(missing_ok=True)
        return ""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(dataclasses.asdict(row), ensure_ascii=False) for row in bad]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f", all in {path}"
