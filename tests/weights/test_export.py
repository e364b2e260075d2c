"""Import, then export: the same names and the same bytes, for every family of files."""

import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from pefomed_jax.models import stack
from pefomed_jax.training import convert, restore
from pefomed_jax.weights import bundle, export, output, parts, trained
from weights import foreign


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with llama/ and vision.safetensors (tower, ln_vision, connector), in float32."""
    folder = tmp_path_factory.mktemp("base")
    made = foreign.config()
    arrays = foreign.draw(foreign.llama_shapes(made.model.llm))
    foreign.write_llama(folder / "llama", made, arrays, shards=2)
    tower = foreign.tower_files(made, "visual_encoder.", "float32", True)
    save_file(tower, folder / "vision.safetensors")
    return folder


def on_base(base, **settings):
    """The config of that folder."""
    fields = {"weights__llm": str(base / "llama"), "weights__vision": settings.pop("vision", None)}
    fields["weights__vision"] = fields["weights__vision"] or str(base / "vision.safetensors")
    return foreign.config(**fields, **settings)


@pytest.mark.parametrize(("tied", "scan"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", foreign.DTYPES)
def test_a_llama_folder_comes_back(tmp_path, monkeypatch, dtype, shards, tied, scan):
    made = foreign.config(model__llm__tie_embeddings=tied, model__scan=scan)
    arrays = foreign.draw(foreign.llama_shapes(made.model.llm), dtype)
    foreign.write_llama(tmp_path / "in", made, arrays, shards)
    loaded = parts.decoder(tmp_path / "in", foreign.abstract(made, (2, 2, 2), dtype)["llm"], tied)
    if shards > 1:
        monkeypatch.setattr(output, "SHARD", 20_000)
    export.merged(tmp_path / "out", loaded, set(), made, dtype, "card")
    foreign.assert_same(foreign.read(tmp_path / "out"), arrays)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1 or shards == 1
    again = parts.decoder(tmp_path / "out", foreign.abstract(made, (1, 8, 1), dtype)["llm"], tied)
    for one, two in zip(jax.tree.leaves(loaded), jax.tree.leaves(again), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


@pytest.mark.parametrize(("dtype", "scan"), [("float32", False), ("float16", True)])
def test_a_merge_without_lora_is_the_input(tmp_path, dtype, scan):
    """Half precision through float32 and back: nothing is lost, not even the sign of a zero."""
    made = foreign.config(model__scan=scan)
    arrays = foreign.draw(foreign.llama_shapes(made.model.llm), dtype)
    foreign.write_llama(tmp_path / "llama", made, arrays)
    save_file(foreign.tower_files(made, "", dtype, True), tmp_path / "tower.safetensors")
    config = on_base(tmp_path, vision=str(tmp_path / "tower.safetensors"), model__scan=scan)
    convert.convert(config, "merged", tmp_path / "out", dtype)
    merged = foreign.read(tmp_path / "out")
    assert {merged.pop(key).shape for key in ("llama_proj.weight", "llama_proj.bias")}
    foreign.assert_same(merged, arrays)
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    assert content.pop("dtype") == dtype
    assert content == json.loads((tmp_path / "llama" / "config.json").read_text())


@pytest.mark.parametrize(
    ("dtype", "scan"),
    [("float32", True), ("float16", True), ("float16", False), ("bfloat16", False)],
)
@pytest.mark.parametrize("layout", ["vision", "eva"])
def test_a_tower_file_comes_back(tmp_path, base, layout, dtype, scan):
    """Loaded in float32, exported in the file's own type."""
    prefix = {"vision": "visual_encoder.", "eva": ""}[layout]
    made = foreign.config()
    arrays = foreign.tower_files(made, prefix, dtype, layout == "vision")
    save_file(arrays, tmp_path / "in.safetensors")
    config = on_base(base, vision=str(tmp_path / "in.safetensors"), model__scan=scan)
    convert.convert(config, layout, tmp_path / "out.safetensors", dtype)
    foreign.assert_same(foreign.read(tmp_path / "out.safetensors"), arrays)


