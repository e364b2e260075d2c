"""`launch/predict.py` on images without a data set, and the images that it saves."""

import os

import numpy as np
import pytest
from data import dicoms
from PIL import Image
from predicting import answers, predict, request, rows

from pefomed_jax.evaluation import command
from pefomed_jax.evaluation.journal import noted
from pefomed_jax.evaluation.page import saved
from pefomed_jax.training import answer


@pytest.fixture
def films(tmp_path, pictures):
    """Three images, two of which open, in two folders; a text file; a list with odd lines."""
    folder = tmp_path / "films"
    (folder / "b").mkdir(parents=True)
    for name, source in {"b/2.png": "test0.png", "10.png": "test1.png"}.items():
        (folder / name).write_bytes((pictures / "images" / source).read_bytes())
    (folder / "b" / "broken.png").write_bytes(
        (pictures / "images" / "test2.png").read_bytes()[:200]
    )
    (folder / "notes.txt").write_text("b/2.png\n\n10.png\nno.png\nb/2.png\n")
    return folder


def test_a_folder_of_images_with_one_question(trained_run, films, tmp_path, capsys):
    out = tmp_path / "p.jsonl"
    fields = {"data.cache": str(tmp_path)}
    asked = {"images": str(films), "prompt": "Which side?", "fields": fields}
    (films / os.fsdecode(b"bad\xff.png")).write_bytes((films / "10.png").read_bytes())
    assert answer.run(request(trained_run, out, **asked)) == answer.LISTED
    said = capsys.readouterr().out
    assert f"{films}: 1 left out: 1 not named like images (notes.txt)" in said
    assert "not answered: films, row 3, field 'path': b/broken.png does not open" in said
    assert r"not answered: films, row 4, field 'path': the name of bad\xff.png is not UTF-8" in said
    assert "not answered: 2 images; the first: films, row 4" in said
    found = rows(out)
    assert [row["id"] for row in found] == ["10.png", "b/2.png"]
    assert not any({"reference", "split"} & set(row) for row in found)
    assert found[0]["prompt"].endswith("Which side? [/INST]")
    expected = answers(rows(trained_run / "predictions.jsonl"))
    wanted = [expected[name] for name in ("test-test1a", "test-test0a")]
    assert [row["prediction"] for row in found] == wanted
    bad = rows(tmp_path / "p_bad_rows.jsonl")
    assert bad[0]["problem"] == r"the name of bad\xff.png is not UTF-8"
    assert bad[1]["problem"].startswith("b/broken.png does not open")


def test_images_are_saved_for_the_page(trained_run, pictures, tmp_path, capsys):
    out, folder = tmp_path / "p.jsonl", tmp_path / "images"
    found = predict(trained_run, out, save_images=folder, limit=4)
    assert f"{folder}: 2 images" in capsys.readouterr().out
    for name in {row["image"] for row in found}:
        assert (folder / name).read_bytes() == (pictures / name).read_bytes()
    command.evaluate(
        command.Request(out, tmp_path / "scores", "pefomed", images=folder, resamples=0)
    )
    assert (tmp_path / "scores" / "report.html").read_text().count("data:image/jpeg;base64,") == 2
    folder.rename(tmp_path / "moved")
    predict(trained_run, out, save_images=folder, limit=4)  # finished before
    assert len(list(folder.rglob("*.png"))) == 2


def test_the_page_finds_the_images_that_were_saved(trained_run, tmp_path, capsys):
    out = tmp_path / "a" / "p.jsonl"
    predict(trained_run, out, limit=4)
    assert shown(out, tmp_path / "1") == 0
    predict(trained_run, out, save_images=tmp_path / "elsewhere", limit=4)  # is no other command
    assert noted(out, saved.NOTE) == str(tmp_path / "elsewhere")
    predict(trained_run, out, save_images=out.parent / "films", limit=4)
    predict(trained_run, out, limit=4)
    assert noted(out, saved.NOTE) == "films"
    out.parent.rename(tmp_path / "b")
    moved = tmp_path / "b" / "p.jsonl"
    capsys.readouterr()
    assert shown(moved, tmp_path / "2") == 2
    assert f"images of the page: {moved.parent / 'films'}" in capsys.readouterr().out
    (tmp_path / "none").mkdir()
    assert shown(moved, tmp_path / "3", images=tmp_path / "none") == 0
    (moved.parent / "films").rename(tmp_path / "gone")
    assert shown(moved, tmp_path / "4") == 0


def shown(out, folder, **given):
    """How many images the page of an evaluation shows."""
    command.evaluate(command.Request(out, folder, "pefomed", resamples=0, **given))
    return (folder / "report.html").read_text().count("data:image/jpeg;base64,")


def test_dicom_files_without_a_suffix(trained_run, pictures, tmp_path):
    folder, out = tmp_path / "disk", tmp_path / "p.jsonl"
    folder.mkdir()
    with Image.open(pictures / "images" / "test0.png") as film:
        grey = np.asarray(film.convert("L"))
    dicoms.write(folder / "IM000001", grey)
    Image.fromarray(grey).save(folder / "same.png")
    (folder / "DICOMDIR").write_bytes((folder / "IM000001").read_bytes())
    asked = {"images": str(folder), "prompt": "Which side?"}
    found = predict(trained_run, out, save_images=tmp_path / "films", **asked)
    assert [row["id"] for row in found] == ["IM000001", "same.png"]
    assert found[0]["prediction"] == found[1]["prediction"]
    saved = sorted(path.name for path in (tmp_path / "films").iterdir())
    assert saved == ["IM000001.png", "same.png"]
    with Image.open(tmp_path / "films" / "IM000001.png") as film:
        np.testing.assert_array_equal(np.asarray(film), grey)


def test_a_list_of_images(trained_run, films, tmp_path, capsys):
    out = tmp_path / "p.jsonl"
    asked = {"images": str(films / "notes.txt"), "prompt": "Which side?"}
    assert answer.run(request(trained_run, out, **asked)) == answer.LISTED
    assert [row["id"] for row in rows(out)] == ["b/2.png", "10.png"]
    said = capsys.readouterr().out
    assert "notes.txt, row 4, field 'path': no.png is missing; correct its path" in said
    assert "notes.txt, row 5, field 'path': b/2.png is row 1 already" in said
    one = predict(trained_run, tmp_path / "1.jsonl", images=str(films / "10.png"), prompt="Is it?")
    assert [row["id"] for row in one] == ["10.png"]
