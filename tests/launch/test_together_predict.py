"""Answers and kept features of several processes."""

import json
import pathlib

import numpy as np
import pytest
import runs
import together

FILES = ("answers.jsonl", "answers_shuffled.jsonl")
ASKED = ["--weights=demo", "--limit=21", "--batch_size=8", "--max_new_tokens=12", "--shuffled"]


def answers(count: int, folder: pathlib.Path, *args: str) -> list[bytes]:
    """The files that so many processes write together, of four devices in all."""
    all_args = [*ASKED, f"--out={folder / 'answers.jsonl'}", *args]
    if count == 1:
        together.alone(all_args, "launch/predict.py", devices=4)
    else:
        with together.start(count, all_args, "launch/predict.py") as processes:
            ends = processes.ended()
        assert [code for code, _ in ends] == [0] * count, ends
        assert "written: " in ends[0][1]
        assert "written" not in ends[1][1]
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.slow
def test_two_processes_answer_as_one(tmp_path):
    """Byte for byte, in the order of the cases, also after a part of the file was there."""
    one, two = tmp_path / "one", tmp_path / "two"
    whole = answers(1, one)
    assert answers(2, two) == whole
    rows = [json.loads(line) for line in whole[0].splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == 21
    assert all(row["prediction"] for row in rows)
    lines = whole[0].splitlines(keepends=True)
    (two / FILES[0]).unlink()
    (two / f"{FILES[0]}.part").write_bytes(b"".join(lines[:11]) + lines[11][:40])  # as a kill does
    assert answers(2, two) == whole


@pytest.mark.slow
def test_sampling_does_not_depend_on_the_processes(tmp_path):
    drawn = answers(2, tmp_path / "two", "--sample", "--seed=5")
    assert drawn == answers(1, tmp_path / "one", "--sample", "--seed=5")
    assert drawn != answers(1, tmp_path / "other", "--sample", "--seed=6")


@pytest.mark.slow
def test_each_host_makes_features_of_its_own(tmp_path):
    """Two processes with caches of their own; a third run finds what the first kept."""
    data = runs.write_pictures(tmp_path / "data")
    caches = [f"--config.data.cache={tmp_path / f'host{i}'}" for i in (0, 1)]
    args = [*runs.flags(data, data__cache_features=True, mesh__fsdp=4), "--config.train.steps=4"]
    kept = [*args, f"--workdir={tmp_path / 'kept'}"]
    with together.start(2, kept, own={1: [caches[1]], 0: [caches[0]]}) as processes:
        ends = processes.ended()
    assert [code for code, _ in ends] == [0, 0], ends
    held = [sorted((tmp_path / f"host{i}" / "features").glob("*.bin")) for i in (0, 1)]
    assert held[0][0].name == held[1][0].name
    assert held[0][0].read_bytes() == held[1][0].read_bytes()
    together.alone([*args, f"--workdir={tmp_path / 'one'}", caches[0]], devices=4)
    losses = [[row["loss"] for row in runs.rows(tmp_path / name)] for name in ("kept", "one")]
    np.testing.assert_allclose(*losses, rtol=5e-5)
