"""Images that are saved are those that the page then shows."""

import base64
import io

import numpy as np
import pages
import pytest
from data import dicoms
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import parquet, pictures
from pefomed_jax.data.sources.medicat import boxes
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

    def image(self, case, number=0):
        level = 20 * (1 + self.images.index(case.images[number]))
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


def test_every_image_of_every_case(tmp_path):
    source = Drawn(["a/1", "b/1", "c.png"])
    cases = [
        Case("0", ("a/1", "b/1"), "q", "yes", ""),
        Case("1", (), "q", "yes", ""),
        Case("2", ("c.png", "a/1", "a/1"), "q", "yes", ""),
    ]
    assert saved.save(source, cases, tmp_path) == 3
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert found == ["a/1.png", "b/1.png", "c.png"]
    levels = shown(["a/1", "b/1", "c.png"], tmp_path)
    assert [*levels.values()] == pytest.approx([20, 40, 60], abs=2)
    assert saved.save(source, cases[1:2], tmp_path / "none") == 0


def test_two_images_of_one_case_that_would_be_one_file(tmp_path):
    case = Case("0", ("x.dcm", "x.dcm.png"), "q", "yes", "")
    with pytest.raises(UserError, match=r"'x.dcm' and 'x.dcm.png' would both be .*x.dcm.png;"):
        saved.save(Drawn(case.images), [case], tmp_path)


def test_parts_of_files_and_dicom_are_no_copies(tmp_path):
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    frames = np.stack([np.full((20, 30), level, np.uint8) for level in (40, 80, 120)])
    dicoms.write(films / "x.dcm", frames)
    pages_of = [Image.fromarray(frame) for frame in frames]
    pages_of[0].save(films / "y.tif", save_all=True, append_images=pages_of[1:])
    pages_of[0].save(films / "z.tif")
    pages_of[2].save(films / "f.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    pages_of[1].save(films / "turned.jpg", exif=exif)
    names = ("x.dcm", "x.dcm#1", "x.dcm#2", "y.tif", "y.tif#2", "z.tif", "z.tif#0", "turned.jpg")
    source = boxes.Source("films", "", str(films))
    case = Case("0", (*names, "f.png", "f.png#xywh=1,2,3,4"), "q", "yes", "")
    assert saved.save(source, [case], out) == 10
    copied = {path.name for path in out.iterdir() if (films / path.name).exists()}
    assert copied == {"z.tif", "f.png"}
    for name in copied:
        assert (out / name).read_bytes() == (films / name).read_bytes()
    assert not any(dicoms.NAME.encode() in path.read_bytes() for path in out.iterdir())
    levels = shown(case.images, out)
    expected = [40, 80, 120, 40, 120, 40, 40, 80, 120, 120]
    assert [*levels.values()] == pytest.approx(expected, abs=2)
    with Image.open(out / "f.png#xywh=1,2,3,4.png") as box, Image.open(out / "y.tif#2.png") as page:
        assert (box.size, page.size) == ((3, 4), (30, 20))
    with Image.open(out / "turned.jpg.png") as turned:
        assert turned.size == (20, 30)


def test_rows_of_a_table_are_no_copies(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pa = pytest.importorskip("pyarrow")
    films = []
    for level in (60, 120):
        held = io.BytesIO()
        Image.new("L", (24, 16), level).save(held, "PNG")
        films.append({"bytes": held.getvalue(), "path": "same.png"})
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": films}), tmp_path / "data" / "t.parquet")
    names = ("data/t.parquet#1", "data/t.parquet#2")
    source = parquet.ParquetSource("t", "vqa", str(tmp_path), groups={"data/t.parquet": [0]})
    saved.save(source, [Case("0", names, "q", "yes", "")], tmp_path)  # beside the table itself
    assert [*shown(names, tmp_path).values()] == pytest.approx([60, 120], abs=2)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        *("t.parquet", "t.parquet#1.png", "t.parquet#2.png")
    ]


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
