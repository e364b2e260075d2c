"""Each impossible value is one line that names the field and the way out."""

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.errors import UserError
from pefomed_jax.validate import missing, validate

WRONG = [
    ("model.dtype", "float16", "model.dtype='float16' is not one of float32, bfloat16"),
    ("model.dtype", "bfloat", "did you mean bfloat16"),
    ("model.remat", "ful", "did you mean full"),
    ("model.attention", "flash", "is not one of auto, plain, xla, cudnn"),
    ("optimizer.schedule", "steps", "did you mean step"),
    ("data.source", "vqarad", "did you mean vqa_rad"),
    ("weights.base", "tyni", "did you mean tiny"),
    ("model.vision.image_size", 130, "patch_size=16; the nearest is 128"),
    ("model.vision.heads", 3, "model.vision.width=128 is not divisible by heads=3"),
    ("model.llm.heads", 3, "model.llm.width=160 is not divisible by heads=3"),
    ("model.llm.kv_heads", 3, "model.llm.heads=4 is not divisible by kv_heads=3"),
    ("model.llm.width", 12, "head size width/heads = 3 is odd"),
    ("model.concat", 7, "model.concat=7"),
    ("model.concat", 0, "model.concat=0 is too small"),
    ("model.llm.depth", 5, "weights.base='tiny' has model.llm.depth=4"),
    ("lora.rank", 0, "lora.rank=0 is too small: at least 1"),
    ("lora.dropout", 1.0, "lora.dropout=1.0 is no fraction"),
    ("lora.dropout", -0.1, "lora.dropout=-0.1 is no fraction"),
    ("lora.alpha", 0.0, "lora.alpha=0.0 must be a number above 0"),
    ("lora.targets", "q_proj(", "lora.targets: 'q_proj(' is no regex"),
    ("optimizer.lr", 0.0, "optimizer.lr=0.0 must be a number above 0"),
    ("optimizer.lr", float("nan"), "optimizer.lr=nan must be a number above 0"),
    ("optimizer.clip", float("nan"), "optimizer.clip=nan is too small"),
    ("optimizer.b1", 2.0, "optimizer.b1=2.0 is no fraction: from 0 to below 1"),
    ("seed", -1, "seed=-1 is too small: at least 0"),
    ("model.dtype", "float64", "needs JAX_ENABLE_X64=1 in the environment"),
    ("optimizer.min_lr", 1.0, "optimizer.min_lr=1.0 is above optimizer.lr"),
    ("data.max_bad_fraction", 1.5, "data.max_bad_fraction=1.5 is no fraction"),
    ("data.branches", 0, "data.branches=0 is too small"),
    ("data.buckets", (256, 128), "rising order"),
    ("data.buckets", (8,), "the 16 visual tokens alone"),
    ("train.steps", 0, "train.steps=0 is too small"),
    ("train.accumulate", 5, "train.batch_size=32 is not divisible by train.accumulate=5"),
    ("train.select_by", "findings_f1", "did you mean finding_f1"),
    ("train.select_by", "exact_match", "is not one of finding_f1, cider"),
    ("eval.max_new_tokens", 0, "eval.max_new_tokens=0 is too small"),
    ("mesh.data", 0, "sizes are 1 or more"),
    ("mesh.fsdp", -1, "at most one is -1"),
    ("trainable", (), "trainable is a tuple of (regex, group) pairs"),
    ("trainable", ("lora", "frozen"), "trainable is a tuple of (regex, group) pairs"),
    ("trainable", (("lora_[", "lora"),), "is no regex"),
    ("trainable", ((".*", "frozen"),), "every rule freezes"),
]


def changed(task, path, value, arg=None):
    config = config_lib.make(task, arg)
    with config.unlocked():
        config.update_from_flattened_dict({path: value})
    return config


@pytest.mark.parametrize(("path", "value", "words"), WRONG)
def test_wrong_value(path, value, words):
    with pytest.raises(UserError) as caught:
        validate(changed("mrg", path, value))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_branches_belong_to_questions():
    with pytest.raises(UserError, match="mrg has one text an image"):
        validate(changed("mrg", "data.branches", 4))
    assert validate(changed("vqa", "data.branches", 4))


def test_a_question_set_has_no_reports():
    with pytest.raises(UserError, match=r"use configs/vqa\.py"):
        validate(config_lib.make("mrg", "data=vqa_rad"))


def test_selection_by_answer_type_is_for_questions():
    assert validate(changed("vqa", "train.select_by", "exact_match_open"))
    with pytest.raises(UserError, match=r"train\.select_by"):
        validate(changed("mrg", "train.select_by", "exact_match_open"))


def test_rules_may_train_everything():
    assert validate(changed("mrg", "trainable", ((".*", "base"),)))


def test_missing_names_the_flag_for_each_thing(tmp_path):
    lines = missing(config_lib.make("vqa", "7b"))
    for flag in ("weights.vision", "weights.llm", "tokenizer", "data.dir"):
        assert sum(f"--config.{flag}=" in line for line in lines) == 1
    config = config_lib.make("vqa", "7b")
    config.data.dir, config.tokenizer = str(tmp_path), str(tmp_path / "nowhere")
    lines = missing(config)
    assert not any("data.dir" in line for line in lines)
    assert any("nowhere' does not exist" in line for line in lines)


def test_nothing_is_missing_for_the_embedded_base():
    assert missing(config_lib.make("mrg")) == []
    config = changed("mrg", "weights.checkpoint", "/no/such/run")
    assert "weights.checkpoint" in missing(config)[0]
