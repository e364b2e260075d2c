"""PeFoMed's lists in every layout, VQA-RAD in both, and each way a row can be bad."""

import collections
import json
import pathlib
import pickle
import re
import shutil

import pytest
from ml_collections import ConfigDict

from pefomed_jax import config as config_lib
from pefomed_jax.data import sources
from pefomed_jax.data.images import to_rgb
from pefomed_jax.errors import UserError

from .conftest import write_image


def load(task: str, source: str, folder: pathlib.Path):
    config = config_lib.make(task, "tiny")
    config.data.update(source=source, dir=str(folder))
    return sources.load(config)


def write(folder: pathlib.Path, **lists: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in lists.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_an_unknown_source_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'vqarad' is not one of .*did you mean vqa_rad"):
        load("vqa", "vqarad", pathlib.Path())


def test_sources_pickle_and_open_images(config: ConfigDict, vqa_rows: list[dict]) -> None:
    source = pickle.loads(pickle.dumps(sources.load(config)))
    assert isinstance(source, sources.Source)
    assert len(source.cases("train")) == len(vqa_rows)
    case = source.cases("test")[4]
    assert case.question == vqa_rows[4]["question"]
    assert case.answer == vqa_rows[4]["answer"]
    assert case.image == f"images/{vqa_rows[4]['image_name']}"
    assert case.fields == {"layout": "vqa", "qid": 4, "answer_type": "OPEN"}
    assert to_rgb(source.image(case)).size == (24, 20)
    assert source.cases("nonsense") == []


@pytest.mark.parametrize(
    ("task", "rows", "image", "layout"),
    [
        ("mrg", [{"image_path": "CXR1/0.png", "report": "Clear. "}], "images/CXR1/0.png", "iuxray"),
        ("mrg", {"files/p1/0.png": ["Clear.", "later"]}, "images/files/p1/0.png", "mimiccxr"),
        ("caption", [{"image": "a.png", "caption": "Clear.", "image_id": 7}], "a.png", "caption"),
        ("caption", [{"image": "far/away/c.png", "caption": "Clear."}], "images/c.png", "caption"),
    ],
)  # fmt: skip
def test_layouts(tmp_path: pathlib.Path, task: str, rows, image: str, layout: str) -> None:
    write(tmp_path, train=rows, valid=rows, testset=rows)
    write_image(tmp_path / image)
    source = load(task, "pefomed", tmp_path)
    assert source.bad_rows == []
    assert source.splits == ("train", "val", "test")
    (case,) = source.cases("val")
    assert (case.image, case.question, case.answer) == (image, "", "Clear.")
    assert case.fields["layout"] == layout
    assert case.fields.get("image_id") == (7 if image == "a.png" else None)
    source.image(case).load()


def test_folders_of_lists_are_read_together(tmp_path: pathlib.Path) -> None:
    for name in ("clef", "roco"):
        write(tmp_path / name, train=[{"image": "a.png", "caption": f"from {name}"}])
        write_image(tmp_path / name / "images" / "a.png")
    source = load("caption", "pefomed", tmp_path)
    assert [(c.id, c.image, c.answer) for c in source.cases("train")] == [
        ("clef/train-row1", "clef/images/a.png", "from clef"),
        ("roco/train-row1", "roco/images/a.png", "from roco"),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trian", r"roco.trian.json has no name of a list \(train: train.json or trainset.json;"),
        ("val", r"roco holds lists but no training list \(train: train.json or trainset.json;"),
    ],
)
def test_a_folder_is_not_left_out_in_silence(
    tmp_path: pathlib.Path, name: str, message: str, capsys
) -> None:
    rows = [{"image": "a.png", "caption": "Clear."}]
    write(tmp_path / "clef", train=rows, val=rows)
    write(tmp_path / "roco", **{name: rows})
    for folder in ("clef", "roco"):
        write_image(tmp_path / folder / "a.png")
    with pytest.raises(UserError, match=message):
        load("caption", "pefomed", tmp_path)
    write(tmp_path / "roco", train=rows * 2)
    (tmp_path / "roco" / f"{name}.json").unlink()
    load("caption", "pefomed", tmp_path)
    assert capsys.readouterr().out == "clef: 1 train, 1 val\nroco: 2 train, 0 val\n"


def test_two_lists_of_one_split(tmp_path: pathlib.Path) -> None:
    write(tmp_path, train=[GOOD], trainset=[GOOD])
    with pytest.raises(UserError, match=r"train.json and trainset.json are the same split"):
        load("vqa", "pefomed", tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"phrase_type": "tset_para"}, "'tset_para' tells no split; write one of freeform, para"),
        ({"phrase_type": None}, "no such key, .*; add 'phrase_type'$"),
        ({"answer_type": None}, "field 'answer_type': no such key"),
    ],
)
def test_public_rows_must_tell_their_split(
    tmp_path: pathlib.Path, changed: dict, message: str
) -> None:
    good = GOOD | {"phrase_type": "test_para", "answer_type": "OPEN"}
    row = {k: v for k, v in (good | {"qid": 2} | changed).items() if v is not None}
    (tmp_path / "VQA_RAD Dataset Public.json").write_text(json.dumps([good, row]))
    write_image(tmp_path / "images" / "a.png")
    source = load("vqa", "vqa_rad", tmp_path)
    (bad,) = source.bad_rows
    assert re.search(message, str(bad)), str(bad)
    assert (len(source.cases("train")), len(source.cases("test"))) == (0, 1)


