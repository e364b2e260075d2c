"""A small set in VQA-RAD's layout, written as records and read back; what has to be the same."""

import json
import pathlib
import pickle

import numpy as np
from ml_collections import ConfigDict

from pefomed_jax import config as config_lib
from pefomed_jax.data import facts, sources
from pefomed_jax.data.records import write
from pefomed_jax.data.records.source import RecordSource
from pefomed_jax.data.sources.files import ListSource

from .conftest import write_vqa


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
