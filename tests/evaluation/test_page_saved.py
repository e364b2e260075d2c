"""Images that are saved are those that the page then shows."""

import base64
import io

import numpy as np
import pages
import pytest
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import pictures
from pefomed_jax.errors import UserError
from pefomed_jax.evaluation.page import saved

ODD = ["7", "a b/ä.jpg", "../up", "/abs/1.png", "C:\\films\\2", "50%", "a.PNG", "..", "x?/CON"]


class Drawn:
    """A source without files: each image is grey of the level of its name's place."""

    name = "drawn"

    def __init__(self, images, mode="L"):
        self.images, self.mode = list(images), mode

    def cases(self, split):
        return [Case(f"c{i}", (name,), "q", "yes", split) for i, name in enumerate(self.images)]

    def image(self, case):
        level = 20 * (1 + self.images.index(case.image))
        if self.mode == "L":
            return np.full((16, 24), level, np.uint8)
        return Image.new("L", (24, 16), level).convert(self.mode)


def shown(names, folder):
    """{name: grey level of its thumbnail} on a page with these images."""
    rows = [pages.case(i, "no") | {"image": name} for i, name in enumerate(names)]
    images = pages.Reader(pages.page_of(pages.evaluate(rows), folder)).data("images")
    levels = {}
    for name, uri, _ in images:
        data = io.BytesIO(base64.b64decode(uri.split(",")[1]))
        levels[name] = int(np.asarray(Image.open(data)).mean())
    return levels


def test_the_page_finds_every_image_that_was_saved(tmp_path):
    source, folder = Drawn(ODD), tmp_path / "new" / "images"
    assert saved.save(source, source.cases("test") * 2, folder) == len(ODD)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == len(ODD)
    assert all(path.is_relative_to(folder) and path.suffix.lower() == ".png" for path in files)
    levels = shown(ODD, folder)
    assert [levels[name] for name in ODD] == pytest.approx(20 * np.arange(1, 10), abs=2)


@pytest.mark.parametrize("mode", ["I;16", "RGB", "CMYK", "F"])
def test_other_modes(tmp_path, mode):
    source = Drawn(["7"], mode)
    saved.save(source, source.cases(""), tmp_path)
    with Image.open(tmp_path / "7.png") as image:
        assert image.size == (24, 16)
        assert image.mode == ("RGB" if mode in ("CMYK", "F") else mode)


def test_files_are_copied(tmp_path):
    films = tmp_path / "films"
    (films / "deep").mkdir(parents=True)
    Image.new("L", (9, 9), 80).save(films / "deep" / "1.jpg")
    Image.new("L", (9, 9), 160).save(films / "2.png")
    source = pictures.load(str(films), "q")
    saved.save(source, source.cases(""), tmp_path / "out")
    for name in ("deep/1.jpg", "2.png"):
        assert (tmp_path / "out" / name).read_bytes() == (films / name).read_bytes()
    before = (tmp_path / "out" / "2.png").stat()
    saved.save(source, source.cases(""), tmp_path / "out")
    saved.save(source, source.cases(""), films)  # the data's own folder
    assert (tmp_path / "out" / "2.png").stat() == before
    assert sorted(p.name for p in films.rglob("*") if p.is_file()) == ["1.jpg", "2.png"]


def test_no_image_takes_the_place_of_another(tmp_path):
    source = Drawn(["7", "7.png"])
    with pytest.raises(
        UserError, match=r"the images '7' and '7.png' would both be .*7.png; rename"
    ):
        saved.save(source, source.cases(""), tmp_path)
    other = Drawn(["0", "7"])
    with pytest.raises(
        UserError, match=r"7.png is there and is another image; give another folder"
    ):
        saved.save(other, other.cases(""), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"0.png cannot be written \(.+\); give another folder"):
        saved.save(other, other.cases(""), tmp_path / "file")