GOOD = {"qid": 1, "image_name": "a.png", "question": "Q?", "answer": "A"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "  "}, "train.json, row 2, field 'answer': empty; fill it in"),
        ({"answer": float("nan")}, "train.json, row 2, field 'answer': empty; fill it in"),
        ({"answer": None}, "train.json, row 2, field 'answer': empty; fill it in"),
        ({"question": ""}, "train.json, row 2, field 'question': empty; fill it in"),
        ({"answer": ["x"]}, "field 'answer': a list, not text; write it as a string"),
        ({"image_name": "b.png"}, "field 'image_name': no image .*b.png nor .*images/b.png; add"),
        ({"qid": 1}, "row 2, field 'id': train-1 is row 1 already; number it anew"),
    ],
)  # fmt: skip
def test_bad_rows_say_where_and_what(tmp_path: pathlib.Path, row: dict, message: str) -> None:
    write(tmp_path, train=[GOOD, GOOD | {"qid": 2} | row])
    write_image(tmp_path / "a.png")
    source = load("vqa", "pefomed", tmp_path)
    (bad,) = source.bad_rows
    assert len(source.cases("train")) == 1
    assert "\n" not in str(bad)
    assert re.search(message, str(bad)), str(bad)


def test_a_misspelt_key_names_the_nearest(tmp_path: pathlib.Path) -> None:
    wrong = {"qid": 2, "image_name": "a.png", "question": "Q?", "anwser": "A"}
    write(tmp_path, train=[GOOD, wrong, "text"])
    write_image(tmp_path / "a.png")
    first, second = load("vqa", "pefomed", tmp_path).bad_rows
    assert "field 'answer': no such key, only 'qid'," in str(first)
    assert "rename 'anwser' to 'answer'" in str(first)
    assert "row 3, field 'question': the row is a str" in str(second)


def test_numbers_are_answers(tmp_path: pathlib.Path) -> None:
    write(tmp_path, train=[GOOD | {"answer": 4}, GOOD | {"qid": 2, "answer": 0.5}])
    write_image(tmp_path / "a.png")
    cases = load("vqa", "pefomed", tmp_path).cases("train")
    assert [case.answer for case in cases] == ["4", "0.5"]


