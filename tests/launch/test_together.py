"""Runs of several real processes on loopback, two devices each."""

import json
import pathlib
import signal
import time

import numpy as np
import pytest
import runs
import together

LEAVE = 30.0  # seconds in which the others are gone where one is lost
# tiny as it is, with its embedded base and drawn films, but few steps and cases
TINY = {
    "data.limit": 64,
    "train.steps": 10,
    "train.batch_size": 8,
    "train.eval_every": 10,
    "eval.limit": 16,
    "eval.val_limit": 8,
    "eval.batch_size": 8,
    "eval.max_new_tokens": 8,
}
TINY_FLAGS = ["--config=configs/vqa.py", *(f"--config.{name}={v}" for name, v in TINY.items())]
SAME = ("metrics.jsonl", "predictions.jsonl", "predictions_shuffled.jsonl", "results.json")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> pathlib.Path:
    return runs.write_pictures(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def two(data, tmp_path_factory) -> pathlib.Path:
    """A run of two processes, its weights over fsdp."""
    folder = tmp_path_factory.mktemp("two") / "run"
    return trained(2, [*runs.flags(data, mesh__fsdp=2), f"--workdir={folder}"])


def trained(count: int, args: list[str]) -> pathlib.Path:
    """The folder of a run of so many processes."""
    with together.start(count, args) as processes:
        ends = processes.ended()
    assert [code for code, _ in ends] == [0] * count, ends
    assert "images shuffled" in ends[0][1]
    assert not any("loss" in said for _, said in ends[1:]), "only process 0 tells of the run"
    return pathlib.Path(args[-1].removeprefix("--workdir="))


def check_equal(folder: pathlib.Path, other: pathlib.Path) -> None:
    """The losses of each step, and which cases are answered, in which order."""
    losses, others = ([row["loss"] for row in runs.rows(each)] for each in (folder, other))
    np.testing.assert_allclose(losses, others, rtol=5e-5)
    for name in ("predictions.jsonl", "predictions_shuffled.jsonl"):
        rows, others = (
            [json.loads(line) for line in (each / name).read_text().splitlines()]
            for each in (folder, other)
        )
        assert [row["id"] for row in rows] == [row["id"] for row in others]
        far = [row["log_prob"] - same["log_prob"] for row, same in zip(rows, others, strict=True)]
        assert np.abs(far).max() < 5e-3  # Adam's steps of small gradients are decided by rounding


def n_rows(folder: pathlib.Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def test_two_processes_learn_as_one(two, data, tmp_path):
    together.alone([*runs.flags(data), f"--workdir={tmp_path}"])
    check_equal(two, tmp_path)


@pytest.mark.slow
def test_one_is_killed_and_all_go_on(two, data, tmp_path):
    """The survivor leaves in time and says why; begun again, they end with the same bits."""
    folder = tmp_path / "run"
    args = [*runs.flags(data, mesh__fsdp=2), f"--workdir={folder}"]
    with together.start(2, args) as processes:
        processes.wait_for((folder / "checkpoints" / "2").is_dir)
        processes.running[1].kill()
        start = time.monotonic()
        (code, said), _ = processes.ended()
    assert time.monotonic() - start < LEAVE
    assert code == 76, said
    assert "another process of the run is gone" in said.splitlines()[-1]
    assert not (folder / "results.json").exists()
    trained(2, args)
    for name in SAME:
        assert (folder / name).read_bytes() == (two / name).read_bytes(), name


@pytest.mark.slow
def test_sigterm_of_one_saves_all(two, data, tmp_path):
    """Asked to end, both save the same step; one process goes on with it, on another mesh."""
    folder = tmp_path / "run"
    many = {"train__steps": 400, "train__checkpoint_every": 400, "train__eval_every": 400}
    args = [*runs.flags(data, **many, mesh__fsdp=2), f"--workdir={folder}"]
    with together.start(2, args) as processes:
        processes.wait_for(lambda: n_rows(folder) >= 2)
        processes.running[1].send_signal(signal.SIGTERM)
        ends = processes.ended()
    assert [code for code, _ in ends] == [75, 75], ends
    saved = n_rows(folder)
    assert f"stopped and saved at step {saved}" in ends[0][1]
    assert 2 <= saved < 400
    assert (folder / "checkpoints" / str(saved)).is_dir()
    steps = {"train__steps": saved + 4, "train__eval_every": saved + 4}
    whole = [*runs.flags(data, **many | steps), f"--workdir={tmp_path / 'whole'}"]
    rest = [*runs.flags(data, **many | steps, mesh__tensor=2), f"--workdir={folder}"]
    said = together.alone(rest, devices=4)
    assert f"going on after step {saved}" in said
    together.alone(whole)
    assert len(runs.rows(folder)) == saved + 4


@pytest.mark.slow
def test_sigterm_while_the_test_cases_are_answered(tmp_path):
    """Nothing is left to be saved: both leave at once, and answer them when they are back."""
    data, folder = runs.write_pictures(tmp_path / "data"), tmp_path / "run"
    asked = json.loads((data / "test.json").read_text())
    more = [row | {"qid": f"{row['qid']}{k}"} for k in range(5) for row in asked]
    (data / "test.json").write_text(json.dumps(more))  # so many that it is heard before the end
    settings = {"eval__max_new_tokens": 400, "eval__batch_size": 4, "train__eval_every": 6}
    args = [*runs.flags(data, mesh__fsdp=2, **settings), f"--workdir={folder}"]
    with together.start(2, args) as processes:
        processes.wait_for((folder / "predictions.jsonl").exists)
        processes.running[1].send_signal(signal.SIGTERM)
        ends = processes.ended(LEAVE)
    assert [code for code, _ in ends] == [75, 75], ends
    assert "interrupted; the same command goes on" in ends[0][1]
    assert not (folder / "results.json").exists()
    trained(2, args)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> pathlib.Path:
    """A run of one process."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    together.alone([*TINY_FLAGS, f"--workdir={folder}"])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_tiny_learns_the_same(count, tiny, tmp_path):
    """Four: tensor=4 lies over two processes each, which bring the same rows."""
    mesh = "--config.mesh.fsdp=4" if count == 2 else "--config.mesh.tensor=4"
    many = trained(count, [*TINY_FLAGS, mesh, f"--workdir={tmp_path / 'many'}"])
    check_equal(many, tiny)
    if count == 4:
        return
    again = trained(count, [*TINY_FLAGS, mesh, f"--workdir={tmp_path / 'again'}"])
    for name in SAME:
        assert (again / name).read_bytes() == (many / name).read_bytes(), name
