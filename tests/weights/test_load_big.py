"""Two billion parameters in four files: peak memory and speed, each in a process of its own."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name("big.py")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four gigabytes; removed afterwards."""
    path = tmp_path_factory.mktemp("big")
    if shutil.disk_usage(path).free < 8e9:
        pytest.skip("no 8 GB of disk for two billion parameters")
    run("write", path)
    yield path
    shutil.rmtree(path)


def run(*arguments):
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("form", ["loop", "scan"])
def test_peak_memory_is_little_more_than_the_weights(folder, form):
    said = json.loads(run("own", folder, form).splitlines()[-1])
    assert said["sharded"]
    assert said["size"] > 4e9
    assert said["peak"] < 1.25 * said["size"], said


@pytest.mark.parametrize("form", ["loop", "scan"])
def test_it_is_about_as_fast_as_safetensors_alone(folder, form):
    said = json.loads(run("race", folder, form).splitlines()[-1])
    assert said["own"] > 0.7 * said["theirs"], said
