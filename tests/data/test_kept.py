"""Kept squares are the bytes that decoding gives; only what is new is made."""

import pathlib
import pickle

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax import config as config_lib
from pefomed_jax.data import kept, pipeline, sources
from pefomed_jax.data.pipeline import Loader
from pefomed_jax.errors import UserError
from pefomed_jax.validate import validate

from .conftest import write_image


@pytest.fixture
def loader(tokenizer, config: ConfigDict, vqa_rows: list[dict]) -> Loader:
    return Loader.of(sources.load(config), tokenizer, config)


def keep(loader: Loader, config: ConfigDict, square=None) -> kept.Kept:
    made_by = square or loader.square, loader.preparation
    return kept.squares(loader.source, loader.source.cases("train"), *made_by, config)


def test_batches_are_the_same(loader: Loader, tokenizer, config: ConfigDict, capsys) -> None:
    made = pickle.loads(pickle.dumps(keep(loader, config)))
    assert made.squares.shape == (16, 16, 1)  # all images are grey
    n = len({case.image for case in made.cases("train")})
    assert f"{n} images in {made.squares.path}.bin, {n} of them new" in capsys.readouterr().out
    cases = made.cases("train")
    plain = pipeline.train_batches(loader.source, cases, tokenizer, config)
    for (k, one, n), (k2, other, n2) in zip(
        plain, pipeline.train_batches(made, cases, tokenizer, config), strict=True
    ):
        assert (k, n) == (k2, n2)
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_only_new_images_are_made(loader: Loader, config: ConfigDict) -> None:
    asked = []

    def square(case, number):
        asked.append(case.images[number])
        return loader.square(case, number)

    keep(loader, config, square)
    assert sorted(asked) == sorted({case.image for case in loader.source.cases("train")})
    asked.clear()
    first = loader.source.cases("train")[0]
    write_image(loader.source.path(first), seed=99)
    made = keep(loader, config, square)
    assert asked == [first.image]
    np.testing.assert_array_equal(made.squares[first.image][..., 0], loader.square(first)[..., 0])


def test_a_coloured_image_keeps_its_channels(loader: Loader, config: ConfigDict) -> None:
    first = loader.source.cases("train")[0]
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(loader.source.path(first))
    made = keep(loader, config)
    assert made.squares.shape == (16, 16, 3)
    np.testing.assert_array_equal(made.squares[first.image], loader.square(first))


@pytest.mark.parametrize("field", ["cache_pixels", "cache_features"])
def test_pictures_that_change_are_not_kept(field: str) -> None:
    config = config_lib.make("vqa")
    config.data.update({field: True})
    config.quirks.random_crop_flip = True
    with pytest.raises(UserError, match=rf"data\.{field} keeps one picture .*random_crop_flip"):
        validate(config)


def test_another_size_has_a_store_of_its_own(tokenizer, config, loader: Loader) -> None:
    small = keep(loader, config)
    config.model.vision.image_size = 32
    large = keep(Loader.of(loader.source, tokenizer, config), config)
    assert large.squares.path != small.squares.path
    assert pathlib.Path(f"{small.squares.path}.bin").exists()
