"""`launch/predict.py`: any cases, any weights, one line each, whatever happens in between."""

import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest
import runs
from PIL import Image

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import command
from pefomed_jax.training import answer, opened
from pefomed_jax.training.cases import Wanted

pytestmark = pytest.mark.usefixtures("compiled_once")

ROOT = pathlib.Path(__file__).parents[2]
HOT = {"sample": True, "temperature": 2.0}
LONG = {"split": "train", "decoding": {"min_new_tokens": 3}}  # no empty answers


def request(run, out, **settings):
    """A request; `fields` are those of the config, what is in Wanted goes there."""
    config = opened.config(run, settings.pop("fields", {}))
    wanted = {name: settings.pop(name) for name in list(settings) if name in Wanted._fields}
    return answer.Request(config, out, Wanted(**wanted), **settings)


def predict(run, out, **settings):
    """The rows that come out."""
    assert answer.run(request(run, out, **settings)) == 0
    return rows(out)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers(found):
    return {row["id"]: row["prediction"] for row in found}


def test_a_run_answers_as_it_did(trained_run, tmp_path, capsys):
    out = tmp_path / "p.jsonl"
    predict(trained_run, out, shuffled=True)
    assert out.read_bytes() == (trained_run / "predictions.jsonl").read_bytes()
    control = tmp_path / "p_shuffled.jsonl"
    assert control.read_bytes() == (trained_run / "predictions_shuffled.jsonl").read_bytes()
    assert "p.jsonl: 8/8 cases" in capsys.readouterr().out
    command.evaluate(command.Request(out, tmp_path / "scores", "pefomed", resamples=50))
    made, of_run = (
        json.loads((f / "results.json").read_text()) for f in (tmp_path / "scores", trained_run)
    )
    for part in ("test", "test_shuffled"):
        assert made[part]["exact_match"] == of_run[part]["exact_match"]
        assert made["counts"][part]["n_cases"] == 8
    assert made["split"] == "test"

    before = out.stat()
    capsys.readouterr()
    predict(trained_run, out, shuffled=True)
    assert "finished before" in capsys.readouterr().out
    assert out.stat() == before


@pytest.fixture(scope="module")
def train_split(trained_run, tmp_path_factory):
    """24 cases in three batches of eight, as LONG."""
    out = tmp_path_factory.mktemp("whole") / "p.jsonl"
    predict(trained_run, out, **LONG)
    return out


def assert_alike(found, expected):
    """The same rows, but for rounding in their log-probabilities."""
    for a, b in zip(found, expected, strict=True):
        assert a["log_prob"] == pytest.approx(b["log_prob"], abs=1e-4)
        assert a | {"log_prob": 0} == b | {"log_prob": 0}


def test_the_order_is_that_of_the_data(train_split, pictures):
    listed = json.loads((pictures / "train.json").read_text())
    found = rows(train_split)
    assert [row["qid"] for row in found] == [row["qid"] for row in listed]
    assert {row["split"] for row in found} == {"train"}
    assert all(row["log_prob"] < 0 and row["n_tokens"] >= 3 for row in found)
    assert len({row["log_prob"] for row in found}) > 12


@pytest.mark.parametrize("kept", [0, 13, 24])
def test_what_is_done_is_not_done_again(trained_run, train_split, tmp_path, capsys, kept):
    out = tmp_path / "p.jsonl"
    (tmp_path / "p.jsonl.meta.json").write_bytes(
        train_split.with_name("p.jsonl.meta.json").read_bytes()
    )
    lines = train_split.read_bytes().splitlines(keepends=True)
    (tmp_path / "p.jsonl.part").write_bytes(
        b"".join([*lines[:kept], *(x[:9] for x in lines[kept:][:1])])
    )
    predict(trained_run, out, **LONG)
    assert out.read_bytes() == train_split.read_bytes()
    said = capsys.readouterr().out
    assert (f"going on after {kept} of 24 cases" in said) == (kept > 0)


