"""Loads a list that was damaged, and checks what holds for every outcome."""

import dataclasses
import json
import pathlib
from typing import Any

import pytest
from ml_collections import ConfigDict

from pefomed_jax import config as config_lib
from pefomed_jax.batch import Case
from pefomed_jax.data import sources
from pefomed_jax.data.sources import texts
from pefomed_jax.data.sources.files import BadRow
from pefomed_jax.errors import UserError

from .lists import Form, N

AT = 2  # where the damaged row stands


def config_of(form: Form, root: pathlib.Path) -> ConfigDict:
    config = config_lib.make(form.task, f"tiny,data={form.source}")
    config.data.update(dir=str(root), max_bad_fraction=1.0)
    if form.source == "folder":
        config.data.folder.test_fraction = 0.0
    return config


def load(form: Form, root: pathlib.Path) -> tuple[list[Case], list[BadRow]]:
    """(cases, bad rows) of the damaged list; all of them can be written and shown."""
    source = sources.load(config_of(form, root))
    cases = [case for split in source.splits for case in source.cases(split)]
    for bad in source.bad_rows:
        assert bad.file == form.file
        assert bad.field
        assert bad.remedy
        assert str(bad).isprintable()
        assert len(bad.problem) <= texts.LONGEST
    for row in (*cases, *source.bad_rows):
        json.dumps(dataclasses.asdict(row), ensure_ascii=False).encode()
    return [case for case in cases if source.where[case.id][0] == form.file], source.bad_rows


def rows_with(form: Form, row: Any) -> bytes:
    rows: list[Any] = [form.row(i) for i in range(N)]
    rows.insert(AT, row)
    return form.raw(rows)


def refused(form: Form, root: pathlib.Path) -> str:
    """The one line in which loading ends."""
    with pytest.raises(UserError) as error:
        load(form, root)
    assert str(error.value).encode("utf-8", "backslashreplace").decode().isprintable()
    return str(error.value)


def one_is_bad(form: Form, root: pathlib.Path, n: int = N) -> BadRow:
    """The bad row, all others being cases."""
    cases, bad = load(form, root)
    assert len(cases) == n
    (row,) = bad
    assert row.row == AT + 1
    return row
