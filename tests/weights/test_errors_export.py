"""An export is there whole or not at all, and says why not in one line."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pefomed_jax.training import convert
from pefomed_jax.weights import export
from weights import foreign
from weights.foreign import refused

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def made():
    return foreign.config()


def test_out_that_is_there(tmp_path, made):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    said = (tmp_path / "out", "is there already", "give another --out, or remove it")
    absent = foreign.config(weights__llm="no/where", weights__vision="nowhere")
    refused(lambda: convert.convert(absent, "merged", tmp_path / "out"), *said)  # reads nothing
    arrays = {"llm": {"norm": {"scale": np.ones(2)}}}
    refused(lambda: export.native(tmp_path / "out", arrays, made, (), ""), *said)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_a_disk_without_room_is_seen_before(tmp_path, made, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    arrays = {"llm": {"norm": {"scale": np.ones(200, np.float32)}}}
    said = (tmp_path / "out", "takes 0.8 kB, the disk has 0.1 kB left; make room or give another")
    refused(lambda: export.native(tmp_path / "out", arrays, made, (), ""), *said)
    assert list(tmp_path.iterdir()) == []


FULL = """
import pathlib, resource, sys
import numpy as np
from pefomed_jax import config as config_lib
from pefomed_jax.weights import export, export_trained, output

layout, out = sys.argv[1], pathlib.Path(sys.argv[2])
config = config_lib.make("mrg", "tiny")
output.SHARD = 150_000
width = config.model.llm.width
connector = {"proj": {"kernel": np.ones((512, width), np.float32)}}  # 320 kB
lora = {"lora_a": np.ones((9, 8), np.float32), "lora_b": np.ones((8, 9), np.float32)}
small = {"attn": {"q_proj": lora}}
tree = {"llm": {"layers": {"0": small}}, "connector": connector}
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    if layout == "native":
        export.native(out, tree, config, (), "card")
    elif layout == "tower":
        export.tower(out, {"connector": connector}, config)
    else:
        getattr(export_trained, layout)(out, tree, config, "card")
except export.UserError as error:
    print(error)
"""


@pytest.mark.parametrize("layout", ["native", "adapter", "tower", "pth"])
def test_a_disk_that_fills_while_writing(tmp_path, layout):
    if layout == "pth":
        pytest.importorskip("torch", reason="a .pth needs torch")
    out = tmp_path / "made" / {"tower": "out.safetensors", "pth": "out.pth"}.get(layout, "out")
    done = subprocess.run(
        [sys.executable, "-c", FULL, layout, str(out)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{out} could not be written (")
    assert done.stdout.endswith("); nothing is left of it\n")
    assert "too large" in done.stdout
    assert list((tmp_path / "made").iterdir()) == []
