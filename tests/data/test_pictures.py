"""Which files below a folder are asked about, and what is said of the others."""

import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from pefomed_jax.data.sources import pictures
from pefomed_jax.errors import UserError

from . import dicoms


@pytest.fixture
def films(tmp_path: pathlib.Path) -> pathlib.Path:
    """`b/2.png` and `10.png`."""
    folder = tmp_path / "films"
    (folder / "b").mkdir(parents=True)
    for name in ("b/2.png", "10.png"):
        Image.new("L", (4, 4)).save(folder / name)
    return folder


def odd(folder: pathlib.Path, name: bytes) -> None:
    """A copy of 10.png under a name that need not be UTF-8."""
    try:
        pathlib.Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(
            (folder / "10.png").read_bytes()
        )
    except OSError:
        pytest.skip("names must be UTF-8 in this file system")


def test_a_name_that_is_not_utf8_is_listed(films, capsys):
    odd(films, b"b/bad\xff.png")
    source = pictures.load(str(films), "Which side?")
    assert [case.id for case in source.cases("")] == ["10.png", "b/2.png"]
    (bad,) = source.bad_rows
    assert str(bad) == (
        r"films, row 3, field 'path': the name of b/bad\xff.png is not UTF-8; rename the file"
    )
    assert capsys.readouterr().out == ""


def test_a_folder_whose_name_is_not_utf8(films):
    odd(films, b"\xe9t\xe9.png")
    with pytest.raises(
        UserError, match=r"the name of .*films/\\xe9t\\xe9.png is not UTF-8; rename"
    ):
        pictures.load(os.fsdecode(os.fsencode(films) + b"/\xe9t\xe9.png"), "")


def test_what_is_left_out_is_said_in_one_line(films, capsys):
    for name in (".DS_Store", "b/._2.png", "c.txt", "b/d.csv", "e", "f.json"):
        (films / name).write_text("no image")
    (films / "gone.png").symlink_to("nowhere.png")
    (films / "more").symlink_to(films.parent, target_is_directory=True)
    os.mkfifo(films / "pipe.png")
    (films / "same.png").symlink_to("10.png")
    odd(films, b"g\xff.txt")
    source = pictures.load(str(films), "")
    assert [case.id for case in source.cases("")] == ["10.png", "b/2.png", "same.png"]
    assert source.bad_rows == []
    assert capsys.readouterr().out == (
        f"{films}: 10 left out: 2 hidden (.DS_Store, b/._2.png), "
        "5 not named like images (b/d.csv, c.txt, e, …), 1 linked to no file (gone.png), "
        "1 linked and not followed (more), 1 not readable as files (pipe.png)\n"
    )


def test_dicom_files_need_no_suffix(films, capsys):
    frames = np.zeros((3, 4, 4), np.uint8)
    for name in ("IM000001", "b/1.2.840.3", "c.DCM", "DICOMDIR", "g.dcm#1.dcm"):
        dicoms.write(films / name, frames)
    for name in ("d.eps", "e.tga"):  # which Pillow knows and nothing here opens
        (films / name).write_bytes(b"no image")
    source = pictures.load(str(films), "")
    assert [case.id for case in source.cases("")] == [
        *("10.png", "IM000001", "b/1.2.840.3", "b/2.png", "c.DCM", "g.dcm#1.dcm")
    ]
    said = capsys.readouterr().out
    assert "1 an index of DICOM files (DICOMDIR)" in said
    assert "2 not named like images (d.eps, e.tga)" in said
    assert all(source.image(case).size == (4, 4) for case in source.cases(""))
    one = pictures.load(str(films / "b" / "1.2.840.3"), "")
    assert [case.images for case in one.cases("")] == [("1.2.840.3",)]


def test_frames_by_number(films):
    frames = np.stack([np.full((4, 4), level, np.uint8) for level in (7, 90, 200)])
    dicoms.write(films / "IM1", frames)
    (films / "list.txt").write_text("IM1\nIM1#2\nIM2#0\n")
    source = pictures.load(str(films / "list.txt"), "")
    shown = [source.image(case).getpixel((0, 0)) for case in source.cases("")]
    assert ([case.id for case in source.cases("")], shown) == (["IM1", "IM1#2"], [7, 200])
    assert [str(row) for row in source.bad_rows] == [
        "list.txt, row 3, field 'path': IM2#0 is missing; correct its path"
    ]
    (case,) = pictures.load(f"{films}/IM1#1", "").cases("")
    assert (case.id, source.image(case).getpixel((0, 0))) == ("IM1#1", 90)


def test_a_folder_that_cannot_be_read_is_said(films, capsys, monkeypatch):
    scan = os.scandir

    def shut(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", shut)
    assert [case.id for case in pictures.load(str(films), "").cases("")] == ["10.png"]
    assert capsys.readouterr().out == f"{films}: 1 left out: 1 not readable (b)\n"


def test_only_others_are_no_images(films, capsys):
    (films / "b" / "2.png").rename(films / "b" / ".2.png")
    with pytest.raises(UserError, match=r"no image in .*b \(\.bmp"):
        pictures.load(str(films / "b"), "")
    assert "1 hidden (.2.png)" in capsys.readouterr().out
