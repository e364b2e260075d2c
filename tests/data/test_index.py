"""Sets that take long to read are read once; whatever changes in them is seen."""

import json
import os
import pathlib
import time

import pytest
from ml_collections import ConfigDict

from pefomed_jax.data import index, sources
from pefomed_jax.data.sources import pefomed


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The folders that were really read."""
    folders, real = [], pefomed.load

    def watched(config: ConfigDict):
        folders.append(config.data.dir)
        print("a line about the set")
        return real(config)

    monkeypatch.setattr(pefomed, "load", watched)
    monkeypatch.setattr(index, "SLOW", 0.0)
    return folders


def test_it_is_read_once(config: ConfigDict, vqa_rows: list[dict], reads, capsys) -> None:
    rows = [*vqa_rows, vqa_rows[0] | {"qid": 900, "answer": ""}]
    (pathlib.Path(config.data.dir) / "test.json").write_text(json.dumps(rows))
    first = sources.load(config)
    second = sources.load(config)
    assert len(reads) == 1
    assert second == first
    assert len(second.bad_rows) == 1
    assert second.cases("train") == first.cases("train")
    assert capsys.readouterr().out.count("a line about the set") == 2


def test_a_quick_set_is_not_kept(config, vqa_rows: list[dict], reads, monkeypatch) -> None:
    monkeypatch.setattr(index, "SLOW", 60.0)
    sources.load(config)
    sources.load(config)
    assert len(reads) == 2


@pytest.mark.parametrize("change", ["list", "image folder", "settings", "damage"])
def test_what_changes_is_read_anew(config, vqa_rows: list[dict], reads, change: str) -> None:
    first = sources.load(config)
    root = pathlib.Path(config.data.dir)
    if change == "list":
        (root / "train.json").write_text(json.dumps(vqa_rows[1:]))
        os.utime(root / "train.json", ns=(time.time_ns(), time.time_ns() + 10**9))
    elif change == "image folder":
        (root / "images" / "i0.png").unlink()
    elif change == "settings":
        config.data.pefomed.dir = str(root)
        config.data.dir = ""
        config.task = "vqa"
        with config.unlocked():
            config.data.pefomed.other = 1
    else:
        (kept,) = (pathlib.Path(config.data.cache) / "index").glob("*.jsonl")
        kept.write_text(kept.read_text()[:200])
    second = sources.load(config)
    assert len(reads) == 2
    expected = {"list": 1, "image folder": sum(r["image_name"] == "i0.png" for r in vqa_rows)}
    lost = len(first.cases("train")) - len(second.cases("train"))
    assert lost == expected.get(change, 0)
