"""`launch/train.py` as a person starts it: killed and started again, twice at once, interrupted."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
import runs
import together

ROOT = pathlib.Path(__file__).parents[2]
WAIT = 240.0  # seconds for anything a run has to do before it is killed


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return runs.write_pictures(tmp_path_factory.mktemp("data"))


def start(args):
    return subprocess.Popen(
        [sys.executable, "launch/train.py", *args],
        cwd=ROOT,
        env=together.environment(devices=1),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    said, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0, said
    return said


def wait_for(process, happened):
    """Until `happened()`; a run that ends before fails the test."""
    end = time.monotonic() + WAIT
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "the run took too long"
        time.sleep(0.002)


def n_rows(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.slow
def test_killed_runs_end_as_an_uninterrupted_one(data, tmp_path):
    """Killed while a checkpoint is being written, then at a random moment: the same bits."""
    settings = {"train__steps": 40, "train__checkpoint_every": 1, "train__eval_every": 20}
    args = runs.flags(data, **settings)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start([*args, f"--workdir={whole}"]))

    process = start([*args, f"--workdir={killed}"])
    saving = lambda: any((killed / "checkpoints").glob("*tmp*"))  # noqa: E731
    wait_for(process, lambda: n_rows(killed) >= 5 and saving())
    process.kill()
    process.communicate()

    moment = random.Random(time.time_ns()).randint(10, 36)
    process = start([*args, f"--workdir={killed}"])
    wait_for(process, lambda: n_rows(killed) >= moment)
    process.kill()
    process.communicate()

    said = finish(start([*args, f"--workdir={killed}"]))
    assert "going on after step" in said
    assert [row["step"] for row in runs.rows(killed)] == list(range(1, 41))
    for name in ("metrics.jsonl", "predictions.jsonl", "results.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), (name, moment)


@pytest.mark.slow
def test_sigterm_saves_and_a_second_run_is_refused(data, tmp_path):
    settings = {"train__steps": 5000, "train__checkpoint_every": 5000, "train__eval_every": 5000}
    args = [*runs.flags(data, **settings), f"--workdir={tmp_path / 'run'}"]
    process = start(args)
    wait_for(process, lambda: n_rows(tmp_path / "run") >= 3)
    second, _ = (other := start(args)).communicate(timeout=WAIT)
    assert other.returncode == 1
    assert second.startswith("error: ")
    assert f"process {process.pid}" in second
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 75, said
    assert "stopped and saved at step" in said
    saved = [int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir()]
    assert saved == [n_rows(tmp_path / "run")]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["mrg", "vqa", "caption"])
def test_embedded_run(tmp_path, task):
    """A few steps of the default run of each task, from the embedded base and phantoms."""
    small = {
        "train.steps": 4,
        "train.eval_every": 4,
        "data.limit": 64,
        "eval.limit": 8,
        "eval.val_limit": 8,
        "eval.batch_size": 8,
    }
    args = [f"--config.{name}={value}" for name, value in small.items()]
    said = finish(start([f"--config=configs/{task}.py", *args, f"--workdir={tmp_path}"]))
    assert "images shuffled" in said
    results = json.loads((tmp_path / "results.json").read_text())
    score = {"mrg": "finding_f1", "vqa": "exact_match", "caption": "rouge_l"}[task]
    for part in ("test", "test_shuffled"):
        assert 0 <= results[part][score] <= 1
        assert results["counts"][part]["n_cases"] == 8
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 8
    assert (tmp_path / "loss.png").stat().st_size > 1000
