"""Before a run: bad images and long rows, the fraction that may be skipped, the carved split."""

import dataclasses
import json
import pathlib
import re

import pytest
from ml_collections import ConfigDict

from pefomed_jax.data import prepare, sources
from pefomed_jax.errors import UserError


@pytest.fixture
def root(config: ConfigDict, vqa_rows: list[dict]) -> pathlib.Path:
    """The folder of the small set; its validation list is removed."""
    assert vqa_rows
    path = pathlib.Path(config.data.dir)
    (path / "val.json").unlink()
    return path


def run(tokenizer, config: ConfigDict, workdir: pathlib.Path | None = None) -> prepare.Splits:
    return prepare.prepare(sources.load(config), tokenizer, config, workdir)


def test_validation_is_carved_by_image_and_said(root, tokenizer, config, capsys) -> None:
    config.data.val_fraction = 0.3
    found = run(tokenizer, config)
    whole = sources.load(config).cases("train")
    names = {case.image for case in whole}
    carved = {case.image for case in found.val}
    assert len(carved) == round(0.3 * len(names))
    assert carved.isdisjoint({case.image for case in found.train})
    assert len(found.train) + len(found.val) == len(whole)
    assert {case.split for case in found.val} == {"val"}
    printed = capsys.readouterr().out
    assert f"{len(carved)} of {len(names)} training images ({len(found.val)} cases)" in printed
    assert run(tokenizer, config).val == found.val
    config.seed += 1
    assert run(tokenizer, config).val != found.val


def test_a_set_with_a_validation_split_keeps_it(tokenizer, config, vqa_rows) -> None:
    found = run(tokenizer, config)
    assert found.notes == ()
    assert len(found.val) == len(found.train) == len(vqa_rows)


def test_limits_take_the_first(root, tokenizer, config) -> None:
    whole = run(tokenizer, config)
    config.data.limit, config.eval.limit = 5, 3
    found = run(tokenizer, config)
    assert found.train == whole.train[:5]
    assert found.test == whole.test[:3]
    assert found.val == whole.val


def test_no_carving_with_fraction_zero(root, tokenizer, config) -> None:
    config.data.val_fraction = 0.0
    assert run(tokenizer, config).val == []


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_corrupt_image(root, tokenizer, config, tmp_path) -> None:
    truncate(root / "images" / "i3.png")
    n_rows = len(json.loads((root / "train.json").read_text()))
    n_bad = 2 * sum(c.image == "images/i3.png" for c in sources.load(config).cases("test"))
    message = (
        r"^t\w+.json, row \d+, field 'image': images/i3.png does not open \(.*\); replace the file "
        rf"or delete the row \({n_bad} of {2 * n_rows} rows are bad, all in .*bad_rows.jsonl; "
        r"--config.data.max_bad_fraction=\S+ would skip them\)$"
    )
    with pytest.raises(UserError, match=message) as error:
        run(tokenizer, config, tmp_path / "run")
    assert "\n" not in str(error.value)
    lines = (tmp_path / "run" / "bad_rows.jsonl").read_text().splitlines()
    assert len(lines) == n_bad
    assert set(json.loads(lines[0])) == {"file", "row", "field", "problem", "remedy"}
    fraction = re.search(r"max_bad_fraction=(\S+) ", str(error.value)).group(1)
    config.data.max_bad_fraction = float(fraction)
    found = run(tokenizer, config, tmp_path / "run")
    assert "images/i3.png" not in {c.image for c in [*found.train, *found.val, *found.test]}
    assert found.notes[-1].startswith(f"skipped {n_bad} bad rows of {2 * n_rows}")


def test_bad_rows_of_the_lists_count(root, tokenizer, config, tmp_path) -> None:
    rows = json.loads((root / "train.json").read_text())
    whole, listed = json.dumps(rows), tmp_path / "run" / "bad_rows.jsonl"
    rows[4]["answer"] = ""
    (root / "train.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"train.json, row 5, field 'answer': empty; .*\(1 of "):
        run(tokenizer, config, listed.parent)
    assert listed.exists()
    (root / "train.json").write_text(whole)
    run(tokenizer, config, listed.parent)
    assert not listed.exists()  # the data are mended
    (root / "train.json").write_text(json.dumps(rows))
    config.data.max_bad_fraction = 0.5
    found = run(tokenizer, config)
    assert len(found.train) + len(found.val) == len(rows) - 1


def test_a_row_longer_than_the_largest_bucket(root, tokenizer, config) -> None:
    rows = json.loads((root / "train.json").read_text())
    rows[2]["answer"] = "long " * 100
    (root / "train.json").write_text(json.dumps(rows))
    config.data.buckets = (128, 256)
    config.data.val_fraction = 0.0
    message = (
        r"train.json, row 3, field 'answer': \d+ tokens with prompt and image, the largest bucket "
        r"is 256; shorten the row or raise data.buckets to (\d+)"
    )
    with pytest.raises(UserError, match=message) as error:
        run(tokenizer, config)
    needed = int(re.search(message, str(error.value)).group(1))
    config.data.buckets = (128, needed)
    assert len(run(tokenizer, config).train) == len(rows)
    config.data.buckets = (128, needed - 1)
    config.data.max_bad_fraction = 0.2
    assert len(run(tokenizer, config).train) == len(rows) - 1


def test_without_a_test_split_validation_is_answered(root, tokenizer, config, capsys) -> None:
    (root / "test.json").unlink()
    found = run(tokenizer, config)
    assert found.test == found.val
    assert "has no test split: the validation cases are answered" in capsys.readouterr().out
    config.data.val_fraction = 0.0
    with pytest.raises(UserError, match="no test case is left"):
        run(tokenizer, config)


def test_patients_are_not_parted(root, tokenizer, config) -> None:
    """A study of two images, and a patient of two studies, go to one side."""
    source = sources.load(config)
    cases = [
        dataclasses.replace(case, fields={"patient_id": str(i % 5), "study_id": str(i)})
        for i, case in enumerate(source.cases("train"))
    ]
    config.data.val_fraction = 0.4
    train, val, notes = prepare.carve("set", cases, [], config)
    patients = [{case.fields["patient_id"] for case in part} for part in (train, val)]
    assert len(patients[1]) == 2
    assert patients[0].isdisjoint(patients[1])
    assert len(train) + len(val) == len(cases)
    assert "2 of 5 training patients" in notes[0]


def test_a_cache_that_cannot_be_written_is_one_line(root, tokenizer, config, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    config.data.cache = str(tmp_path / "file")
    with pytest.raises(UserError, match=r"data\.cache: .* cannot be written .*data\.cache to a"):
        run(tokenizer, config)


def test_the_digest_follows_what_is_learnt_from(root, tokenizer, config) -> None:
    first = run(tokenizer, config)
    assert prepare.digest(run(tokenizer, config)) == prepare.digest(first)
    other = dataclasses.replace(first.train[0], answer="other")
    for train in ([other, *first.train[1:]], first.train[::-1], first.train[1:]):
        changed = dataclasses.replace(first, train=train)
        assert prepare.digest(changed) != prepare.digest(first)
    assert prepare.digest(dataclasses.replace(first, test=[])) == prepare.digest(first)
