"""What is not written as records, and what of them is not read; a kill loses nothing."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from pefomed_jax.data import records, sources
from pefomed_jax.data.records import about, write
from pefomed_jax.data.sources import options
from pefomed_jax.errors import UserError

from .conftest import write_image
from .recorded import add_rows, at, check_same, config_of, write_rad, written
from .sources import test_slake


@pytest.fixture
def rad(tmp_path: pathlib.Path) -> ConfigDict:
    return config_of("vqa_rad", write_rad(tmp_path / "set"), tmp_path / "cache")


def test_bad_rows_are_left_out_and_listed(rad: ConfigDict, tmp_path: pathlib.Path, capsys) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    write_image(root / "images" / "half.png", size=(200, 200))
    half = (root / "images" / "half.png").read_bytes()[:5000]
    (root / "images" / "half.png").write_bytes(half)
    add_rows(root, "none.png", "half.png", "i1.png")
    rows = json.loads((root / "trainset.json").read_text())
    rows[0]["answer"] = "a \ud83d"
    (root / "trainset.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"row 1, .*not UTF-8 .*\(3 of \d+ rows are bad, all in "):
        write.write(rad, out)
    assert not (out / "vqa_rad").exists()
    rad.data.max_bad_fraction = 0.2
    source, read = written(rad, out)
    listed = [json.loads(line) for line in (out / "bad_rows.jsonl").read_text().splitlines()]
    n = len(source.cases("train"))
    assert [(row["file"], row["row"]) for row in listed] == [
        ("trainset.json", 1), ("trainset.json", n), ("trainset.json", n + 1)
    ]  # fmt: skip
    assert "skipped 3 bad rows of" in capsys.readouterr().out
    assert listed[0]["problem"] == "is not UTF-8 text"
    kept = [case for case in source.cases("train") if case.image != "images/half.png"]
    assert (read.cases("train"), read.bad_rows) == (kept, [])
    assert read.where[kept[-1].id] == ("trainset.json", n + 2)
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
