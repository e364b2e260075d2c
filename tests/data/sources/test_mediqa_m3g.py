"""MEDIQA-M3G from trees written in the layout of its releases, odd rows among them."""

import json
import pathlib
import pickle

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.data import sources
from pefomed_jax.data.images import to_rgb
from pefomed_jax.errors import UserError

from ..conftest import write_image


def response(content: str, completeness: float, frequent: float, author: str = "U1") -> dict:
    texts = {f"content_{lang}": f"{content}-{lang}" for lang in ("zh", "en", "es")}
    return texts | dict(author_id=author, completeness=completeness, contains_freq_ans=frequent)


def encounter(number: int, images: int = 2, **changed: object) -> dict:
    name = f"ENC{number:05}"
    row: dict = {"encounter_id": name, "author_id": "U9"}
    row["image_ids"] = [f"IMG_{name}_{i:05}.jpg" for i in range(1, images + 1)]
    for lang in ("zh", "en", "es"):
        row[f"query_title_{lang}"] = f"title-{lang}"
        row[f"query_content_{lang}"] = f"Itches, {lang}."
    row["responses"] = [
        *(response("part", 0.5, 1.0), response("whole", 1.0, 0.0, "U2")),
        *(response("best", 1.0, 1.0, "U3"), response("later", 1.0, 1.0)),
    ]
    return row | changed


def write(root: pathlib.Path, lists: dict[str, list], images: str = "images_final") -> None:
    for name, rows in lists.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        split = path.stem.split("_")[0]
        for row in rows:
            for image in row["image_ids"]:
                write_image(root / images / f"images_{split}" / image)


def load(folder: pathlib.Path, **own: object):
    config = config_lib.make("vqa", "tiny,data=mediqa_m3g")
    config.data.dir = str(folder)
    config.data.mediqa_m3g.update(own)
    return sources.load(config)


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """DermaVQA as unpacked: lists in data/iiyi, images in images_final."""
    spanish = [encounter(4, query_title_es="corregido")]
    lists = {"train.json": [encounter(1, 3), encounter(2, 1)], "valid_ht.json": [encounter(3)]}
    lists |= {"test_ht.json": [encounter(4)], "test_ht_spanishtestsetcorrected.json": spanish}
    write(tmp_path / "data" / "iiyi", lists)
    users = "author_id,validation_level,rank_level\nU1,md_validated,level_4\nU2,,unk\n"
    (tmp_path / "data" / "iiyi" / "df_userinfo.csv").write_text(users)
    return tmp_path


def test_an_encounter(root: pathlib.Path, capsys) -> None:
    source = pickle.loads(pickle.dumps(load(root)))
    assert [len(source.cases(split)) for split in ("train", "val", "test")] == [2, 1, 1]
    assert source.bad_rows == []
    case = source.cases("train")[0]
    folder = "data/iiyi/images_final/images_train"
    assert case.id == "train-ENC00001"
    assert case.images == tuple(f"{folder}/IMG_ENC00001_0000{i}.jpg" for i in (1, 2, 3))
    assert case.question == "title-en\nItches, en."
    assert case.answer == "best-en"
    assert to_rgb(source.image(case, 2)).size == (24, 20)
    fields = case.fields
    assert (fields["answer_type"], fields["study_id"], fields["language"]) == (
        *("OPEN", "ENC00001"),
        "en",
    )
    assert fields["responses"][0] == {
        **{"author_id": "U1", "content": "part-en", "completeness": 0.5, "contains_freq_ans": 1.0},
        **{"validation_level": "md_validated", "rank_level": "level_4"},
    }
    contents = [response["content"] for response in fields["responses"]]
    assert contents == ["part-en", "whole-en", "best-en", "later-en"]
    out = capsys.readouterr().out
    assert "the test split is data/iiyi/test_ht.json, as the challenge scored it" in out
    assert "mediqa_m3g: 1 of 3 authors are not in df_userinfo.csv" in out


def test_the_best_response_says_something() -> None:
    from pefomed_jax.data.sources.mediqa_m3g import _rank

    rows = [(1.0, 0.0), (0.5, 1.0), (1.0, 1.0)]
    made = [{"completeness": a, "contains_freq_ans": b} for a, b in rows]
    assert sorted(made, key=_rank) == [made[1], made[0], made[2]]


def test_languages_lists_and_fewer_images(root: pathlib.Path, capsys) -> None:
    source = load(root, language="es", max_images=1, test="test_ht_spanishtestsetcorrected.json")
    assert source.cases("test")[0].question == "corregido\nItches, es."
    assert [len(case.images) for case in source.cases("train")] == [1, 1]
    assert [case.fields["n_images"] for case in source.cases("train")] == [3, 1]
    said = "images left out by max_images=1: 2 in train, 1 in val, 1 in test"
    assert said in capsys.readouterr().out
    assert load(root, language="zh").cases("val")[0].answer == "best-zh"


