"""Copies of an image are the same picture however they were made; other images are not."""

import io

import numpy as np
import planted
import pytest
from PIL import Image, ImageEnhance

from pefomed_jax.audit import alike, near
from pefomed_jax.batch import Case
from pefomed_jax.data import facts
from pefomed_jax.data.sources.files import ListSource


def encoded(image, quality):
    data = io.BytesIO()
    image.convert("L").save(data, "JPEG", quality=quality)
    return Image.open(data)


COPIES = {
    "encoded": lambda image: encoded(image, 20),
    "half": lambda image: image.resize([side // 2 for side in image.size]),
    "square": lambda image: image.resize((224, 224)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "cropped": lambda image: planted.cropped(image, 0.02),
}


def source_of(folder, images):
    """Images written as PNG; the source and the places of them."""
    for i, image in enumerate(images):
        image.convert("L").save(folder / f"{i}.png")
    cases = [Case(str(i), (f"{i}.png",), "", "", "train") for i in range(len(images))]
    return ListSource("any", "vqa", str(folder)), [(case, 0) for case in cases]


def found(folder, images):
    """The pairs that are the same picture, by place."""
    source, where = source_of(folder, images)
    looks = np.stack([np.frombuffer(facts.look(source, *it).look, np.uint8) for it in where])
    pairs, _ = near.pairs(looks, np.arange(len(images)))
    small = alike.small(source, where)
    scores = alike.likeness(small[pairs[:, 0]], small[pairs[:, 1]])
    return {(int(i), int(j)) for i, j in pairs[scores >= alike.ENOUGH, :2]}


def reduced(path):
    """At most 400 pixels a side: the tests write many."""
    image = Image.open(path)
    image.draft("L", (400, 400))
    image = image.convert("L")
    image.thumbnail((400, 400))
    return image


@pytest.fixture(scope="module")
def films(shared):
    """Radiographs, CT and MR."""
    paths = sorted((shared / "data" / "vqa-rad" / "images").glob("*.jpg"))[::8]
    assert len(paths) > 25
    return [reduced(path) for path in paths]


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_films_are_found(films, tmp_path, name):
    n = len(films)
    pairs = found(tmp_path, [*films, *map(COPIES[name], films)])
    own = {(i, n + i) for i in range(n)}
    assert pairs <= own  # no film is another one's copy
    assert len(pairs) >= 0.95 * n


def test_chest_films_of_a_set_are_not_the_same(shared, tmp_path):
    """Near each other as they are, those of one patient above all."""
    paths = sorted((shared / "data" / "chest-notes" / "images").iterdir())
    assert found(tmp_path, [reduced(path) for path in paths]) == set()


def test_slight_crops_are_laid_over_each_other(tmp_path):
    images = [planted.picture(seed, 200) for seed in range(12)]
    copies = [planted.cropped(image, 0.08) for image in images]
    source, where = source_of(tmp_path, [*images, *copies])
    small = alike.small(source, where)
    assert alike.likeness(small[:12], small[12:]).min() > alike.ENOUGH
    assert alike.likeness(small[:12], small[11::-1]).max() < 0.6


def test_flat_pictures_have_no_likeness():
    flat = np.full((2, alike.SIDE, alike.SIDE), 7, np.uint8)
    assert alike.likeness(flat, flat).tolist() == [0.0, 0.0]


def test_an_image_that_is_gone_is_black(tmp_path):
    source, where = source_of(tmp_path, [planted.picture(1)])
    assert alike.small(source, where).any()
    (tmp_path / "0.png").unlink()
    assert not alike.small(source, where).any()