def test_files_that_do_not_serve(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"set --config.data.dir=FOLDER"):
        sources.load(config_lib.make("vqa", "tiny,data=pefomed"))
    with pytest.raises(UserError, match=r"no folder .*none; set --config.data.dir"):
        load("vqa", "pefomed", tmp_path / "none")
    with pytest.raises(UserError, match=r"no training list; looked for train.json, trainset.json"):
        load("vqa", "pefomed", tmp_path)
    (tmp_path / "train.json").write_text('[{"a": 1},\n {"b": }]')
    with pytest.raises(UserError, match=r"train.json, line 2: not JSON"):
        load("vqa", "pefomed", tmp_path)
    (tmp_path / "train.json").write_bytes(b'["\xff"]')
    with pytest.raises(UserError, match=r"train.json: not UTF-8 at byte 2"):
        load("vqa", "pefomed", tmp_path)
    write(tmp_path, train=[{"foo": 1, "bar": 2}])
    with pytest.raises(UserError, match=r"keys foo, bar are of no known layout \(vqa: image_name,"):
        load("vqa", "pefomed", tmp_path)
    write(tmp_path, train=[GOOD])
    with pytest.raises(UserError, match=r"a vqa list does not serve configs/mrg.py; use vqa"):
        load("mrg", "pefomed", tmp_path)
    write(tmp_path, train="text")
    with pytest.raises(UserError, match=r"a str; expected a list of rows, or an object"):
        load("vqa", "pefomed", tmp_path)


def test_mimic_rows_without_reports(tmp_path: pathlib.Path) -> None:
    write(tmp_path, train={"a.png": ["Clear."], "b.png": [], "c.png": "text", "d.png": [""]})
    write_image(tmp_path / "a.png")
    bad = [str(b) for b in load("mrg", "pefomed", tmp_path).bad_rows]
    assert [b.partition(": ")[2].partition(";")[0] for b in bad] == [
        "an empty list where a list of reports belongs",
        "a str where a list of reports belongs",
        "empty",
    ]


def test_vqa_rad_is_for_questions(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"use configs/vqa.py"):
        load("mrg", "vqa_rad", tmp_path)
    with pytest.raises(UserError, match=r"neither trainset.json and testset.json nor 'VQA_RAD"):
        load("vqa", "vqa_rad", tmp_path)


def types(cases) -> dict[str, int]:
    return dict(collections.Counter(case.fields["answer_type"] for case in cases))


def test_vqa_rad_as_data_rad(shared: pathlib.Path) -> None:
    source = load("vqa", "vqa_rad", shared / "data" / "vqa-rad")
    train, test = source.cases("train"), source.cases("test")
    assert (len(train), len(test), source.cases("val")) == (2155, 324, [])
    assert source.bad_rows == []
    assert types(test) == {"CLOSED": 191, "OPEN": 133}
    assert types(train) == {"CLOSED": 1259, "OPEN": 896}
    assert len({case.id for case in train + test}) == 2155 + 324
    assert {"2", "4"} <= {case.answer for case in train}
    assert all(case.answer == case.answer.strip() for case in train)
    assert to_rgb(source.image(train[0])).mode == "RGB"


def test_vqa_rad_as_published(shared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The test split of both layouts is one; training is data_RAD's without the framed rows."""
    folder = shared / "data" / "vqa-rad"
    name = "VQA_RAD Dataset Public.json"
    shutil.copy(folder / name, tmp_path)
    (tmp_path / "VQA_RAD Image Folder").symlink_to(folder / "images")
    public = load("vqa", "vqa_rad", tmp_path)
    by_file = load("vqa", "vqa_rad", folder / name)
    lists = load("vqa", "vqa_rad", folder)
    assert public.bad_rows == by_file.bad_rows == []
    assert (len(public.cases("train")), len(public.cases("test"))) == (1264, 324)

    def content(source, split: str) -> list[tuple]:
        cases = [c for c in source.cases(split) if c.fields["phrase_type"] != "frame"]
        names = [pathlib.PurePath(c.image).name for c in cases]
        return sorted(
            zip(names, [c.question for c in cases], [c.answer for c in cases], strict=True)
        )

    for split in ("train", "test"):
        assert content(public, split) == content(by_file, split) == content(lists, split)
    assert types(public.cases("test")) == {"CLOSED": 191, "OPEN": 133}
    public.image(public.cases("test")[0]).load()


def test_an_empty_list_is_of_any_layout(tmp_path: pathlib.Path) -> None:
    write(tmp_path, train=[])
    for task in ("vqa", "mrg"):
        assert load(task, "pefomed", tmp_path).cases("train") == []
