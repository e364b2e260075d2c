"""launch/local.py over small programs: what each process gets, and what is printed of it."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from standins import ROOT, run

spec = importlib.util.spec_from_file_location("local", ROOT / "launch/local.py")
local = importlib.util.module_from_spec(spec)
spec.loader.exec_module(local)


def test_every_process_has_its_place_and_its_lines_their_number():
    code, out, err = run(
        "e = os.environ; print(e['JAX_COORDINATOR_ADDRESS'], e['JAX_NUM_PROCESSES'])\n"
        "print('step 1\\rstep 2', end='', file=sys.stderr)",
        processes=3,
    )
    assert code == 0
    lines = sorted(out.splitlines())
    assert [line[:4] for line in lines] == ["[0] ", "[0] ", "[1] ", "[1] ", "[2] ", "[2] "]
    assert len({line[4:] for line in lines[::2]}) == 1
    assert re.fullmatch(r"\[0\] 127\.0\.0\.1:\d+ 3", lines[0])
    assert {line[4:] for line in lines[1::2]} == {"step 2"}
    assert "local: process 2 of 3 ended with 0: done" in err


def test_one_process_is_left_its_environment():
    code, out, _ = run(
        "print([v for v in os.environ if v.startswith('JAX_')])", processes=1, JAX_PROCESS_ID="7"
    )
    assert code == 0
    assert "JAX_PROCESS_ID" in out
    assert "JAX_COORDINATOR_ADDRESS" not in out


def plan(processes, visible, *flags):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": visible, "XLA_FLAGS": "--xla_x=1"}
    command = [sys.executable, "launch/local.py", f"--processes={processes}", "--dry_run", *flags]
    return subprocess.run(
        [*command, "--", "sh", "-c", "exit 3"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_gpus_are_split_evenly_and_a_dry_run_starts_nothing():
    done = plan(2, "4,5,6,7")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert "CUDA_VISIBLE_DEVICES=4,5 JAX_LOCAL_DEVICE_IDS=0,1 sh -c 'exit 3'" in first
    assert "CUDA_VISIBLE_DEVICES=6,7 JAX_LOCAL_DEVICE_IDS=0,1 " in second
    assert "JAX_PROCESS_ID=1" in second
    refused = plan(3, "0,1,2,3")
    assert refused.returncode == 1
    assert refused.stderr == (
        "error: 4 GPUs do not split evenly over --processes=3; try 1, 2, 4, or --devices=1 for "
        "the CPU\n"
    )
    cpu = plan(3, "0,1,2,3", "--devices=2").stdout
    assert cpu.count("'--xla_x=1 --xla_force_host_platform_device_count=2'") == 3
    assert "CUDA" not in cpu


def test_gpus_of_the_machine(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: one'; echo 'GPU 1: two'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local.find_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-ab")
    assert local.find_gpus() == ["3", "GPU-ab"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert local.find_gpus() == []


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("--processes=2", 2, "no program: put it after --"),
        ("--processes=0 -- python", 2, "--processes is 1 or more"),
        ("--process=2 -- python", 2, "--processes"),
        ("--processes=2 -- no_such_program x", 1, "error: 'no_such_program' is no program"),
    ],
)
def test_wrong_command_lines(line, code, words):
    command = [sys.executable, "launch/local.py", *line.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code
    assert words in done.stderr.splitlines()[-1]


JAX = """
import jax
e = os.environ
n, i = int(e["JAX_NUM_PROCESSES"]), int(e["JAX_PROCESS_ID"])
jax.distributed.initialize(e["JAX_COORDINATOR_ADDRESS"], n, i)
from jax.experimental import multihost_utils
import numpy as np
every = multihost_utils.process_allgather(np.int32(10 + jax.process_index()))
print(jax.process_count(), jax.device_count(), jax.local_device_count(), every.sum())
"""


def test_jax_makes_one_run_of_them():
    code, out, err = run(JAX, "--devices=2", XLA_FLAGS="", JAX_PLATFORMS="")
    assert code == 0, out + err
    assert sorted(x for x in out.splitlines() if x[4:5].isdigit()) == [
        "[0] 2 4 2 21",
        "[1] 2 4 2 21",
    ]
