"""The model card: what the run was, nothing of the machine, front matter that is YAML."""

import json
import pathlib

import pytest
import runs
import yaml

from pefomed_jax.errors import UserError
from pefomed_jax.training import convert
from pefomed_jax.weights import bundle, card


def front(text):
    """(front matter, body)."""
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


@pytest.fixture(scope="module")
def cards(trained_run, tmp_path_factory):
    """{layout: README.md} of the same run."""
    folder = tmp_path_factory.mktemp("cards")
    for to in ("adapter", "merged", "native"):
        convert.convert(bundle.config(trained_run), to, folder / to)
    return {path.name: (path / "README.md").read_text() for path in folder.iterdir()}


def test_the_front_matter_is_yaml_and_names_the_library(cards):
    for to, library in (
        ("adapter", "peft"),
        ("merged", "transformers"),
        ("native", "pefomed_jax"),
    ):
        head, _ = front(cards[to])
        assert head["library_name"] == library
        assert head["license"] == "other"
        assert {"pefomed_jax", "radiology", "vqa"} <= set(head["tags"])
        assert "base_model" not in head  # a random base has no name on the hub


def test_scores_stand_beside_the_control(cards, trained_run):
    results = json.loads((trained_run / "results.json").read_text())
    for text in cards.values():
        for name, value in results["test"].items():
            control = results["test_shuffled"][name]
            assert f"| `{name}` | {value:.3f} | {control:.3f} |" in text
        assert '"n_cases": 8' in text


def test_data_config_and_licences_are_the_runs(cards):
    for text in cards.values():
        assert "- data: `pefomed`, task `vqa`" in text
        assert "- step 12 of 12, 8 rows each, seed 42" in text
        assert "- LoRA rank 8, alpha 16, targets `^llm/layers/.*attn/(q|v)_proj$`" in text
        assert '"lr": 0.3' in text
        assert '"width": 32' in text
        assert "- `weights.base`: random" in text
        assert "- `weights.checkpoint`: vqa-run" in text
        assert "Not a medical device" in text
        licences = text.split("## Licences")[1].split("##")[0]
        assert "LLAMA 2 Community License" in licences
        assert "- data: those of the data sets in your folder" in licences


def test_nothing_of_the_machine_is_told(cards, trained_run, pictures):
    for text in cards.values():
        for path in (trained_run, pictures, pathlib.Path.home(), pathlib.Path.cwd()):
            assert str(path) not in text
        assert "/tmp" not in text


def test_what_is_held_is_what_is_written(cards):
    held = {to: text.split("## What it holds")[1].split("##")[0] for to, text in cards.items()}
    assert "q_proj/lora_a float32[32,8] × 2" in held["adapter"]
    assert "kernel float32[64,32] × 1" in held["adapter"]
    assert "embedding" not in held["adapter"]
    assert "lora" not in held["merged"]
    assert "vision" not in held["merged"]
    assert "q_proj/kernel float32[32,32] × 2" in held["merged"]
    assert "lora_a" in held["native"]
    assert "vision/pos_embed" in held["native"]


def test_another_config_does_not_tell_another_training(trained_run, pictures):
    """launch/convert.py --config=… --config.weights.checkpoint=RUN: the run's own is told."""
    config = runs.config(pictures, **runs.LEARNS, weights__checkpoint=str(trained_run))
    config.data.source, config.train.steps, config.seed = "phantom", 9999, 7
    _, text = front(card.write(config, "native", [], card.Run(trained_run, 6)))
    assert "- data: `pefomed`, task `vqa`" in text
    assert "- step 6 of 12, 8 rows each, seed 42" in text


def test_without_a_run_no_training_is_told(pictures):
    config = runs.config(pictures, weights__llm="some/decoder-7b", weights__base="")
    head, text = front(card.write(config, "native", ["a × 1"]))
    assert head["base_model"] == "some/decoder-7b"
    assert "## Training" not in text
    assert "- `weights.llm`: some/decoder-7b" in text
    assert "- `a × 1`" in text


def test_a_folder_of_this_machine_is_told_by_its_name(pictures, tmp_path):
    for name in ("eva.pth", "my llama: 7b"):
        (tmp_path / name).mkdir()
    config = runs.config(
        pictures, weights__llm=f"{tmp_path}/my llama: 7b/", weights__vision=f"{tmp_path}/eva.pth"
    )
    head, text = front(card.write(config, "merged", []))
    assert "- `weights.llm`: my llama: 7b\n" in text
    assert "- `weights.vision`: eva.pth\n" in text
    assert str(tmp_path) not in text
    assert "base_model" not in head


def test_before_its_evaluation_a_run_has_no_scores(trained_run, pictures, tmp_path):
    (tmp_path / "config.json").write_bytes((trained_run / "config.json").read_bytes())
    config = runs.config(pictures)
    text = card.write(config, "adapter", [], card.Run(tmp_path, 6))
    assert "No results.json: this run was exported before its evaluation." in text
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UserError, match=r"results\.json is damaged"):
        card.write(config, "adapter", [], card.Run(tmp_path, 6))
