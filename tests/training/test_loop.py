"""Whole runs of a few steps: what they leave, how they go on, what they refuse."""

import json

import numpy as np
import pytest
import runs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pefomed_jax.errors import UserError
from pefomed_jax.training import folder as run_folder
from pefomed_jax.training import loop


@pytest.fixture
def data(pictures):
    return pictures


@pytest.fixture
def finished(whole_run):
    """The folder of the uninterrupted run; not to be changed."""
    return whole_run[0]


def test_a_run_says_what_it_does(whole_run):
    said = whole_run[1]
    assert "total trainable" in said
    assert said.index("total trainable") < said.index("24 training, 8 validation, 8 test cases")
    assert "step 6/6  loss" in said
    assert "0 recompilations after warm-up" in said
    assert "images shuffled" in said


def test_a_run_leaves_its_folder(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "predictions.jsonl",
        "predictions_shuffled.jsonl",
        "results.json",
        "loss.png",
        "tensorboard",
    }
    assert json.loads((finished / "config.json").read_text())["train"]["steps"] == 6


def test_metrics_hold_each_step_once_with_its_evaluations(finished):
    rows = runs.rows(finished)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert row.keys() >= {"loss", "lr", "grad_norm", "tokens", "target_tokens", "epoch"}
        assert ("val_loss" in row) == (row["step"] in (3, 6))
        assert ("val_exact_match" in row) == (row["step"] in (3, 6))
        assert "val_n_cases" not in row
    assert rows[2]["epoch"] == pytest.approx(3 * 8 / 12)  # 12 pictures, a row each


def test_tensorboard_holds_the_same_losses(finished):
    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    losses = [(e.step, e.value) for e in events.Scalars("train/loss")]
    expected = [(row["step"], row["loss"]) for row in runs.rows(finished)]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_predictions_are_those_of_the_test_split(finished):
    rows, other = (
        [json.loads(line) for line in (finished / name).read_text().splitlines()]
        for name in ("predictions.jsonl", "predictions_shuffled.jsonl")
    )
    assert len(rows) == 8
    assert rows[0].keys() >= {"id", "image", "prompt", "reference", "prediction", "answer_type"}
    assert [row["reference"] for row in rows] == [row["reference"] for row in other]
    assert all(a["image"] != b["image"] for a, b in zip(rows, other, strict=True))
    results = json.loads((finished / "results.json").read_text())
    assert results["protocol"] == "pefomed"
    assert results["intervals"].keys() == {"test", "test_shuffled"}
    assert all(
        0 <= score <= 1 for part in ("test", "test_shuffled") for score in results[part].values()
    )
    assert {counts["n_cases"] for counts in results["counts"].values()} == {8}
    assert results["test"].keys() >= {"exact_match", "exact_match_open", "exact_match_closed"}


def test_a_finished_run_says_so(finished, data, capsys):
    before = (finished / "results.json").stat().st_mtime_ns
    assert loop.run(runs.config(data), finished) == 0
    said = capsys.readouterr().out
    assert "is finished at step 6" in said
    assert "exact_match" in said
    assert (finished / "results.json").stat().st_mtime_ns == before


def stop_after(monkeypatch, step):
    """Asks for a stop, as SIGTERM does, while the row of this step is written."""
    original = loop.Log.step

    def logged(self, row, *rest):
        if row["step"] == step:
            self.owner.stop.asked = True
        original(self, row, *rest)

    first = loop.Run.__init__

    def init(self, *args):
        first(self, *args)
        self.log.owner = self

    monkeypatch.setattr(loop.Run, "__init__", init)
    monkeypatch.setattr(loop.Log, "step", logged)


