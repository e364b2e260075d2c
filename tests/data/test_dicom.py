"""DICOM frames as pydicom's own functions compute them, and as files may have them."""

import io
import logging
import struct
import zlib

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from pefomed_jax.data import dicom, levels, reading
from pefomed_jax.errors import ImageError, UserError

from .dicoms import NAME, SHIPPED, dataset, write

HU = np.arange(-1024, 1024, dtype=np.int16).reshape(32, 64)
ROUNDED = 0.5 + 1e-9
RAMP = np.arange(0, 4096, 2, dtype=np.uint16).reshape(32, 64)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "film"  # no suffix


def shown(path, **how) -> np.ndarray:
    return np.asarray(reading.opened(path, **how))


def expected(path, window=True) -> np.ndarray:
    """By pydicom: the modality's units, its window, and that range to 0-255, not rounded."""
    ds = pydicom.dcmread(path)
    values = apply_modality_lut(ds.pixel_array, ds).astype(np.float64)
    if not window:
        low, high = values.min(), values.max()
    else:
        # the ends of the outcome are those of values far outside of the window
        ends = apply_voi_lut(np.array([-2e4, 2e4]), ds)
        values, (low, high) = apply_voi_lut(values, ds), ends
    grey = (values - low) / (high - low) * 255
    return 255 - grey if ds.PhotometricInterpretation == "MONOCHROME1" else grey


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("kind", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_those_of_pydicom(path, kind, photometric) -> None:
    write(path, HU, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=[40, 500],
          WindowWidth=[400, 2000], VOILUTFunction=kind,
          PhotometricInterpretation=photometric)  # fmt: skip
    found = shown(path)
    assert found.dtype == np.uint8
    assert np.abs(found - expected(path)).max() < ROUNDED
    assert (found[0, 0], found[-1, -1]) == ((255, 0) if photometric.endswith("1") else (0, 255))


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "examples_overlay.dcm", "693_J2KI.dcm",
    "J2K_pixelrep_mismatch.dcm"])  # fmt: skip
def test_shipped_grey_files(name) -> None:
    needs_plugin(name)
    ds = pydicom.dcmread(SHIPPED / name, stop_before_pixels=True)
    found = shown(SHIPPED / name)
    assert np.abs(found - expected(SHIPPED / name, "WindowWidth" in ds)).max() < ROUNDED
    assert len(np.unique(found)) > 50


def needs_plugin(name) -> None:
    syntax = pydicom.dcmread(SHIPPED / name, stop_before_pixels=True).file_meta.TransferSyntaxUID
    if not pydicom.pixels.get_decoder(syntax).is_available:
        pytest.skip(f"no plug-in for {syntax.name}: pip install 'pefomed_jax[dicom]'")


@pytest.mark.parametrize("name", ["SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm",
    "SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm", "SC_ybr_full_422_uncompressed.dcm",
    "SC_rgb_dcmtk_+eb+cy+s2.dcm", "SC_rgb_gdcm_KY.dcm", "examples_ybr_color.dcm"])  # fmt: skip
def test_shipped_colour_files(name) -> None:
    needs_plugin(name)
    pixels = pixel_array(SHIPPED / name, index=0)
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257)
    assert (shown(SHIPPED / name) == pixels).all()


def test_palette() -> None:
    ds = pydicom.dcmread(SHIPPED / "examples_palette.dcm")
    colours = pydicom.pixels.apply_color_lut(ds.pixel_array, ds)
    assert (shown(SHIPPED / "examples_palette.dcm") == np.rint(colours / 257)).all()


def test_planes_are_not_samples(path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 10), np.uint8)  # one a colour
    write(path, pixels, SamplesPerPixel=3, PlanarConfiguration=1, NumberOfFrames=1,
          PhotometricInterpretation="RGB")  # fmt: skip
    assert (shown(path) == pixels.transpose(1, 2, 0)).all()


def table(entries, first, bits, kind) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    words = [int(entry) for entry in entries]
    value = words if kind == "US" else np.array(words, ">u2" if kind == ">OW" else "<u2").tobytes()
    item.add_new("LUTData", kind[-2:], value)
    return item


@pytest.mark.parametrize("kind", ["US", "OW", ">OW"])
def test_tables_of_modality_and_of_interest(path, kind) -> None:
    modality = table(np.arange(1000)[::-1], 500, 16, kind)
    interest = table(np.minimum(4095, np.arange(900) ** 2), 50, 12, kind)
    ds = dataset(RAMP, ModalityLUTSequence=Sequence([modality]),
                 VOILUTSequence=Sequence([interest]), WindowCenter=100, WindowWidth=50)  # fmt: skip
    if kind[0] == ">":
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        ds.PixelData = RAMP.astype(">u2").tobytes()
    ds.save_as(path, enforce_file_format=True)
    values = (999 - np.clip(RAMP.astype(int) - 500, 0, 999)).astype(float)
    entries = np.minimum(4095, np.clip(values - 50, 0, 899) ** 2)
    assert (shown(path) == np.rint(entries / 4095 * 255)).all()


