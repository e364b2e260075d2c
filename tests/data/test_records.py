"""Records give the cases and images of the folder that they were written from."""

import json
import pathlib
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data import facts, pipeline, prepare, reading, sources
from pefomed_jax.data.records import write
from pefomed_jax.data.records.source import RecordSource
from pefomed_jax.data.sources.files import ListSource
from pefomed_jax.errors import ImageError

from .conftest import write_image
from .recorded import add_rows, at, check_same, config_of, write_rad, written
from .sources import test_medexpqa, test_mediqa_m3g, test_slake
from .test_pipeline import equal


@pytest.fixture
def rad(tmp_path: pathlib.Path) -> ConfigDict:
    return config_of("vqa_rad", write_rad(tmp_path / "set"), tmp_path / "cache")


def test_images_of_any_kind_come_back_as_they_are(rad: ConfigDict, tmp_path: pathlib.Path) -> None:
    images = tmp_path / "set" / "images"
    grey = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(grey).save(images / "deep.tiff")
    Image.fromarray((grey >> 8).astype(np.uint8)).save(images / "größe.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray((grey >> 8).astype(np.uint8)).save(images / "held.jpg", exif=turned)
    shutil.copy(images / "i1.png", images / "copy of i1.png")
    (images / "i0.png").write_bytes((images / "i0.png").read_bytes() + b"\0\0")
    add_rows(tmp_path / "set", "deep.tiff", "größe.jpg", "held.jpg", "copy of i1.png", "i0.png")
    source, read = written(rad, tmp_path / "out")
    check_same(source, read)
    names = facts.places(source, source.cases("train"))
    assert len(names) == 7 + 4
    folder = tmp_path / "out" / "vqa_rad" / "images" / "1.0.0"
    info = tfds.builder_from_directory(str(folder)).info
    assert info.splits["images"].num_examples == 10  # the copy is not kept twice
    assert read.path(source.cases("train")[0]).parent == folder


def test_the_folder_says_what_it_is(rad: ConfigDict, tmp_path: pathlib.Path, capsys) -> None:
    source, _ = written(rad, tmp_path / "out")
    folder = tmp_path / "out" / "vqa_rad" / "cases" / "1.0.0"
    info = json.loads((folder / "dataset_info.json").read_text())
    assert (info["name"], info["configName"], info["version"]) == ("vqa_rad", "cases", "1.0.0")
    assert "10.1038/sdata.2018.251" in info["citation"]
    assert info["redistributionInfo"]["license"].startswith("CC0 1.0")
    counts = {split["name"]: int(split["shardLengths"][0]) for split in info["splits"]}
    assert counts == {split: len(source.cases(split)) for split in ("train", "test")}
    said = capsys.readouterr().out
    n = counts["train"]
    assert re.search(rf"out: {n} train, {n} test cases, 7 images, \d+\.\d MB; read it with", said)


def test_several_images_a_case(tmp_path: pathlib.Path) -> None:
    lists = {
        "train.json": [test_mediqa_m3g.encounter(1, 3), test_mediqa_m3g.encounter(2, 1)],
        "valid_ht.json": [test_mediqa_m3g.encounter(3)],
        "test_ht.json": [test_mediqa_m3g.encounter(4)],
    }
    test_mediqa_m3g.write(tmp_path / "set", lists)
    write_image(tmp_path / "set/images_final/images_train/IMG_ENC00001_00002.jpg", seed=5)
    config = config_of("mediqa_m3g", tmp_path / "set", tmp_path / "cache")
    source, read = written(config, tmp_path / "out")
    check_same(source, read)
    first = read.cases("train")[0]
    assert len(first.images) == 3
    assert (np.asarray(read.image(first, 1)) != np.asarray(read.image(first, 0))).any()
    assert len(first.fields["responses"]) == 4


def test_text_alone(tmp_path: pathlib.Path) -> None:
    for name, numbers in (("train", range(5)), ("dev", [9]), ("test", [10])):
        rows = [test_medexpqa.ROW | {"id": i} for i in numbers]
        path = tmp_path / "set" / "en" / f"{name}.en.casimedicos.jsonl"
        test_medexpqa.write(path, *rows)
    config = config_of("medexpqa", tmp_path / "set", tmp_path / "cache")
    source, read = written(config, tmp_path / "out")
    check_same(source, read)
    assert [len(read.cases(split)) for split in ("train", "val", "test")] == [5, 1, 1]
    assert not (tmp_path / "out" / "medexpqa" / "images").exists()


def test_pictures_of_parquet_files(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("pyarrow")
    from .sources import test_pathvqa_parquet

    test_pathvqa_parquet.write(tmp_path / "set")
    config = config_of("pathvqa", tmp_path / "set", tmp_path / "cache")
    check_same(*written(config, tmp_path / "out"))


def test_dicom_files(rad: ConfigDict, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("pydicom")
    from . import dicoms

    pixels = np.arange(1200, dtype=np.uint16).reshape(30, 40)
    dicoms.write(tmp_path / "set" / "images" / "a.dcm", pixels)
    add_rows(tmp_path / "set", "a.dcm")
    source, read = written(rad, tmp_path / "out")
    case = read.cases("train")[-1]
    assert case.image == "images/a.dcm"
    picture = np.asarray(read.image(case))
    np.testing.assert_array_equal(picture, np.asarray(source.image(case)))
    assert len(np.unique(picture)) > 100
    source.window = read.window = (100.0, 50.0)
    np.testing.assert_array_equal(np.asarray(read.image(case)), np.asarray(source.image(case)))
    assert (np.asarray(read.image(case)) != picture).any()
    with pytest.raises(ImageError, match=r"^images/a.dcm does not open \(not an image of a known"):
        reading.from_bytes(b"nothing", "images/a.dcm")


def test_the_file_of_an_image_among_several() -> None:
    source = RecordSource("vqa_rad", "vqa", "", places={"a": 1, "b": 2, "c": 4})
    split = SimpleNamespace(shard_lengths=[2, 3], filepaths=["one", "two"])
    source._builder = SimpleNamespace(info=SimpleNamespace(splits={"images": split}))
    files = [source.path(Case("x", (name,), "", "", "train")).name for name in "abc"]
    assert files == ["one", "two", "two"]


def test_an_empty_split_stays_one(rad: ConfigDict, tmp_path: pathlib.Path) -> None:
    (tmp_path / "set" / "testset.json").write_text("[]")
    source, read = written(rad, tmp_path / "out")
    check_same(source, read)
    assert (read.splits, read.cases("test")) == (("train", "test"), [])


def test_real_vqa_rad(shared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = config_of("vqa_rad", shared / "data" / "vqa-rad", tmp_path / "cache")
    source, read = written(config, tmp_path / "out")
    check_same(source, read, step=10)
    assert (len(read.cases("train")), len(read.cases("test"))) == (2155, 324)
    assert len(read.places) == 222


@pytest.mark.parametrize("workers", [0, 2])
def test_training_sees_the_same(
    rad: ConfigDict, tmp_path: pathlib.Path, tokenizer, config: ConfigDict, workers: int
) -> None:
    flags.FLAGS.mark_as_parsed()  # as absl's app.run does; grain's workers ask for it
    rad.model.vision.update(config.model.vision)
    rad.train.update(batch_size=4, steps=8)
    rad.quirks.random_crop_flip = True
    batches, digests = [], []
    helped = at(rad, tmp_path / "out")
    helped.data.workers = workers
    for source, own in zip(written(rad, tmp_path / "out"), (rad, helped), strict=True):
        splits = prepare.prepare(source, tokenizer, own)
        digests.append(prepare.digest(splits))
        batches.append(list(pipeline.train_batches(source, splits.train, tokenizer, own)))
    assert digests[0] == digests[1]
    assert len(batches[0]) == len(batches[1]) == 8
    for (k, ours, n), (other_k, theirs, other_n) in zip(*batches, strict=True):
        assert (k, n) == (other_k, other_n)
        assert equal(ours, theirs)


def test_images_are_looked_at_once(rad: ConfigDict, tmp_path: pathlib.Path, monkeypatch) -> None:
    _, read = written(rad, tmp_path / "out")
    found = facts.of(read, read.cases("train"), rad.data.cache)
    assert {fact.width for fact in found.values()} == {24}
    real, opened = facts.look, []
    monkeypatch.setattr(facts, "look", lambda *where: opened.append(where) or real(*where))
    assert facts.of(read, read.cases("train"), rad.data.cache) == found
    assert opened == []
    shard = read.path(read.cases("train")[0])
    shutil.copy(shard, tmp_path / "shard")
    shutil.move(tmp_path / "shard", shard)  # another time of change
    assert facts.of(read, read.cases("train"), rad.data.cache) == found
    assert len(opened) == 7


def test_in_a_mixture(rad: ConfigDict, tmp_path: pathlib.Path) -> None:
    write.write(rad, tmp_path / "both" / "vqa_rad")
    test_slake.write(tmp_path / "both" / "slake", [test_slake.ROW])
    mixed = at(rad, tmp_path / "both")
    mixed.data.source = "vqa_rad+slake"
    source = sources.load(mixed)
    parts = [type(part) for part in source.parts.values()]
    assert parts == [RecordSource, ListSource]
    case = source.cases("test")[0]
    own = sources.load(rad).cases("test")[0]
    np.testing.assert_array_equal(source.image(case), sources.load(rad).image(own))
