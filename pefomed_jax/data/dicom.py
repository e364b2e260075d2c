"""DICOM images through pydicom: the frame as a viewer shows it.

Of a file only the pixels of one frame and the elements of READ are taken: none names a patient,
none is written to a log or a cache. Pixels may hold burnt-in text all the same: `header` says
whether the file admits it.
"""

import dataclasses
import functools
import logging
import os
import pathlib
import re
import zlib
from typing import Any

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image

from pefomed_jax.data import codestream, levels
from pefomed_jax.data.levels import Window
from pefomed_jax.errors import UserError

READ = (
    *("Modality", "BurnedInAnnotation", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "PixelPresentation"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(f"{c}PaletteColorLookupTableDescriptor" for c in ("Red", "Green", "Blue")),
    *(f"{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")),
    *(f"Segmented{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")),
)
BEGIN = 132  # bytes of a file that tell that it is DICOM
HEAD = 4096  # bytes of a file that tell what it is
DEFLATED = "1.2.840.10008.1.2.1.99"  # the only syntax that packs more than the pixels
# in this order, and one only: gdcm ends the process on some damaged JPEG files
DECODERS = ("pylibjpeg", "pyjpegls", "pillow", "pydicom", "gdcm")
EXTRA = "pip install 'pefomed_jax[dicom]'"


@dataclasses.dataclass(frozen=True)
class Header:
    """What may be told of a DICOM image."""

    modality: str
    rows: int
    columns: int
    frames: int
    photometric: str  # photometric interpretation
    syntax: str  # name of the transfer syntax
    burned_in: bool  # the file says that text is part of the pixels


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """By content: 'DICM' after the preamble, or elements as they begin without one."""
    with open(path, "rb") as file:
        return begins(file.read(BEGIN))


def begins(head: bytes) -> bool:
    """Whether the first bytes of a file, BEGIN of them, are those of a DICOM file."""
    if head[128:] == b"DICM":
        return True
    if head[:2] in (b"\x02\x00", b"\x08\x00"):
        return head[4:6].isalpha() or 0 < int.from_bytes(head[4:8], "little") < HEAD
    return head[:2] == b"\x00\x08" and head[4:6].isalpha() and head[4:6].isupper()


def parse_window(text: str) -> Window:
    """config.data.window: 'auto', 'full' or 'CENTRE,WIDTH'. Errors: UserError for others."""
    if text in ("auto", "full"):
        return text
    try:
        centre, width = (float(part) for part in text.split(","))
    except ValueError:
        centre, width = 0.0, 0.0
    if not (width >= 1 and np.isfinite([centre, width]).all()):
        raise UserError(
            f"data.window '{text}' is not auto, full or CENTRE,WIDTH with a width of 1 or more; "
            "40,400 shows soft tissue in CT"
        )
    return centre, width


def header(path: str | os.PathLike[str], most: int = 2**31) -> Header:
    """What may be told of a file, without decoding. `most`: pixels.

    Errors: of pydicom; ValueError: no image, or one too large.
    """
    ds = _dataset(path, most)
    return Header(
        str(ds.get("Modality") or ""),
        int(ds.Rows),
        int(ds.Columns),
        _frames(ds),
        str(ds.PhotometricInterpretation),
        _syntax(ds).name,
        str(ds.get("BurnedInAnnotation") or "").upper() == "YES",
    )


def read(
    path: str | os.PathLike[str], frame: int = 0, window: Window = "auto", most: int = 100_000_000
) -> Image.Image:
    """A frame, counted from 0, as 'L' or 'RGB' of 8 bits.

    `window`: 'auto' takes the file's first VOI table or window, else what 8 bits can hold, else the
    range of the frame without its padding; 'full' takes that range always; (centre, width) is in
    units of the modality. `most`: pixels. Errors: of pydicom and its decoders, and ValueError.
    """
    ds = _dataset(path, most)
    if frame >= _frames(ds):
        raise ValueError(f"no frame {frame}: it has {_frames(ds)}, counted from 0")
    stored = _stored(path, ds, frame)
    kind = str(ds.PhotometricInterpretation)
    if kind.startswith("MONOCHROME"):
        return Image.fromarray(levels.grey(stored, ds, window, frame))
    if kind == "PALETTE COLOR":
        return Image.fromarray(_palette(stored, ds))
    if stored.ndim != 3 or not kind.startswith(("RGB", "YBR_")):
        raise ValueError(f"photometric interpretation {kind} is not read")
    return Image.fromarray(_eight_bits(stored, int(ds.BitsStored)))


