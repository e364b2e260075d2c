"""Thumbnails of the page: small, within their budget, and counted where there are none."""

import base64
import io
import json

import numpy as np
import pages
import pytest
from data import dicoms
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
    for name in ("0.png", "5.png"):
        Image.open(films / "0.png").save(tmp_path / name)
    for i, name in enumerate(("0.png", "none.png", "broken.png", "text.png", str(films / "1.png"))):
        rows[i]["image"] = name
    rows[5] |= {"image": ["deeper/5.png", "none.png"]}
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


def test_several_images_of_a_case(films):
    rows = [pages.case(i, "yes") for i in range(4)]
    rows[0] |= {"image": "1.png", "images": ["1.png", "0.png", "2.png"]}
    rows[1] |= {"image": "0.png", "images": ["0.png", "1.png"]}
    rows[2] |= {"image": "2.png", "images": 1}  # of another's: how many they are
    del rows[3]["image"]
    text = pages.page_of(pages.evaluate(rows), films)
    data, images = pages.Reader(text).data(), pages.Reader(text).data("images")
    named = [[images[i][0] for i in case[2]] for case in data["cases"]]
    assert named == [["1.png", "0.png", "2.png"], ["0.png", "1.png"], ["2.png"], []]
    assert len(images) == 3
    assert all(uri for _, uri, _ in images)
    assert not {"image", "images"} & set(data["fields"])
    assert "images are shown" not in text


def test_cases_of_text_alone_ask_for_no_folder():
    rows = [pages.case(i, "yes") for i in range(3)]
    for row in rows:
        del row["image"]
    text = pages.page_of(pages.evaluate(rows))
    assert pages.Reader(text).data("images") == []
    assert [case[2] for case in pages.Reader(text).data()["cases"]] == [[], [], []]
    assert "--images=FOLDER" not in text


def test_two_views_of_one_name_are_not_one_file(tmp_path):
    Image.new("L", (9, 9), 200).save(tmp_path / "1.png")
    (tmp_path / "b").mkdir()
    Image.new("L", (9, 9), 100).save(tmp_path / "b" / "2.png")
    asked = ["lateral/1.png", "frontal/1.png", "a/2.png", "b/2.png", "else/3.png"]
    found = images_lib.thumbnails(asked, tmp_path, 1_000_000)
    assert [bool(image.uri) for image in found] == [False, False, False, True, False]
    (alone,) = images_lib.thumbnails(asked[:1], tmp_path, 1_000_000)
    assert alone.uri


def test_frames_dicom_and_photographs_that_were_turned(tmp_path):
    frames = np.stack([np.full((20, 30), level, np.uint8) for level in (50, 150)])
    dicoms.write(tmp_path / "IM0001", frames)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 20)).save(tmp_path / "photo.jpg", exif=exif)
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    names = ["IM0001", "IM0001#1", "photo.jpg", "IM0001#2", "train.parquet#7"]
    found = images_lib.thumbnails(names, tmp_path, 1_000_000)
    assert [image.why for image in found] == [
        *("", "", "", "cannot be read (no frame 2: it has 2, counted from 0)"),
        "cannot be read (not an image of a known format)",
    ]
    levels = [np.asarray(opened(image.uri).convert("L")).mean() for image in found[:2]]
    assert levels == pytest.approx([50, 150], abs=2)
    assert opened(found[2].uri).size == (20, 40)


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


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


def test_every_image_of_a_case_counts_in_the_budget(tmp_path):
    folder = pages.write_films(tmp_path / "many", 30, 64)
    names = [f"{i}.png" for i in range(30)]
    rows = [pages.case(i, "yes") | {"images": names[5 * i : 5 * i + 5]} for i in range(6)]
    made = pages.evaluate(rows)
    size = max(len(uri) for _, uri, _ in pages.Reader(pages.page_of(made, folder)).data("images"))
    base = len(pages.page_of(made).encode())
    text = pages.page_of(made, folder, budget=base + 8 * size)
    shown = [name for name, uri, _ in pages.Reader(text).data("images") if uri]
    assert shown == names[: len(shown)]
    assert 5 < len(shown) < 10
    assert f"{len(shown)} of 30 images are shown; {30 - len(shown)} left out" in text
    assert len(text.encode()) < base + 8 * size + 1000


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