def test_stopped_and_started_again_is_bitwise_the_same(finished, data, tmp_path, monkeypatch):
    """Also: no recompilation, the same best checkpoint, the same answers."""
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert loop.run(runs.config(data), tmp_path) == loop.INTERRUPTED
    assert run_folder.latest_step(tmp_path / "checkpoints") in (4, 5)
    # what a kill would leave: rows after the checkpoint, the last one cut short
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "loss": 1.0}\n{"step": 100, "lo')
    assert loop.run(runs.config(data), tmp_path) == 0
    for name in ("metrics.jsonl", "predictions.jsonl", "predictions_shuffled.jsonl"):
        assert (tmp_path / name).read_text() == (finished / name).read_text()
    kept = [{p.name for p in (f / "checkpoints").iterdir()} for f in (tmp_path, finished)]
    assert kept[0] == kept[1]


def test_raised_steps_go_on(data, tmp_path, capsys):
    assert loop.run(runs.config(data, train__steps=2), tmp_path) == 0
    assert loop.run(runs.config(data, train__steps=4), tmp_path) == 0
    assert "going on after step 2" in capsys.readouterr().out
    assert [row["step"] for row in runs.rows(tmp_path)] == [1, 2, 3, 4]
    with pytest.raises(UserError, match=r"stands at step 4, train\.steps is 3"):
        loop.run(runs.config(data, train__steps=3), tmp_path)
    with pytest.raises(UserError, match=r"another config: optimizer\.lr was 0\.003, is 0\.001"):
        loop.run(runs.config(data, optimizer__lr=1e-3), tmp_path)


def test_a_run_goes_on_on_another_mesh(finished, data, tmp_path, monkeypatch):
    """Two steps or three with fsdp=4 and tensor=2, then data=8: the losses of the run on data=8."""
    first = {"mesh__data": 1, "mesh__fsdp": 4, "mesh__tensor": 2, "train__eval_every": 6}
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert loop.run(runs.config(data, **first), tmp_path) == loop.INTERRUPTED
    assert run_folder.latest_step(tmp_path / "checkpoints") in (2, 3)
    assert loop.run(runs.config(data), tmp_path) == 0
    losses = [[row["loss"] for row in runs.rows(folder)] for folder in (tmp_path, finished)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_a_second_run_in_the_folder_is_refused(data, tmp_path):
    with run_folder.lock(tmp_path), pytest.raises(UserError, match="is in use by another run"):
        loop.run(runs.config(data), tmp_path)


def test_the_next_stage_starts_from_the_best_of_a_run(finished, data, tmp_path):
    """weights.checkpoint: a step that changes nothing has that run's best validation loss."""
    still = {"optimizer__lr": 1e-30, "optimizer__min_lr": 0.0, "optimizer__warmup_lr": 0.0}
    config = runs.config(data, weights__checkpoint=str(finished), train__steps=1, **still)
    assert loop.run(config, tmp_path) == 0
    best = min(int(path.name) for path in (finished / "checkpoints").iterdir())
    expected = runs.rows(finished)[best - 1]["val_loss"]
    assert runs.rows(tmp_path)[0]["val_loss"] == pytest.approx(expected, rel=1e-6)
    other = runs.config(data, weights__checkpoint=str(finished), seed=7)
    words = r"weights\.checkpoint: .* was trained on another base .*as in that run$"
    with pytest.raises(UserError, match=words):
        loop.run(other, tmp_path / "base")
    with pytest.raises(UserError, match=r"weights\.checkpoint: no checkpoint in"):
        loop.run(runs.config(data, weights__checkpoint=str(data)), tmp_path / "other")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train__batch_size": 12}, "12 is not divisible by data"),
        ({"eval__batch_size": 12}, "eval.batch_size=12 is not divisible by data*fsdp = 8"),
        ({"mesh__data": 3}, "does not fit 8 devices"),
        ({"trainable": (("adapter", "lora"), (".*", "frozen"))}, "matches no parameter"),
        ({"lora__targets": "query"}, "matches no linear layer"),
        ({"train__select_by": "exact_match_closd"}, "(did you mean exact_match_closed?)"),
        ({"weights__base": "", "data__dir": ""}, "still needed: vision tower weights"),
    ],
)
def test_what_does_not_fit_is_one_line(data, tmp_path, settings, words):
    with pytest.raises(UserError) as caught:
        loop.run(runs.config(data, **settings), tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    config = runs.config(data, optimizer__lr=1e30, optimizer__clip=0.0)
    words = r"step \d: the run has diverged .*lower optimizer\.lr or set .*another --workdir"
    with pytest.raises(UserError, match=words):
        loop.run(config, tmp_path)
    assert all(np.isfinite(row["loss"]) for row in runs.rows(tmp_path))


def test_parameters_that_are_not_finite_are_not_saved(data, tmp_path):
    """The loss of step 1 is fine, what the step makes of the parameters is not."""
    huge = {"optimizer__lr": 3e38, "optimizer__warmup_lr": 3e38}
    scale = {"lora": 1.0, "connector": 10.0}
    config = runs.config(data, optimizer__lr_scale=scale, **huge)
    with pytest.raises(UserError, match=r"step 1: the run has diverged \(loss \d"):
        loop.run(config, tmp_path)
    assert run_folder.latest_step(tmp_path / "checkpoints") is None


def test_other_data_are_refused_when_a_run_goes_on(tmp_path):
    changed = runs.write_pictures(tmp_path / "data")
    assert loop.run(runs.config(changed, train__steps=1), tmp_path / "run") == 0
    path = changed / "train.json"
    path.write_text(path.read_text().replace("Which side?", "Which side is it?", 1))
    with pytest.raises(UserError, match="began with other training or validation cases") as caught:
        loop.run(runs.config(changed, train__steps=2), tmp_path / "run")
    assert "\n" not in str(caught.value)


CONNECTOR = (("^connector/", "connector"), (".*", "frozen"))
RENAMED = (("lora_[ab]$", "adapters"), ("^connector/", "connector"), (".*", "frozen"))


def test_a_connector_begins_a_stage_with_more_that_trains(data, tmp_path, capsys):
    """Groups may have other names; LoRA starts fresh, the connector is the one handed on."""
    first = runs.config(data, trainable=CONNECTOR, train__steps=1)
    assert loop.run(first, tmp_path / "one") == 0
    scale = {"adapters": 1.0, "connector": 1.0}
    still = {"optimizer__lr": 1e-30, "optimizer__min_lr": 0.0, "optimizer__warmup_lr": 0.0}
    more = {"trainable": RENAMED, "optimizer__lr_scale": scale, "train__steps": 1, **still}
    given = runs.config(data, weights__checkpoint=str(tmp_path / "one"), **more)
    assert loop.run(given, tmp_path / "two") == 0
    assert "starts fresh: llm/layers/0/attn/q_proj/lora_a" in capsys.readouterr().out
    losses = [runs.rows(tmp_path / name)[0]["val_loss"] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    back = runs.config(data, weights__checkpoint=str(tmp_path / "two"), trainable=CONNECTOR)
    with pytest.raises(UserError, match=r"weights\.checkpoint: .* trains 'llm/.*config\.trainable"):
        loop.run(back, tmp_path / "three")
    rank = runs.config(data, weights__checkpoint=str(tmp_path / "two"), lora__rank=4)
    with pytest.raises(UserError, match=r"LoRA rank 2.*set --config\.lora\.rank=2$"):
        loop.run(rank, tmp_path / "four")
