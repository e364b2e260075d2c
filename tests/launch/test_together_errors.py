"""What goes wrong between processes ends in a clear line, in time."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
import runs
import together

LEAVE = 30.0  # seconds


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> pathlib.Path:
    return runs.write_pictures(tmp_path_factory.mktemp("data"))


def last(said: str) -> str:
    return said.strip().splitlines()[-1]


def child(process: subprocess.Popen) -> int:
    """The process that works; the one that was started watches over it."""
    return int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--num_processes=2"], "--coordinator, --process_id must be given too"),
        (
            ["--coordinator=here", "--num_processes=2", "--process_id=0"],
            "--coordinator=here is no HOST:PORT",
        ),
        (
            ["--coordinator=here:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2 of --num_processes=2: processes are numbered from 0 to",
        ),
    ],
)
def test_a_place_that_is_none(arguments, words, tmp_path):
    args = ["launch/train.py", "--config=configs/vqa.py", f"--workdir={tmp_path}", *arguments]
    done = subprocess.run(
        [together.sys.executable, *args], cwd=together.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("there", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_not_all_come(there, data, tmp_path):
    """The last of three never comes; or even the coordinator does not."""
    place = [f"--coordinator=localhost:{together.port()}", "--num_processes=3", "--join_timeout=4"]
    args = [*runs.flags(data), f"--workdir={tmp_path / 'run'}", *place]
    ids = [0, 1] if there else [1]
    started = time.monotonic()
    with together.Together([_start([*args, f"--process_id={i}"]) for i in ids]) as processes:
        ends = processes.ended(LEAVE)
    assert time.monotonic() - started < LEAVE
    assert [code for code, _ in ends] == [1] * len(ids), ends
    for i, (_, said) in zip(ids, ends, strict=True):
        assert f"error: process {i} of 3 could not join within 4 seconds: " in last(said)
        if i == 0:
            assert "not every process came" in last(said)
        elif not there:
            assert "(Connection refused): process 0 was not started there" in last(said)


def _start(args: list[str], devices: int = together.DEVICES) -> subprocess.Popen:
    return subprocess.Popen(
        [together.sys.executable, "launch/train.py", *args],
        cwd=together.ROOT,
        env=together.environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_another_config_in_one_process(data, tmp_path):
    args = [*runs.flags(data), f"--workdir={tmp_path / 'run'}"]
    with together.start(2, args, own={1: ["--config.optimizer.lr=0.5"]}) as processes:
        (first, told), (second, said) = processes.ended()
    words = "process 1 has another --config.optimizer.lr than process 0"
    assert (first, second) == (1, 1)
    assert last(said).startswith(f"error: {words}")
    assert last(told).startswith(f"error: process 1 ended this run: {words}")


@pytest.mark.slow
def test_another_number_of_devices_in_one_process(data, tmp_path):
    args = [*runs.flags(data), f"--workdir={tmp_path / 'run'}"]
    place = [f"--coordinator=localhost:{together.port()}", "--num_processes=2"]
    started = [_start([*args, *place, f"--process_id={i}"], devices=i + 1) for i in (0, 1)]
    with together.Together(started) as processes:
        ends = processes.ended()
    assert [code for code, _ in ends] == [1, 1], ends
    assert "process 1 has another number of devices than process 0" in last(ends[0][1])
    assert "Traceback" not in ends[0][1] + ends[1][1]


@pytest.mark.slow
def test_a_folder_that_is_not_shared(data, tmp_path):
    args = [*runs.flags(data), f"--workdir={tmp_path / 'one'}"]
    other = {1: [f"--workdir={tmp_path / 'other'}"]}
    with together.start(2, args, own=other) as processes:
        ends = processes.ended()
    assert [code for code, _ in ends] == [1, 1], ends
    assert f"--workdir={tmp_path / 'other'} is not one folder" in last(ends[1][1])
    assert "process 1 ended this run: --workdir" in last(ends[0][1])


@pytest.mark.slow
def test_a_second_run_in_the_folder_and_one_that_stands_still(data, tmp_path):
    """The first one's process is stopped then: the other leaves, and nothing of it stays."""
    folder = tmp_path / "run"
    settings = {"train__steps": 100000, "train__eval_every": 100000}
    args = [*runs.flags(data, **settings, train__checkpoint_every=100000), f"--workdir={folder}"]
    with together.start(2, args) as first:
        rows = folder / "metrics.jsonl"
        first.wait_for(lambda: rows.exists() and rows.read_text().count("\n") > 2)
        with together.start(2, args) as second:
            ends = second.ended()
        assert [code for code, _ in ends] == [1, 1], ends
        assert "is in use by another run (process" in last(ends[0][1])
        assert "process 0 ended this run" in last(ends[1][1])
        os.kill(child(first.running[1]), signal.SIGSTOP)
        started = time.monotonic()
        code, said = first.running[0].wait(LEAVE), first.running[0].stdout.read()
        assert time.monotonic() - started < LEAVE
        assert code == 76, said
        assert "gone or stands still" in last(said)


@pytest.mark.slow
def test_nobody_reads_what_they_say(data, tmp_path):
    """The output goes nowhere any more: what is said then fails, and all leave in time."""
    folder = tmp_path / "run"
    settings = {"train__steps": 100000, "train__eval_every": 100000}
    args = [*runs.flags(data, **settings, train__checkpoint_every=100000), f"--workdir={folder}"]
    with together.start(2, args) as processes:
        rows = folder / "metrics.jsonl"
        processes.wait_for(rows.exists)
        processes.running[0].stdout.close()
        started = time.monotonic()
        codes = [process.wait(LEAVE) for process in processes.running]
        processes.running.pop(0)  # which has no output to be read
    assert time.monotonic() - started < LEAVE
    assert codes == [1, 1]
