"""The drawings: a pure function of the seed, and each finding where its mask says it is."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from pefomed_jax.data.sources.phantom import draw, scene
from pefomed_jax.data.sources.phantom.scene import Lesion, Scene

NORMAL = Scene(11, False, None, None, False)


def test_the_same_seed_draws_the_same_picture_and_another_seed_another():
    first, second = (draw.render(scene.sample(5), 64)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, draw.render(scene.sample(6), 64)[0])
    assert first.shape == (64, 64)
    assert first.dtype == np.uint8


def test_a_png_holds_the_picture_without_loss():
    picture = draw.render(scene.sample(3), 64)[0]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(draw.png(picture)))), picture)


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("kind", "brighter"), [("effusion", True), ("pneumothorax", False)])
def test_fluid_and_air_lie_on_their_side_and_change_the_picture_there(kind, brighter, side, size):
    plain, _ = draw.render(NORMAL)
    changed = dataclasses.replace(NORMAL, **{side: Lesion(kind, size=size)})
    image, masks = draw.render(changed)
    mask = masks[draw.MASKS.index(kind)]
    _check_side(mask, side)
    difference = image[mask].mean() - plain[mask].mean()
    assert difference > 15 if brighter else difference < -15
    assert mask.sum() > (150 if size == "small" else 500)


@pytest.mark.parametrize("zone", ["upper", "lower"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["nodule", "consolidation"])
def test_dense_lesions_lie_in_their_zone_and_are_brighter(kind, side, zone):
    plain, _ = draw.render(NORMAL)
    changed = dataclasses.replace(NORMAL, **{side: Lesion(kind, zone=zone)})
    image, masks = draw.render(changed)
    mask = masks[draw.MASKS.index(kind)]
    _check_side(mask, side)
    rows = np.nonzero(mask)[0]
    assert rows.mean() < 60 if zone == "upper" else rows.mean() > 60
    assert image[mask].mean() > plain[mask].mean() + 25


def _check_side(mask: np.ndarray, side: str) -> None:
    """The patient's left is at the right of the picture."""
    columns = np.nonzero(mask)[1]
    share = (columns > 64).mean()
    assert share > 0.95 if side == "left" else share < 0.05


def test_a_nodule_is_at_least_six_pixels_in_radius():
    areas = []
    for seed in range(40):
        content = Scene(seed, False, Lesion("nodule", zone="upper"), None, False)
        areas.append(draw.render(content)[1][draw.MASKS.index("nodule")].sum())
    assert min(areas) >= np.pi * 5.7**2  # the edge is soft: a little under 6 at half height


def test_the_enlarged_heart_is_larger_and_the_line_is_thin_and_bright():
    areas = {}
    for enlarged in (True, False):
        content = dataclasses.replace(NORMAL, enlarged_heart=enlarged, line=True)
        image, masks = draw.render(content)
        heart, line = masks[draw.MASKS.index("enlarged heart")], masks[draw.MASKS.index("line")]
        areas[enlarged] = heart.sum()
        assert 50 < line.sum() < 250
        assert image[line].mean() > image.mean() + 80
    assert areas[True] > 1200
    assert areas[False] == 0


def test_nothing_is_marked_where_nothing_was_found():
    assert not draw.render(NORMAL)[1].any()


def test_findings_of_many_scenes_are_neither_rare_nor_certain():
    scenes = [scene.sample(seed) for seed in range(2000)]
    for name in scene.FINDINGS:
        share = np.mean([name in s.findings for s in scenes])
        assert 0.08 < share < 0.4, name
    assert len({s.findings for s in scenes}) > 80


def test_a_lesion_is_never_hidden_behind_the_enlarged_heart():
    for seed in range(2000):
        content = scene.sample(seed)
        if content.enlarged_heart and content.left:
            assert content.left.zone != "lower"


def test_splits_have_seeds_of_their_own():
    first = sorted(scene.FIRST_SEED.values())
    assert min(np.diff(first)) >= 1_000_000
