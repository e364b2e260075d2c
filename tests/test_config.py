"""Every config with every preset is made, validates, and says what it needs."""

import pathlib
import runpy

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.errors import UserError
from pefomed_jax.validate import missing, select_by, validate

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("preset", config_lib.PRESETS)
@pytest.mark.parametrize("task", config_lib.TASKS)
def test_file_and_preset_make_a_valid_config(task, preset):
    config = runpy.run_path(str(CONFIGS / f"{task}.py"))["get_config"](preset)
    assert validate(config) is config
    assert (config.task, config.preset) == (task, preset)
    assert config.is_locked
    assert bool(missing(config)) == (preset == "7b")


def test_there_is_one_file_for_each_task():
    assert sorted(p.stem for p in CONFIGS.glob("*.py")) == sorted(config_lib.TASKS)


def test_default_preset_is_tiny_and_data_chooses_the_source():
    assert config_lib.make("vqa").preset == "tiny"
    config = config_lib.make("vqa", "small,data=vqa_rad")
    assert (config.preset, config.data.source) == ("small", "vqa_rad")
    assert config_lib.make("vqa", "preset=small").preset == "small"


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("tinny", "did you mean tiny"),
        ("7B", "is not one of tiny, small, 7b"),
        ("tiny,dta=vqa_rad", "'dta' is unknown; use preset= or data="),
    ],
)
def test_wrong_argument_names_the_way_out(arg, words):
    with pytest.raises(UserError, match=words):
        config_lib.make("vqa", arg)


def test_recipe_of_each_stage():
    """Global batch = processes × rows a process; learning rates as published."""
    one, vqa, report = (config_lib.make(task, "7b") for task in ("caption", "vqa", "mrg"))
    assert (one.train.steps, one.train.batch_size, one.optimizer.warmup_steps) == (5000, 400, 1000)
    assert (vqa.train.steps, vqa.train.batch_size, vqa.optimizer.lr) == (5000, 4, 1e-5)
    assert (report.train.steps, report.optimizer.lr, report.optimizer.min_lr) == (400, 3e-5, 1e-5)
    assert {c.optimizer.schedule for c in (one, vqa, report)} == {"epoch"}
    assert {(c.lora.rank, c.lora.alpha, c.lora.dropout) for c in (one, vqa, report)} == {
        (64, 16.0, 0.05)
    }


@pytest.mark.parametrize(
    ("task", "source", "score"),
    [
        ("mrg", "phantom", "finding_f1"),
        ("mrg", "pefomed", "cider"),
        ("caption", "pefomed", "cider"),
        ("vqa", "vqa_rad", "exact_match"),
        ("vqa", "phantom", "exact_match"),
    ],
)
def test_selection_by_task(task, source, score):
    assert select_by(config_lib.make(task, f"tiny,data={source}")) == score
