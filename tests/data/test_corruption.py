"""A thousand files, half of them damaged, and damaged lists: no crash, no row without a trace."""

import json
import os
import pathlib
import re
import subprocess
import sys
import warnings

import pydicom
import pytest
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax import config as config_lib
from pefomed_jax.data import images, prepare, sources
from pefomed_jax.errors import UserError

from . import damaged

ROOT = pathlib.Path(__file__).parents[2]
PARTS = {"train.jsonl": (0, 600), "val.csv": (600, 800), "test.tsv": (800, 1000)}
MEMORY = 80  # MB beside the imports: a bomb takes 144 MB at the least, 3,600 MB as its header says


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[pathlib.Path, list[damaged.File]]:
    """(the folder, its files), in lists of three formats; not to be changed."""
    root = tmp_path_factory.mktemp("damaged")
    found = damaged.write(root / "images")
    rows = [(f.name, f.name, f"{f.kind} {f.damage}") for f in found]
    for name, (first, end) in PARTS.items():
        (root / name).write_text(_list(name, ("id", "image", "report"), rows[first:end]))
    return root, found


def _list(name: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if name.endswith("jsonl"):
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    else:
        lines = [("," if name.endswith("csv") else "\t").join(row) for row in [columns, *rows]]
    return "\n".join([*lines, ""])


def config_of(root: pathlib.Path, cache: pathlib.Path, share: float) -> ConfigDict:
    config = config_lib.make("mrg", "tiny,data=folder")
    config.data.update(dir=str(root), cache=str(cache), max_bad_fraction=share)
    return config


def prepared(config: ConfigDict, out: pathlib.Path) -> tuple[sources.Source, list, list[dict]]:
    """(source, cases of all splits, the rows of bad_rows.jsonl)."""
    source = sources.load(config)
    splits = prepare.prepare(source, None, config, out)
    listed = out / prepare.BAD_ROWS
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    return source, [*splits.train, *splits.val, *splits.test], [json.loads(x) for x in lines]


@pytest.fixture(scope="module")
def outcome(files, tmp_path_factory):
    """(source, cases, bad rows) of the thousand."""
    folder = tmp_path_factory.mktemp("outcome")
    return prepared(config_of(files[0], folder / "cache", 1.0), folder / "run")


def decodes(path: pathlib.Path) -> bool:
    """What Pillow and pydicom say, whatever the file's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if path.read_bytes()[128:132] == b"DICM":
                return pydicom.dcmread(path).pixel_array.size > 0
            with Image.open(path) as picture:
                picture.load()
        except Exception:
            return False
    return True


def test_every_file_is_a_case_or_a_bad_row(files, outcome) -> None:
    root, found = files
    _, cases, bad = outcome
    kept, listed = {case.id.partition("-")[2] for case in cases}, {}
    for row in bad:
        first, end = PARTS[row["file"]]
        file = found[first + row["row"] - 1]
        assert first <= found.index(file) < end
        assert file.name in row["problem"]
        assert row["field"] == "image"
        assert row["remedy"]
        listed[file.name] = row
    assert len(listed) == len(bad)
    assert len(cases) == len(kept)
    assert len(kept) + len(listed) == damaged.N
    assert not kept & listed.keys()
    for file in found:
        if file.damage in damaged.MUST_FAIL:
            assert file.name in listed, file
        elif file.damage in ("", "renamed"):
            assert file.name in kept, (file, listed[file.name])
        elif not decodes(root / "images" / file.name):
            assert file.name in listed, file
    flipped = {file.name for file in found if file.damage == "flipped"}
    assert flipped & kept
    assert flipped & listed.keys()


def test_what_is_kept_opens_in_training(outcome) -> None:
    source, cases, _ = outcome
    for case in cases:
        assert images.prepare(source.image(case), 16).shape[:2] == (16, 16)


def test_bombs_are_told_by_their_size(files, outcome) -> None:
    by_name = {row["problem"].split()[0].rpartition("/")[2]: row for row in outcome[2]}
    for file in files[1]:
        if file.damage in ("claims", "inflates"):
            problem = by_name[file.name]["problem"]
            assert "does not open" in problem
            assert re.search(r"more than 100000000( pixels)?\)$", problem), problem


def test_without_leave_the_first_is_one_line(files, tmp_path: pathlib.Path) -> None:
    root, found = files
    with pytest.raises(UserError) as error:
        prepared(config_of(root, tmp_path / "cache", 0.0), tmp_path / "run")
    said = str(error.value)
    first = next(i for i, file in enumerate(found) if file.damage in damaged.MUST_FAIL)
    assert "\n" not in said
    assert said.startswith(f"train.jsonl, row {first + 1}, field 'image': ")
    assert found[first].name in said
    assert "replace the file or delete the row" in said
    assert f"all in {tmp_path / 'run' / prepare.BAD_ROWS}" in said
    share = float(re.search(r"max_bad_fraction=([\d.]+) would skip them", said).group(1))
    assert prepared(config_of(root, tmp_path / "cache", share), tmp_path / "run")[1]


MEASURE = """
import pathlib, re, sys
from pefomed_jax import config as config_lib
from pefomed_jax.data import dicom, prepare, sources
def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status).group(1)) / 1024
dicom._pydicom().pixels
config = config_lib.make("mrg", "tiny,data=folder")
config.data.update(dir=sys.argv[1], cache=sys.argv[2], max_bad_fraction=1.0)
before = peak()
prepare.prepare(sources.load(config), None, config, sys.argv[2])
print(peak() - before)
"""


def test_memory_is_bounded(files, tmp_path: pathlib.Path) -> None:
    """Peak of a fresh process (a child's ru_maxrss begins with its parent's).

    Of eight threads each holds an image of at most 160 x 144 pixels: what is seen is the imports of
    the decoders and the lists. A bomb that is decoded cannot hide in the bound.
    """
    if not os.path.exists("/proc/self/status"):
        pytest.skip("no /proc here")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURE, str(files[0]), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.splitlines()[-1]) < MEMORY
    assert "skipped 3" in done.stdout


def plan(root: pathlib.Path, cache: pathlib.Path, share: float) -> subprocess.CompletedProcess[str]:
    """`launch/train.py --dry_run`."""
    flags = [f"--config.data.{k}={v}" for k, v in {"dir": root, "cache": cache}.items()]
    flags += [f"--config.data.max_bad_fraction={share}", "--dry_run"]
    args = [sys.executable, "launch/train.py", "--config=configs/mrg.py:tiny,data=folder", *flags]
    return subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_dry_run_says_it_in_one_line(files, tmp_path: pathlib.Path) -> None:
    done = plan(files[0], tmp_path, 0.0)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line == done.stderr.splitlines()[-1]
    assert "train.jsonl, row 11, field 'image': images/f0010.jpg does not open" in line
    assert "--config.data.max_bad_fraction=" in line


@pytest.mark.slow
def test_a_dry_run_with_leave(files, tmp_path: pathlib.Path) -> None:
    done = plan(files[0], tmp_path, 1.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"skipped 3\d\d bad rows of 1000; the first: train.jsonl, row 11", done.stdout)
