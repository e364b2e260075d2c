"""The timing program: its batch against the rows of the data room, and its protocol."""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.append(str(ROOT / "launch"))

import bench  # noqa: E402

from pefomed_jax.data import tokens as rows_lib  # noqa: E402
from pefomed_jax.models import mllm  # noqa: E402


def args_of(*words: str) -> argparse.Namespace:
    return bench.parse(list(words))


@pytest.mark.parametrize("branches", [0, 3])
def test_rows_are_those_of_the_data_room(branches):
    args = args_of("train", "--preset", "tiny", "--branches", str(branches), "--text", "30")
    args.answer = 5
    config = bench.make_config(args)
    batch = bench.fixed_batch(config, args, args.answer)
    visual, length = mllm.visual_tokens(config.model), batch.tokens.shape[1]
    for row, text in zip(range(2), batch.tokens.tolist(), strict=True):
        n = max(1, branches)
        each = (length - 8 - visual) // n
        rest = text[8 + visual :]
        parts = [rest[i * each : (i + 1) * each] for i in range(n)]
        wanted = rows_lib.build(
            [*text[:8], *[rows_lib.SLOT] * visual], [(p[:-5], p[-5:]) for p in parts], 0
        )
        for name in ("tokens", "positions", "branch", "image_slot", "target_pos", "targets"):
            np.testing.assert_array_equal(getattr(batch, name)[row], getattr(wanted, name))
    assert batch.weights.min() == 1


def test_sizes_of_small_are_those_of_the_peer(shared):
    sizes = json.loads((shared / "bench" / "presets.json").read_text())
    for name in ("small", "medium"):
        model, peer = bench.make_config(args_of("train", "--preset", name)).model, sizes[name]
        vision = {"image_size": "image_size", "patch_size": "patch_size", "width": "vit_width"}
        vision |= {"depth": "vit_depth", "heads": "vit_heads", "mlp_dim": "vit_mlp"}
        llm = {"width": "hidden_size", "depth": "num_layers", "heads": "num_heads"}
        llm |= {"kv_heads": "num_heads", "mlp_dim": "mlp_size", "vocab_size": "vocab_size"}
        llm |= {"norm_eps": "rms_eps", "rope_theta": "rope_theta"}
        for ours, theirs in ((model.vision, vision), (model.llm, llm)):
            assert {k: ours[k] for k in theirs} == {k: peer[v] for k, v in theirs.items()}
        assert not model.llm.tie_embeddings


def test_the_paper_geometry_is_bf16_and_scanned():
    model = bench.make_config(args_of("train", "--preset", "7b")).model
    assert (model.dtype, model.base_dtype, model.scan) == ("bfloat16", "bfloat16", True)
    assert not bench.make_config(args_of("train", "--preset", "7b", "--no-scan")).model.scan


@pytest.mark.parametrize("unit", ["train", "generate"])
def test_serve(unit):
    command = ["serve", "--preset", "tiny", "--unit", unit, "--batch", "2", "--text", "12"]
    command += ["--answer", "3", "--new", "4", "--warmup", "1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch" / "bench.py"), *command],
        input="go\ngo\nquit\ngo\n",
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"XLA_FLAGS": ""},  # one device
        check=True,
    )
    ready, *units = [json.loads(line) for line in done.stdout.splitlines()]
    assert ready["ready"] is True
    assert ready["tokens"] == 2 * (12 + 16 if unit == "train" else 4)
    assert len(units) == 2
    assert all(u["s"] > 0 and u["peak_rss_mb"] > 0 for u in units)
    if unit == "train":
        assert units[1]["last"] < units[0]["last"]  # the loss falls: it is a real step


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--preset", "huge"], "invalid choice"),
    ],
)
def test_bad_command_lines(words, message, capsys):
    with pytest.raises(SystemExit):
        bench.parse(words)
    assert message in capsys.readouterr().err


def test_more_targets_than_tokens():
    args = args_of("train", "--preset", "tiny", "--text", "20")
    with pytest.raises(SystemExit, match="raise --text"):
        bench.fixed_batch(bench.make_config(args), args, 21)
