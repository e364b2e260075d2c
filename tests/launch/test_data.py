"""`launch/data.py` as a person starts it: killed and started again, twice at once, cache moved."""

import fcntl
import json
import os
import pathlib
import shutil
import sqlite3
import time

import forked
import numpy as np
import pytest
from PIL import Image

WAIT = 120.0  # seconds
IMAGES = 700  # more than are kept in one go


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A set whose images take a few seconds to open."""
    root = tmp_path_factory.mktemp("set")
    (root / "images").mkdir()
    rows = []
    for i in range(IMAGES):
        grain = np.random.default_rng(i).integers(0, 256, (64, 64), np.uint8)
        Image.fromarray(grain).resize((720, 720), 0).save(root / "images" / f"{i}.png")
        rows.append(dict(qid=i, image_name=f"{i}.png", question=f"what is {i}?", answer=f"a {i}"))
    for name, part in (("train", rows[:500]), ("val", rows[500:600]), ("test", rows[600:])):
        (root / f"{name}.json").write_text(json.dumps(part))
    return root


@pytest.fixture
def data(written, tmp_path):
    """A copy that a test may change."""
    return pathlib.Path(shutil.copytree(written, tmp_path / "set"))


def start(folder, data, cache, log="log", page=False):
    args = ["--config=configs/vqa.py:tiny,data=pefomed", f"--config.data.dir={data}"]
    args += [f"--config.data.cache={cache}", f"--out={folder / 'out'}"]
    args += [] if page else ["--nopage"]
    folder.mkdir(exist_ok=True)
    return forked.start("launch/data.py", args, folder / log)


def finish(process, folder, log="log", code=0):
    process.join(WAIT)
    said = (folder / log).read_text()
    assert process.exitcode == code, said
    return said


def audit(folder):
    return json.loads((folder / "out" / "audit.json").read_text())


def kept(cache):
    """Names of the images that are known."""
    found = []
    for store in (cache / "images").glob("*.sqlite"):
        try:
            with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as table:
                found += [name for (name,) in table.execute("select name from image")]
        except sqlite3.OperationalError:
            pass  # not made yet, or being written
    return found


def spoil(data, names):
    """Makes files unreadable, of the same size and age: whoever opens them again finds out."""
    for name in names:
        path = data / name
        stat = path.stat()
        path.write_bytes(b"\0" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_killed_it_goes_on_where_it_was(data, tmp_path):
    cache, folder = tmp_path / "cache", tmp_path / "run"
    process = start(folder, data, cache)
    end = time.monotonic() + WAIT
    while not kept(cache):
        assert process.is_alive(), (folder / "log").read_text()
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    process.join()
    names = kept(cache)
    assert 0 < len(names) < IMAGES
    assert not (folder / "out" / "audit.json").exists()
    spoil(data, names)
    finish(start(folder, data, cache), folder)
    found = audit(folder)
    assert found["bad"]["rows"] == 0
    assert found["pictures"]["opened"] == IMAGES == len(kept(cache))
    assert {row["cases"] for row in found["splits"].values()} == {500, 100}


def test_two_at_once_and_a_cache_that_moves(data, tmp_path):
    cache, moved = tmp_path / "cache", tmp_path / "elsewhere" / "cache"
    folders = [tmp_path / "one", tmp_path / "two"]
    both = [start(folder, data, cache) for folder in folders]
    for pair in zip(both, folders, strict=True):
        finish(*pair)
    assert audit(folders[0]) == audit(folders[1])
    assert len(kept(cache)) == IMAGES
    moved.parent.mkdir()
    shutil.move(cache, moved)
    spoil(data, kept(moved))
    finish(start(folders[0], data, moved), folders[0])
    assert audit(folders[0]) == audit(folders[1])
    assert not cache.exists()


def test_it_waits_for_another_process(data, tmp_path):
    """As long as somebody else prepares the images of the folder."""
    cache, folder = tmp_path / "cache", tmp_path / "run"
    finish(start(folder, data, cache), folder)
    (lock,) = (cache / "images").glob("*.lock")
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        process = start(folder, data, cache)
        end = time.monotonic() + WAIT
        while "waiting for another process, which prepares" not in (folder / "log").read_text():
            assert process.is_alive()
            assert time.monotonic() < end
            time.sleep(0.02)
    finish(process, folder)


def test_all_files_are_written(data, tmp_path):
    (data / "images" / "3.png").unlink()
    folder = tmp_path / "run"
    said = finish(start(folder, data, tmp_path / "cache", page=True), folder)
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        *("audit.html", "audit.json", "bad_rows.jsonl", "leakage.jsonl")
    ]
    assert "1 of 700 rows are bad" in said
    assert "--config.data.max_bad_fraction=0.0015 skips them" in said
    assert str(folder / "out" / "audit.html") in said
    (row,) = (folder / "out" / "bad_rows.jsonl").read_text().splitlines()
    assert json.loads(row)["row"] == 4


def test_what_cannot_be_read_is_one_line(tmp_path):
    folder = tmp_path / "run"
    said = finish(start(folder, tmp_path / "nowhere", tmp_path / "cache"), folder, code=1)
    assert said.splitlines()[-1].startswith("error: ")
    assert "nowhere" in said
    (folder / "out").write_text("in the way")
    said = finish(start(folder, tmp_path, tmp_path / "cache"), folder, code=1)
    assert said.startswith("error: --out=")
