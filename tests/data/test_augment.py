"""Strengths of zero change nothing; each change does what its name says, and grey stays grey."""

import numpy as np
import pytest
from PIL import Image

from pefomed_jax.data.augment import LIMITS, Augment, _moved, apply
from pefomed_jax.errors import UserError

STRONG = {"rotate": 15.0, "shift": 0.1, "zoom": 0.2, "brightness": 0.2, "contrast": 0.3}


def film(side: int = 64) -> np.ndarray:
    """A smooth grey picture with a bright mark at the upper left."""
    x = np.linspace(0, 3, side)
    grey = 100 + 60 * np.sin(x[:, None] + 2 * x[None])
    grey[side // 4 - 4 : side // 4 + 4, side // 4 - 4 : side // 4 + 4] = 250
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_nothing_is_on_by_default() -> None:
    image = film()
    assert apply(image, Augment(), rng()) is image
    assert not Augment().flip


@pytest.mark.parametrize("name", STRONG)
def test_each_strength_alone_changes_the_picture(name) -> None:
    image = film()
    before = image.copy()
    only = Augment(**{name: STRONG[name]})
    found = [apply(image, only, rng(seed)) for seed in range(5)]
    assert all(f.shape == image.shape and f.dtype == np.uint8 for f in found)
    assert all((f != image).any() for f in found)
    assert len({f.tobytes() for f in found}) == 5
    assert (image == before).all()
    assert (apply(image, only, rng(3)) == found[3]).all()


def test_grey_stays_grey_and_side_stays_side() -> None:
    image = film()
    for seed in range(40):
        found = apply(image, Augment(**STRONG), rng(seed))
        assert (found == found[..., :1]).all()
        row, column = np.unravel_index(found[..., 0].argmax(), found.shape[:2])
        assert column < 40  # the mark, never on the other side
        assert row < 40


def test_strengths_draw_the_same_numbers() -> None:
    image = film()
    turned = apply(image, Augment(rotate=15.0), rng(4))
    both = apply(image, Augment(rotate=15.0, brightness=0.2), rng(4))
    light = apply(turned, Augment(brightness=0.2), rng(4))
    assert (both == light).all()
    generator = rng(4)
    apply(image, Augment(rotate=1.0), generator)
    other = rng(4)
    apply(image, Augment(flip=True, contrast=0.5), other)
    assert generator.random() == other.random()


@pytest.mark.parametrize("angle", [90, 180, -90])
def test_turns_are_counter_clockwise_about_the_centre(angle) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    found = _moved(image, np.radians(angle), 0.0, 0.0, 1.0)
    assert np.abs(found.astype(int) - np.rot90(image, angle // 90)).max() <= 1


def test_moves_are_right_and_down_with_black_behind() -> None:
    image = film()
    found = _moved(image, 0.0, 5.0, 3.0, 1.0)
    assert (found[3:, 5:] == image[:-3, :-5]).all()
    assert found[:3].max() == found[:, :5].max() == 0
    assert (_moved(image, 0.0, 0.0, 0.0, 1.0) == image).all()


def test_enlarging_keeps_the_centre() -> None:
    found = _moved(film(), 0.0, 0.0, 0.0, 2.0)
    part = Image.fromarray(film()).resize((64, 64), Image.Resampling.BICUBIC, box=(16, 16, 48, 48))
    assert np.abs(found.astype(int) - np.asarray(part))[4:-4, 4:-4].mean() < 1.5
    assert _moved(film(), 0.0, 0.0, 0.0, 0.5)[:12].max() == 0


def test_light_and_contrast_are_bounded() -> None:
    image = film()
    means = [apply(image, Augment(brightness=0.1), rng(s)).mean() for s in range(60)]
    assert image.mean() - 25.6 <= min(means) < image.mean() - 15
    assert image.mean() + 10 < max(means) <= image.mean() + 25.6
    spread = [apply(image, Augment(contrast=0.25), rng(s)).std() for s in range(60)]
    assert image.std() / 1.27 <= min(spread) < image.std() / 1.15
    assert image.std() * 1.1 < max(spread) <= image.std() * 1.27


def test_mirrored_half_of_the_time_where_asked_for() -> None:
    image = film()
    found = [apply(image, Augment(flip=True), rng(s)) for s in range(200)]
    mirrored = sum((f == image[:, ::-1]).all() for f in found)
    assert 70 < mirrored < 130
    assert mirrored + sum((f == image).all() for f in found) == 200


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [-0.1, 181.0, float("nan")])
def test_strengths_out_of_range(name, value) -> None:
    with pytest.raises(UserError, match=rf"data\.augment\.{name} = .* is not within 0 and"):
        Augment(**{name: value})
