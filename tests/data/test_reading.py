"""Files are opened by content, upright, no larger than allowed, with one kind of error."""

import concurrent.futures
import os
import pickle
import struct
import warnings
import zlib
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from pefomed_jax.data import codestream, reading
from pefomed_jax.errors import ImageError, UserError

from .dicoms import SHIPPED, write

GREY = np.random.default_rng(0).integers(0, 256, (24, 40), np.uint8)


def png(path, width, height):
    """A PNG whose header says this size, with almost nothing behind it."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


@pytest.mark.parametrize("name", ["film.jpg", "film", "film.txt"])
def test_content_decides_not_the_name(tmp_path, name) -> None:
    Image.fromarray(GREY).save(tmp_path / name, "PNG")
    assert (np.asarray(reading.opened(tmp_path / name)) == GREY).all()
    write(tmp_path / name, GREY)
    assert (np.asarray(reading.opened(tmp_path / name)) == GREY).all()


def test_pages(tmp_path) -> None:
    path = tmp_path / "scan.tif"
    pages = [Image.fromarray(GREY + i) for i in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    for i in range(3):
        found = reading.opened(f"{path}#{i}")
        assert (np.asarray(found) == GREY + i).all()
        # what saves images copies the file where it knows it: of page 0 only
        assert bool(getattr(found, "filename", "")) == (i == 0)
    with pytest.raises(ImageError, match="no frame 3: it has 3, counted from 0"):
        reading.opened(f"{path}#3")


def test_a_file_whose_name_ends_like_a_frame(tmp_path) -> None:
    for name, level in (("a.png#2", 7), ("a.png", 5)):
        Image.new("L", (3, 2), level).save(tmp_path / name, "PNG")
        assert np.unique(reading.opened(tmp_path / "a.png#2")).tolist() == [7]
    assert reading.place("folder/a.dcm#12")[1] == 12
    assert reading.place("folder/a#b.dcm")[1] == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("way", [1, 3, 6, 8])
def test_photographs_are_turned_upright(tmp_path, kind, way) -> None:
    turned = {1: 0, 3: 2, 6: 1, 8: 3}[way]  # quarters, counter-clockwise, as it is stored
    held = np.kron([[0, 80], [160, 240]], np.ones((16, 24))).astype(np.uint8)
    stored = Image.fromarray(np.rot90(held, turned).copy())
    exif = Image.Exif()
    exif[0x0112] = way
    stored.convert("RGB").save(tmp_path / "photo", kind, exif=exif)
    found = reading.opened(tmp_path / "photo")
    assert found.size == reading.size(tmp_path / "photo") == (48, 32)
    assert np.abs(np.asarray(found.convert("L")) - held.astype(float))[8, 8] <= 8
    assert np.abs(np.asarray(found.convert("L")) - held.astype(float))[-8, 8] <= 8


def test_size_is_checked_before_decoding(tmp_path) -> None:
    path = png(tmp_path / "wide.png", 30_000, 3_000)  # Pillow warns of this one
    with pytest.raises(ImageError, match="30000 × 3000 pixels, more than 80000000"):
        reading.opened(path, max_pixels=80_000_000)
    assert reading.size(path) == (30_000, 3_000)
    with pytest.raises(ImageError, match="more than 100000000 pixels"):
        reading.opened(png(path, 60_000, 60_000))  # and refuses this
    Image.fromarray(GREY).save(path)
    assert reading.opened(path, max_pixels=GREY.size).size == (40, 24)
    with pytest.raises(ImageError, match="40 × 24 pixels, more than 959"):
        reading.opened(path, max_pixels=GREY.size - 1)


def damaged(folder):
    """Files that do not open, and a word of the reason."""
    Image.fromarray(GREY).save(folder / "good.png")
    good = (folder / "good.png").read_bytes()
    Image.fromarray(GREY).save(folder / "good.jpg")
    whole = (folder / "good.jpg").read_bytes()
    write(folder / "good.dcm", GREY)
    made = {
        "empty": (b"", "not an image"),
        "text.png": (b"no image, a text of some length" * 9, "not an image"),
        "cut.png": (good[:200], "image file is truncated|broken|Truncated"),
        "cut.jpg": (whole[: len(whole) // 2], "truncated"),
        "cut.dcm": ((folder / "good.dcm").read_bytes()[:-300], "reshape|pixel data"),
        "head.dcm": ((folder / "good.dcm").read_bytes()[:200], "without an image|EOF|[Ee]nd"),
        "noise.dcm": (bytes(128) + b"DICM" + bytes(range(256)) * 4, None),
        "vector.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    }
    for name, (data, why) in made.items():
        (folder / name).write_bytes(data)
        yield folder / name, why
    yield folder / "absent.png", "no such file"
    yield folder / "absent.dcm#4", "no such file"
    yield folder, "directory"


def test_every_failure_is_one_kind_of_error_in_one_line(tmp_path) -> None:
    for path, why in damaged(tmp_path):
        with pytest.raises(ImageError, match=why) as caught:
            reading.opened(path)
        error = caught.value
        assert isinstance(error, UserError)
        assert "\n" not in str(error)
        assert str(error) == f"{path} does not open ({error.reason})"
        assert str(tmp_path) not in error.reason
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        with pytest.raises(ImageError):
            reading.opened(path, draft=16)


def test_a_panic_is_told_and_a_stop_is_not(tmp_path, monkeypatch) -> None:
    class Panic(BaseException):
        """As decoders written in Rust raise it."""

    Image.fromarray(GREY).save(tmp_path / "a.png")
    for raised, expected in ((Panic, ImageError), (KeyboardInterrupt, KeyboardInterrupt)):
        monkeypatch.setattr(Image, "open", mock.Mock(side_effect=raised))
        with pytest.raises(expected):
            reading.opened(tmp_path / "a.png")


def test_any_change_of_a_byte_opens_or_is_told(tmp_path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(GREY).save(tmp_path / "a.tif", compression="tiff_lzw")
    write(tmp_path / "a.dcm", GREY)
    opened = 0
    for name in ("a.png", "a.tif", "a.dcm"):
        data = (tmp_path / name).read_bytes()
        for _ in range(150):
            broken = bytearray(data)
            for at in rng.integers(0, min(len(data), 700), 3):
                broken[at] = rng.integers(0, 256)
            (tmp_path / "broken").write_bytes(broken)
            try:
                opened += reading.opened(tmp_path / "broken").width > 0
            except ImageError:
                continue
    assert 0 < opened < 450


def test_warnings_stay_inside_for_many_threads(tmp_path) -> None:
    png(tmp_path / "large.png", 10_000, 9_000)
    before = list(warnings.filters)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(reading.size, [tmp_path / "large.png"] * 40))
    assert set(sizes) == {(10_000, 9_000)}
    assert warnings.filters == before
    with pytest.raises(Image.DecompressionBombWarning):  # the rule of these tests holds again
        Image.open(tmp_path / "large.png")


def test_a_draft_is_smaller_and_the_size_is_not(tmp_path) -> None:
    Image.new("L", (1000, 800), 90).save(tmp_path / "a.jpg")
    found = reading.opened(tmp_path / "a.jpg", draft=64)
    assert found.size == (125, 100)
    assert reading.size(tmp_path / "a.jpg") == (1000, 800)


def test_sizes_in_code_streams(tmp_path) -> None:
    film = Image.fromarray(np.zeros((30, 50, 3), np.uint8))
    for kind in ("JPEG", "JPEG2000"):
        film.save(tmp_path / "x", kind, **({"progressive": True} if kind == "JPEG" else {}))
        data = (tmp_path / "x").read_bytes()
        assert codestream.size(data) == (50, 30)
        assert codestream.size(data[:12]) is None
    assert codestream.size(b"") is None
    shipped = (SHIPPED / "JPEGLSNearLossless_08.dcm").read_bytes()
    assert codestream.size(shipped[shipped.index(b"\xff\xd8\xff") :]) == (10, 45)


def test_a_pipe_or_device_is_no_image(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a file"):
        reading.opened(tmp_path / "pipe.png")
