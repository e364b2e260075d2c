"""Records give the cases and images of the folder they were written from, and refuse others."""

import json
import pathlib
import pickle
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax import config as config_lib
from pefomed_jax.batch import Case
from pefomed_jax.data import facts, pipeline, prepare, reading, records, sources
from pefomed_jax.data.records import about, write
from pefomed_jax.data.records.source import RecordSource
from pefomed_jax.data.sources import options
from pefomed_jax.data.sources.files import ListSource
from pefomed_jax.errors import ImageError, UserError

from .conftest import write_image, write_vqa
from .sources import test_medexpqa, test_mediqa_m3g, test_slake
from .test_pipeline import equal


def config_of(name: str, folder: pathlib.Path, cache: pathlib.Path) -> ConfigDict:
    config = config_lib.make("vqa", f"tiny,data={name}")
    config.data.update(dir=str(folder), cache=str(cache))
    return config


def at(config: ConfigDict, folder: pathlib.Path) -> ConfigDict:
    """The same config over another folder."""
    other = config.copy_and_resolve_references()
    other.data.dir = str(folder)
    return other


def written(config: ConfigDict, out: pathlib.Path) -> tuple[ListSource, RecordSource]:
    """The source, and what is read back of its records; pickled, as workers get it."""
    write.write(config, out)
    source, read = sources.load(config), sources.load(at(config, out))
    assert isinstance(read, RecordSource)
    return source, pickle.loads(pickle.dumps(read))


def check_same(source: ListSource, read: RecordSource, step: int = 1) -> None:
    """Every case and the bytes of every image; every step-th image is decoded as well."""
    assert (read.name, read.task, read.splits) == (source.name, source.task, source.splits)
    assert read.bad_rows == []
    cases = [case for split in source.splits for case in source.cases(split)]
    assert [case for split in read.splits for case in read.cases(split)] == cases
    assert read.where == {case.id: source.where[case.id] for case in cases}
    for i, (name, (case, number)) in enumerate(facts.places(source, cases).items()):
        assert read.content(case, number) == source.content(case, number), name
        if i % step:
            continue
        ours, theirs = read.image(case, number), source.image(case, number)
        assert (ours.mode, ours.format) == (theirs.mode, theirs.format)
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def write_rad(root: pathlib.Path) -> pathlib.Path:
    """VQA-RAD's layout: seven images, up to four questions each."""
    write_vqa(root)
    for old, new in (("train", "trainset"), ("test", "testset")):
        (root / f"{old}.json").rename(root / f"{new}.json")
    (root / "val.json").unlink()
    return root


def add_rows(root: pathlib.Path, *names: str) -> None:
    """Further training questions, one about each of these images."""
    path = root / "trainset.json"
    rows = json.loads(path.read_text())
    more = [
        dict(qid=1000 + i, image_name=name, question=f"what is ü in {name}?", answer=i + 0.5)
        for i, name in enumerate(names)
    ]
    path.write_text(json.dumps(rows + more))


@pytest.fixture
def rad(tmp_path: pathlib.Path) -> ConfigDict:
    return config_of("vqa_rad", write_rad(tmp_path / "set"), tmp_path / "cache")


def test_images_of_any_kind_come_back_as_they_are(rad: ConfigDict, tmp_path: pathlib.Path) -> None:
    images = tmp_path / "set" / "images"
    grey = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(grey).save(images / "deep.tiff")
    Image.fromarray((grey >> 8).astype(np.uint8)).save(images / "größe.jpg")
    shutil.copy(images / "i1.png", images / "copy of i1.png")
    (images / "i0.png").write_bytes((images / "i0.png").read_bytes() + b"\0\0")
    add_rows(tmp_path / "set", "deep.tiff", "größe.jpg", "copy of i1.png", "i0.png")
    source, read = written(rad, tmp_path / "out")
    check_same(source, read)
    names = facts.places(source, source.cases("train"))
    assert len(names) == 7 + 3
    folder = tmp_path / "out" / "vqa_rad" / "images" / "1.0.0"
    info = tfds.builder_from_directory(str(folder)).info
    assert info.splits["images"].num_examples == 9  # the copy is not kept twice
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


def test_dicom_files(rad: ConfigDict, tmp_path: pathlib.Path, monkeypatch) -> None:
    pytest.importorskip("pydicom")
    from . import dicoms

    pixels = np.arange(1200, dtype=np.uint16).reshape(30, 40)
    dicoms.write(tmp_path / "set" / "images" / "a.dcm", pixels)
    add_rows(tmp_path / "set", "a.dcm")
    monkeypatch.setattr(
        ListSource, "image", lambda self, case, n=0: reading.opened(self.path(case, n))
    )
    source, read = written(rad, tmp_path / "out")
    case = read.cases("train")[-1]
    assert case.image == "images/a.dcm"
    picture = np.asarray(read.image(case))
    np.testing.assert_array_equal(picture, np.asarray(source.image(case)))
    assert len(np.unique(picture)) > 100
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


def test_options_that_were_written_hold(tmp_path: pathlib.Path, capsys) -> None:
    rows = [test_slake.ROW, test_slake.CHINESE]
    test_slake.write(tmp_path / "set", rows)
    config = config_of("slake", tmp_path / "set", tmp_path / "cache")
    config.data.slake.language = "all"
    check_same(*written(config, tmp_path / "out"))
    config.data.slake.language = "en"
    words = r"out was written with data.slake.language='all', now it is 'en'; set --config.data.sl"
    with pytest.raises(UserError, match=words):
        sources.load(at(config, tmp_path / "out"))
    with pytest.raises(UserError, match=words):
        write.write(config, tmp_path / "out")


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