def test_of_a_bare_tower_no_fresh_connector_is_written(tmp_path, base, capsys):
    made = foreign.config()
    extra = foreign.draw({"norm.weight": (16,), "head.bias": (7,), "blocks.2.norm1.bias": (16,)})
    arrays = foreign.tower_files(made, "", "bfloat16", False)
    save_file(arrays | extra, tmp_path / "eva.safetensors")
    config = on_base(base, vision=str(tmp_path / "eva.safetensors"), model__base_dtype="bfloat16")
    convert.convert(config, "vision", tmp_path / "out.safetensors")
    said = capsys.readouterr().out
    assert all(f"'{key}'" in said for key in ("head.bias", "blocks.2.norm1.bias"))
    assert "has no ln_vision: it is the identity" in said
    own = foreign.read(tmp_path / "out.safetensors")
    assert np.array_equal(own.pop("ln_vision.weight"), np.ones(16))
    assert np.array_equal(own.pop("ln_vision.bias"), np.zeros(16))
    foreign.assert_same(own, {"visual_encoder." + key: array for key, array in arrays.items()})


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("layout", ["merged", "vision", "eva"])
def test_what_comes_in_goes_out_in_its_own_dtypes(tmp_path, layout, scan):
    """Whatever config.model.base_dtype is: bfloat16 holds no float16."""
    made = foreign.config()
    llama = foreign.draw(foreign.llama_shapes(made.model.llm), "float16")
    foreign.write_llama(tmp_path / "llama", made, llama)
    tower = foreign.tower_files(made, "" if layout == "eva" else "visual_encoder.", "float16", True)
    tower |= {key: x.astype(np.float32) for key, x in tower.items() if "norm" in key}
    if layout == "eva":
        tower = {key: x for key, x in tower.items() if not key.startswith(("ln_", "llama"))}
    save_file(tower, tmp_path / "tower.safetensors")
    fields = {"model__base_dtype": "bfloat16", "model__scan": scan}
    config = on_base(tmp_path, vision=str(tmp_path / "tower.safetensors"), **fields)
    suffix = "" if layout == "merged" else ".safetensors"
    convert.convert(config, layout, tmp_path / f"out{suffix}")
    have = foreign.read(tmp_path / f"out{suffix}")
    if layout == "merged":
        have = {key: x for key, x in have.items() if not key.startswith("llama_proj")}
        assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float16"
    foreign.assert_same(have, llama if layout == "merged" else tower)


@pytest.mark.parametrize(("dtype", "said"), [("bfloat16", True), ("float32", False)])
def test_rounding_on_the_way_in_is_said(tmp_path, capsys, dtype, said):
    made = foreign.config()
    arrays = foreign.draw(foreign.llama_shapes(made.model.llm), "float16")
    foreign.write_llama(tmp_path / "in", made, arrays)
    parts.decoder(tmp_path / "in", foreign.abstract(made, (1, 1, 1), dtype)["llm"], False)
    line = f"{len(arrays)} tensors are float16 in the file and bfloat16 here, which rounds them"
    assert (line in capsys.readouterr().out) == said


def trained_arrays(made, before, after):
    shapes = foreign.lora_shapes(made, before, after) | foreign.connector_shapes(made.model)
    return foreign.draw(shapes, seed=2)


@pytest.mark.parametrize("scan", [True, False])
def test_a_peft_adapter_comes_back(tmp_path, base, scan):
    made = foreign.config()
    arrays = trained_arrays(made, "base_model.model.", "")
    folder = foreign.write_adapter(tmp_path / "in", made, arrays)
    config = on_base(base, weights__checkpoint=folder, model__scan=scan)
    convert.convert(config, "adapter", tmp_path / "out")
    for name in ("adapter_model.safetensors", "connector.safetensors"):
        have, want = (foreign.read(tmp_path / side / name) for side in ("out", "in"))
        foreign.assert_same(have, want)
    have, want = (
        json.loads((tmp_path / side / "adapter_config.json").read_text()) for side in ("out", "in")
    )
    assert {key: have[key] for key in want} == want
    assert trained.read_config(tmp_path / "out" / "adapter_config.json")["rank"] == 3
    assert "pefomed_jax" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("spelling", [".default", ""])
