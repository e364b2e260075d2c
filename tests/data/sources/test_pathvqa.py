"""The three releases of PathVQA, and each way they can be off."""

import collections
import json
import pathlib
import pickle
import re

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.data import sources
from pefomed_jax.errors import UserError

from ..conftest import write_image

SPLITS = ("train", "val", "test")


def load(folder: pathlib.Path):
    config = config_lib.make("vqa", "tiny")
    config.data.update(source="pathvqa", dir=str(folder))
    return sources.load(config)


def write_original(root: pathlib.Path, protocol: int = 2) -> pathlib.Path:
    """pvqa with two questions about one image in each split, and the files beside them."""
    for split in SPLITS:
        write_image(root / "images" / split / f"{split}_0001.jpg")
        (root / "qas" / split).mkdir(parents=True)
        rows = [
            {"image": f"{split}_0001", "question": "What is it?", "answer": "a cell "},
            {"image": f"{split}_0001", "question": "Is it a cell?", "answer": "Yes"},
        ]
        (root / "qas" / split / f"{split}_qa.pkl").write_bytes(pickle.dumps(rows, protocol))
    (root / "qas" / "ans2label.pkl").write_bytes(pickle.dumps({"yes": 0}))
    (root / "train_img_id2idx.pkl").write_bytes(b"not read")
    return root


