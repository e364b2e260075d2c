"""A thousand image files of every kind, half of them damaged in one of seven ways each."""

import io
import pathlib
import random
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from . import dicoms

N = 1000
SIDE = 60_000  # pixels a side that bombs claim
INFLATED = 12_000  # pixels a side of the one that is as large as it says
MUST_FAIL = ("cut", "empty", "page", "claims", "inflates")
PAGE = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Gone</body></html>\n"


class File(NamedTuple):
    """One of the files: its name, what it was written as, and what was done to it ('': nothing)."""

    name: str
    kind: str
    damage: str


def _saved(picture: Image.Image, form: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **how)
    return buffer.getvalue()


def _grey(rng: np.random.Generator, *size: int) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, size, np.uint8))


def _dicom(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    dicoms.dataset(pixels).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


KINDS: dict[str, tuple[str, Callable[[np.random.Generator], bytes]]] = {
    "jpeg": ("jpg", lambda r: _saved(_grey(r, 24, 20), "JPEG")),
    # large enough to be looked at in a fraction of its size
    "large jpeg": ("jpeg", lambda r: _saved(_grey(r, 9, 10, 3).resize((160, 144)), "JPEG")),
    "late jpeg": ("jpg", lambda r: _saved(_grey(r, 30, 40, 3), "JPEG", progressive=True)),
    "png": ("png", lambda r: _saved(_grey(r, 20, 24), "PNG")),
    "png of 16 bits": (
        "png",
        lambda r: _saved(Image.fromarray(r.integers(0, 2**16, (16, 20), np.uint16)), "PNG"),
    ),
    "png of a palette": ("png", lambda r: _saved(_grey(r, 20, 24, 3).quantize(32), "PNG")),
    "png with alpha": ("png", lambda r: _saved(_grey(r, 20, 24, 4), "PNG")),
    "tiff": ("tif", lambda r: _saved(_grey(r, 20, 24, 3), "TIFF")),
    "packed tiff": ("tiff", lambda r: _saved(_grey(r, 20, 24), "TIFF", compression="tiff_lzw")),
    "dicom": ("dcm", lambda r: _dicom(r.integers(0, 4096, (20, 24), np.uint16))),
}
ENDINGS = [ending for ending, _ in KINDS.values()]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: int(len(content) * draw.uniform(0.05, 0.9))]


def _flip(content: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 4, 30))):
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def claims(content: bytes, _: random.Random | None = None) -> bytes:
    """The same file, in whose header SIDE x SIDE pixels stand."""
    if content.startswith(b"\x89PNG"):
        head = b"IHDR" + struct.pack(">II", SIDE, SIDE) + content[24:29]
        return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]
    if content.startswith(b"\xff\xd8"):
        at = next(i for mark in (b"\xff\xc0", b"\xff\xc2") if (i := content.find(mark)) > 0)
        return content[: at + 5] + struct.pack(">HH", SIDE, SIDE) + content[at + 9 :]
    if content.startswith(b"II*\0"):
        return _tiff_that_claims(content)
    for tag in (b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00"):
        at = content.index(tag) + len(tag)
        content = content[:at] + struct.pack("<H", SIDE) + content[at + 2 :]
    return content


def _tiff_that_claims(content: bytes) -> bytes:
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    damaged = bytearray(content)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", content, entry)
        if tag in (256, 257):
            struct.pack_into("<HHII", damaged, entry, tag, 4, 1, SIDE)
    return bytes(damaged)


def inflates() -> bytes:
    """A PNG of zeros, far smaller than what it holds."""
    return _saved(Image.new("L", (INFLATED, INFLATED)), "PNG")


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": _cut,
    "empty": lambda content, draw: b"",
    "page": lambda content, draw: PAGE,  # what a server sent instead
    "flipped": _flip,
    "claims": claims,
    "renamed": lambda content, draw: content,
}


def write(folder: pathlib.Path) -> list[File]:
    """The files of one folder, in an order in which kinds and damages are mixed."""
    folder.mkdir(parents=True)
    draw, rng, zeros = random.Random(0), np.random.default_rng(0), inflates()
    damages, files = [*DAMAGES, "flipped"], []
    for i in range(N):
        kind = [*KINDS][i % len(KINDS)]
        ending, make = KINDS[kind]
        damage = damages[(i // 20) % len(damages)] if (i // 10) % 2 else ""
        content = make(rng)
        if damage:
            content = DAMAGES[damage](content, draw)
        if damage == "renamed":
            ending = draw.choice([other for other in ENDINGS if other != ending])
        if damage == "empty" and kind == "png":
            damage, content = "inflates", zeros
        files.append(File(f"f{i:04}.{ending}", kind, damage))
        (folder / files[-1].name).write_bytes(content)
    return files
