"""MedExpQA from lists written in the published layout, odd rows among them."""

import json
import pathlib
import pickle

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.data import sources
from pefomed_jax.errors import UserError

EXPLAINED = "Option 2 is right: fever. Option 1 is wrong: no cough. Hence 2."
ROW = {
    "correct_option": 2,
    "explanations": {
        "1": {"char_ranges": [[26, 54]], "exist": True, "text": EXPLAINED[26:54]},
        "2": {"char_ranges": [[0, 25], [55, 63]], "exist": True, "text": EXPLAINED[:25]},
        "3": {"char_ranges": [], "exist": False, "text": ""},
        "5": {"char_ranges": [], "exist": False, "text": ""},
    },
    "full_answer": EXPLAINED,
    "full_answer_no_ref": "[HIDDEN] is right: fever.",
    "full_question": "A man of 60 has fever. What is it?",
    "id": 7,
    "lang": "en",
    "options": {"1": "Gout.", "2": " Flu. ", "3": "Cold.", "4": "Gas.", "5": None},
    "question_id_specific": 73,
    "type": "INFECTIOUS DISEASES",
    "year": 2016,
}


def snippets(n: int) -> dict:
    found = [{"id": f"d{i}", "content": f"text {i}"} for i in range(n)]
    return {"clinical_case_options": {"MedCorp": {"RRF-2": found}}}


def write(path: pathlib.Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def load(folder: pathlib.Path, **own: str):
    config = config_lib.make("vqa", "tiny,data=medexpqa")
    config.data.dir = str(folder)
    config.data.medexpqa.update(own)
    return sources.load(config)


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """data/<lang>/ as on the hub: two documents to train, one each to validate and test."""
    for lang in ("en", "es"):
        for name, ids in (("train", (7, 8)), ("dev", (9,)), ("test", (10,))):
            rows = [ROW | {"id": i, "lang": lang, "rag": snippets(40)} for i in ids]
            write(tmp_path / "data" / lang / f"{name}.{lang}.casimedicos.rag.jsonl", *rows)
    return tmp_path


def test_a_document(root: pathlib.Path, capsys) -> None:
    source = pickle.loads(pickle.dumps(load(root)))
    assert [len(source.cases(split)) for split in ("train", "val", "test")] == [2, 1, 1]
    case = source.cases("train")[0]
    assert (case.id, case.images, case.image) == ("train-en-7", (), "")
    assert case.answer == "2. Flu."
    assert case.question.split("\n") == [
        "A man of 60 has fever. What is it?",
        *("Options:", "1. Gout.", "2. Flu.", "3. Cold.", "4. Gas."),
        "Answer with the number of the correct option, then its text.",
    ]
    assert case.fields == {
        **{"language": "en", "answer_type": "CLOSED", "study_id": "7", "grounding": "none"},
        **{"question_type": "INFECTIOUS DISEASES", "year": 2016, "question_id_specific": 73},
        "options": {"1": "Gout.", "2": "Flu.", "3": "Cold.", "4": "Gas."},
        "correct_option": 2,
    }
    said = "medexpqa: read in en; left out by data.medexpqa.language: es\n"
    assert capsys.readouterr().out == said


def test_all_languages_share_documents(root: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"holds no train.fr.casimedicos.jsonl, nor do its fr/,"):
        load(root, language="all")
    for lang in ("fr", "it"):  # the light lists, flat as the code reads them
        for name in ("train", "dev", "test"):
            row = ROW | {"lang": lang}
            write(root / "data" / "casimedicos" / f"{name}.{lang}.casimedicos.jsonl", row)
    source = load(root, language="all")
    assert source.bad_rows == []
    train = source.cases("train")
    assert len({case.id for case in train}) == len(train) == 6
    of_7 = [case for case in train if case.fields["study_id"] == "7"]
    assert [case.fields["language"] for case in of_7] == ["en", "es", "fr", "it"]
    requests = [case.question.split("\n")[-1].split()[0] for case in of_7]
    assert requests == ["Answer", "Responde", "Réponds", "Rispondi"]


@pytest.mark.parametrize(
    ("grounding", "given"),
    [
        ("full", ["Explanation:", EXPLAINED]),
        ("incorrect", ["Explanation:", "Option 1 is wrong: no cough."]),
        ("hidden", ["Explanation:", "[HIDDEN] is right: fever."]),
        ("rag7", ["Documents:", *(f"text {i}" for i in range(7))]),
        ("rag32", ["Documents:", *(f"text {i}" for i in range(32))]),
    ],
)
def test_groundings(root: pathlib.Path, grounding: str, given: list[str]) -> None:
    case = load(root, grounding=grounding).cases("test")[0]
    assert case.question.split("\n")[6:-1] == given
    assert case.fields["grounding"] == grounding


def test_retrieved_texts_need_their_lists(root: pathlib.Path) -> None:
    for name in ("train", "dev", "test"):
        long = root / "data" / "en" / f"{name}.en.casimedicos.rag.jsonl"
        row = json.loads(long.read_text().splitlines()[0])
        write(long.with_name(f"{name}.en.casimedicos.jsonl"), row)
        long.unlink()
    assert len(load(root).cases("train")) == 1
    with pytest.raises(UserError, match=r"grounding='rag7' needs the \.rag lists.*medexpqa\.dir"):
        load(root, grounding="rag7")


def test_questions_without_a_text_are_counted(tmp_path: pathlib.Path, capsys) -> None:
    alone = {"2": {"char_ranges": [[0, 63]]}}
    write(tmp_path / "train.en.casimedicos.jsonl", ROW, ROW | {"id": 8, "explanations": alone})
    source = load(tmp_path, grounding="incorrect")
    assert "Explanation" not in source.cases("train")[1].question
    out = capsys.readouterr().out
    assert "medexpqa: 1 of 2 train questions have no text of this grounding\n" in out
    assert f"medexpqa: no list dev.en nor test.en in {tmp_path}\n" in out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"id": None}, "field 'id': empty"),
        ({"full_question": " "}, "field 'full_question': empty"),
        ({"correct_option": 5}, "field 'correct_option': 5 is no option; write one of 1, 2, 3, 4"),
        ({"correct_option": float("nan")}, "field 'correct_option': empty"),
        ({"options": ["a"]}, "field 'options': a list; write {"),
        ({"options": {"1": "a", "2": None}}, "field 'options': 1 options; write two or more"),
        ({"lang": "es"}, "field 'lang': 'es' in a list of 'en'"),
        ({"explanations": {"2": {"char_ranges": [3]}}}, "no ranges of characters at option 2"),
        ({"id": 7}, "train-en-7 is row 1 already"),
    ],
)
def test_bad_rows(tmp_path: pathlib.Path, changed: dict, message: str) -> None:
    row = ROW | {"id": 8} | changed
    write(tmp_path / "train.en.casimedicos.jsonl", ROW, row)
    source = load(tmp_path, grounding="incorrect")
    (bad,) = source.bad_rows
    assert len(source.cases("train")) == 1
    assert str(bad).startswith("train.en.casimedicos.jsonl, row 2, ")
    assert message in str(bad)


