"""A plan for the CPU against what a real process grew by."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

CHILD = pathlib.Path(__file__).with_name("growing.py")


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no /proc of Linux")
def test_the_first_step_takes_what_was_planned():
    """float32 at `small`, eight rows: temporaries by the compiler, and the growth of the peak."""
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, str(CHILD), "small", "8", "192", "128"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["grown"] == pytest.approx(said["planned"], rel=0.15)
