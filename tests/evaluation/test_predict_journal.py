"""The file that predictions grow in: cut lines, the order at the end, other commands, locks."""

import json
import pathlib

import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation.journal import Journal, note, noted

MADE = {"command": {"weights": "abc", "decoding.eos": (2,), "seed": None}, "versions": {"jax": "1"}}
IDS = ["a", "b", "c", "d"]
ORDER = ["a", "c", "b", "d"]


def row(name):
    return {"id": name, "prediction": f"line\u2028break of {name}"}


def begin(path, made=MADE, order=ORDER, **settings):
    return Journal(path, made, order, **settings)


def write(path, names):
    """A command that ends after these cases."""
    with begin(path) as journal:
        journal.add([row(name) for name in names])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "p.jsonl"


@pytest.fixture
def part(path):
    return path.with_name("p.jsonl.part")


def ids(path):
    return [json.loads(line)["id"] for line in path.read_text().split("\n")[:-1]]


def test_a_whole_file_is_in_the_order_of_the_cases(path, part):
    with begin(path) as journal:
        journal.add([row("a"), row("c")])
        assert (journal.done, journal.finished, path.exists()) == (2, False, False)
        journal.add([row("b"), row("d")])
        journal.finish(IDS)
    assert ids(path) == IDS
    assert sorted(p.name for p in path.parent.iterdir()) == ["p.jsonl", "p.jsonl.meta.json"]
    with begin(path) as again:
        assert (again.finished, again.done) == (True, 4)
    assert not part.exists()


@pytest.mark.parametrize("cut", [1, 2, 9, 1000])
def test_a_half_written_line_is_done_again(path, part, cut):
    write(path, ["a"])
    whole = part.read_bytes()
    line = json.dumps(row("c"), ensure_ascii=False).encode()
    part.write_bytes(whole + line[:cut])
    with begin(path) as journal:
        assert journal.done == 1
        assert part.read_bytes() == whole
        journal.add([row("c"), row("b"), row("d")])
        journal.finish(IDS)
    assert ids(path) == IDS


def test_a_command_that_wrote_nothing_leaves_nothing_in_the_way(path, part):
    write(path, [])
    assert not part.exists()
    other = {"command": {"weights": "def"}}
    with begin(path, other) as journal:
        assert journal.done == 0


@pytest.mark.parametrize("finished", [False, True])
def test_another_command_is_refused_until_it_may_overwrite(path, finished):
    write(path, ["a"])
    if finished:
        with begin(path) as journal:
            journal.add([row("c"), row("b"), row("d")])
            journal.finish(IDS)
    other = {"command": {**MADE["command"], "weights": "xyz"}}
    with pytest.raises(UserError, match="of another command: weights was abc, is xyz; give"):
        begin(path, other)
    assert path.with_name(f"{path.name}.part").exists() != finished, "an empty one is left behind"
    with begin(path, other, overwrite=True) as journal:
        assert (journal.done, journal.finished, path.exists()) == (0, False, False)
        journal.add([row(name) for name in ORDER])
        journal.finish(IDS)
    with pytest.raises(UserError, match="weights was xyz, is abc"):
        begin(path)
    newer = {**other, "versions": {"jax": "2"}}  # which is written down, not compared
    with begin(path, newer) as journal:
        assert journal.finished


def test_notes_are_kept_and_not_compared(path):
    assert noted(path, "save_images") is None
    write(path, ["a"])
    note(path, "save_images", "films/ä")
    with begin(path) as journal:
        assert journal.done == 1
    assert noted(path, "save_images") == "films/ä"
    path.with_name("p.jsonl.meta.json").write_text("[]")
    assert noted(path, "save_images") is None


def test_a_file_of_unknown_origin_is_not_touched(path):
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(UserError, match="is there, but not what made it"):
        begin(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("names", [["a", "b"], ["a", "a"], [*ORDER, "e"]])
def test_rows_that_are_not_the_next_ones_are_damage(path, part, names):
    write(path, ["a"])
    lines = [json.dumps(row(name)) + "\n" for name in names]
    part.write_text("".join(lines))
    with pytest.raises(UserError, match=rf"p.jsonl.part:{len(names)} is not the row of case"):
        begin(path)


def test_a_full_disk_is_one_line(path, part):
    write(path, ["a"])
    with begin(path) as journal:
        (real := journal._file).close()
        with pathlib.Path("/dev/full").open("ab", buffering=0) as journal._file:
            with pytest.raises(UserError, match=r"p.jsonl.part: No space left on device; once"):
                journal.add([row("c")])
            assert journal.done == 1
        journal._file = real
    assert ids(part) == ["a"]


def test_two_at_once_are_refused(path):
    with begin(path), pytest.raises(UserError, match="being written by another process"):
        begin(path)
    with begin(path) as journal:
        assert journal.done == 0
