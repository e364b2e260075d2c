"""The dry run: exact counts, a memory estimate, what is missing, and nothing allocated."""

import os
import re
import resource
import subprocess
import sys

import pytest
import runs

from pefomed_jax import config as config_lib
from pefomed_jax.errors import UserError
from pefomed_jax.planning import compiled, dry_run, memory, shapes
from pefomed_jax.training import setup, supplied


def figures(said):
    """{line: (of the step, of the evaluation)} in GiB."""
    found = re.findall(r"^  (\w+) +([\d.]+) GiB +([\d.]+) GiB$", said, re.M)
    return {name: (float(step), float(evaluation)) for name, step, evaluation in found}


@pytest.mark.slow
def test_dry_run_of_the_paper_size():
    """In a process of its own: its peak memory shows that no weight was made."""
    code = (
        "from pefomed_jax import config; from pefomed_jax.planning import dry_run;"
        "dry_run.plan(config.make('mrg', '7b'));"
        # not ru_maxrss, which a process inherits from the one that started it
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    for count in ("33,554,432", "23,072,768", "56,627,200", "986,975,872", "2,816"):
        assert count in said
    for flag in ("weights.vision", "weights.llm", "tokenizer", "data.dir"):
        assert f"--config.{flag}=PATH" in said
    assert "target cpu" in said
    sizes = figures(said)
    assert sizes["frozen"] == pytest.approx([14738.41 / 1024] * 2, abs=0.01)
    assert sizes["trainable"] == pytest.approx([216.02 / 1024] * 2, abs=0.01)
    assert sizes["optimizer"] == pytest.approx([2 * 216.02 / 1024] * 2, abs=0.01)
    assert sizes["cache"][0] == 0
    # 8 prompts of 384 tokens and 300 new ones: keys and values of 32 layers in bfloat16
    assert sizes["cache"][1] == pytest.approx(2 * 8 * 683 * 32 * 4096 * 2 / 2**30, abs=0.01)
    assert sizes["copy"] == (0, 0)  # bfloat16: answers come from the training tree
    assert sizes["total"][0] < 20
    assert sizes["total"][1] < 24
    assert f"needed {max(sizes['total']):13.2f} GiB" in said
    peak_kib = int(said.split("VmHWM:")[1].split()[0])
    assert peak_kib < 3 * 2**20


def test_plan_of_a_small_run_on_its_mesh(tmp_path, capsys):
    data = runs.write_pictures(tmp_path / "data")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    dry_run.plan(runs.config(data, mesh__data=4, mesh__fsdp=2))
    said = capsys.readouterr().out
    assert "nothing is missing" in said
    assert "longest bucket of the data (24 train, 8 val, 8 test cases)" in said
    assert "mesh data=4, fsdp=2, tensor=1" in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20


def test_a_float32_base_is_there_twice_while_it_answers(tmp_path):
    pieces = setup.assemble(runs.config(tmp_path))
    whole = memory.a_device(pieces.base)
    short = compiled.generation(pieces, (64, 1, 1)).memory
    assert short.copy == pytest.approx(whole, rel=0.01)
    assert short.temporaries > 0
    held = short.frozen + short.trainable + short.optimizer
    assert short.total > whole + held
    longer = compiled.generation(pieces, (256, 1, 1)).memory
    assert longer.temporaries > short.temporaries
    assert longer.cache > short.cache


def test_a_mesh_that_is_not_here_is_planned_on_one_device(tmp_path, capsys):
    data = runs.write_pictures(tmp_path / "data")
    dry_run.plan(runs.config(data, mesh__data=16, train__batch_size=16))
    said = capsys.readouterr().out
    assert "does not fit 8 devices" in said
    assert "the figures below are for one device holding everything" in said


def test_sharding_divides_the_frozen_base():
    """fsdp=8 holds an eighth of the large leaves on each device."""
    config = config_lib.make("mrg", "small")
    config.mesh.data, config.mesh.fsdp = 1, 8
    sharded = setup.assemble(config)
    config.mesh.data, config.mesh.fsdp = 8, 1
    whole = setup.assemble(config)
    sizes = [memory.a_device(pieces.abstract_frozen()) for pieces in (sharded, whole)]
    assert sizes[0] < 0.2 * sizes[1]


def test_a_rule_that_matches_nothing_is_an_error_here_too(tmp_path):
    config = runs.config(tmp_path, trainable=(("adapter", "lora"), (".*", "frozen")))
    with pytest.raises(UserError, match="matches no parameter"):
        dry_run.plan(config)


def test_row_shape_is_assumed_where_there_is_no_data():
    rows = shapes.rows(config_lib.make("mrg", "7b"), ["data"])
    assert rows.shape == (256 + 128, 128, 1)
    assert "assumed" in rows.source
    config = config_lib.make("mrg", "7b")
    config.data.buckets = (320, 512)
    assert shapes.rows(config, ["data"]).shape == (512, 256, 1)
    config = config_lib.make("vqa", "7b")
    config.data.branches = 8
    assert shapes.rows(config, ["data"]).shape == (640, 80, 1)  # 256 + 8 + 8 · 45, rounded up


def test_missing_weights_do_not_stop_the_measuring(tmp_path, capsys):
    dry_run.plan(runs.config(runs.write_pictures(tmp_path / "data"), weights__base=""))
    said = capsys.readouterr().out
    assert "--config.weights.llm=PATH" in said
    assert "longest bucket of the data (24 train, 8 val, 8 test cases)" in said


def test_what_is_there_is_opened_though_something_is_missing(tmp_path, capsys):
    data = runs.write_pictures(tmp_path / "data")
    dry_run.plan(runs.config(data, tokenizer=""))
    said = capsys.readouterr().out
    assert "still needed" in said
    assert "data.dir: 24 train, 8 val, 8 test cases, every image opens" in said
    (data / "images" / "train0.png").write_bytes(b"none")
    with pytest.raises(UserError, match=r"train\.json, row 1, field 'image'.*does not open"):
        dry_run.plan(runs.config(data, tokenizer=""))
    (tmp_path / "empty").mkdir()
    pieces = setup.assemble(runs.config(data, tokenizer=str(tmp_path / "empty")))
    wrong = supplied.inspect(pieces, [])
    assert "no tokenizer can be read" in wrong[0]
    assert "does not open" in wrong[1]
    pieces = setup.assemble(runs.config(tmp_path, weights__checkpoint=str(data)))
    assert "no checkpoint in" in supplied.inspect(pieces, ["--config.data.dir"])[0]
