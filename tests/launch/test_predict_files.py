"""`launch/predict.py`: any cases, any weights, one line each, whatever happens in between."""

import json
import pathlib

import pytest
from predicting import answers, predict, rows

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import command
from pefomed_jax.training import answer

ROOT = pathlib.Path(__file__).parents[2]
HOT = {"sample": True, "temperature": 2.0}
LONG = {"split": "train", "decoding": {"min_new_tokens": 3}}  # no empty answers


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


@pytest.mark.slow
def test_draws_depend_on_the_seed_and_the_case_but_not_on_the_batch(trained_run, tmp_path):
    first = drawn(trained_run, tmp_path / "a.jsonl")
    assert len(set(first.values())) > 12
    some = drawn(trained_run, tmp_path / "b.jsonl", limit=5)
    assert some == {name: first[name] for name in some}
    assert drawn(trained_run, tmp_path / "c.jsonl", seed=1) != first
    assert drawn(trained_run, tmp_path / "d.jsonl", batch_size=16, branches=2) == first


@pytest.mark.slow
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
