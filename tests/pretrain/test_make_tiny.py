"""The command that makes the base runs from nothing, and what it leaves is a base."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from pefomed_jax import base

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_a_few_steps_make_a_base_of_the_same_form(tmp_path):
    command = [sys.executable, ROOT / "launch" / "make_tiny.py", f"--workdir={tmp_path / 'work'}"]
    command += [f"--out={tmp_path / 'out'}", "--phantoms=500", "--vision_steps=2"]
    command += ["--decoder_steps=2"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    made = json.loads((tmp_path / "out" / base.MADE).read_text())
    assert (made["seed"], made["phantoms"], made["vision_steps"]) == (0, 500, 2)
    assert 0 <= made["decoder"]["plain_words_right"] <= 1
    new = flatten_dict(base.read_weights(tmp_path / "out"))
    old = flatten_dict(base.read_weights(base.ASSETS))
    assert {path: leaf.shape for path, leaf in new.items()} == {
        path: leaf.shape for path, leaf in old.items()
    }
    assert all(leaf.dtype == np.float16 and np.isfinite(leaf).all() for leaf in new.values())
    command[-1] = "--decoder_steps=3"
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 1
    assert "was begun with decoder_steps=2: give the same, or another --workdir" in again.stderr
