"""Every stored mode becomes RGB; resize and the official crop."""

import io

import numpy as np
import pytest
from PIL import Image

from pefomed_jax.data import images

RAMP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)


def stored(image: Image.Image, format: str) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format)
    return Image.open(io.BytesIO(buffer.getvalue()))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    found = np.asarray(images.to_rgb(stored(Image.fromarray(RAMP), "PNG")))
    assert found.shape == (8, 8, 3)
    assert np.abs(found[..., 0] - RAMP / 257).max() <= 0.5
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize("values", [RAMP // 16, RAMP.astype(np.int32), RAMP.astype(np.float32)])
def test_other_depths_use_their_own_range(values: np.ndarray) -> None:
    found = np.asarray(images.to_rgb(stored(Image.fromarray(values), "TIFF")))
    assert (found.min(), found.max()) == (0, 255)
    assert np.abs(found[..., 0] - RAMP / 257).max() <= 1


def test_a_constant_image_of_sixteen_bits() -> None:
    black = Image.fromarray(np.zeros((4, 4), np.uint16))
    grey = Image.fromarray(np.full((4, 4), 257 * 100, np.uint16))
    assert np.asarray(images.to_rgb(black)).max() == 0
    assert np.unique(images.to_rgb(grey)).tolist() == [100]


def test_grey_palette_bilevel_and_cmyk() -> None:
    grey = Image.fromarray(np.arange(0, 256, 4, np.uint8).reshape(8, 8))
    assert (np.asarray(images.to_rgb(grey))[..., 2] == np.asarray(grey)).all()
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    assert np.asarray(images.to_rgb(stored(palette, "PNG"))).tolist() == [
        [[255, 0, 0], [0, 0, 255]]
    ]
    assert np.unique(images.to_rgb(Image.new("1", (2, 2), 1))).tolist() == [255]
    assert np.unique(images.to_rgb(Image.new("CMYK", (2, 2), (0, 0, 0, 255)))).tolist() == [0]


@pytest.mark.parametrize(("mode", "clear", "solid"), [
    ("RGBA", (255, 255, 255, 0), (9, 8, 7, 255)), ("LA", (255, 0), (7, 255)),
])  # fmt: skip
def test_transparent_pixels_are_black(mode: str, clear: tuple, solid: tuple) -> None:
    image = Image.new(mode, (2, 1), clear)
    image.putpixel((1, 0), solid)
    found = np.asarray(images.to_rgb(stored(image, "PNG")))
    assert found[0, 0].tolist() == [0, 0, 0]
    assert found[0, 1, 2] == 7


def test_palettes_with_clear_colours() -> None:
    palette = Image.new("P", (3, 1))
    palette.putpalette([200, 0, 0, 0, 0, 200, 9, 9, 9])
    palette.putdata([0, 1, 2])
    for clear in (1, bytes([255, 0, 255])):  # one index, or the opacity of each
        buffer = io.BytesIO()
        palette.save(buffer, "PNG", transparency=clear)
        found = np.asarray(images.to_rgb(Image.open(buffer)))
        assert found.tolist() == [[[200, 0, 0], [0, 0, 0], [9, 9, 9]]]
        plain = np.asarray(images.to_rgb(Image.open(buffer), plain=True))
        assert plain.tolist() == [[[200, 0, 0], [0, 0, 200], [9, 9, 9]]]
    palette.putalpha(0)
    assert palette.mode == "PA"
    assert np.asarray(images.to_rgb(palette)).max() == 0


def test_inks_of_jpeg_are_stored_inverted() -> None:
    inks = Image.merge("CMYK", [Image.new("L", (16, 16), level) for level in (255, 0, 0, 0)])
    found = np.asarray(images.to_rgb(stored(inks, "JPEG")))  # Adobe's marker, inverted
    assert np.abs(found.astype(int) - [0, 255, 255]).max() <= 4


def test_both_byte_orders_and_values_that_are_no_numbers() -> None:
    little = Image.fromarray(RAMP)
    big = Image.frombytes("I;16B", little.size, RAMP.astype(">u2").tobytes())
    assert (np.asarray(images.to_rgb(big)) == np.asarray(images.to_rgb(little))).all()
    values = np.asarray([[np.nan, -np.inf, 1.0], [2.0, 3.0, np.inf]], np.float32)
    found = np.asarray(images.to_rgb(stored(Image.fromarray(values), "TIFF")))[..., 0]
    assert found.tolist() == [[0, 0, 0], [128, 255, 255]]
    nothing = Image.fromarray(np.full((2, 2), np.nan, np.float32))
    assert np.asarray(images.to_rgb(nothing)).max() == 0


MODES = {
    "L": lambda values: Image.fromarray((values >> 8).astype(np.uint8)),
    "1": lambda values: Image.fromarray(values > 30000),
    "I;16": Image.fromarray,
    "I": lambda values: Image.fromarray(values.astype(np.int32) * 7),
    "F": lambda values: Image.fromarray(values.astype(np.float32)),
    "LA": lambda values: MODES["L"](values).convert("LA"),
    "P": lambda values: MODES["L"](values).convert("P"),
    "YCbCr": lambda values: MODES["L"](values).convert("YCbCr"),
}


@pytest.mark.parametrize("fit", images.FITS)
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_one_channel_is_resized_to_the_same_bits_as_three(mode, plain, fit) -> None:
    rng = np.random.default_rng(0)
    for size in ((61, 40), (9, 200), (16, 16), (300, 217)):
        picture = MODES[mode](rng.integers(0, 65536, size, np.uint16))
        assert picture.mode == mode
        three = images.to_rgb(picture, plain)
        found = images.prepare(picture, 33, fit, plain)
        assert (found.dtype, found.shape) == (np.uint8, (33, 33, 3))
        assert (found == images.resize(three, 33, fit)).all()
        seeds = [np.random.default_rng(7) for _ in range(2)]
        assert (images.random_crop_flip(picture, 33, seeds[0], plain)
                == images.random_crop_flip(three, 33, seeds[1])).all()  # fmt: skip


def test_padding_keeps_the_aspect_in_the_middle_of_black() -> None:
    wide = Image.fromarray(np.random.default_rng(0).integers(1, 256, (30, 90, 3), np.uint8))
    found = images.resize(wide, 60, "pad")
    assert found[:20].max() == found[40:].max() == 0
    assert (found[20:40] == np.asarray(wide.resize((60, 20), Image.Resampling.BICUBIC))).all()
    tall = images.resize(wide.transpose(Image.Transpose.TRANSPOSE), 60, "pad")
    assert tall[:, :20].max() == tall[:, 40:].max() == 0
    assert (tall[:, 20:40].min(axis=(0, 2)) > 0).all()
    square = wide.crop((0, 0, 30, 30))
    assert (images.resize(square, 60, "pad") == images.resize(square, 60)).all()
    assert images.resize(Image.new("L", (1000, 1), 255), 16, "pad")[7].min() == 255


def test_plain_conversion_clips_and_drops_transparency() -> None:
    deep = Image.fromarray(np.asarray([[0, 200, 300, 65535]], np.uint16))
    assert np.asarray(images.to_rgb(deep, plain=True))[0, :, 0].tolist() == [0, 200, 255, 255]
    clear = Image.new("RGBA", (1, 1), (9, 8, 7, 0))
    assert np.asarray(images.to_rgb(clear, plain=True)).tolist() == [[[9, 8, 7]]]


def test_the_crop_sees_nothing_outside_its_box() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
    left, top, right, bottom = images._crop_box(48, 40, np.random.default_rng(5))
    around = np.full_like(pixels, 255)
    around[top:bottom, left:right] = pixels[top:bottom, left:right]
    found = [
        images.random_crop_flip(Image.fromarray(p), 16, np.random.default_rng(5))
        for p in (pixels, around)
    ]
    assert (found[0] == found[1]).all()


def test_arrays_are_pictures_too() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    assert (np.asarray(images.to_rgb(pixels)) == pixels).all()


def test_resize_is_plain_bicubic() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    picture = Image.fromarray(pixels)
    found = images.resize(picture, 20)
    assert (found.shape, found.dtype) == ((20, 20, 3), np.uint8)
    assert (found == np.asarray(picture.resize((20, 20), Image.Resampling.BICUBIC))).all()
    assert (images.resize(Image.fromarray(pixels[:20, :20]), 20) == pixels[:20, :20]).all()


def test_crop_keeps_area_and_aspect_and_mirrors_half() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        left, top, right, bottom = images._crop_box(300, 260, rng)
        w, h = right - left, bottom - top
        assert 0 <= left < right <= 300
        assert 0 <= top < bottom <= 260
        assert 0.49 <= w * h / (300 * 260) <= 1.0
        assert 0.74 <= w / h <= 1.35
    # a strip: no crop of half its area has such an aspect
    assert images._crop_box(1000, 10, rng) == (493, 0, 506, 10)
    ramp = Image.fromarray(np.tile(np.arange(0, 250, 5, np.uint8)[None, :, None], (50, 1, 3)))
    found = [images.random_crop_flip(ramp, 16, np.random.default_rng(s)) for s in range(200)]
    mirrored = sum(int(f[0, 0, 0]) > int(f[0, -1, 0]) for f in found)
    assert 70 < mirrored < 130
    again = images.random_crop_flip(ramp, 16, np.random.default_rng(3))
    assert (again == found[3]).all()
