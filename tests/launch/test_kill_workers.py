"""Runs of `launch/train.py` with worker processes, killed and started again with other ones."""

import contextlib
import json
import pathlib
import re
import subprocess
import sys
import time

import pytest
import runs
import together
from data import mixed

ROOT = pathlib.Path(__file__).parents[2]
WAIT = 200.0  # seconds for anything a run has to do
STEPS = 32  # more than two workers make ahead
SETTINGS = {
    "data__branches": 1,
    "data__ratios": mixed.RATIOS,
    "data__source": "folder+medexpqa",
    "train__batch_size": 4,
    "train__steps": STEPS,
    "train__eval_every": STEPS,
    "train__checkpoint_every": 3,
    "eval__batch_size": 4,
    **{f"data__augment__{name}": value for name, value in mixed.AUGMENT.items()},
}
NOISE = ("leaked", "Traceback", "Exception ignored")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return mixed.write(tmp_path_factory.mktemp("data"))


def start(data, folder, **settings):
    args = runs.flags(data, **(SETTINGS | settings))
    args[0] = "--config=configs/vqa.py:tiny,data=folder+medexpqa"
    return subprocess.Popen(
        [sys.executable, "launch/train.py", *args, f"--workdir={folder}"],
        cwd=ROOT,
        env=together.environment(devices=1),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    said, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0, said
    assert not [word for word in NOISE if word in said], said
    return said


def wait_for(process, happened):
    """Until `happened()`; a run that ends before fails the test."""
    end = time.monotonic() + WAIT
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.002)


def n_rows(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def children(pid):
    """The worker processes of a process, where the system shows them."""
    found = []
    for place in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def killed(data, folder, at, workers):
    """A run killed after row `at`; its worker processes end with it."""
    process = start(data, folder, data__workers=workers)
    wait_for(process, lambda: n_rows(folder) >= at)
    own = children(process.pid)
    process.kill()
    process.communicate()
    end = time.monotonic() + 20
    while any(pathlib.Path(f"/proc/{pid}").exists() for pid in own):
        assert time.monotonic() < end, f"{own} outlive the run"
        time.sleep(0.05)
    return own


@pytest.mark.slow
def test_killed_and_resumed_with_other_workers(data, tmp_path):
    """Killed within an epoch without workers, then with two, ended with one: the same bits."""
    whole, other = tmp_path / "whole", tmp_path / "other"
    finish(start(data, whole))
    killed(data, other, 3, 0)
    own = killed(data, other, n_rows(other) + 4, 2)
    assert len(own) == 2 or not pathlib.Path("/proc/self/stat").exists()
    assert n_rows(other) < STEPS
    assert "going on after step" in finish(start(data, other, data__workers=1))
    assert [row["step"] for row in runs.rows(other)] == list(range(1, STEPS + 1))
    for name in ("metrics.jsonl", "predictions.jsonl", "results.json"):
        assert (other / name).read_bytes() == (whole / name).read_bytes(), name
    rows = [json.loads(line) for line in (other / "predictions.jsonl").read_text().splitlines()]
    assert {len(row.get("images", ())) for row in rows} == {0, 2, 3}  # listed where several


@pytest.mark.slow
def test_an_image_that_vanishes_ends_the_run_in_a_line(tmp_path):
    """Taken away while the run trains, read in a worker process."""
    data, folder = mixed.write(tmp_path / "data"), tmp_path / "run"
    process = start(data, folder, train__steps=4000, data__workers=1)
    wait_for(process, lambda: n_rows(folder) >= 1)
    for path in (data / "folder" / "images").glob("train*.dcm"):
        path.unlink()
    said, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 1, said
    last = said.strip().splitlines()[-1]
    assert re.fullmatch(
        r"error: \S*folder/images/train\d+_\d\.dcm does not open \(no such file\)", last
    )
    assert not [word for word in NOISE if word in said], said