@functools.cache
def _pydicom() -> Any:
    import pydicom

    # its messages quote the elements that they are about
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom


def _dataset(path: str | os.PathLike[str], most: int) -> Any:
    """The elements of READ, of an image that is no larger than allowed."""
    _bounded(path, most)
    ds = _pydicom().dcmread(path, specific_tags=list(READ), stop_before_pixels=True, force=True)
    if not (ds.get("Rows") and ds.get("Columns") and ds.get("PhotometricInterpretation")):
        raise ValueError("a DICOM file without an image")
    if ds.Rows * ds.Columns > most:
        raise ValueError(f"{ds.Columns} × {ds.Rows} pixels, more than {most}")
    return ds


def _bounded(path: str | os.PathLike[str], most: int) -> None:
    """Refuses a deflated file that unpacks to more than 8 bytes a pixel: pydicom takes it whole."""
    with open(path, "rb") as file:
        if DEFLATED.encode() not in (head := file.read(HEAD)):
            return
        length = re.search(rb"\x02\x00\x00\x00UL\x04\x00(....)", head, re.DOTALL)
        if length is None:
            raise ValueError("a deflated DICOM file without the length of its first group")
        file.seek(length.end() + int.from_bytes(length[1], "little"))
        unpack, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while data := unpack.unconsumed_tail or file.read(2**20):
            total += len(unpack.decompress(data, 2**24))
            if total > 8 * most:
                raise ValueError(f"unpacks to more than {8 * most} bytes")
            if unpack.eof:
                return


def _syntax(ds: Any) -> Any:
    """The transfer syntax; without file meta information it is how the elements were written."""
    uid = _pydicom().uid
    if stated := getattr(ds, "file_meta", {}).get("TransferSyntaxUID"):
        return stated
    implicit, little = ds.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


def _frames(ds: Any) -> int:
    return max(1, int(ds.get("NumberOfFrames") or 1))


def _stored(path: str | os.PathLike[str], ds: Any, frame: int) -> Num[np.ndarray, "H W *samples"]:
    """Decoded values of a frame; colours as RGB."""
    syntax = _syntax(ds)
    decode = _pydicom().pixels.pixel_array
    try:
        decoder = _pydicom().pixels.get_decoder(syntax)
    except NotImplementedError:
        raise ValueError(f"compressed as {syntax.name}, which is not read") from None
    if not decoder.is_available:
        raise ValueError(f"compressed as {syntax.name}: {EXTRA}")
    try:
        if syntax == DEFLATED:
            return decode(_pydicom().dcmread(path, specific_tags=[*READ, "PixelData"]), index=frame)
        if syntax.is_encapsulated:
            _check_size(path, ds, frame)
        there = decoder.available_plugins
        chosen = next((name for name in DECODERS if name in there), "")
        return decode(
            pathlib.Path(path), index=frame, transfer_syntax_uid=syntax, decoding_plugin=chosen
        )
    except RuntimeError:  # its text has a line for each decoder
        raise ValueError(f"{syntax.name} does not decode") from None


def _check_size(path: str | os.PathLike[str], ds: Any, frame: int) -> None:
    """The compressed frame must be of the size that the file states: it is what gets decoded."""
    pydicom = _pydicom()
    with open(path, "rb") as file:
        pydicom.dcmread(file, specific_tags=["Rows"], stop_before_pixels=True, force=True)
        file.seek(12, os.SEEK_CUR)  # tag, representation and length of the pixels
        data = pydicom.encaps.get_frame(file, frame, number_of_frames=_frames(ds))
    found = codestream.size(data)
    if found not in (None, (ds.Columns, ds.Rows)):
        raise ValueError(
            f"its pixels are {found[0]} × {found[1]}, its header says {ds.Columns} × {ds.Rows}"
        )


def _palette(stored: Num[np.ndarray, "H W"], ds: Any) -> UInt8[np.ndarray, "H W 3"]:
    colours = _pydicom().pixels.apply_color_lut(stored, ds)
    return _eight_bits(colours[..., :3], 8 * colours.dtype.itemsize)


def _eight_bits(colours: Num[np.ndarray, "H W 3"], bits: int) -> UInt8[np.ndarray, "H W 3"]:
    if bits == 8:
        return colours.astype(np.uint8)
    share = np.clip(colours.astype(np.float32) / (2**bits - 1), 0.0, 1.0)
    return np.rint(share * 255).astype(np.uint8)
