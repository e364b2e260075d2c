"""What is left of a damaged list goes through what follows: bad rows, tokens, the index."""

import dataclasses
import json
import os
import pathlib

import pytest

from pefomed_jax.data import index, prepare, sources
from pefomed_jax.data.sources import files

from .lists import FORMS, N
from .loaded import config_of

ODD = ["bad \ud800 x", None, ["a"], {"a": 1}, "", "a\0b", "x" * 300_000, "line\none", "caf\xe9"]
PLACES = ["0.png#99999", "../../../etc/hostname", "/dev/zero", "~", "*", "0.png/", "0.png;9.png"]


@pytest.fixture
def odd(tmp_path: pathlib.Path):
    """(form, folder, how many rows) of a list of everything at once."""
    form = FORMS["folder jsonl"]
    rows = [form.row(i) for i in range(N)]
    rows += [form.row(0) | {"id": f"t{i}", form.text: text} for i, text in enumerate(ODD)]
    rows += [form.row(0) | {"id": text} for text in ODD]
    rows += [form.row(0) | {"id": f"p{i}", form.image: name} for i, name in enumerate(PLACES)]
    rows += [form.row(0) | {"id": f"o{i}", "age": value} for i, value in enumerate(ODD)]
    form.write(tmp_path / "set", form.raw(rows))
    return form, tmp_path / "set", len(rows)


def test_the_rest_goes_through_to_training(odd, tokenizer, tmp_path: pathlib.Path, capsys) -> None:
    form, root, total = odd
    config = config_of(form, root)
    config.data.update(cache=str(tmp_path / "cache"), buckets=(512, 1024))
    splits = prepare.prepare(sources.load(config), tokenizer, config, tmp_path / "run")
    lines = (tmp_path / "run" / prepare.BAD_ROWS).read_text(encoding="utf-8").splitlines()
    cases = [*splits.train, *splits.val]  # asked in the end as well
    assert len(cases) + len(lines) == total
    assert max(map(len, lines)) < 3000
    found = [json.loads(line) for line in lines]
    assert len({row["row"] for row in found}) == len(found)
    assert {case.answer for case in cases} >= {"a\0b", "line\none", "caf\xe9"}
    assert any("the largest bucket is 1024" in row["problem"] for row in found)
    said = capsys.readouterr().out
    assert f"skipped {len(found)} bad rows of {total}" in said


def test_the_kept_index_gives_the_same(odd, tmp_path: pathlib.Path, monkeypatch) -> None:
    form, root, total = odd
    config = config_of(form, root)
    config.data.cache = str(tmp_path / "cache")
    monkeypatch.setattr(index, "SLOW", 0.0)
    first = sources.load(config)
    monkeypatch.setattr(files.ListSource, "add", None)  # it is not read again
    second = sources.load(config)
    assert second.bad_rows == first.bad_rows
    assert second.where == first.where
    for split in first.splits:
        assert [*map(dataclasses.asdict, second.cases(split))] == [
            *map(dataclasses.asdict, first.cases(split))
        ]
    assert len(first.where) + len(first.bad_rows) == total


def test_names_of_files_that_are_no_text(tmp_path: pathlib.Path, capsys) -> None:
    """Latin-1 names, as old archives unpack to: an image of one is a bad row."""
    form = FORMS["folder json"]
    form.write(tmp_path, b"[]").unlink()
    name = os.fsdecode(b"images/caf\xe9")
    try:
        (tmp_path / f"{name}.txt").write_text("A text.")
    except OSError:
        pytest.skip("this file system takes names of UTF-8 only")
    (tmp_path / "images" / "0.txt").write_text("A text.")
    (tmp_path / "images" / "1.png").rename(tmp_path / f"{name}.png")
    (tmp_path / os.fsdecode(b"alone\xff.txt")).write_text("A text.")
    source = sources.load(config_of(form, tmp_path))
    bad = [row for row in source.bad_rows if "is not UTF-8 text" in row.problem]
    assert len(bad) == 1
    assert len(source.cases("train")) == 1
    assert len(source.bad_rows) == N
    assert "alone\\udcff.txt" in capsys.readouterr().out
