"""The prepared data set: read back as drawn, restarted after a kill, safe for two processes."""

import os
import pathlib
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

from pefomed_jax.data.sources.phantom import Source, builder, draw, questions, scene, text

COUNTS = {"train": 6, "val": 2, "test": 3}
SIZE = 64


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("cache")
    builder.prepared(folder, SIZE, COUNTS)
    return folder


def source(cache: pathlib.Path, task: str) -> Source:
    return Source(task, str(cache), SIZE, COUNTS)


def test_reports_are_read_back_with_their_pictures(cache):
    mrg = source(cache, "mrg")
    for split, count in COUNTS.items():
        cases = mrg.cases(split)
        assert [case.id for case in cases] == [f"phantom-{split}-{n:05d}" for n in range(count)]
        for number, case in enumerate(cases):
            content = scene.sample(scene.FIRST_SEED[split] + number)
            assert case.answer == text.report(content)
            assert case.fields == {"findings": list(content.findings)}
            assert (case.question, case.split) == ("", split)
            np.testing.assert_array_equal(mrg.image(case), draw.render(content, SIZE)[0])


def test_questions_and_captions_are_read_back(cache):
    asked = source(cache, "vqa").cases("train")
    scenes = [scene.sample(scene.FIRST_SEED["train"] + n) for n in range(COUNTS["train"])]
    expected = [(q.question, q.answer) for content in scenes for q in questions.ask(content)]
    assert [(case.question, case.answer) for case in asked] == expected
    assert {case.fields["answer_type"] for case in asked} <= {"CLOSED", "OPEN"}
    assert all({"findings", "question_type"} <= case.fields.keys() for case in asked)
    assert asked[0].id.endswith("-q0")
    captions = source(cache, "caption").cases("train")
    assert [case.answer for case in captions] == [text.caption(content) for content in scenes]


def test_a_pickled_source_opens_the_files_anew(cache):
    first = source(cache, "mrg")
    case = first.cases("test")[1]
    second = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(first.image(case), second.image(case))
    assert first.cases("nothing") == []


def test_preparing_again_draws_nothing(cache, capsys):
    builder.prepared(cache, SIZE, COUNTS)
    assert "drawing" not in capsys.readouterr().out


PREPARE = """
import pathlib, sys
from pefomed_jax.data.sources.phantom import builder
counts = {"train": int(sys.argv[2]), "val": 2, "test": 2}
builder.PROGRESS = 5
builder.prepared(pathlib.Path(sys.argv[1]), 64, counts)
"""


def start(folder: pathlib.Path, train: int) -> subprocess.Popen:
    command = [sys.executable, "-c", PREPARE, str(folder), str(train)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_preparation_starts_again_and_leaves_nothing_behind(tmp_path):
    first = start(tmp_path, 200)
    for line in first.stdout:
        if "drawn" in line:
            break
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    folder = tmp_path / "64px-200-2-2" / "phantom"
    assert list(folder.glob("incomplete.*"))
    second = start(tmp_path, 200)
    out, _ = second.communicate(timeout=120)
    assert second.returncode == 0
    assert "phantoms: train 200 of 200 drawn" in out
    assert [path.name for path in folder.iterdir()] == ["1.0.0"]
    counts = {"train": 200, "val": 2, "test": 2}
    assert len(Source("mrg", str(tmp_path), 64, counts).cases("train")) == 200


def test_two_processes_at_once_draw_once(tmp_path):
    both = [start(tmp_path, 20), start(tmp_path, 20)]
    out = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("drawing" in words for words in out) == [False, True]