def test_explicit_and_full_windows(path) -> None:
    write(path, HU, RescaleSlope=1, RescaleIntercept=0, WindowCenter=0, WindowWidth=10)
    full = np.rint((HU + 1024.0) / 2047 * 255)
    assert (shown(path, window="full") == full).all()
    soft = np.rint(np.clip((HU - 39.5) / 399 + 0.5, 0, 1) * 255)
    assert (shown(path, window=dicom.parse_window("40,400")) == soft).all()
    assert (shown(path, window=(0.0, 1.0)) == np.where(HU > -0.5, 255, 0)).all()


@pytest.mark.parametrize("text", ["", "wide", "40", "40,0", "nan,400", "1,2,3", "40,inf"])
def test_windows_that_are_none(text) -> None:
    with pytest.raises(UserError, match=r"data.window .* is not auto, full or CENTRE,WIDTH"):
        dicom.parse_window(text)
    assert dicom.parse_window("full") == "full"


@pytest.mark.parametrize("width", [0, -5, None])
def test_a_window_that_dicom_does_not_allow_counts_as_none(path, width) -> None:
    write(path, HU, WindowCenter=0, WindowWidth=width)
    assert (shown(path) == shown(path, window="full")).all()


def test_padding_does_not_widen_the_range(path) -> None:
    pixels = HU[16:].copy()  # 0 to 1023
    pixels[0, :5], pixels[0, 5] = -2000, -1990
    write(path, pixels, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)
    assert (shown(path)[1:] == np.rint((pixels[1:] - 6.0) / (1023 - 6) * 255)).all()
    assert shown(path)[0, :6].tolist() == [0] * 6
    assert (shown(write(path, np.full((4, 4), 7, np.int16), PixelPaddingValue=7)) == 0).all()


@pytest.mark.parametrize(("bits", "allocated"), [(1, 8), (8, 8), (8, 16), (6, 8)])
def test_eight_bits_and_less_are_shown_as_they_are(path, bits, allocated) -> None:
    pixels = (np.arange(48) % 2**bits // 2 * 2).astype(f"u{allocated // 8}").reshape(6, 8)
    if bits == 1:
        pixels[0, 0] = 1
    write(path, pixels, BitsStored=bits, HighBit=bits - 1)
    assert (shown(path) == np.rint(pixels / (2**bits - 1) * 255)).all()
    assert shown(path, window="full").max() == 255


def test_one_bit_a_pixel(path) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (2, 5, 8), np.uint8)
    ds = dataset(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    ds.PixelData = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    ds.save_as(path, enforce_file_format=True)
    assert (shown(f"{path}#1") == bits[1] * 255).all()


def test_float_and_32_bits(path) -> None:
    values = np.linspace(-3, 5, 60).astype(np.float32).reshape(6, 10)
    ds = dataset(values, RescaleSlope=1, RescaleIntercept=0)
    ds.FloatPixelData = ds.PixelData
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.save_as(path, enforce_file_format=True)
    assert np.abs(shown(path) - (values + 3) / 8 * 255).max() <= 0.51
    deep = (np.arange(60, dtype=np.uint32) * 70_000_000).reshape(6, 10)
    assert np.abs(shown(write(path, deep)) - np.arange(60).reshape(6, 10) / 59 * 255).max() <= 0.51


def test_one_frame_of_many(path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 5, 7), np.uint8)
    write(path, frames)
    assert (shown(path) == frames[0]).all()
    assert (shown(f"{path}#3") == frames[3]).all()
    with pytest.raises(ImageError, match=r"film#4 does not open \(no frame 4: it has 4, counted"):
        reading.opened(f"{path}#4")


def test_transforms_of_the_frame_itself(path) -> None:
    def group(slope, width):
        value, interest, both = Dataset(), Dataset(), Dataset()
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = slope, 0, "HU"
        interest.WindowCenter, interest.WindowWidth = 500, width
        both.PixelValueTransformationSequence = Sequence([value])
        both.FrameVOILUTSequence = Sequence([interest])
        return both

    own = Sequence([group(1, 100), group(2, 800)])
    write(path, np.stack([HU, HU]), PerFrameFunctionalGroupsSequence=own)
    exact = np.clip((2.0 * HU - 499.5) / 799 + 0.5, 0, 1)
    assert (shown(f"{path}#1") == np.rint(exact * 255)).all()
    write(path, np.stack([HU, HU]), SharedFunctionalGroupsSequence=own[1:])
    assert (shown(path) == np.rint(exact * 255)).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_frames_are_the_same(path, syntax) -> None:
    frames = np.random.default_rng(0).integers(0, 4096, (2, 64, 80), np.uint16)
    ds = dataset(frames, BitsStored=12, HighBit=11, WindowCenter=2000, WindowWidth=3000)
    ds.save_as(path, enforce_file_format=True)
    plain = shown(f"{path}#1")
    if not pydicom.pixels.get_encoder(syntax).is_available:
        pytest.skip(f"no plug-in writes {syntax.name}: pip install 'pefomed_jax[dicom]'")
    ds.compress(syntax)
    ds.save_as(path, enforce_file_format=True)
    assert (shown(f"{path}#1") == plain).all()
    assert dicom.header(path).syntax == syntax.name


