"""`launch/evaluate.py` from files to files: what it writes, and what it refuses first."""

import csv
import io
import json
import pathlib

import numpy as np
import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import command, protocols, results
from pefomed_jax.evaluation.command import Request
from pefomed_jax.evaluation.measure import Skipped

CASES = [
    {"id": f"c{i}", "prediction": "yes" if i % 3 else "no", "reference": "yes", "image": f"{i}.png"}
    for i in range(60)
]
REPORTS = [
    {
        "id": f"r{i}",
        "prediction": f"Film {i}: clear – “lungs” 😀.",
        "reference": f"Film {i}: clear.",
    }
    for i in range(6)
]


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    for name in protocols.METEORS:
        monkeypatch.setitem(protocols.METEORS, name, lambda *_, n=name: Skipped(n, "not here"))


def write(folder, name, rows):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def request(folder, rows=CASES, **fields):
    path = write(folder, "p.jsonl", rows)
    given = {"protocol": "pefomed", "resamples": 100, **fields}
    return Request(path, folder / "out", **given)


def read(folder):
    out = folder / "out"
    lines = (out / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads((out / "results.json").read_text("utf-8")), [json.loads(x) for x in lines]


def test_what_is_written_and_printed(tmp_path, capsys):
    command.evaluate(request(tmp_path, split="val"))
    made, cases = read(tmp_path)
    assert made["test"]["exact_match"] == pytest.approx(40 / 60)
    assert (made["split"], made["comparison"], made["test_shuffled"]) == ("val", None, None)
    assert [case["id"] for case in cases] == [row["id"] for row in CASES]
    assert [case["match"] for case in cases] == [row["prediction"] == "yes" for row in CASES]
    assert {"results.json", "cases.jsonl"} <= {path.name for path in (tmp_path / "out").iterdir()}
    said = capsys.readouterr().out
    assert f"{tmp_path / 'p.jsonl'}: split val, 60 cases, protocol pefomed" in said
    assert made["signature"] in said
    assert "exact_match                  0.667" in said


@pytest.mark.parametrize("name", [n for n, p in protocols.PROTOCOLS.items() if p.task == "report"])
def test_every_report_protocol(tmp_path, name):
    other = [{**row, "prediction": ""} for row in REPORTS]
    compare = write(tmp_path, "q.jsonl", other)
    command.evaluate(request(tmp_path, REPORTS, protocol=name, compare=compare))
    made, cases = read(tmp_path)
    assert made["protocol"] == name
    assert made["skipped"].keys() == protocols.get(name).slow.keys()
    assert 0 < made["test"]["bleu_1"] < 1
    assert cases[0]["prediction"] == REPORTS[0]["prediction"]
    assert cases[0].keys() >= {"bleu_1", "bleu_4", "rouge_l", "cider"}
    assert made["comparison"]["scores"]["rouge_l"]["other"] < made["test"]["rouge_l"]
    assert f"|tokeniser:{protocols.get(name).tokeniser}|" in made["signature"]


def test_a_comparison(tmp_path):
    better = [{**row, "prediction": "yes"} for row in CASES]
    command.evaluate(request(tmp_path, compare=write(tmp_path, "q.jsonl", better[::-1])))
    found = read(tmp_path)[0]["comparison"]
    assert (found["file"], found["n_cases"]) == (str(tmp_path / "q.jsonl"), 60)
    assert (found["only_this"], found["only_other"]) == ([], [])
    score = found["scores"]["exact_match"]
    assert (score["wins"], score["losses"], score["test"]) == (0, 20, "mcnemar")
    assert score["p"] == pytest.approx(2 / 2**20)
    assert score["difference"] == pytest.approx(-1 / 3)


@pytest.mark.parametrize(("name", "rows"), [("pefomed", CASES), ("raw13a", REPORTS)])
def test_without_resamples_there_are_differences_but_no_intervals(tmp_path, name, rows):
    other = [{**row, "prediction": "film", "image": "other.png"} for row in rows]
    compare = write(tmp_path, "q.jsonl", other)
    files = {"compare": compare, "shuffled": compare}
    command.evaluate(request(tmp_path, rows, protocol=name, resamples=0, **files))
    made, _ = read(tmp_path)
    assert set(made["intervals"]["test_shuffled"].values()) == {None}
    for score in made["comparison"]["scores"].values():
        assert score["difference"] is not None
        assert score["interval"] is None
        assert (score["p"] is None) == (score["test"] == "paired bootstrap")


def test_a_comparison_of_what_both_have(tmp_path):
    other = write(tmp_path, "q.jsonl", [*CASES[5:], {**CASES[0], "id": "new"}])
    with pytest.raises(UserError, match=r"5 only in --predictions .*, 1 only in --compare \(new\)"):
        command.evaluate(request(tmp_path, compare=other))
    assert not (tmp_path / "out").exists()
    command.evaluate(request(tmp_path, compare=other, common_only=True))
    made, cases = read(tmp_path)
    found = made["comparison"]
    assert len(cases) == 60
    assert (found["n_cases"], len(found["only_this"]), found["only_other"]) == (55, 5, ["new"])
    own = np.mean([row["prediction"] == "yes" for row in CASES[5:]])
    assert found["scores"]["exact_match"]["this"] == pytest.approx(own)


def test_the_control_beside_the_file_is_found(tmp_path):
    shuffled = [{**row, "image": "other.png", "prediction": "no"} for row in CASES]
    write(tmp_path, "p_shuffled.jsonl", shuffled)
    command.evaluate(request(tmp_path))
    made, _ = read(tmp_path)
    assert made["test_shuffled"]["exact_match"] == 0.0
    assert made["warnings"] == []


def test_a_control_of_the_same_images_is_none(tmp_path):
    with pytest.raises(UserError, match=r"same.jsonl answers every case about its own image"):
        command.evaluate(request(tmp_path, shuffled=write(tmp_path, "same.jsonl", CASES)))
    with pytest.raises(UserError, match=r"1 only in --predictions \(c59\)"):
        command.evaluate(request(tmp_path, shuffled=write(tmp_path, "less.jsonl", CASES[:-1])))


def test_a_control_leaves_out_the_cases_of_text_alone(tmp_path):
    images = [[f"{i}.png", f"{i + 1}.png"] for i in range(60)]
    rows = [row | {"images": views} for row, views in zip(CASES, images, strict=True)]
    for row in rows[:6]:
        del row["image"], row["images"]
    other = [row | {"images": row["images"][::-1], "prediction": "no"} for row in rows[6:]]
    control = write(tmp_path, "other.jsonl", other)  # its first images are the same ones
    command.evaluate(request(tmp_path, rows, shuffled=control))
    made, cases = read(tmp_path)
    assert [made["counts"][part]["n_cases"] for part in ("test", "test_shuffled")] == [60, 54]
    assert len(cases) == 60
    said = "images shuffled: 6 of 60 cases are of text alone and have no such control"
    assert said in made["warnings"]
    with pytest.raises(UserError, match=r"answers every case about its own image"):
        command.evaluate(request(tmp_path, rows, shuffled=write(tmp_path, "same.jsonl", rows[6:])))
    with pytest.raises(UserError, match=r"1 only in --predictions \(c59\)"):
        command.evaluate(
            request(tmp_path, rows, shuffled=write(tmp_path, "less.jsonl", other[:-1]))
        )
    table = (tmp_path / "out" / "cases.csv").read_text(encoding="utf-8-sig")
    found = list(csv.DictReader(io.StringIO(table)))
    assert (found[0]["image"], found[0]["images"]) == ("", "")
    assert (found[7]["image"], json.loads(found[7]["images"])) == ("7.png", images[7])


def test_splits(tmp_path, capsys):
    rows = [{**row, "split": "test" if i < 50 else "val"} for i, row in enumerate(CASES)]
    command.evaluate(request(tmp_path, rows, split="test"))
    made, cases = read(tmp_path)
    assert (made["split"], len(cases)) == ("test", 50)
    assert "split test, 50 cases" in capsys.readouterr().out
    command.evaluate(request(tmp_path, rows))
    made, cases = read(tmp_path)
    assert (made["split"], len(cases)) == ("test+val", 60)
    assert (
        "p.jsonl holds several splits (test 50, val 10); --split=NAME scores one"
        in (made["warnings"])
    )
    with pytest.raises(UserError, match=r"--split=tets: .*p.jsonl has no such case .*test"):
        command.evaluate(request(tmp_path, rows, split="tets"))


def test_references_from_another_file(tmp_path):
    bare = [{"id": row["id"], "prediction": row["prediction"]} for row in CASES]
    known = write(tmp_path, "r.jsonl", [{k: row[k] for k in ("id", "reference")} for row in CASES])
    command.evaluate(request(tmp_path, bare, references=known))
    assert read(tmp_path)[0]["test"]["exact_match"] == pytest.approx(40 / 60)
    with pytest.raises(UserError, match=r"has no prediction for 3 of 60 annotated cases"):
        command.evaluate(request(tmp_path, bare[3:], references=known))


def test_groups_that_are_asked_for(tmp_path):
    rows = [{**row, "organ": "lung" if i < 30 else "heart"} for i, row in enumerate(CASES)]
    command.evaluate(request(tmp_path, rows, group_by=["organ"]))
    groups = read(tmp_path)[0]["groups"]["organ"]
    assert {name: group["n_cases"] for name, group in groups.items()} == {"heart": 30, "lung": 30}
    with pytest.raises(UserError, match=r"--group_by: no case has a field 'organs'"):
        command.evaluate(request(tmp_path, rows, group_by=["organs"]))


def test_what_was_passed_over_is_said(tmp_path):
    path = request(tmp_path).predictions
    path.write_text(path.read_text().replace("\n", "\n\n", 2))
    command.evaluate(Request(path, tmp_path / "out", "pefomed", resamples=0))
    made, _ = read(tmp_path)
    assert made["warnings"] == ["p.jsonl: 2 blank lines passed over"]
    assert made["intervals"]["test"]["exact_match"] is None


def test_all_answers_empty(tmp_path):
    command.evaluate(request(tmp_path, [{**row, "prediction": ""} for row in CASES]))
    made, _ = read(tmp_path)
    assert made["test"]["exact_match"] == 0.0
    assert made["counts"]["test"]["n_empty"] == 60
    assert "60 of 60 answers are empty and score as such (c0, c1, c2, ...)" in made["warnings"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"protocol": "pefomd"}, "protocol 'pefomd' is not one of"),
        ({"resamples": -1}, "--resamples=-1 must be 0"),
        ({"images": pathlib.Path("nowhere")}, "--images=nowhere is no folder"),
        ({"metrics": ["chexbrt"]}, "--metrics: 'chexbrt' is not one of"),
        ({"compare": pathlib.Path("nowhere.jsonl")}, "there is no file 'nowhere.jsonl'"),
    ],
)
def test_flags_that_are_wrong(tmp_path, fields, said):
    with pytest.raises(UserError, match=said):
        command.evaluate(request(tmp_path, **fields))
    assert not (tmp_path / "out").exists()


def test_folders_that_are_not_to_be_written_in(tmp_path):
    given = request(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").touch()
    with pytest.raises(UserError, match=r"is the folder of a run, whose results.json stays"):
        command.evaluate(given._replace(out=run))
    with pytest.raises(UserError, match=r"p.jsonl is no folder to write in"):
        command.evaluate(given._replace(out=given.predictions))
    own = write(tmp_path, "cases.jsonl", CASES)
    with pytest.raises(UserError, match=r"would overwrite .*cases.jsonl; give another folder"):
        command.evaluate(given._replace(predictions=own, out=tmp_path))


def test_what_is_written_is_scored_again_the_same(tmp_path):
    command.evaluate(request(tmp_path))
    first, cases = read(tmp_path)
    again = tmp_path / "out" / "cases.jsonl"
    command.evaluate(Request(again, tmp_path / "again", "pefomed", resamples=100))
    made = json.loads((tmp_path / "again" / "results.json").read_text("utf-8"))
    assert made["test"] == first["test"]
    assert made["intervals"] == first["intervals"]
    assert results.table(made).count("\n") > 5
    assert len(cases) == 60