def test_questions_that_share_an_image_are_answered_alike(
    trained_run, train_split, tmp_path, monkeypatch
):
    out, killed = tmp_path / "p.jsonl", tmp_path / "killed.jsonl"
    packed = predict(trained_run, out, branches=2, **LONG)
    assert_alike(packed, rows(train_split))

    def interrupt(counter, cases):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(answer.Counter, "add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            predict(trained_run, killed, branches=2, **LONG)
    assert len(rows(tmp_path / "killed.jsonl.part")) == 16  # two in each of eight rows
    predict(trained_run, killed, branches=2, **LONG)
    assert killed.read_bytes() == out.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [{"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_a_sharded_model_says_the_same(trained_run, train_split, tmp_path, mesh):
    fields = {f"mesh.{name}": 1 for name in ("data", "fsdp", "tensor")}
    fields |= {f"mesh.{name}": size for name, size in mesh.items()}
    found = predict(trained_run, tmp_path / "p.jsonl", fields=fields, **LONG)
    assert_alike(found, rows(train_split))


def drawn(run, out, **settings):
    return answers(predict(run, out, split="train", decoding=HOT, **settings))


def test_draws_depend_on_the_seed_and_the_case(trained_run, tmp_path):
    first = drawn(trained_run, tmp_path / "a.jsonl")
    assert len(set(first.values())) > 12
    some = drawn(trained_run, tmp_path / "b.jsonl", limit=5)
    assert some == {name: first[name] for name in some}
    assert drawn(trained_run, tmp_path / "c.jsonl", seed=1) != first


@pytest.mark.slow
def test_draws_do_not_depend_on_the_batch(trained_run, tmp_path):
    first = drawn(trained_run, tmp_path / "a.jsonl")
    assert drawn(trained_run, tmp_path / "b.jsonl", batch_size=16, branches=2) == first


def test_merged_or_not_the_answers_are_the_same(trained_run, train_split, tmp_path):
    beside = predict(trained_run, tmp_path / "p.jsonl", merge=False, **LONG)
    assert_alike(beside, rows(train_split))
    with pytest.raises(UserError, match="merge was False, is True"):
        predict(trained_run, tmp_path / "p.jsonl", merge=True, **LONG)


def test_another_command_names_what_differs(trained_run, train_split, tmp_path):
    wrong = {
        r"decoding.beams was 1, is 2": {"decoding": {"beams": 2}, "split": "train"},
        r"split was train, is val; cases was 24, is 8; contents": {"split": "val"},
        r"batch_size was 8, is 16": {"batch_size": 16, **LONG},
        r"weights was \w+, is \w+": {"fields": {"weights.checkpoint": ""}, **LONG},
    }
    for words, settings in wrong.items():
        with pytest.raises(UserError, match=words):
            predict(trained_run, train_split, **settings)


def test_a_control_of_another_command_is_not_left_beside(trained_run, tmp_path, capsys):
    out, control = tmp_path / "p.jsonl", tmp_path / "p_shuffled.jsonl"
    predict(trained_run, out, shuffled=True)
    with pytest.raises(UserError, match=r"p_shuffled.jsonl is of another command|another command"):
        predict(trained_run, out, limit=6)
    predict(trained_run, out, limit=6, overwrite=True)
    assert not control.exists()
    assert "belonged to what is overwritten" in capsys.readouterr().out


@pytest.fixture
def films(tmp_path, pictures):
    """Three images, two of which open, in two folders; a text file; a list with odd lines."""
    folder = tmp_path / "films"
    (folder / "b").mkdir(parents=True)
    for name, source in {"b/2.png": "test0.png", "10.png": "test1.png"}.items():
        (folder / name).write_bytes((pictures / "images" / source).read_bytes())
    (folder / "b" / "broken.png").write_bytes(
        (pictures / "images" / "test2.png").read_bytes()[:200]
    )
    (folder / "notes.txt").write_text("b/2.png\n\n10.png\nno.png\nb/2.png\n")
    return folder


def test_a_folder_of_images_with_one_question(trained_run, films, tmp_path, capsys):
    out = tmp_path / "p.jsonl"
    fields = {"data.cache": str(tmp_path)}
    asked = {"images": str(films), "prompt": "Which side?", "fields": fields}
    assert answer.run(request(trained_run, out, **asked)) == answer.LISTED
    said = capsys.readouterr().out
    assert "1 files are not named like images (.txt) and left out" in said
    assert "not answered: films, row 3, field 'path': b/broken.png does not open" in said
    found = rows(out)
    assert [row["id"] for row in found] == ["10.png", "b/2.png"]
    assert not any({"reference", "split"} & set(row) for row in found)
    assert found[0]["prompt"].endswith("Which side? [/INST]")
    expected = answers(rows(trained_run / "predictions.jsonl"))
    wanted = [expected[name] for name in ("test-test1a", "test-test0a")]
    assert [row["prediction"] for row in found] == wanted
    (bad,) = rows(tmp_path / "p_bad_rows.jsonl")
    assert bad["problem"].startswith("b/broken.png does not open")


def test_images_are_saved_for_the_page(trained_run, pictures, tmp_path, capsys):
    out, folder = tmp_path / "p.jsonl", tmp_path / "images"
    found = predict(trained_run, out, save_images=folder, limit=4)
    assert f"{folder}: 2 images" in capsys.readouterr().out
    for name in {row["image"] for row in found}:
        assert (folder / name).read_bytes() == (pictures / name).read_bytes()
    command.evaluate(
        command.Request(out, tmp_path / "scores", "pefomed", images=folder, resamples=0)
    )
    assert (tmp_path / "scores" / "report.html").read_text().count("data:image/jpeg;base64,") == 2
    folder.rename(tmp_path / "moved")
    predict(trained_run, out, save_images=folder, limit=4)  # finished before
    assert len(list(folder.rglob("*.png"))) == 2


def test_a_list_of_images(trained_run, films, tmp_path, capsys):
    out = tmp_path / "p.jsonl"
    asked = {"images": str(films / "notes.txt"), "prompt": "Which side?"}
    assert answer.run(request(trained_run, out, **asked)) == answer.LISTED
    assert [row["id"] for row in rows(out)] == ["b/2.png", "10.png"]
    said = capsys.readouterr().out
    assert "notes.txt, row 4, field 'path': no.png is missing; correct its path" in said
    assert "notes.txt, row 5, field 'path': b/2.png is row 1 already" in said
    one = predict(trained_run, tmp_path / "1.jsonl", images=str(films / "10.png"), prompt="Is it?")
    assert [row["id"] for row in one] == ["10.png"]


WRONG = {
    "--prompt is needed": {"images": "."},
    "--prompt belongs to --images": {"prompt": "Is it?"},
    "--split is for data sets": {"images": ".", "prompt": "a", "split": "val"},
    "there is no /no/such": {"images": "/no/such", "prompt": "a"},
    "no image in": {"images": str(ROOT / "configs"), "prompt": "a"},
    "batch_size=9 is not divisible by the mesh's": {"batch_size": 9},
    "temperature, top_k and top_p need sample=True": {"decoding": {"top_k": 3}},
    "the folder of data set 'pefomed': '/no/such' does not exist": {
        "fields": {"data.dir": "/no/such"}
    },
    "all cases are about one image": {"limit": 2, "shuffled": True},
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_request_is_one_line(trained_run, tmp_path, words):
    with pytest.raises(UserError, match=words) as caught:
        predict(trained_run, tmp_path / "p.jsonl", **WRONG[words])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "p.jsonl.part").exists()


def start(*args, **environment):
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | environment
    command_line = [sys.executable, "launch/predict.py", *args]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command_line, cwd=ROOT, env=kept, text=True, **pipes)


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


@pytest.mark.slow
def test_killed_ten_times_it_is_the_same_file(programs, pictures, tmp_path):
    """400 images, two a batch; killed at any moment, of the start too."""
    folder = tmp_path / "films"
    folder.mkdir()
    rng = random.Random(time.time_ns())
    for i in range(400):
        Image.new("L", (8, 8), i % 256).save(folder / f"{i:03}.png")
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    args = [*runs.flags(pictures), f"--images={folder}", "--prompt=Which side?", "--batch_size=2"]
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    said, _ = (process := start(*args, f"--out={whole}", **cache)).communicate()
    assert process.returncode == 0, said
    assert len(rows(whole)) == 400

    part, kills = tmp_path / "killed.jsonl.part", 0
    for kill in range(10):
        process = start(*args, f"--out={killed}", **cache)
        moment = 0 if kill == 0 else n_lines(part) + rng.randint(1, 30)
        if kill == 0:
            time.sleep(rng.uniform(0.1, 3.0))
        while n_lines(part) < moment and process.poll() is None:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.005))
        process.kill()
        process.communicate()
        kills += process.returncode == -9
    assert kills == 10
    assert not killed.exists()
    assert 0 < n_lines(part) < 400
    said, _ = (process := start(*args, f"--out={killed}", **cache)).communicate()
    assert process.returncode == 0, said
    assert "going on after" in said
    assert killed.read_bytes() == whole.read_bytes()
