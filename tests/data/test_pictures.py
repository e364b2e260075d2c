"""Which files below a folder are asked about, and what is said of the others."""

import os
import pathlib

import pytest
from PIL import Image

from pefomed_jax.data.sources import pictures
from pefomed_jax.errors import UserError


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
