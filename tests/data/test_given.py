"""Pictures of prompts: one, several and none, squares of which are padded and windowed."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax.data import given
from pefomed_jax.errors import UserError

from . import dicoms


def config(window: str = "auto", fit: str = "stretch") -> ConfigDict:
    data, vision = {"window": window, "fit": fit}, {"image_size": 8}
    return ConfigDict({"data": data, "model": {"vision": vision}})


def test_each_prompt_has_its_pictures():
    film = np.zeros((4, 6), np.uint8)
    found = given.listed([film, (film, "b.png"), [], ["c.png"]])
    assert [len(each) for each in found] == [1, 2, 0, 1]
    assert found[1][1] == "b.png"
    assert [len(each) for each in given.listed(np.zeros((5, 4, 6), np.uint8))] == [1] * 5


@pytest.mark.parametrize("single", ["a.png", Image.new("L", (3, 3)), np.zeros((4, 4, 3), np.uint8)])
def test_one_picture_is_no_list(single):
    with pytest.raises(
        UserError, match=r"images is one image; give a list, also of one: \[image\]"
    ):
        given.listed(single)


def test_squares_of_a_prompt_end_with_black_ones():
    bright = np.full((4, 8), 200, np.uint8)
    made = given.squares((bright,), 3, config())
    assert (made.shape, made.dtype) == ((3, 8, 8, 3), np.uint8)
    assert made.mean(axis=(1, 2, 3)).tolist() == [200, 0, 0]
    assert given.squares((bright,), 1, config(fit="pad")).mean() == 100
    assert given.squares((), 0, config()).shape == (0, 8, 8, 3)


def test_dicom_is_shown_through_the_window_of_the_config(tmp_path):
    levels = np.tile(np.arange(0, 800, 100, np.uint16), (8, 1))
    dicoms.write(tmp_path / "x.dcm", levels)
    wide, narrow = (
        given.squares((tmp_path / "x.dcm",), 1, config(window)) for window in ("full", "400,2")
    )
    assert len(np.unique(narrow[0, 4])) < len(np.unique(wide[0, 4]))
