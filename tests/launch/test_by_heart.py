"""The tiny model learns 32 questions of VQA-RAD by heart, with the README's command."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def command() -> list[str]:
    """The arguments that the README gives."""
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [b for b in blocks if "eval.train_limit" in b]
    return shlex.split(block.replace("\\\n", " "))[1:]


@pytest.mark.slow
def test_real_questions_are_learnt_by_heart(shared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = shared / "data" / "vqa-rad"
    args = [arg.replace("path/to/VQA-RAD", str(folder)) for arg in command()]
    args += [f"--workdir={tmp_path / 'run'}", f"--config.data.cache={tmp_path / 'cache'}"]
    # it computes for longer than it compiles, so other than the tests it is compiled optimised
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        [sys.executable, *args], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    lines = (tmp_path / "run" / "predictions_train.jsonl").read_text().splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == results["counts"]["train"]["n_cases"]
    assert results["counts"]["train"]["n_cases"] == 32
    assert results["train"]["exact_match"] == 1.0
    assert results["test"]["exact_match"] < 1.0
