"""Runs over kept squares and kept features learn what runs over files learn."""

import re

import jax
import numpy as np
import pytest
import runs

from pefomed_jax import base
from pefomed_jax.data import kept, pipeline, prepare, sources
from pefomed_jax.errors import UserError
from pefomed_jax.parallel.share import place
from pefomed_jax.training import features, loop, setup


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return runs.write_pictures(tmp_path_factory.mktemp("data"))


def losses(folder):
    return np.asarray([row["loss"] for row in runs.rows(folder)])


@pytest.fixture
def plain(whole_run):
    """A run over files, of the same pictures."""
    return whole_run[0]


def test_kept_squares_change_no_bit(data, plain, tmp_path, capsys):
    assert loop.run(runs.config(data, data__cache_pixels=True), tmp_path / "run") == 0
    assert re.search(r"cache_pixels: 20 images in .*, 20 of them new", capsys.readouterr().out)
    assert losses(tmp_path / "run").tolist() == losses(plain).tolist()
    answers = [(folder / "predictions.jsonl").read_text() for folder in (plain, tmp_path / "run")]
    assert answers[0] == answers[1]


def test_kept_features_learn_the_same(data, plain, tmp_path, capsys):
    made = runs.config(data, data__cache_features=True, data__workers=0)
    assert loop.run(made, tmp_path / "run") == 0
    assert "cache_features: 20 images, 20 new" in capsys.readouterr().out
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(plain), rtol=1e-5)
    assert loop.run(runs.config(data, data__cache_features=True), tmp_path / "again") == 0
    assert "cache_features: 20 images, 0 new" in capsys.readouterr().out
    assert losses(tmp_path / "again").tolist() == losses(tmp_path / "run").tolist()


def assembled(data, **settings):
    config = runs.config(data, data__cache_features=True, **settings)
    tokenizer, source = base.tokenizer(config), sources.load(config)
    cases = prepare.prepare(source, tokenizer, config).train
    pieces = setup.assemble(config)
    loader = pipeline.Loader.of(source, tokenizer, config)
    frozen = pieces.frozen(base.load(config, pieces.model, pieces.base))
    return pieces, frozen, loader, cases


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_features_are_those_of_the_tower(data, dtype):
    pieces, frozen, loader, cases = assembled(data, model__dtype=dtype)
    with jax.set_mesh(pieces.mesh):
        made = features.kept(pieces, frozen, loader, cases)
        tower = {"params": {name: frozen[name] for name in features.TOWER}}
        for case in cases[:3]:
            square = place(np.stack([loader.square(case)] * pieces.mesh.size)[:, None], pieces.mesh)
            own = pieces.model.apply(tower, square, method="encode")[0, 0]
            kept_one = made.features[case.image]
            assert kept_one.dtype == own.dtype == dtype
            exact = np.asarray(own, np.float32)
            scale = 2e-6 if dtype == "float32" else 2e-2
            np.testing.assert_allclose(kept_one.astype(np.float32), exact, atol=scale)


def test_another_tower_has_features_of_its_own(data):
    paths = []
    for seed in (1, 2):
        pieces, frozen, loader, cases = assembled(data, seed=seed)
        with jax.set_mesh(pieces.mesh):
            paths.append(features.kept(pieces, frozen, loader, cases).features.path)
    assert paths[0] != paths[1]


def test_a_tower_that_trains_is_refused(data, tmp_path):
    rules = (("^vision/", "vision"), ("lora_[ab]$", "lora"), (".*", "frozen"))
    made = runs.config(data, data__cache_features=True, trainable=rules)
    with made.unlocked():
        made.optimizer.lr_scale = {"lora": 1.0, "vision": 1.0}
    with pytest.raises(UserError, match=r"cache_features: vision/\S+ trains, so features change"):
        loop.run(made, tmp_path / "run")


def test_kept_is_a_source(data):
    source = sources.load(runs.config(data))
    assert isinstance(kept.Kept(source), sources.Source)