def test_an_official_checkpoint_comes_back(tmp_path, base, spelling):
    torch = pytest.importorskip("torch", reason="official checkpoints are PyTorch's")
    made = foreign.config()
    arrays = trained_arrays(made, foreign.OFFICIAL, spelling)
    model = {key: torch.from_numpy(array) for key, array in arrays.items()}
    beside = {f"{foreign.OFFICIAL}model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    torch.save({"model": model | beside, "optimizer": {}, "epoch": 3}, tmp_path / "in.pth")
    config = on_base(base, weights__checkpoint=str(tmp_path / "in.pth"))
    convert.convert(config, "pth", tmp_path / "out.pth")
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    have = {key: tensor.numpy() for key, tensor in content["model"].items()}
    modern = trained_arrays(made, foreign.OFFICIAL, ".default")
    foreign.assert_same(have, modern)


def test_a_native_folder_comes_back(tmp_path, base, monkeypatch):
    made = foreign.config()
    arrays = trained_arrays(made, "base_model.model.", "")
    adapter = foreign.write_adapter(tmp_path / "adapter", made, arrays)
    settings = {"weights__checkpoint": adapter, "model__base_dtype": "bfloat16"}
    first = restore.restore(on_base(base, **settings))
    convert.convert(on_base(base, **settings), "native", tmp_path / "one")
    monkeypatch.setattr(output, "SHARD", 20_000)  # the second in several files, and from stacks
    second = bundle.config(tmp_path / "one")
    second.model.update(base_dtype="bfloat16", scan=True)
    convert.convert(second, "native", tmp_path / "two")
    assert len(list((tmp_path / "two").glob("*.safetensors"))) > 3
    one, two = foreign.read(tmp_path / "one"), foreign.read(tmp_path / "two")
    foreign.assert_same(two, one)
    want = {
        path: np.asarray(leaf)
        for path, leaf in flatten_dict(stack.unstack(first.params), sep="/").items()
    }
    foreign.assert_same(one, want)
    assert one["llm/layers/1/attn/q_proj/lora_b"].dtype == np.float32
    contents = [json.loads((tmp_path / n / "config.json").read_text()) for n in ("one", "two")]
    assert all(contents[0][key] == contents[1][key] for key in ("model", "lora", "tokenizer"))


def test_fresh_leaves_are_left_out_of_a_native_folder(tmp_path, base):
    convert.convert(on_base(base), "native", tmp_path / "out")
    own = foreign.read(tmp_path / "out")
    made = foreign.config()
    shapes = foreign.llama_shapes(made.model.llm)
    arrays = foreign.draw(shapes) | foreign.tower_files(made, "", "float32", True)
    foreign.assert_same(own, foreign.as_tree(made, arrays))
    assert "lora" not in (tmp_path / "out" / "README.md").read_text()


def test_a_merge_adds_lora_in_float32(tmp_path, base):
    made = foreign.config()
    arrays = trained_arrays(made, "base_model.model.", "")
    folder = foreign.write_adapter(tmp_path / "in", made, arrays)
    config = on_base(base, weights__checkpoint=folder, model__scan=True)
    convert.convert(config, "merged", tmp_path / "out", "bfloat16")
    merged = foreign.read(tmp_path / "out")
    want = foreign.draw(foreign.llama_shapes(made.model.llm))
    for i in range(made.model.llm.depth):
        for kind in "qv":
            name = f"model.layers.{i}.self_attn.{kind}_proj"
            a, b = (arrays[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
            exact = want[f"{name}.weight"].astype(np.float64) + 6.0 / 3 * b.astype(np.float64) @ a
            error = np.abs(merged[f"{name}.weight"].astype(np.float64) - exact)
            assert (error <= np.abs(exact) * 2.0**-8 + 1e-5).all()  # half a unit of bfloat16
            want[f"{name}.weight"] = merged[f"{name}.weight"]
    half = {key: array.astype(foreign.DTYPES["bfloat16"]) for key, array in want.items()}
    half |= {key: arrays[key] for key in arrays if key.startswith("llama_proj")}  # as it trained
    foreign.assert_same(merged, half)


def test_an_adapter_of_zeros_merges_to_the_input(tmp_path, base):
    """Where nothing is added, not even the sign of a zero changes."""
    made = foreign.config()
    arrays = {
        key: np.zeros_like(array) if "lora_B" in key else array
        for key, array in trained_arrays(made, "base_model.model.", "").items()
    }
    folder = foreign.write_adapter(tmp_path / "in", made, arrays)
    convert.convert(on_base(base, weights__checkpoint=folder), "merged", tmp_path / "out")
    want = foreign.read(base / "llama")
    want |= {key: array for key, array in arrays.items() if key.startswith("llama_proj")}
    foreign.assert_same(foreign.read(tmp_path / "out"), want)
