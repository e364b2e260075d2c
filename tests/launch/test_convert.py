"""What a run is turned into, and that each form is the same model to whoever reads it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import forked
import jax
import numpy as np
import pytest
import runs
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file

import pefomed_jax
from pefomed_jax.errors import UserError
from pefomed_jax.planning import dry_run
from pefomed_jax.training import convert, loop, restore, setup
from pefomed_jax.weights import bundle, files

ROOT = pathlib.Path(__file__).parents[2]


def launch(program, *args):
    """A program of launch/ on one device."""
    environment = os.environ | {"XLA_FLAGS": forked.UNOPTIMISED}
    command = [sys.executable, f"launch/{program}.py", *map(str, args)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def leaves(tree):
    return {path: np.asarray(x) for path, x in flatten_dict(tree, sep="/").items()}


def assert_same(have, want):
    assert have.keys() == want.keys()
    for path, value in want.items():
        assert have[path].dtype == value.dtype, path
        np.testing.assert_array_equal(have[path], value, err_msg=path)


@pytest.fixture(scope="module")
def cases(pictures, trained_run):
    return runs.questions(pictures, trained_run)


@pytest.fixture(scope="module")
def trained(trained_run):
    """The run's model as it is restored."""
    return restore.restore(bundle.config(trained_run))


@pytest.fixture(scope="module")
def exports(trained_run, tmp_path_factory):
    """The run as adapter and as merged folder."""
    folder = tmp_path_factory.mktemp("exports")
    for to in ("adapter", "merged"):
        convert.convert(bundle.config(trained_run), to, folder / to)
    return folder


def answers(model, cases):
    images, questions = [c["image"] for c in cases], [c["question"] for c in cases]
    return model.generate(images, questions)


def test_a_native_folder_answers_as_the_run(trained_run, trained, cases, tmp_path):
    out = tmp_path / "native"
    done = launch("convert", f"--weights={trained_run}", "--to=native", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert f"{out}: native, 0.000 GB" in done.stdout
    assert "llm/layers/*/attn/q_proj/lora_a float32[32,8] × 2" in done.stdout
    model = pefomed_jax.load(out)
    assert_same(leaves(model.params), leaves(trained.params))
    assert answers(model, cases) == [case["prediction"] for case in cases]
    assert (model.config.task, model.config.eval.max_new_tokens) == ("vqa", 4)


def test_how_it_was_asked_goes_into_a_native_folder(trained_run, tmp_path):
    config = bundle.config(trained_run)
    (tmp_path / "own.txt").write_text("Look: {question}\n")
    config.data.instructions = str(tmp_path / "own.txt")
    config.quirks.double_bos = True
    config.model.dtype = config.model.base_dtype = "bfloat16"
    config.weights.checkpoint = ""  # its base is in float32
    convert.convert(config, "native", tmp_path / "native")
    (tmp_path / "own.txt").unlink()
    own = bundle.config(tmp_path / "native")
    assert own.quirks.double_bos
    assert not own.quirks.strip_text
    assert (own.model.dtype, own.model.base_dtype) == ("bfloat16", "bfloat16")
    assert pathlib.Path(own.data.instructions).read_text() == "Look: {question}\n"


def test_an_adapter_is_where_another_run_begins(pictures, trained, exports, tmp_path):
    fields = runs.LEARNS | {"weights__checkpoint": str(exports / "adapter"), "data__branches": 1}
    pieces = setup.assemble(runs.config(pictures, **fields))
    with jax.set_mesh(pieces.mesh):
        begun = loop.Run(pieces, tmp_path)
        begun.log.close()
        begun.checkpoints.close()
    assert int(begun.state.step) == 0
    have = leaves(begun.state.trainable)
    assert {path.split("/")[0] for path in have} == {"connector", "llm"}
    assert_same(have, leaves(trained.state.trainable))
    assert any(np.abs(x).max() > 0 for path, x in have.items() if path.endswith("lora_b"))


def test_a_merged_folder_and_its_connector_are_the_run(pictures, trained, exports, cases):
    """As decoder and checkpoint of a config, with the sizes and tokenizer of the folder."""
    folder = exports / "merged"
    config = merged_config(pictures, folder)
    config.weights.checkpoint = str(folder / "connector.safetensors")
    model = pefomed_jax.load(config)
    have, before = leaves(model.params), leaves(trained.params)
    assert model.config.tokenizer == str(folder)
    assert model.config.model.llm.depth == 2
    for path, kernel in before.items():
        module = path.removesuffix("/kernel")
        if f"{module}/lora_a" in before and path.endswith("/kernel"):
            update = before[f"{module}/lora_a"] @ before[f"{module}/lora_b"]
            np.testing.assert_allclose(have[path], kernel + 16.0 / 8 * update, atol=1e-6)
        elif not path.endswith(("/lora_a", "/lora_b")):
            np.testing.assert_array_equal(have[path], kernel, err_msg=path)
    assert answers(model, cases) == [case["prediction"] for case in cases]


def merged_config(pictures, folder):
    """A run on the folder as decoder, beside the tower of the first one; no LLaMA sizes of ours."""
    fields = {k: v for k, v in runs.LEARNS.items() if not k.startswith("model__llm")}
    return runs.config(pictures, **fields, weights__llm=str(folder))


@pytest.mark.slow
def test_a_connector_that_no_file_has_is_not_handed_on(pictures, exports, tmp_path):
    adapter = shutil.copytree(exports / "adapter", tmp_path / "adapter")
    (adapter / "connector.safetensors").unlink()
    config = runs.config(pictures, **runs.LEARNS, weights__checkpoint=str(adapter))
    with pytest.raises(UserError, match="'connector/proj/bias' is in no file"):
        convert.convert(config, "adapter", tmp_path / "again")
    convert.convert(config, "native", tmp_path / "native")
    held = files.open_folder(tmp_path / "native", "base")
    assert any(key.endswith("lora_b") for key in held)
    assert not any(key.startswith("connector/") for key in held)


def test_a_plan_shows_the_sizes_of_the_folder(pictures, exports, capsys):
    config = merged_config(pictures, exports / "merged")
    config.model.llm.update(width=8, vocab_size=5, mlp_dim=2)
    dry_run.plan(config)
    said = capsys.readouterr().out
    assert "nothing is missing" in said
    assert "llm/layers/*/attn/q_proj/lora_a  float32[32,8]" in said
    assert "64,32]" in said  # the connector, into the decoder's width


@pytest.mark.slow
def test_a_run_on_a_merged_folder(pictures, exports, tmp_path):
    fields = {k: v for k, v in runs.LEARNS.items() if not k.startswith("model__llm")}
    fields |= {"train__steps": 2, "train__eval_every": 2, "weights__llm": exports / "merged"}
    args = [a for a in runs.flags(pictures, **fields) if not a.startswith("--config.model.llm")]
    done = launch("train", *args, f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"]["llm"]["width"] == 32
    assert config["tokenizer"] == str(exports / "merged")
    assert len(runs.questions(pictures, tmp_path)) == 8


@pytest.mark.parametrize("to", ["adapter", "merged", "native"])
def test_a_stacked_model_gives_the_same_bytes(trained_run, tmp_path, to):
    for name, scan in (("plain", False), ("stacked", True)):
        config = bundle.config(trained_run)
        config.model.scan = scan
        convert.convert(config, to, tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "plain").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "stacked").iterdir())
    for name in files:
        one, other = ((tmp_path / form / name).read_bytes() for form in ("plain", "stacked"))
        if name == "README.md":  # it tells the config, and that is another
            one, other = one.replace(b'"scan": false', b""), other.replace(b'"scan": true', b"")
        assert one == other, name


