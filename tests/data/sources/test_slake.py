"""SLAKE as distributed, and each way it can be off."""

import json
import pathlib
import re

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.data import sources
from pefomed_jax.errors import UserError

from ..conftest import write_image

ROW = {
    "img_id": 1, "img_name": "xmlab1/source.jpg", "question": "Which organ?", "answer": "Liver ",
    "q_lang": "en", "location": "Abdomen", "modality": "MRI", "answer_type": "OPEN",
    "base_type": "vqa", "content_type": "Organ", "triple": ["vhead", "_", "_"], "qid": 0,
}  # fmt: skip
CHINESE = ROW | {"q_lang": "zh", "question": "哪个器官？", "answer": "肝", "qid": 1}


def load(folder: pathlib.Path, **options: str):
    config = config_lib.make("vqa", "tiny")
    config.data.update(source="slake", dir=str(folder))
    config.data.slake.update(options)
    return sources.load(config)


def write(folder: pathlib.Path, train: list, val: str = "validate") -> pathlib.Path:
    """Slake1.0 with the rows as training list, one row each in the others."""
    write_image(folder / "imgs" / "xmlab1" / "source.jpg")
    (folder / "imgs" / "xmlab1" / "mask.png").touch()  # the set has masks beside each image
    for name, rows in {"train": train, val: [ROW | {"qid": 8}], "test": [ROW | {"qid": 9}]}.items():
        text = json.dumps(rows, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text, encoding="utf-8-sig")
    return folder


@pytest.mark.parametrize("inside", ["", "Slake1.0"])
@pytest.mark.parametrize("val", ["validate", "validation"])
def test_as_distributed(tmp_path: pathlib.Path, inside: str, val: str, capsys) -> None:
    write(tmp_path / inside, [ROW, CHINESE], val)
    source = load(tmp_path)
    assert source.bad_rows == []
    assert [len(source.cases(split)) for split in ("train", "val", "test")] == [1, 1, 1]
    (case,) = source.cases("train")
    assert (case.id, case.images) == ("train-0", ("imgs/xmlab1/source.jpg",))
    assert (case.question, case.answer) == ("Which organ?", "Liver")
    assert case.fields["question_type"] == "Organ"
    assert case.fields["answer_type"] == "OPEN"
    with source.image(case) as picture:
        assert picture.size == (24, 20)
    assert "slake: 1 of 2 train rows are in language en\n" in capsys.readouterr().out


def test_languages(tmp_path: pathlib.Path, capsys) -> None:
    write(tmp_path, [ROW, CHINESE])
    assert [case.id for case in load(tmp_path, language="zh").cases("train")] == ["train-1"]
    assert "slake: 0 of 1 test rows are in language zh\n" in capsys.readouterr().out
    assert [c.id for c in load(tmp_path, language="all").cases("train")] == ["train-0", "train-1"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"answer": ""}, "train.json, row 2, field 'answer': empty; fill it in"),
        ({"q_lang": "fr"}, "field 'q_lang': 'fr' is no language of SLAKE; write en or zh"),
        ({"q_lang": None}, "field 'q_lang': empty"),
        ({"img_name": "xmlab2/source.jpg"}, "no image .*imgs/xmlab2/source.jpg nor .*; add"),
        ({"qid": 0}, "train-0 is row 1 already"),
        ({"question": 0.5, "answer": ["x"]}, "field 'answer': a list, not text"),
    ],
)
def test_bad_rows(tmp_path: pathlib.Path, changed: dict, message: str) -> None:
    write(tmp_path, [ROW, ROW | {"qid": 5} | changed])
    source = load(tmp_path)
    (bad,) = source.bad_rows
    assert re.search(message, str(bad)), str(bad)
    assert len(source.cases("train")) == 1


def test_layouts_that_are_not_whole(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"has no train.json; set --config.data.dir"):
        load(tmp_path)
    write(tmp_path / "Slake1.0", [ROW]).joinpath("validate.json").unlink()
    with pytest.raises(UserError, match=r"Slake1.0 has no validate.json or validation.json; set"):
        load(tmp_path)
    write(tmp_path / "copy", [ROW])
    with pytest.raises(UserError, match=r"Slake1.0 and copy both hold this set; name one"):
        load(tmp_path)
    (tmp_path / "copy" / "imgs").rename(tmp_path / "elsewhere")
    (tmp_path / "copy" / "imgs.zip").touch()
    with pytest.raises(UserError, match=r"no folder imgs or images; unpack .*copy/imgs.zip there"):
        load(tmp_path / "copy")
    (tmp_path / "copy" / "images").mkdir()
    (tmp_path / "copy" / "train.json").write_text('[{"image": "a.png", "text": "T"}]')
    with pytest.raises(UserError, match=r"train.json: no row has 'img_name', so it is no list of"):
        load(tmp_path / "copy")
    (tmp_path / "copy" / "train.json").write_text('"text"')
    with pytest.raises(UserError, match=r"train.json: a str where SLAKE has a list"):
        load(tmp_path / "copy")


def test_the_form_of_pefomed(tmp_path: pathlib.Path) -> None:
    row = {"qid": 3, "image_name": "xmlab1/source.jpg", "question": "Q?", "answer": "A"}
    (tmp_path / "train.json").write_text(json.dumps([row]))
    write_image(tmp_path / "images" / "xmlab1" / "source.jpg")
    source = load(tmp_path)
    assert (source.name, [case.id for case in source.cases("train")]) == ("slake", ["train-3"])


def test_the_real_questions(shared: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    text = shared / "data" / "slake-text"
    if not text.is_dir():
        pytest.skip("no slake-text in the folder 'shared'")
    write_image(tmp_path / "one.jpg")
    for name in ("train", "validate", "test"):
        (tmp_path / f"{name}.json").symlink_to(text / f"{name}.json")
        for row in json.loads((text / f"{name}.json").read_text(encoding="utf-8")):
            image = tmp_path / "imgs" / row["img_name"]
            if not image.is_symlink():
                image.parent.mkdir(parents=True)
                image.symlink_to(tmp_path / "one.jpg")
    source = load(tmp_path)
    (bad,) = source.bad_rows  # qid 1622 of the set
    assert (bad.file, bad.field, bad.problem) == ("train.json", "answer", "empty")
    assert [len(source.cases(split)) for split in source.splits] == [3413 - 1, 687, 803]
    said = capsys.readouterr().out
    for kept, total, split in ((3413, 6855, "train"), (687, 1411, "val"), (803, 1523, "test")):
        assert f"slake: {kept} of {total} {split} rows are in language en\n" in said
    images = [{case.image for case in source.cases(split)} for split in source.splits]
    assert not images[0] & (images[1] | images[2])
    everything = load(tmp_path, language="all")
    images = [{case.image for case in everything.cases(split)} for split in source.splits]
    assert list(map(len, images)) == [404, 116, 126]
    assert [len(everything.cases(split)) for split in source.splits] == [6855 - 1, 1411, 1523]
    types = {case.fields["answer_type"] for case in everything.cases("test")}
    assert types == {"OPEN", "CLOSED"}
