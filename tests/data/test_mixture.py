"""Several sources as one: names, weights, exact counts, bad rows under their source."""

import collections
import json
import pathlib
import pickle

import pytest
import runs
from ml_collections import ConfigDict

from pefomed_jax import config as config_lib
from pefomed_jax.data import pipeline, prepare, sources
from pefomed_jax.errors import UserError
from pefomed_jax.training import loop
from pefomed_jax.validate import missing, validate

from .conftest import write_image

SIZES = {"roco": 12, "clef": 8, "iu_xray": 4}


@pytest.fixture
def mixed(tmp_path: pathlib.Path) -> ConfigDict:
    """Three sets of PeFoMed's lists, one of them away from the others."""
    for name, n in SIZES.items():
        folder = tmp_path / ("away" if name == "clef" else f"sets/{name}")
        keys = ("image_path", "report") if name == "iu_xray" else ("image", "caption")
        rows = [dict(zip(keys, (f"{i}.png", f"{name} {i}."), strict=True)) for i in range(n)]
        for i in range(n):
            write_image(folder / "images" / f"{i}.png", seed=i, size=(32, 32))
        for split in ("train", "val", "test"):
            (folder / f"{split}.json").write_text(json.dumps(rows))
    config = runs.config(tmp_path / "sets", data__source="roco+clef+iu_xray")
    config.data.clef.dir = str(tmp_path / "away")
    config.data.cache = str(tmp_path / "cache")
    config.data.branches = 1
    config.task = "caption"
    config.eval.protocol = ""
    return config


def test_ids_and_images_tell_their_source(mixed: ConfigDict) -> None:
    source = pickle.loads(pickle.dumps(sources.load(validate(mixed))))
    cases = source.cases("train")
    assert collections.Counter(case.source for case in cases) == SIZES
    assert len({case.id for case in cases}) == sum(SIZES.values())
    assert len({case.image for case in cases}) == sum(SIZES.values())
    for case in cases:
        assert case.answer.startswith(case.source)
        with source.image(case) as picture:
            assert picture.size == (32, 32)
        assert case.fields["layout"] == ("iuxray" if case.source == "iu_xray" else "caption")


def test_weights_are_honoured_and_counted(mixed: ConfigDict, tokenizer) -> None:
    mixed.data.ratios = (("roco", 1), ("clef", 2), ("iu_xray", 3))
    splits = prepare.prepare(sources.load(mixed), tokenizer, mixed)
    order = pipeline.make_order(splits.train, tokenizer, mixed)
    assert order.quotas == (4, 8, 12)
    drawn = [splits.train[i].source for k in range(3) for i in order.cases(k)]
    assert collections.Counter(drawn) == {"roco": 4, "clef": 8, "iu_xray": 12}


def test_the_log_counts_each_source(mixed: ConfigDict, tmp_path: pathlib.Path, capsys) -> None:
    mixed.data.ratios = (("roco", 3), ("clef", 2), ("iu_xray", 1))
    assert loop.run(mixed, tmp_path / "run") == 0
    said = capsys.readouterr().out
    for line in ("roco: 12 cases, 12 of the 24", "clef: 8 cases, 8 of", "iu_xray: 4 cases, 4 of"):
        assert line in said
    rows = runs.rows(tmp_path / "run")
    names = [f"cases/{name}" for name in SIZES]
    assert [sum(row[name] for name in names) for row in rows] == [8] * 6
    assert [sum(row[name] for row in rows[:3]) for name in names] == [12, 8, 4]


def test_a_bad_row_names_its_source(mixed: ConfigDict, tokenizer, tmp_path) -> None:
    (tmp_path / "away" / "images" / "3.png").write_bytes(b"no image")
    message = r"clef/train.json, row 4, field 'image': clef/images/3.png does not open"
    with pytest.raises(UserError, match=message):
        prepare.prepare(sources.load(mixed), tokenizer, mixed)
    rows = json.loads((tmp_path / "away" / "val.json").read_text())
    (tmp_path / "away" / "val.json").write_text(json.dumps([*rows, {"image": "9.png"}]))
    (tmp_path / "away" / "images" / "3.png").unlink()
    bad = {(row.file, row.row) for row in sources.load(mixed).bad_rows}
    lists = [f"clef/{split}.json" for split in ("train", "val", "test")]
    assert bad == {*((name, 4) for name in lists), ("clef/val.json", 9)}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("roco+rocco", r"'rocco' is not one of .*did you mean roco"),
        ("roco+slake", r"slake does not serve configs/caption.py: use configs/vqa.py"),
        ("roco+roco", r"'roco\+roco' names a set twice"),
    ],
)
def test_what_cannot_be_mixed(source: str, message: str) -> None:
    config = config_lib.make("caption")
    config.data.source = source
    with pytest.raises(UserError, match=message):
        validate(config)


def test_a_missing_folder_names_its_flag() -> None:
    config = config_lib.make("caption", "tiny,data=roco+clef")
    config.data.roco.dir = "/nowhere"
    need = missing(config)
    assert "'/nowhere' does not exist; correct --config.data.roco.dir" in need[0]
    assert need[1].endswith("--config.data.clef.dir=PATH")