def jpeg(path, ds, size):
    """The dataset with a JPEG of this size for its pixels."""
    film = Image.fromarray(np.linspace(0, 255, size[0] * size[1]).reshape(size[::-1]).astype("u1"))
    film.save(data := io.BytesIO(), "JPEG", quality=95)
    encapsulated(ds, JPEGBaseline8Bit, data.getvalue())
    ds.save_as(path, enforce_file_format=True)
    return np.asarray(Image.open(data))


def test_jpeg_inside(path) -> None:
    pixels = jpeg(path, dataset(np.zeros((32, 48), np.uint8)), (48, 32))
    assert (shown(path) == pixels).all()


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian,
    ImplicitVRLittleEndian])  # fmt: skip
def test_other_ways_to_write_elements(path, syntax) -> None:
    ds = dataset(HU, WindowCenter=40, WindowWidth=400)
    ds.save_as(path, enforce_file_format=True)
    plain = shown(path)
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = HU.astype(">i2").tobytes()
    ds.save_as(path, enforce_file_format=True)
    assert (shown(path) == plain).all()


@pytest.mark.parametrize("implicit", [True, False])
def test_without_preamble_and_meta(path, implicit) -> None:
    ds = dataset(HU, WindowCenter=40, WindowWidth=400)
    ds.save_as(path, enforce_file_format=True)
    plain = shown(path)
    del ds.file_meta
    ds.save_as(path, implicit_vr=implicit, little_endian=True)
    assert path.read_bytes()[128:132] != b"DICM"
    assert (shown(path) == plain).all()


def test_header_tells_what_may_be_told(path) -> None:
    write(path, HU, BurnedInAnnotation="YES")
    assert dicom.header(path) == dicom.Header(
        "CT", 32, 64, 1, "MONOCHROME2", "Explicit VR Little Endian", True
    )
    assert not dicom.header(write(path, HU, BurnedInAnnotation="NO")).burned_in
    assert reading.size(path) == (64, 32)


def test_nothing_of_the_patient_is_read_or_told(path, caplog, capfd, monkeypatch) -> None:
    caplog.set_level(logging.DEBUG)
    seen = []
    real = pydicom.dcmread

    def spy(*args, **kwargs):
        seen.append(real(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(pydicom, "dcmread", spy)
    picture = reading.opened(write(path, HU))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImageError) as caught:
        reading.opened(path)
    told = caplog.text + "".join(capfd.readouterr()) + str(caught.value) + repr(picture.info)
    assert NAME not in told
    assert "4711" not in told
    assert len(seen) == 2
    assert not any("PatientName" in ds or "PatientID" in ds for ds in seen)
    assert not hasattr(picture, "filename")  # --save_images would copy the file


def encapsulated(ds, syntax, data=b"1234") -> None:
    ds.PixelData = pydicom.encaps.encapsulate([data])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = syntax


REFUSED = {
    "a DICOM file without an image": lambda ds: ds.__delitem__("Rows"),
    "photometric interpretation HSV is not read": lambda ds: setattr(
        ds, "PhotometricInterpretation", "HSV"
    ),
    "64 × 30000 pixels, more than": lambda ds: setattr(ds, "Rows", 30000),
    "compressed as MPEG2 .*, which is not read": lambda ds: encapsulated(ds, MPEG2MPML),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_refused(path, reason) -> None:
    ds = dataset(HU)
    REFUSED[reason](ds)
    ds.save_as(path, enforce_file_format=True)
    with pytest.raises(ImageError, match=reason) as caught:
        reading.opened(path, max_pixels=1_000_000)
    assert "\n" not in str(caught.value)


def test_a_missing_plugin_is_named(monkeypatch) -> None:
    decoder = pydicom.pixels.get_decoder(JPEG2000Lossless)
    monkeypatch.setattr(decoder, "_available", {})
    name = SHIPPED / "MR_small_jp2klossless.dcm"
    with pytest.raises(ImageError, match=r"compressed as JPEG 2000 .*: pip install 'pefomed_jax"):
        reading.opened(name)


def test_a_deflated_bomb_is_not_unpacked(path) -> None:
    ds = dataset(HU)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    assert shown(path, max_pixels=HU.size).shape == HU.shape
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[140:144])
    pack = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path.write_bytes(data[: 144 + length] + pack.compress(bytes(2**24)) + pack.flush())
    with pytest.raises(ImageError, match="unpacks to more than 800000 bytes"):
        reading.opened(path, max_pixels=100_000)


def test_a_larger_picture_inside_is_not_decoded(path) -> None:
    jpeg(path, dataset(np.zeros((32, 48), np.uint8)), (4800, 3200))
    with pytest.raises(ImageError, match="4800 × 3200"):
        reading.opened(path)


def test_tables_are_the_way_of_every_value() -> None:
    values = np.random.default_rng(0).integers(-2000, 2000, (50, 60)).astype(np.int16)
    ds = dataset(values, WindowCenter=100, WindowWidth=1000)
    wide = levels.grey(values.astype(np.int32), ds, "auto", 0)
    assert (levels.grey(values, ds, "auto", 0) == wide).all()
