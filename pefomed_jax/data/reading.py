"""Files to pictures, by content and not by name: JPEG, PNG, TIFF and the like, and DICOM.

A name may end in "#5": frame 5 of a DICOM file, page 5 of a TIFF, counted from 0. The size is read
before anything is decoded, and what is larger than allowed is refused. Programs that Pillow would
start for a format (EPS) are never started.
"""

import contextlib
import io
import os
import pathlib
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator

from PIL import Image, ImageOps, UnidentifiedImageError

from pefomed_jax.data import dicom
from pefomed_jax.data.levels import Window
from pefomed_jax.errors import ImageError

MAX_PIXELS = 100_000_000  # of an image; 300 MB as RGB
MISSING = "no such file"
LONGEST = 160  # characters of what a decoder says
FORMATS = ("PNG", "JPEG", "MPO", "JPEG2000", "TIFF", "BMP", "DIB", "GIF", "WEBP", "AVIF", "PPM")
SUFFIXES = frozenset((".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".jp2", ".tif", ".tiff", ".bmp",
                      ".gif", ".webp", ".avif", ".pgm", ".ppm"))  # fmt: skip
WARNING = r"(PIL|pydicom|pylibjpeg|openjpeg|gdcm)(\.|$)"  # modules that warn of odd files

_RULE = ("ignore", None, Warning, re.compile(WARNING), 0)
_lock = threading.Lock()
_silenced = 0  # threads within quiet()


def opened(
    name: str | os.PathLike[str],
    window: Window = "auto",
    max_pixels: int = MAX_PIXELS,
    draft: int = 0,
) -> Image.Image:
    """The decoded picture of a file, upright as its EXIF says; 'L' or 'RGB' of a DICOM file.

    `window`: of DICOM files, see dicom.read. `draft`: a JPEG may come at a fraction of its size,
    this many pixels a side at least. Errors: ImageError, whatever the decoder raises.
    """
    with told(name, max_pixels):
        path, frame = _file(name)
        if dicom.is_dicom(path):
            return dicom.read(path, frame, window, max_pixels)
        return _decoded(path, frame, max_pixels, draft)


def from_bytes(
    content: bytes, name: str, window: Window = "auto", max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The same of the bytes of a file; `name` stands for it in errors, and may name a frame."""
    with told(name, max_pixels):
        path, frame = place(name)
        if not dicom.begins(content[: dicom.BEGIN]):
            return _decoded(io.BytesIO(content), frame, max_pixels)
        with tempfile.TemporaryDirectory() as folder:  # readers of DICOM ask for a file
            file = pathlib.Path(folder) / path.name
            file.write_bytes(content)
            return dicom.read(file, frame, window, max_pixels)


def size(name: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) in pixels as `opened` gives it, without decoding. Errors: ImageError."""
    with told(name, MAX_PIXELS):
        path, frame = _file(name)
        if dicom.is_dicom(path):
            found = dicom.header(path, MAX_PIXELS)
            return found.columns, found.rows
        with Image.open(path, formats=_formats()) as picture:
            _turned_to(picture, frame)
            width, height = picture.size
            if picture.format == "TIFF":  # whose size some versions of Pillow turn already
                width, height = picture.tag_v2[256], picture.tag_v2[257]
            # asked for what is not in front of its pixels, a PNG decodes itself
            turned = _orientation(picture) > 4 if _says_before(picture) else False
            return (height, width) if turned else (width, height)


def _says_before(picture: Image.Image) -> bool:
    return picture.format != "PNG" or "exif" in picture.info


def place(name: str | os.PathLike[str]) -> tuple[pathlib.Path, int]:
    """(file, frame) of a name; a file whose own name ends like a frame is that file."""
    path = pathlib.Path(name).expanduser()
    match = re.fullmatch(r"(.+)#(\d{1,9})", path.name, re.DOTALL)
    if match is None or os.path.exists(path):
        return path, 0
    return path.with_name(match[1]), int(match[2])


def _file(name: str | os.PathLike[str]) -> tuple[pathlib.Path, int]:
    """`place`, of a file that ends: a pipe would be waited for."""
    path, frame = place(name)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("not a file")
    return path, frame


@contextlib.contextmanager
def told(name: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Iterator[None]:
    """Turns whatever a decoder raises into ImageError, and keeps it from warning."""
    try:
        with quiet():
            yield
    except (ImageError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever decoders raise; a panic of Rust is no Exception
        raise ImageError(os.fspath(name), _reason(error, max_pixels)) from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of decoders; for many threads at once, as catch_warnings is not."""
    global _silenced
    with _lock:
        _silenced += 1
        warnings.filterwarnings("ignore", module=WARNING)
    try:
        yield
    finally:
        with _lock:
            _silenced -= 1
            if not _silenced and _RULE in warnings.filters:
                warnings.filters.remove(_RULE)


def _reason(error: BaseException, max_pixels: int) -> str:
    if isinstance(error, FileNotFoundError):
        return MISSING
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {max_pixels} pixels"
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).splitlines() or [type(error).__name__]  # pydicom adds a traceback
    return " ".join(lines[0].split())[:LONGEST]


def _decoded(
    file: pathlib.Path | io.BytesIO, frame: int, max_pixels: int, draft: int = 0
) -> Image.Image:
    with Image.open(file, formats=_formats()) as picture:
        _turned_to(picture, frame)
        _allow(*picture.size, max_pixels)
        if draft:
            picture.draft(None, (draft, draft))
        picture.load()
    # a copy does not know its file, which holds other pages too
    return _upright(picture.copy() if frame else picture)


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)  # AVIF came with Pillow 11


def _turned_to(picture: Image.Image, frame: int) -> None:
    if not frame:
        return
    pages = getattr(picture, "n_frames", 1)
    if frame >= pages:
        raise ValueError(f"no frame {frame}: it has {pages}, counted from 0")
    picture.seek(frame)


def _allow(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ValueError(f"{width} × {height} pixels, more than {max_pixels}")


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF is no reason to refuse the picture
        return 1


def _upright(picture: Image.Image) -> Image.Image:
    """Photographs tell how they were held."""
    if not 1 < _orientation(picture) < 9:
        return picture
    return ImageOps.exif_transpose(picture)