@pytest.mark.parametrize("inside", ["", "pvqa"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_original_release(tmp_path: pathlib.Path, inside: str, protocol: int) -> None:
    write_original(tmp_path / inside, protocol)
    source = load(tmp_path)
    assert (source.bad_rows, source.splits) == ([], SPLITS)
    first, second = source.cases("val")
    assert (first.id, first.images) == ("val-row1", ("images/val/val_0001.jpg",))
    assert (first.question, first.answer) == ("What is it?", "a cell")
    assert [case.fields["answer_type"] for case in (first, second)] == ["OPEN", "CLOSED"]
    with source.image(first) as picture:
        assert picture.size == (24, 20)


def test_rows_with_labels(tmp_path: pathlib.Path) -> None:
    """qas/SPLIT_vqa.pkl, where SPLIT_qa.pkl is not there."""
    write_original(tmp_path)
    row = {
        "img_id": "train_0001", "sent": "Where?", "label": {"liver": 1}, "question_id": 100001,
        "question_type": "where", "answer_type": "other",
    }  # fmt: skip
    rows = [row, row | {"label": {}, "question_id": 2}, row | {"label": "no", "question_id": 3}]
    (tmp_path / "qas" / "train" / "train_qa.pkl").unlink()
    (tmp_path / "qas" / "train_vqa.pkl").write_bytes(pickle.dumps(rows))
    source = load(tmp_path)
    (case,) = source.cases("train")
    assert (case.id, case.question, case.answer) == ("train-100001", "Where?", "liver")
    assert case.fields == {"answer_type": "OPEN", "question_type": "where"}
    said = [str(bad) for bad in source.bad_rows]
    assert "train_vqa.pkl, row 2, field 'label': 0 answers, not one" in said[0]
    assert "row 3, field 'label': a str, not one" in said[1]


class Evil:
    """Unpickled by pickle.load, it would leave a file behind."""

    def __init__(self, path: pathlib.Path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def test_a_pickle_runs_nothing(tmp_path: pathlib.Path) -> None:
    train = write_original(tmp_path) / "qas" / "train" / "train_qa.pkl"
    train.write_bytes(pickle.dumps([Evil(tmp_path / "ran")]))
    with pytest.raises(UserError, match=r"train_qa.pkl asks for \S*pathlib\S*, which is not plain"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(train.read_bytes())  # the file does what it is feared for
    assert (tmp_path / "ran").exists()


def pickles_to_refuse() -> dict[str, tuple[bytes, str]]:
    import numpy as np

    array = pickle.dumps([{"image": np.zeros(2)}])
    return {
        "an array": (array, r"asks for numpy\S+, which is not plain data"),
        "a subclass": (pickle.dumps([collections.OrderedDict()]), "asks for collections.Ordered"),
        "eval": (b"cbuiltins\neval\n(V1+1\ntR.", "asks for builtins.eval, which"),
        "an attribute": (b"\x80\x04\x8c\x08builtins\x8c\x0cset.__repr__\x93.", "set.__repr__, wh"),
        "outside": (b"Pwhere\n.", "asks for persistent id where, which"),
        "an extension": (b"\x80\x02\x82\x01.", "is cut short or no pickle"),
        "cut": (array[:-20], "asks for numpy|is cut short or no pickle"),
        "cut text": (pickle.dumps([{"question": "Q"}])[:-4], "is cut short or no pickle"),
        "nothing": (b"", "is cut short or no pickle"),
        "a page": (b"<html>not found</html>", "is cut short or no pickle"),
        "an object": (pickle.dumps({"a": 1}), "a dict where PathVQA has a list"),
    }


REFUSED = pickles_to_refuse()


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_pickles_that_are_refused(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    (write_original(tmp_path) / "qas" / "train" / "train_qa.pkl").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path)
    assert "train_qa.pkl" in str(error.value)
    assert "\n" not in str(error.value)


def test_sets_and_texts_of_python_2_are_plain(tmp_path: pathlib.Path) -> None:
    rows = [{"image": "train_0001", "question": "Q?", "answer": {"a"}}]
    train = write_original(tmp_path) / "qas" / "train" / "train_qa.pkl"
    train.write_bytes(pickle.dumps(rows, protocol=2))  # sets have a code only from 4 on
    (bad,) = load(tmp_path).bad_rows
    assert "field 'answer': a set, not text" in str(bad)
    text = b"(lp0\n(dp1\nS'image'\nS'train_0001'\nsS'question'\nS'Gr\\xc3\\xb6\\xc3\\x9fe?'\n"
    train.write_bytes(text + b"sS'answer'\nS'no'\nsa.")
    assert [case.question for case in load(tmp_path).cases("train")] == ["Größe?"]


def test_a_part_of_the_original_release(tmp_path: pathlib.Path) -> None:
    write_original(tmp_path)
    (tmp_path / "images" / "test" / "test_0001.jpg").unlink()
    bad = load(tmp_path).bad_rows
    assert [(row.file, row.row, row.field) for row in bad] == [
        ("qas/test/test_qa.pkl", 1, "image"),
        ("qas/test/test_qa.pkl", 2, "image"),
    ]
    assert bad[0].problem == "no image images/test/test_0001.jpg"
    (tmp_path / "qas" / "val" / "val_qa.pkl").unlink()
    with pytest.raises(UserError, match=r"has no qas/val/val_qa.pkl; fetch it"):
        load(tmp_path)


def row(name: str, question: str = "Q?", answer: str = "no", split: str = "train") -> dict:
    path = f"images\\{split}\\{name}"
    return {"image_path": path, "question": question, "answer": answer, "question_type": "YESNO"}


def write_json(root: pathlib.Path, **lists: list) -> pathlib.Path:
    for split, rows in lists.items():
        for each in rows:
            if isinstance(each, dict) and "image_path" in each:
                path = root / each["image_path"].replace("\\", "/")
                if not path.exists():
                    write_image(path)
        (root / f"{split}.json").write_text(json.dumps(rows))
    return root


def test_the_json_release(tmp_path: pathlib.Path) -> None:
    train = [row("p_1.jpg"), row("p_1.jpg", "What?", "a cell"), row("p_0.jpg")]
    write_json(tmp_path, train=train, test=[row("p_1.jpg", split="test")])
    source = load(tmp_path)
    assert (source.bad_rows, source.splits) == ([], ("train", "test"))
    first, second, third = source.cases("train")
    assert (first.id, first.images) == ("train-row1", ("images/train/p_1.jpg",))
    assert third.image == "images/train/p_0.jpg"
    assert first.fields == {"answer_type": "CLOSED", "question_type": "YESNO"}
    assert (second.answer, second.fields["answer_type"]) == ("a cell", "OPEN")
    source.image(source.cases("test")[0]).load()


def test_bad_rows_of_the_json_release(tmp_path: pathlib.Path) -> None:
    train = [row("p_1.jpg"), "text", {"question": "Q?"}, row("p_2.jpg"), row("p_3.jpg", answer="")]
    write_json(tmp_path, train=train, test=[row("p_1.jpg", split="test")])
    (tmp_path / "images" / "train" / "p_2.jpg").unlink()
    said = [str(bad) for bad in load(tmp_path).bad_rows]
    assert said[0].startswith("train.json, row 2, field 'image_path': the row is a str")
    assert said[1].startswith("train.json, row 3, field 'image_path': no such key")
    assert said[2].startswith(
        "train.json, row 4, field 'image_path': no image images/train/p_2.jpg"
    )
    assert said[3].startswith("train.json, row 5, field 'answer': empty")


def test_questions_under_the_names_of_other_pictures(tmp_path: pathlib.Path) -> None:
    """A list of two splits whose names count from 0 twice: only the later pictures are there."""
    early = [row(f"p_{i:05}.jpg", f"val {i}?", split="test") for i in range(4)]
    late = [row(f"p_{i:05}.jpg", f"test {i}?", split="test") for i in range(6)]
    write_json(tmp_path, train=[row("p_1.jpg")], test=early + late)
    source = load(tmp_path)
    assert [case.question for case in source.cases("test")] == [f"test {i}?" for i in range(6)]
    assert [bad.row for bad in source.bad_rows] == [1, 2, 3, 4]
    expected = (
        "test.json, row 2, field 'image_path': images/test/p_00001.jpg is the picture of row 6: "
        "the names start over; delete rows 1 to 4, they are another split's questions"
    )
    assert str(source.bad_rows[1]) == expected


@pytest.mark.parametrize("order", [(0, 0, 1, 2), (0, 1, 2, 1, 0), (3, 1, 2), (2, 0, 1, 0, 2, 1)])
def test_names_in_other_orders_are_no_start_over(tmp_path: pathlib.Path, order: tuple) -> None:
    rows = [row(f"p_{i}.jpg", f"{j}?") for j, i in enumerate(order)]
    write_json(tmp_path, train=rows, test=[row("p_0.jpg", split="test")])
    source = load(tmp_path)
    assert (len(source.cases("train")), source.bad_rows) == (len(order), [])


def test_layouts_that_are_none(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        UserError, match=r"holds no PathVQA; looked for qas/train/train_qa.pkl, dat"
    ):
        load(tmp_path)
    write_json(tmp_path, train=[row("p_1.jpg")])
    with pytest.raises(UserError, match=r"has no test.json; fetch it"):
        load(tmp_path)
    write_json(tmp_path, test=[{"img_name": "a.png"}])
    with pytest.raises(UserError, match=r"test.json: no row has 'image_path', so it is no list of"):
        load(tmp_path)
    (tmp_path / "test.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"test.json: a dict where PathVQA has a list"):
        load(tmp_path)


def test_the_real_sample(shared: pathlib.Path) -> None:
    sample = shared / "data" / "pathvqa-sample"
    if not sample.is_dir():
        pytest.skip("no pathvqa-sample in the folder 'shared'")
    source = load(sample)
    assert source.bad_rows == []
    counts = {s: (len({c.image for c in source.cases(s)}), len(source.cases(s))) for s in SPLITS}
    assert counts == {"train": (45, 393), "val": (0, 0), "test": (20, 123)}
    given = json.loads((sample / "train.json").read_text())
    types = [case.fields["answer_type"] for case in source.cases("train")]
    assert types == [each["answer_type"] for each in given]
    with source.image(source.cases("test")[0]) as picture:
        assert picture.mode == "RGB"


def test_the_form_of_pefomed(tmp_path: pathlib.Path) -> None:
    each = {"qid": 3, "image_name": "a.png", "question": "Q?", "answer": "A"}
    (tmp_path / "train.json").write_text(json.dumps([each]))
    write_image(tmp_path / "a.png")
    source = load(tmp_path)
    assert (source.name, [case.id for case in source.cases("train")]) == ("pathvqa", ["train-3"])


def test_one_deeper_and_twice(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        write_json(tmp_path / name, train=[row("p_1.jpg")], test=[row("p_1.jpg", split="test")])
    with pytest.raises(UserError, match=r"a and b both hold this set; name one"):
        load(tmp_path)
    assert re.search(r"/a$", load(tmp_path / "a").root)