def test_odd_lines(tmp_path: pathlib.Path) -> None:
    """A mark of byte order, CRLF, NaN for null, a line that is no JSON, one that is not UTF-8."""
    nan = ROW | {"id": 8, "correct_option": 2.0, "year": float("nan")}
    nan["options"] = {"1": "Gout.", "2": "Flu.", "5": float("nan")}
    lines = [
        json.dumps(ROW).encode(),
        json.dumps(nan).encode(),
        b'{"id": 9',
        b'{"id": "\xe9"}',
        b"",
    ]
    path = tmp_path / "en" / "train.en.casimedicos.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    source = load(tmp_path)
    assert [case.answer for case in source.cases("train")] == ["2. Flu.", "2. Flu."]
    fields = source.cases("train")[1].fields
    assert (fields["options"], "year" in fields) == ({"1": "Gout.", "2": "Flu."}, False)
    assert [(bad.row, bad.problem.split(" (")[0]) for bad in source.bad_rows] == [
        (3, "is not JSON"),
        (4, "is not UTF-8"),
    ]


def test_files_that_do_not_serve(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"holds no train.en.casimedicos.jsonl.*medexpqa\.dir"):
        load(tmp_path)
    config = config_lib.make("mrg", "tiny,data=medexpqa")
    with pytest.raises(UserError, match=r"medexpqa does not serve configs/mrg.py"):
        sources.load(config)
