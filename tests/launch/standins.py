"""Small programs in the place of training, and what is seen of their processes."""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
ME = "import os, pathlib, signal, sys, time; me = int(os.environ.get('JAX_PROCESS_ID', 0))\n"


def begin(program, *flags, processes=2, **environment):
    """local.py over a program of Python, as it runs."""
    command = [sys.executable, "launch/local.py", f"--processes={processes}", *flags, "--"]
    return subprocess.Popen(
        [*command, sys.executable, "-uc", ME + program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment,
    )


def run(program, *flags, **more):
    """(exit code, what the processes said, what local.py said)"""
    process = begin(program, *flags, **more)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def gone(pid):
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rsplit(")", 1)[1].split()[0] == "Z"


def wait_for(fact, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def numbers(path, n):
    """n numbers that the processes have written to a file, one a line, once they are there."""
    wait_for(lambda: path.exists() and len(path.read_text().splitlines()) == n, f"{n} in {path}")
    return [int(line) for line in path.read_text().splitlines()]


NOTE = "os.write(os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), b'%d\\n' % {what})\n"
