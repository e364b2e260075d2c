"""`launch/predict.py` as a person starts it: wrong flags, and killed again and again."""

import os
import random
import subprocess
import sys
import time

import forked
import pytest
import runs
from PIL import Image
from predicting import rows

PROGRAM = "launch/predict.py"


def start(*args):
    kept = os.environ | {"XLA_FLAGS": forked.UNOPTIMISED}
    command_line = [sys.executable, PROGRAM, *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command_line, cwd=forked.ROOT, env=kept, text=True, **pipes)


LINES = {
    ("--weights=tiny",): "--out=FILE and one of --config=FILE, --weights=DIR are needed",
    ("--weights=tiny", "--out=a.json"): "--out=a.json: name it FILE.jsonl",
    ("--weights=tiny", "--out=a.jsonl", "--set=mesh"): "--set=mesh: write --set=FIELD=VALUE",
    ("--weights=/no/such", "--out=a.jsonl", "--images=."): "there is no folder /no/such",
    ("--weights=tiny", "--out=a.jsonl", "--data=vqa_rad"): "use configs/vqa.py",
    ("--weights=tiny", "--out=a.jsonl", "--beam=2"): "(did you mean beams?)",
}


@pytest.mark.slow
@pytest.mark.parametrize("args", LINES)
def test_errors_of_the_command_line_are_one_line(args):
    process = start(*args)
    said, _ = process.communicate()
    assert process.returncode in (1, 2)
    assert said.startswith("error: ")
    assert LINES[args] in said
    assert len(said.splitlines()) == 1


def n_lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture
def asked(pictures, tmp_path):
    """400 images, two a batch."""
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(400):
        Image.new("L", (8, 8), i % 256).save(folder / f"{i:03}.png")
    flags = [f"--images={folder}", "--prompt=Which side?", "--batch_size=2"]
    return [*runs.flags(pictures), *flags]


@pytest.mark.slow
def test_killed_ten_times_it_is_the_same_file(asked, tmp_path):
    """At any moment; the first time while it starts."""
    rng = random.Random(time.time_ns())
    whole, killed, log = (tmp_path / name for name in ("whole.jsonl", "killed.jsonl", "log"))
    process = forked.start(PROGRAM, [*asked, f"--out={whole}"], log)
    process.join()
    assert process.exitcode == 0, log.read_text()
    assert len(rows(whole)) == 400

    asked.append(f"--out={killed}")
    process = start(*asked)
    time.sleep(rng.uniform(0.1, 3.0))
    process.kill()
    process.communicate()
    assert process.returncode == -9
    part = tmp_path / "killed.jsonl.part"
    for _ in range(9):
        moment = n_lines(part) + rng.randint(1, 30)
        process = forked.start(PROGRAM, asked, log)
        while n_lines(part) < moment and process.is_alive():
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.005))
        process.kill()
        process.join()
        assert process.exitcode == -9, log.read_text()
    assert not killed.exists()
    assert 0 < n_lines(part) < 400
    process = forked.start(PROGRAM, asked, log)
    process.join()
    assert process.exitcode == 0, log.read_text()
    assert "going on after" in log.read_text()
    assert killed.read_bytes() == whole.read_bytes()
