"""`launch/data.py`: prepares what a run needs of a data set, and says what is in it."""

import collections
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax import whole
from pefomed_jax.audit import answers, counts, leakage, lengths, pictures, rows, table, twins, warn
from pefomed_jax.audit.gather import SPLITS, Gathered, gather
from pefomed_jax.audit.leakage import Record
from pefomed_jax.audit.made import Made
from pefomed_jax.data import prepare
from pefomed_jax.data.sources.files import BadRow
from pefomed_jax.errors import UserError
from pefomed_jax.validate import validate

# sets whose texts may not leave the machine and are not in logs, and the layout of one of them
CREDENTIALED, LAYOUT = ("mimic_cxr",), "mimiccxr"
PROBLEMS = 12  # kinds of bad rows that are counted one by one


def run(config: ConfigDict, out: pathlib.Path, page: bool = True) -> int:
    """Audits the data of a config into the folder `out`; 1 where no case is usable, else 0."""
    made = make(config)
    write(made, out, page)
    print(table.table(made.audit))
    print(f"all of it: {out / ('audit.html' if page else 'audit.json')}")
    return 0 if made.found.cases else 1


def make(config: ConfigDict) -> Made:
    """The audit. Errors: UserError where the lists cannot be read at all."""
    config = base_lib.adopt(config)
    validate(config)
    found = gather(config)
    alike = twins.find(found.source, found.known, found.where, _splits_of(found))
    shared, within = leakage.find(found.parts, alike), rows.find(found.parts, alike)
    audit: dict[str, Any] = {
        "task": config.task,
        "source": config.data.source,
        "dir": config.data.dir,
        "preset": config.preset,
        "limits": {"train": config.data.limit, "test": config.eval.limit},
        "credentialed": _credentialed(found),
        "notes": found.notes,
        "splits": counts.splits(found.parts, found.unused),
        "sources": counts.sources(found.parts),
        "types": counts.types(found.parts),
        "top": answers.top(found.parts),
        "majority": _majority(found),
        "lengths": lengths.lengths(found),
        "pictures": pictures.pictures(found),
        "twins": {"near": len(alike.near), "plain": alike.plain, "left": alike.left},
        "leakage": shared._asdict() | {"records": len(shared.records)},
        "within": within.counts,
        "bad": _bad(found),
    }
    audit["warnings"] = warn.warnings(audit)
    return Made(audit, found, shared.records, within.records)


def _splits_of(found: Gathered) -> dict[str, int]:
    """A number for the splits that an image is in; 0 where only bad rows have it."""
    held: dict[str, int] = collections.defaultdict(int)
    for i, split in enumerate(SPLITS):
        for case in found.parts[split]:
            for name in case.images:
                held[name] |= 1 << i
    return held


def _credentialed(found: Gathered) -> bool:
    """Whether a part is of a credentialed set, in its own layout or in PeFoMed's lists."""
    named = set(found.config.data.source.split("+")) & set(CREDENTIALED)
    return bool(named) or any(case.fields.get("layout") == LAYOUT for case in found.cases)


def _majority(found: Gathered) -> dict[str, Any]:
    if found.config.task != "vqa":
        return {}
    return answers.majority(found.parts, found.config.eval.protocol or "pefomed")


def _bad(found: Gathered) -> dict[str, Any]:
    """How many rows are bad, of which kinds, and whether the run would stop over them."""
    kinds = collections.Counter(_kind(row) for row in found.bad)
    share = len(found.bad) / max(1, found.total)
    allowed = found.config.data.max_bad_fraction
    listed = dict(kinds.most_common(PROBLEMS))
    if rest := sum(kinds.values()) - sum(listed.values()):
        listed["of other kinds"] = rest
    made = {"rows": len(found.bad), "total": found.total, "share": share, "problems": listed}
    first = found.bad[0] if found.bad else None
    place = f"{first.file}, row {first.row}, field '{first.field}'" if first else ""
    return made | {"allowed": allowed, "run_stops": share > allowed, "first": place}


def _kind(row: BadRow) -> str:
    """A problem without what is the row's own in it: names, numbers, what a library says."""
    text = re.sub(r"\(.*\)|'[^']*'", "…", row.problem)
    text = re.sub(r"\S*[/.\\]\S+", "…", text)
    return f"{row.field}: {re.sub(r'[0-9]+', 'N', text)}"


def write(made: Made, out: pathlib.Path, page: bool) -> None:
    """audit.json, bad_rows.jsonl, leakage.jsonl and audit.html, each in one move."""
    out.mkdir(parents=True, exist_ok=True)
    audit = made.audit
    texts = ("top", "majority") if audit["credentialed"] else ()
    kept = {name: part for name, part in audit.items() if name not in texts}
    whole.write(out / "audit.json", json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    prepare.list_bad(made.found.bad, out / prepare.BAD_ROWS)
    records = [*made.shared, *made.within]
    if made.audit["credentialed"]:
        records = [_without_text(record) for record in records]
    whole.write(out / "leakage.jsonl", _lines(records))
    if page:
        from pefomed_jax.audit import page as page_lib  # only here: it draws

        whole.write(out / "audit.html", page_lib.page(made))


def _without_text(record: Record) -> Record:
    """A record without the report that its cases share."""
    return {
        key: value for key, value in record.items() if key != "value" or record["kind"] != "text"
    }


def _lines(records: Sequence[Record]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def usable(out: str, config: ConfigDict) -> pathlib.Path:
    """The folder of an audit. Errors: UserError where a file is in its place."""
    name = f"data-{config.task}-{config.data.source}"
    folder = pathlib.Path(out or f"runs/{name}").expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out={folder} is a file; name a folder")
    return folder