def test_what_is_said_of_a_merge_is_what_is_written(trained_run, tmp_path, capsys):
    convert.convert(bundle.config(trained_run), "merged", tmp_path / "out")
    said = capsys.readouterr().out
    assert "lora_a" not in said
    assert "vision" not in said
    assert "connector/proj/kernel float32[64,32] × 1" in said
    assert load_file(tmp_path / "out" / "connector.safetensors").keys() == {
        "llama_proj.weight",
        "llama_proj.bias",
    }
    assert not any("lora" in key for key in load_file(tmp_path / "out" / "model.safetensors"))


def test_help_names_every_layout():
    done = launch("convert", "--help")
    assert done.returncode == 0
    for word in (*convert.LAYOUTS, "--out=PATH", "--weights=DIR", "--dtype"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--weights=RUN", "--to=nativ", "--out=OUT"], 1, "--to=nativ is not one of native, "),
        (["--weights=RUN", "--to=native"], 1, "--out=PATH and one of"),
        (["--out=OUT"], 1, "one of --config=FILE, --weights=DIR are needed"),
        (["--weights=RUN", "--ot=OUT"], 2, "flag --ot is unknown (did you mean out?)"),
        (["--weights=RUN", "--to=eva", "--out=OUT"], 1, "end its name in .safetensors"),
        (
            ["--config=configs/mrg.py", "--to=adapter", "--out=OUT"],
            1,
            "--to=adapter: nothing here is trained",
        ),
        (["--weights=/no/run", "--out=OUT"], 1, "there is no folder /no/run; give a run's"),
    ],
)
def test_a_wrong_command_is_one_line(trained_run, tmp_path, args, code, words):
    places = {"RUN": str(trained_run), "OUT": str(tmp_path / "out")}
    for name, path in places.items():
        args = [arg.replace(f"={name}", f"={path}") for arg in args]
    done = launch("convert", *args)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
