"""Writes a small public set as records, beginning anew where a kill interrupted it."""

import contextlib
import fcntl
import hashlib
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from pefomed_jax import whole
from pefomed_jax.batch import Case
from pefomed_jax.data import facts, prepare, records, sources
from pefomed_jax.data.records import about, builder
from pefomed_jax.data.records.source import RecordSource
from pefomed_jax.data.sources.files import ListSource
from pefomed_jax.errors import UserError

Cases = dict[str, list[Case]]  # by split
SPARE = 1 << 26  # bytes that a full disk keeps


def write(config: ConfigDict, out: pathlib.Path) -> None:
    """Writes the set that config.data.source names to the folder `out`; says what was written.

    Bad rows are left out and listed in bad_rows.jsonl as long as they are no more than
    data.max_bad_fraction of all. Errors: UserError for a set that is read in place, more bad rows
    than that, a folder that holds something else, a disk without room.
    """
    name = _name_of(config)
    source = sources.load(config)
    if not isinstance(source, ListSource) or isinstance(source, RecordSource):
        raise UserError(f"{name}: what data.dir names are records already; copy the folder")
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        manifest = _claim(source, config, out)
        cases, left_out = _usable(source, config, out)
        digest = _digest(source, cases, config)
        if "counts" not in manifest:
            print(f"{name}: writing {_counts(cases)} to {out}", flush=True)
            stored = _write(source, cases, out)
            counts = {split: len(found) for split, found in cases.items()}
            manifest |= {"counts": counts, "images": stored, "left_out": left_out}
            _settle(out, manifest | {"digest": digest})
        elif manifest["digest"] != digest:
            raise UserError(
                f"--out: {out} was written from other rows or images of {name}; remove it, or name "
                "another folder"
            )
        _say(out, name, cases, manifest)


def _name_of(config: ConfigDict) -> str:
    for name in config.data.source.split("+"):
        if reason := about.IN_PLACE.get(name):
            raise UserError(
                f"{name} is read in place, no copy is made: {reason}; records are for "
                f"{', '.join(about.SMALL)}"
            )
    names = sources.names(config)
    if len(names) > 1:
        raise UserError(f"data.source '{config.data.source}': write the sets one by one")
    return names[0]


@contextlib.contextmanager
def _alone(out: pathlib.Path) -> Iterator[None]:
    """Keeps other processes away; a kill lets them in."""
    with open(out / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--out: another process is writing {out}; wait for it") from None
        yield


def _claim(source: ListSource, config: ConfigDict, out: pathlib.Path) -> dict[str, Any]:
    """The manifest of the folder, begun where it is empty. Errors: it holds something else."""
    if (out / records.MANIFEST).exists():
        found = records.read_manifest(out)
        records.check(found, out, config, source.name)
        return found
    if there := sorted(path.name for path in out.iterdir() if not path.name.startswith(".")):
        raise UserError(f"--out: {out} holds {there[0]} and no records; name a new folder")
    begun = {
        "form": records.FORM,
        "set": source.name,
        "task": source.task,
        "options": records.options_of(config, source.name),
        **about.SMALL[source.name]._asdict(),
    }
    _settle(out, begun)
    return begun


def _settle(out: pathlib.Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    whole.write(out / records.MANIFEST, text + "\n")


def _usable(source: ListSource, config: ConfigDict, out: pathlib.Path) -> tuple[Cases, int]:
    """The cases whose rows and images serve, and how many rows do not."""
    bad, good = [*source.bad_rows], {}
    for split in source.splits:
        cases = source.cases(split)
        known = prepare.seen(source, cases, config)
        found = prepare.check(source, cases, known, None, config, trained=False)
        bad += found.values()
        good[split] = [case for i, case in enumerate(cases) if i not in found]
    total = sum(map(len, good.values())) + len(bad)
    for note in prepare.settle(bad, total, config, out / prepare.BAD_ROWS):
        print(note)
    if not any(good.values()):
        raise UserError(f"{source.name}: no case is left to write; see --config.data")
    return good, len(bad)


def _digest(source: ListSource, cases: Cases, config: ConfigDict) -> str:
    """Of all that would be written: the cases, and what their images show."""
    every = [case for found in cases.values() for case in found]
    rows = [
        (c.id, c.split, c.images, c.question, c.answer, c.fields, source.where[c.id]) for c in every
    ]
    seen = facts.of(source, every, config.data.cache)
    shown = {name: (*fact[:4], fact.digest.hex()) for name, fact in seen.items()}
    return hashlib.sha256(json.dumps([rows, shown]).encode()).hexdigest()


def _write(source: ListSource, cases: Cases, out: pathlib.Path) -> int:
    """Writes images, then cases; how many distinct images there are."""
    shutil.rmtree(out / source.name, ignore_errors=True)  # what a kill left
    wanted = facts.places(source, [case for found in cases.values() for case in found])
    files = {source.path(*where) for where in wanted.values()}
    _check_room(sum(path.stat().st_size for path in files), out)
    places: dict[str, int] = {}
    if wanted:
        examples = {builder.IMAGES: _images(source, wanted, places)}
        builder.Records(source.name, "images", examples, out).write()
    rows = {
        builder.SPLITS[split]: [
            builder.example(case, [places[n] for n in case.images], source.where[case.id])
            for case in found
        ]
        for split, found in cases.items()
        if found  # TFDS knows no empty split
    }
    builder.Records(source.name, "cases", rows, out).write()
    return len(set(places.values()))


def _images(
    source: ListSource, wanted: dict[str, facts.Where], places: dict[str, int]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each distinct file once; `places` gets the number of its record for every name."""
    numbers: dict[bytes, int] = {}
    for name, where in tqdm(wanted.items(), desc="images", delay=1, disable=None):
        content = source.content(*where)
        key = hashlib.blake2b(content).digest()
        places[name] = numbers.get(key, len(numbers))
        if key not in numbers:
            numbers[key] = places[name]
            yield name, {"name": name, "file": content}


def _check_room(need: int, out: pathlib.Path) -> None:
    free = shutil.disk_usage(out).free
    if need + SPARE > free:
        raise UserError(
            f"--out: the images take {need / 1e9:.2f} GB in {out}, where {free / 1e9:.2f} GB are "
            "free; name a folder on a larger disk"
        )


def _counts(cases: Cases) -> str:
    return ", ".join(f"{len(found)} {split}" for split, found in cases.items()) + " cases"


def _say(out: pathlib.Path, name: str, cases: Cases, manifest: dict[str, Any]) -> None:
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(
        f"{out}: {_counts(cases)}, {manifest['images']} images, {size / 1e6:.1f} MB; read it with "
        f"data={name} --config.data.dir={out}"
    )
    print(f"licence of {name}: {manifest['licence']}")