def test_the_starting_kit(tmp_path: pathlib.Path, capsys) -> None:
    """Lists and images in folders beside each other, names without a suffix, no test list."""
    row = encounter(1)
    write(tmp_path / "kit", {"train.json": [row]})
    (tmp_path / "kit" / "train.json").unlink()
    row["image_ids"] = [name.removesuffix(".jpg") for name in row["image_ids"]]
    lists = tmp_path / "kit" / "mediqa-m3-clinicalnlp2024"
    lists.mkdir()
    (lists / "train.json").write_text(json.dumps([row]))
    (lists / "valid_inputonly.json").write_text("[]")
    source = load(tmp_path)
    assert source.splits == ("train",)
    folder = "kit/images_final/images_train"
    assert source.cases("train")[0].image == f"{folder}/IMG_ENC00001_00001.jpg"
    out = capsys.readouterr().out
    assert "has no valid_ht.json or valid_ht_v2.json or valid.json, no test_ht.json or" in out
    assert "has no df_userinfo.csv" in out


def test_an_image_of_several_splits_is_that_of_its_own(root: pathlib.Path) -> None:
    name = "IMG_ENC00004_00001.jpg"
    write_image(root / "data" / "iiyi" / "images_final" / "images_aside" / name)
    write_image(root / "__MACOSX" / "images_test" / name)
    assert load(root).cases("test")[0].image == f"data/iiyi/images_final/images_test/{name}"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encounter_id": ""}, "field 'encounter_id': empty"),
        ({"encounter_id": "ENC00001"}, "train-ENC00001 is row 1 already"),
        ({"image_ids": []}, "field 'image_ids': no list of images"),
        ({"image_ids": ["IMG_ENC00002_00001.jpg", "x.jpg"]}, "no image x.jpg anywhere in the"),
        (
            {"query_title_en": None, "query_content_en": ""},
            "field 'query_content_en': empty, and so is the title",
        ),
        ({"responses": None}, "field 'responses': a NoneType; write a list"),
        ({"responses": []}, "field 'responses': none with a content_en"),
        ({"responses": [response("x", "all", 0)]}, "field 'completeness': 'all' is no number"),
        ({"responses": [{"author_id": "U1"}]}, "field 'content_en': no such key"),
    ],
)
def test_bad_rows(tmp_path: pathlib.Path, changed: dict, message: str) -> None:
    write(tmp_path, {"train.json": [encounter(1), encounter(2)]})
    rows = [encounter(1), encounter(2) | changed]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    source = load(tmp_path)
    (bad,) = source.bad_rows
    assert len(source.cases("train")) == 1
    assert str(bad).startswith("train.json, row 2, ")
    assert message in str(bad)


def test_odd_rows_that_serve(tmp_path: pathlib.Path) -> None:
    """No title, a title that is the text; responses without a score or without words."""
    alone = encounter(1, query_title_en="Itches, en.")
    alone["responses"] = [response("", 1.0, 1.0), response("said", float("nan"), 0)]
    alone["responses"][0]["content_en"] = " "
    del alone["responses"][1]["contains_freq_ans"]
    write(tmp_path, {"train.json": [alone, encounter(2, query_title_en=float("nan"))]})
    source = load(tmp_path)
    assert source.bad_rows == []
    first, second = source.cases("train")
    assert (first.question, first.answer) == ("Itches, en.", "said-en")
    assert [r["completeness"] for r in first.fields["responses"]] == [1.0, 0.0]
    assert second.question == "Itches, en."


def test_files_that_do_not_serve(root: pathlib.Path, tmp_path_factory) -> None:
    with pytest.raises(UserError, match=r"holds no train.json, .*mediqa_m3g\.dir"):
        load(tmp_path_factory.mktemp("none"))
    with pytest.raises(UserError, match=r"mediqa_m3g\.test: no test.json in"):
        load(root, test="test.json")
    with pytest.raises(UserError, match=r"max_images=-1: 0 for all"):
        load(root, max_images=-1)
    (root / "data" / "iiyi" / "train.json").write_text("{}")
    with pytest.raises(UserError, match=r"a dict where MEDIQA-M3G has a list"):
        load(root)


def test_pefomeds_form(tmp_path: pathlib.Path) -> None:
    row = {"image_name": "a.png", "question": "What?", "answer": "Eczema"}
    (tmp_path / "train.json").write_text(json.dumps([row]))
    write_image(tmp_path / "images" / "a.png")
    source = load(tmp_path)
    assert (source.name, source.cases("train")[0].answer) == ("mediqa_m3g", "Eczema")
