"""launch/slurm.sbatch for real, over processes of this machine."""

import re
import sys

import pytest
import slurm_here
from standins import NOTE, ROOT, numbers

ME = """import os, signal, sys, time
me = int(os.environ['SLURM_PROCID'])
def say(*words):  # in one piece: all tasks write to one pipe
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


@pytest.fixture
def cluster(tmp_path):
    return slurm_here.install(tmp_path)


@pytest.fixture
def run(cluster):
    def run(program, **environment):
        command = [sys.executable, "-uc", ME + program]
        process = slurm_here.begin(cluster | environment, *command, root=ROOT)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return run


@pytest.fixture
def asked(tmp_path):
    """What srun and scontrol were asked."""
    return lambda: (tmp_path / "log").read_text().splitlines()


def test_starts_every_task_and_is_done(run, asked):
    code, out, err = run("say(me, 'of', os.environ['SLURM_NTASKS'])")
    assert code == 0
    assert sorted(out.splitlines()) == ["0 of 2", "1 of 2"]
    assert err.splitlines()[-1] == "slurm: done"
    assert asked() == ["srun --cpus-per-task=4 --kill-on-bad-exit=0 --label"]


@pytest.mark.parametrize(
    ("ends", "code"),
    [("sys.exit(75)", 75), ("sys.exit(76 * me)", 76), ("me or os.kill(os.getpid(), 9)", 137)],
)
def test_queues_itself_again(run, asked, cluster, ends, code):
    assert run(ends)[0] == code
    assert asked()[1:] == [f"scontrol requeue {cluster['SLURM_JOB_ID']}"]


@pytest.mark.parametrize(
    ("ends", "environment", "code", "words"),
    [
        ("sys.exit(1)", {}, 1, "ended with 1: something to put right"),
        ("sys.exit(2)", {}, 2, "ended with 2: something to put right"),
        ("sys.exit(75 + me if me else 1)", {}, 1, "ended with 1: something to put right"),
        ("sys.exit(3)", {}, 3, "ended with 3"),
        ("sys.exit(75)", {"SLURM_STATE": "COMPLETING"}, 75, "as the job is COMPLETING"),
        ("sys.exit(76)", {"SLURM_RESTART_COUNT": "20"}, 76, "not queued again, after 20 times"),
        ("sys.exit(76)", {"SLURM_RESTART_COUNT": "2", "RESTARTS": "2"}, 76, "after 2 times"),
    ],
)
def test_does_not_queue_itself_again(run, asked, ends, environment, code, words):
    found, _, err = run(ends, **environment)
    assert found == code
    assert words in err.splitlines()[-1]
    assert len(asked()) == 1


def test_the_warning_before_the_time_limit_lets_the_run_save(cluster, asked, tmp_path):
    path = tmp_path / "pids"
    program = (
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(.3), say('saved'), sys.exit(75)))\n"
        + NOTE.format(path=str(path), what="os.getpid()")
        + "time.sleep(100)"
    )
    process = slurm_here.begin(cluster, sys.executable, "-uc", ME + program, root=ROOT)
    numbers(path, 2)
    slurm_here.warn(process)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 75
    assert out == "saved\nsaved\n"
    assert "slurm: SIGTERM: all processes are told to save" in err
    assert err.splitlines()[-1] == (
        "slurm: ended with 75; queued again, to go on from the last checkpoint"
    )
    job = cluster["SLURM_JOB_ID"]
    assert asked()[1:] == [f"scancel --signal=TERM {job}", f"scontrol requeue {job}"]


IDS = "say(me, os.environ.get('JAX_LOCAL_DEVICE_IDS'))"


@pytest.mark.parametrize(
    ("per_node", "gpus", "ids"), [(1, 4, "0,1,2,3"), (2, 2, None), (2, 0, None), (1, 0, None)]
)
def test_a_process_a_node_takes_all_its_gpus(run, per_node, gpus, ids):
    places = {"SLURM_NTASKS_PER_NODE": str(per_node), "SLURM_GPUS_ON_NODE": str(gpus)}
    code, out, err = run(IDS, **places)
    assert code == 0, err
    assert set(out.splitlines()) == {f"0 {ids}", f"1 {ids}"}


def test_tasks_that_fit_no_gpus_are_refused(run):
    code, _, err = run("", SLURM_NTASKS_PER_NODE="3", SLURM_GPUS_ON_NODE="4")
    assert code == 2
    assert err == "slurm: error: --ntasks-per-node=3 with 4 GPUs a node: make it 1 or 4\n"


def test_a_dry_run_starts_nothing(cluster, tmp_path):
    more = {"SLURM_NTASKS_PER_NODE": "1", "SLURM_GPUS_ON_NODE": "2"}
    process = slurm_here.begin(
        cluster | more, "--dry_run", "python", "launch/train.py", "--x=a b", root=ROOT
    )
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == (
        "JAX_LOCAL_DEVICE_IDS=0\\,1 srun --cpus-per-task=4 --kill-on-bad-exit=0 --label "
        "python launch/train.py --x=a\\ b \n"
    )
    assert re.match(r"slurm: job \d+, 0 of 20 restarts, 1 processes on each of localhost", err)
    assert not (tmp_path / "log").exists()


def test_without_a_program_it_says_how(cluster):
    process = slurm_here.begin(cluster, root=ROOT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "no program; try: sbatch launch/slurm.sbatch python launch/train.py" in err


JAX = """
import jax
jax.distributed.initialize()
from jax.experimental import multihost_utils
import numpy as np
every = multihost_utils.process_allgather(np.int32(10 + jax.process_index()))
say(jax.process_index() == me, jax.process_count(), every.sum())
"""


def test_jax_finds_the_others_by_slurms_variables(run):
    code, out, err = run(JAX, XLA_FLAGS="")
    assert code == 0, out + err
    assert out.splitlines().count("True 2 21") == 2  # beside what gloo says
