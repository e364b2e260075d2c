"""Thumbnails of the page: small, within their budget, and counted where there are none."""

import base64
import io
import json

import pages
import pytest
from PIL import Image

from pefomed_jax.evaluation import writing
from pefomed_jax.evaluation.page import images as images_lib
from pefomed_jax.evaluation.page.images import Thumbnail


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return pages.write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def text(films):
    return pages.page_of(pages.evaluate(pages.vqa_cases()), films)


def test_images_are_small_and_there_once(text):
    images = pages.Reader(text).data("images")
    assert sorted(name for name, _, _ in images) == ["0.png", "1.png", "2.png"]
    for _, uri, why in images:
        kind, data = uri.split(",")
        assert (kind, why) == ("data:image/jpeg;base64", "")
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (224, 224)


def test_images_that_are_not_there_are_counted(films, tmp_path):
    rows = [pages.case(i, "no") for i in range(6)]
    (tmp_path / "broken.png").write_bytes((films / "0.png").read_bytes()[:900])
    (tmp_path / "text.png").write_text("no picture")
    Image.open(films / "0.png").save(tmp_path / "0.png")
    for i, name in enumerate(("0.png", "none.png", "broken.png", "text.png", str(films / "1.png"))):
        rows[i]["image"] = name
    rows[5] |= {"image": ["deeper/0.png", "none.png"]}
    text = pages.page_of(pages.evaluate(rows), tmp_path)
    said = (
        "3 of 6 images are shown; 1 not found (none.png); 2 cannot be read (broken.png, text.png)"
    )
    assert said in text
    data, images = pages.Reader(text).data(), pages.Reader(text).data("images")
    assert [[images[i][0] for i in row[2]] for row in data["cases"]][5] == rows[5]["image"]
    assert [bool(uri) for _, uri, _ in images] == [True, False, False, False, True, True]
    alone = pages.page_of(pages.evaluate(rows[:4]))
    assert "4 not looked for, as no folder was given (--images=FOLDER)" in alone


def test_thumbnails_stay_within_the_budget(tmp_path):
    folder = pages.write_films(tmp_path / "many", 12, 64)
    rows = [pages.case(i, "yes") | {"image": f"{i}.png"} for i in range(12)]
    rows[11]["prediction"] = "no"
    made = pages.evaluate(rows)
    whole = pages.page_of(made, folder)
    size = max(len(uri) for _, uri, _ in pages.Reader(whole).data("images"))
    base = len(pages.page_of(made).encode())
    text = pages.page_of(made, folder, budget=base + 4 * size)
    images = pages.Reader(text).data("images")
    shown = [name for name, uri, _ in images if uri]
    assert 1 <= len(shown) < 12
    assert shown[0] == "11.png"  # the worst case first
    assert f"{12 - len(shown)} left out to keep this page small" in text
    assert len(text.encode()) < base + 4 * size + 1000


def test_more_images_are_smaller():
    assert images_lib._size(100, 19_000_000) == 224
    assert images_lib._size(2500, 19_000_000) == 160
    assert images_lib._size(50_000, 19_000_000) == 112


def test_images_by_what_opens_them():
    def opens(name):
        if name == "b":
            raise KeyError(name)
        return Image.new("I;16", (300, 150), 40)

    found = images_lib.thumbnails(["a", "b"], opens, 1_000_000)
    assert found[0].uri
    assert found[1] == Thumbnail("b", why="cannot be read (KeyError)")


def test_a_run_shows_its_own_images(tmp_path):
    rows = pages.vqa_cases(20)
    answered = {"test": rows, "test_shuffled": None}
    asked = []

    def opens(name):
        asked.append(name)
        return Image.new("L", (90, 60))

    writing.write_results(tmp_path / "results.json", answered, "vqa", images=opens)
    images = pages.Reader((tmp_path / "report.html").read_text()).data("images")
    assert sorted(asked) == sorted(name for name, uri, _ in images if uri)
    assert len(asked) == 3


def test_real_images(shared):
    folder = shared / "data" / "vqa-rad"
    asked = json.loads((folder / "testset.json").read_text(encoding="utf-8"))
    rows = [
        {
            **{"id": str(i), "image": row["image_name"], "prompt": row["question"]},
            **{"reference": str(row["answer"]), "prediction": "yes", "organ": row["image_organ"]},
        }
        for i, row in enumerate(asked)
    ]
    text = pages.page_of(pages.evaluate(rows), folder / "images")
    images = pages.Reader(text).data("images")
    assert len(images) == len({row["image"] for row in rows})
    assert all(uri for _, uri, _ in images)
    assert len(text) < 3_000_000
