"""Real runs under the launchers: lost, interrupted, and gone on with."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import runs
import slurm_here
import together
from standins import ROOT, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def program(pictures, tmp_path):
    """A run long enough to be disturbed, as typed after the launcher."""
    settings = {"train__steps": 40, "train__checkpoint_every": 5, "train__eval_every": 40}
    flags = runs.flags(pictures, mesh__fsdp=2, **settings)
    return ["python", "launch/train.py", *flags, f"--workdir={tmp_path / 'run'}", "--heartbeat=5"]


def n_rows(folder: pathlib.Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def check_whole(folder: pathlib.Path) -> None:
    """A finished run whose every step was taken once."""
    steps = [row["step"] for row in runs.rows(folder) if "loss" in row]
    assert steps == sorted(set(steps))
    assert steps[-1] == 40
    assert (folder / "results.json").exists()


@contextlib.contextmanager
def ended(launcher):
    """Whatever happens, it is; its processes end with it."""
    with launcher:
        try:
            yield
        finally:
            launcher.terminate()


def wait_for_steps(launcher, folder):
    """Until there are some; the launcher may not end before."""
    wait_for(lambda: n_rows(folder) > 6 or launcher.poll() is not None, "no steps", 240)
    assert launcher.poll() is None, launcher.communicate()


def worker(folder, index):
    """The process that computes, below the one that stays beside it, of process `index`."""
    found = subprocess.run(["pgrep", "-f", f"train.py.*{folder}"], capture_output=True, text=True)
    parents = {}
    for pid in map(int, found.stdout.split()):
        proc = pathlib.Path(f"/proc/{pid}")
        if f"JAX_PROCESS_ID={index}".encode() in (proc / "environ").read_bytes().split(b"\0"):
            parents[pid] = int((proc / "stat").read_text().rsplit(")")[1].split()[1])
    return next(pid for pid, parent in parents.items() if parent in parents)


def test_local_starts_all_again_when_one_is_killed(program, tmp_path):
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    flags = ["--processes=2", "--devices=2", "--restarts=1"]
    run = subprocess.Popen(
        [sys.executable, "launch/local.py", *flags, "--", *program],
        cwd=ROOT,
        env=together.environment(PATH=path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with ended(run):
        wait_for_steps(run, tmp_path / "run")
        os.kill(worker(tmp_path / "run", 1), signal.SIGKILL)
        out, _ = run.communicate(timeout=240)
    assert run.returncode == 0, out
    assert "local: process 1 of 2 ended with 137: killed by SIGKILL" in out
    assert "local: process 0 of 2 ended with 76: another process of the run was lost" in out
    assert "all start again; 0 restarts left" in out
    check_whole(tmp_path / "run")


def test_slurm_queues_a_warned_run_again_and_it_goes_on(program, tmp_path):
    (tmp_path / "cluster").mkdir()
    cluster = slurm_here.install(tmp_path / "cluster", together.environment())
    job = slurm_here.begin(cluster, *program, root=ROOT)
    with ended(job):
        wait_for_steps(job, tmp_path / "run")
        slurm_here.warn(job)
        out, err = job.communicate(timeout=240)
    assert job.returncode == 75, out + err
    asked = (tmp_path / "cluster/log").read_text().splitlines()
    assert asked[-1] == f"scontrol requeue {cluster['SLURM_JOB_ID']}"
    assert n_rows(tmp_path / "run") < 40
    again = slurm_here.begin(cluster | {"SLURM_RESTART_COUNT": "1"}, *program, root=ROOT)
    with ended(again):
        out, err = again.communicate(timeout=240)
    assert again.returncode == 0, out + err
    check_whole(tmp_path / "run")