def test_bad_rows_are_left_out_and_listed(rad: ConfigDict, tmp_path: pathlib.Path, capsys) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    write_image(root / "images" / "half.png", size=(200, 200))
    half = (root / "images" / "half.png").read_bytes()[:5000]
    (root / "images" / "half.png").write_bytes(half)
    add_rows(root, "none.png", "half.png", "i1.png")
    rows = json.loads((root / "trainset.json").read_text())
    rows[0]["answer"] = "a \ud83d"
    (root / "trainset.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"no image .*none.png .*\(3 of \d+ rows are bad, all in "):
        write.write(rad, out)
    assert not (out / "vqa_rad").exists()
    rad.data.max_bad_fraction = 0.2
    source, read = written(rad, out)
    listed = [json.loads(line) for line in (out / "bad_rows.jsonl").read_text().splitlines()]
    n = len(source.cases("train"))
    assert [(row["file"], row["row"]) for row in listed] == [
        ("trainset.json", n - 1), ("trainset.json", n), ("trainset.json", 1)
    ]  # fmt: skip
    assert "skipped 3 bad rows of" in capsys.readouterr().out
    assert listed[2]["problem"] == "half a character at 2"
    kept = [case for case in source.cases("train")[1:] if case.image != "images/half.png"]
    assert (read.cases("train"), read.bad_rows) == (kept, [])
    assert read.where[kept[-1].id] == ("trainset.json", n + 1)
    manifest = json.loads((out / records.MANIFEST).read_text())
    assert (manifest["left_out"], manifest["counts"]["train"]) == (3, len(kept))


def test_what_is_there_is_kept_or_refused(rad: ConfigDict, tmp_path: pathlib.Path, capsys) -> None:
    out = tmp_path / "out"
    write.write(rad, out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.array_record*")}
    write.write(rad, out)
    assert stamps == {path: path.stat().st_mtime_ns for path in out.rglob("*.array_record*")}
    assert capsys.readouterr().out.count("writing") == 1
    add_rows(tmp_path / "set", "i1.png")
    with pytest.raises(UserError, match=r"out was written from other rows or images of vqa_rad;"):
        write.write(rad, out)
    test_slake.write(tmp_path / "slake", [test_slake.ROW])
    other = config_of("slake", tmp_path / "slake", tmp_path / "cache")
    with pytest.raises(UserError, match=r"out holds records of vqa_rad, not of slake; name anot"):
        write.write(other, out)
    with pytest.raises(UserError, match=r"out holds records of vqa_rad, not of slake"):
        sources.load(at(other, out))
    with pytest.raises(UserError, match=r"set holds images and no records; name a new folder"):
        write.write(rad, tmp_path / "set")
    with pytest.raises(UserError, match=r"what data.dir names are records already; copy the fold"):
        write.write(at(rad, out), tmp_path / "again")
    manifest = json.loads((out / records.MANIFEST).read_text())
    (out / records.MANIFEST).write_text(json.dumps(manifest | {"form": 0}))
    with pytest.raises(UserError, match=r"json: of form 0, not 1; write the records anew"):
        sources.load(at(rad, out))


def test_large_and_credentialed_sets_are_read_in_place(tmp_path: pathlib.Path) -> None:
    for name, words in (("mimic_cxr", "who may read it has signed"), ("roco", "it is large")):
        with pytest.raises(UserError, match=rf"^{name} is read in place, no copy .*: {words}"):
            write.write(config_of(name, tmp_path, tmp_path), tmp_path / "out")
    with pytest.raises(UserError, match=r"^iu_xray is read in place"):
        write.write(config_of("vqa_rad+iu_xray", tmp_path, tmp_path), tmp_path / "out")
    with pytest.raises(UserError, match=r"'vqa_rad\+slake': write the sets one by one"):
        write.write(config_of("vqa_rad+slake", tmp_path, tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_it_is_settled_for_every_set() -> None:
    assert not about.SMALL.keys() & about.IN_PLACE.keys()
    assert about.SMALL.keys() | about.IN_PLACE.keys() == options.TASKS.keys()


def test_a_full_disk_is_told_before(rad: ConfigDict, tmp_path: pathlib.Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(write.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"the images take 0.00 GB in .*out, where 0.00 GB are"):
        write.write(rad, tmp_path / "out")


SCRIPT = """
import pathlib, sys, time
from pefomed_jax import config as config_lib
from pefomed_jax.data.records import write
from pefomed_jax.data.sources.files import ListSource

folder, cache, out, wait = sys.argv[1:]
real = ListSource.content

def slow(self, case, number=0):
    print("image", case.images[number], flush=True, file=sys.stderr)
    time.sleep(float(wait))
    return real(self, case, number)

ListSource.content = slow
config = config_lib.make("vqa", "tiny,data=vqa_rad")
config.data.update(dir=folder, cache=cache)
write.write(config, pathlib.Path(out))
"""


def test_a_killed_process_begins_anew(rad: ConfigDict, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", SCRIPT, rad.data.dir, rad.data.cache, str(out)]
    first = subprocess.Popen([*command, "60"], stderr=subprocess.PIPE, text=True)
    assert "image" in first.stderr.readline()
    with pytest.raises(UserError, match=r"another process is writing .*out; wait for it"):
        write.write(rad, out)
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stderr.close()
    assert list((out / "vqa_rad" / "images").glob("incomplete.*"))
    with pytest.raises(UserError, match=r"out: the records are unfinished; run launch/records.py"):
        sources.load(at(rad, out))
    check_same(*written(rad, out))
    assert [path.name for path in (out / "vqa_rad" / "images").iterdir()] == ["1.0.0"]
