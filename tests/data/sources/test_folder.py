"""A folder of one's own: tables of every kind, odd rows, texts beside images."""

import gzip
import json
import pathlib
import pickle
import shutil

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.data import sources
from pefomed_jax.data.images import to_rgb
from pefomed_jax.errors import UserError

from ..conftest import write_image

NAMES = ("a.png", "b.png", "c.png", "d.png")


def load(folder: pathlib.Path, task: str = "mrg", **own: object):
    config = config_lib.make(task, "tiny,data=folder")
    config.data.dir = str(folder)
    config.data.folder.update(own)
    return sources.load(config)


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """images/ with four images."""
    for i, name in enumerate(NAMES):
        write_image(tmp_path / "images" / name, seed=i)
    return tmp_path


def lines(*rows: str, end: str = "\n") -> str:
    return end.join([*rows, ""])


def answers(source, split: str = "train") -> list[str]:
    return [case.answer for case in source.cases(split)]


def test_a_table(root: pathlib.Path, capsys) -> None:
    text = lines(
        "Filename,Report,Patient ID,Study,Split,View,Notes",
        f"a.png,Clear.,7,s1,train,PA,{'long ' * 30}",
        '"a.png;b.png","Two lines,\nquoted.",8,,TRAIN,,',
        "images/c.png,Effusion.,9,s3,validation,AP,short",
        "d.png,Nodule.,7,s4,Test,AP,",
    )
    (root / "metadata.csv").write_text(text)
    (root / "other.csv").write_text("x\n1\n")
    source = pickle.loads(pickle.dumps(load(root)))
    assert source.bad_rows == []
    first, second = source.cases("train")
    assert (first.id, first.images, first.question) == ("train-row1", ("images/a.png",), "")
    assert first.fields == {"patient_id": "7", "study_id": "s1", "View": "PA"}
    assert second.images == ("images/a.png", "images/b.png")
    assert (second.answer, second.fields) == ("Two lines,\nquoted.", {"patient_id": "8"})
    assert to_rgb(source.image(second, 1)).size == (24, 20)
    assert [case.id for s in ("val", "test") for case in source.cases(s)] == [
        *("val-row3", "test-row4"),
    ]
    assert source.where["test-row4"] == ("metadata.csv", 4)
    assert capsys.readouterr().out.split("\n")[:3] == [
        "folder: not read: other.csv (--config.data.folder.table=FILE reads one)",
        "folder: metadata.csv: image=Filename, answer=Report, split=Split, "
        "patient=Patient ID, study=Study",
        f"folder: 2 train, 1 val, 1 test, 0 bad rows in {root}",
    ]


@pytest.mark.parametrize("kind", ["bom", "crlf", "semicolon", "tab", "gz", "jsonl", "json", "data"])
def test_kinds_of_tables(root: pathlib.Path, kind: str) -> None:
    rows = [{"image": "a.png", "caption": "Clear, dry"}, {"image": "b.png", "caption": "Größer"}]
    text = lines("image,caption", 'a.png,"Clear, dry"', "b.png,Größer")
    name, data = {
        "bom": ("t.csv", b"\xef\xbb\xbf" + text.encode()),
        "crlf": ("t.csv", text.replace("\n", "\r\n").encode()),
        "semicolon": ("t.CSV", lines("image;caption", "a.png;Clear, dry", "b.png;Größer").encode()),
        "tab": ("t.tsv", lines("image\tcaption", "a.png\tClear, dry", "b.png\tGrößer").encode()),
        "gz": ("t.csv.gz", gzip.compress(text.encode())),
        "jsonl": ("t.jsonl", lines(*map(json.dumps, rows)).encode()),
        "json": ("t.json", json.dumps(rows).encode()),
        "data": ("t.json", json.dumps({"version": 1, "data": rows}).encode()),
    }[kind]
    (root / name).write_bytes(data)
    source = load(root, "caption", test_fraction=0)
    assert source.bad_rows == []
    assert answers(source) == ["Clear, dry", "Größer"]
    assert [case.image for case in source.cases("train")] == ["images/a.png", "images/b.png"]


def test_questions_and_a_table_a_split(root: pathlib.Path) -> None:
    for name, image in (("train", "a"), ("dev", "b"), ("test", "c")):
        row = f"{name}1,{image}.png,Is it?,{name}"
        (root / f"{name}.csv").write_text(lines("qid,image,question,answer", row))
    source = load(root, "vqa")
    found = [(s, c.id, c.question, c.answer) for s in source.splits for c in source.cases(s)]
    assert found == [
        ("train", "train-train1", "Is it?", "train"),
        ("val", "val-dev1", "Is it?", "dev"),
        ("test", "test-test1", "Is it?", "test"),
    ]
    (root / "validation.csv").write_text("image,question,answer\n")
    with pytest.raises(UserError, match=r"dev.csv and .*validation.csv are the same split: keep"):
        load(root, "vqa")


def test_metadata_in_folders_of_splits(tmp_path: pathlib.Path) -> None:
    for split in ("train", "test"):
        write_image(tmp_path / "set" / split / "0001.png")
        row = {"file_name": "0001.png", "text": split}
        (tmp_path / "set" / split / "metadata.jsonl").write_text(json.dumps(row))
    source = load(tmp_path)
    images = [case.image for s in source.splits for case in source.cases(s)]
    assert images == ["train/0001.png", "test/0001.png"]
    assert pathlib.Path(source.root) == tmp_path / "set"


def test_named_columns(root: pathlib.Path) -> None:
    text = lines(
        "id,image,pic,text,impression,who,fold,subset",
        "1,x,a.png,t,No change.,p1,dev,train",
        "1,x,b.png,t,Larger.,p2,train,test",
    )
    (root / "data.csv").write_text(text)
    own = dict(image="pic", answer="impression", patient="who", split="fold", id="-")
    source = load(root, **own)
    assert source.bad_rows == []
    assert (answers(source), answers(source, "val")) == (["Larger."], ["No change."])
    assert source.cases("val")[0].fields["patient_id"] == "p1"
    with pytest.raises(UserError, match=r"answer: .*data.csv has no column 'impresion' \(did you "):
        load(root, **own | {"answer": "impresion"})
    with pytest.raises(UserError, match=r"data.folder.table: no file .*none.csv"):
        load(root, table="none.csv")
    assert answers(load(root, **own, table="data.csv")) == ["Larger."]
    assert answers(load(root / "data.csv", **own)) == ["Larger."]


def test_texts_by_task(root: pathlib.Path) -> None:
    text = lines("answer,caption,findings,image,question", "A,C,F,a.png,Q?", "A,C,F,b.png,Q?")
    (root / "t.csv").write_text(text)
    found = {task: load(root, task, test_fraction=0) for task in ("vqa", "caption", "mrg")}
    assert {task: answers(source)[0] for task, source in found.items()} == {
        **{"vqa": "A", "caption": "C", "mrg": "F"},
    }
    assert found["vqa"].cases("train")[0].question == "Q?"


def test_where_images_are(root: pathlib.Path, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "o.png"
    write_image(outside)
    write_image(root / "deep" / "er" / "only.png")
    write_image(root / "semi;colon.png")
    cells = {
        "images/a.png": ("images/a.png",),
        "a": ("images/a.png",),
        "images\\b.png": ("images/b.png",),
        "C:\\films\\b.png": ("images/b.png",),
        "some/where/only.png": ("deep/er/only.png",),
        f"{root}/images/c.png": ("images/c.png",),
        str(outside): (str(outside),),
        "semi;colon.png": ("semi;colon.png",),
        "a.png | b.png": ("images/a.png", "images/b.png"),
        "a.png;b.png;": ("images/a.png", "images/b.png"),
        "images/a.png|images/b.png": ("images/a.png", "images/b.png"),
        "['a.png', 'b.png']": ("images/a.png", "images/b.png"),
        '["a.png"]': ("images/a.png",),
        "c.png#2": ("images/c.png#2",),
    }
    rows = [{"image": cell, "text": "t"} for cell in cells]
    rows += [{"image": ["a.png", "b.png"], "text": "t"}]
    (root / "t.json").write_text(json.dumps(rows))
    source = load(root, test_fraction=0)
    assert source.bad_rows == []
    found = [case.images for case in source.cases("train")]
    assert found == [*cells.values(), ("images/a.png", "images/b.png")]
    source.image(source.cases("train")[6]).load()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2,x.png,t,train", "field 'image': no image x.png in "),
        ("2,a.png;x.png,t,train", "field 'image': no image x.png in "),
        ("2,images/x.png;images/a.png,t,train", "field 'image': no image images/x.png in "),
        ("2,twice.png,t,train", "twice.png is at one/twice.png, two/twice.png; write the path"),
        ("2,,t,train", "field 'image': empty"),
        ("2,;,t,train", "field 'image': ';' names no image"),
        ("2,a.png,,train", "field 'text': empty"),
        ("2,a.png,t,holdout", "field 'split': 'holdout' tells no split; write train, val or test"),
        ("2,a.png,t,", "field 'split': empty"),
        ("1,a.png,t,train", "field 'id': train-1 is t.csv row 1; number it anew, or by row: --"),
        (",a.png,t,train", "field 'id': empty"),
        ("2,a.png,t", "3 cells where there are 4 columns"),
        ('2,a.png,"t"t,train', "quotes do not match"),
    ],
)
def test_bad_rows(root: pathlib.Path, row: str, message: str) -> None:
    for folder in ("one", "two"):
        write_image(root / folder / "twice.png")
    text = lines("id,image,text,split", "1,a.png,t,train", row, "3,b.png,t,test")
    (root / "t.csv").write_text(text)
    source = load(root)
    (bad,) = source.bad_rows
    assert str(bad).startswith("t.csv, row 2, ")
    assert message in str(bad)
    assert (len(source.cases("train")), len(source.cases("test"))) == (1, 1)


def test_a_row_that_is_not_utf8(root: pathlib.Path) -> None:
    data = "image,text\na.png,Größe\n".encode("cp1252") + b"b.png,t\n"
    (root / "t.csv").write_bytes(data)
    source = load(root)
    (bad,) = source.bad_rows
    assert str(bad) == "t.csv, row 1, field 'text': is not UTF-8; save the file as UTF-8"
    assert len(source.cases("train")) == 1


def test_rows_of_json_that_are_none(root: pathlib.Path) -> None:
    rows = [{"image": "a.png", "text": "t", "patient": 3.0}, "b.png", {"image": [], "text": "t"}]
    (root / "t.json").write_text(json.dumps([*rows, {"image": "b.png"}]))
    source = load(root)
    assert source.cases("train")[0].fields == {"patient_id": "3"}
    assert [(bad.row, bad.problem) for bad in source.bad_rows] == [
        (2, "the row is a str"),
        (3, "an empty list"),
        (4, "no such key, only 'image'"),
    ]


def write_patients(root: pathlib.Path, patients: int, shared: bool = False) -> None:
    """Two rows a patient, each with an image; with `shared`, P0 and P1 have one in common."""
    rows = ["image,report,patient_id"]
    for i in range(2 * patients):
        write_image(root / "images" / f"p{i}.png")
        rows.append(f"p{i}.png,text {i},P{i // 2}")
    rows += ["p1.png,text again,P1"] if shared else []
    (root / "t.csv").write_text(lines(*rows))


def patients(source, split: str) -> set[str]:
    return {case.fields["patient_id"] for case in source.cases(split)}


def test_a_test_part_by_patient(tmp_path: pathlib.Path, capsys) -> None:
    write_patients(tmp_path, 10)
    source = load(tmp_path, test_fraction=0.3)
    test = patients(source, "test")
    assert (len(test), len(source.cases("test")), len(source.cases("train"))) == (3, 6, 14)
    assert not test & patients(source, "train")
    assert all(case.id.startswith("test-row") for case in source.cases("test"))
    assert all(source.where[case.id][0] == "t.csv" for case in source.cases("test"))
    said = (
        "3 of 10 groups of patients (6 of 20 cases) set aside for it by data.folder.test_fraction"
    )
    assert said in capsys.readouterr().out
    text = (tmp_path / "t.csv").read_text().splitlines()
    (tmp_path / "t.csv").write_text(lines(text[0], *reversed(text[1:])))  # another order, same part
    assert patients(load(tmp_path, test_fraction=0.3), "test") == test


def test_no_patient_and_no_image_is_parted(tmp_path: pathlib.Path) -> None:
    write_patients(tmp_path, 4, shared=True)
    for fraction in (0.3, 0.5, 0.9):
        source = load(tmp_path, test_fraction=fraction)
        of_test = patients(source, "test")
        assert of_test
        assert not of_test & patients(source, "train")
        assert len(of_test & {"P0", "P1"}) != 1


def test_a_test_part_by_image(root: pathlib.Path, capsys) -> None:
    rows = [f"{name},text {i}" for name in NAMES for i in range(2)]
    (root / "t.csv").write_text(lines("image,report", *rows))
    source = load(root)
    train, test = ({c.image for c in source.cases(split)} for split in ("train", "test"))
    assert (len(train), len(test), train & test) == (3, 1, set())
    assert "1 of 4 groups of images (2 of 8 cases)" in capsys.readouterr().out
    assert load(root, test_fraction=0).cases("test") == []
    assert "no test split, and none set aside" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"test_fraction=1.0: from 0 to below 1"):
        load(root, test_fraction=1.0)


def test_texts_beside_images(tmp_path: pathlib.Path, capsys) -> None:
    for name in (
        "train/x/a",
        "train/b",
        "val/a",
        "test/a",
        "test/none",
        "test/empty",
        "test/latin",
    ):
        write_image(tmp_path / "set" / f"{name}.PNG")
        (tmp_path / "set" / f"{name}.txt").write_text(f" {name}.\n")
    (tmp_path / "set" / "test" / "none.txt").unlink()
    (tmp_path / "set" / "test" / "empty.txt").write_text(" ")
    (tmp_path / "set" / "test" / "latin.txt").write_bytes(b"\xfc")
    (tmp_path / "set" / "README.txt").write_text("about")
    write_image(tmp_path / "set" / "stray.png")
    source = load(tmp_path)
    found = [(s, c.id, c.answer) for s in source.splits for c in source.cases(s)]
    assert found == [
        ("train", "train-train/b.PNG", "train/b."),
        ("train", "train-train/x/a.PNG", "train/x/a."),
        ("val", "val-val/a.PNG", "val/a."),
        ("test", "test-test/a.PNG", "test/a."),
    ]
    source.image(source.cases("train")[0]).load()
    assert [f"{bad.problem}" for bad in source.bad_rows] == [
        "stray.png is in no folder of a split, others are",
        "test/empty.txt is empty",
        "test/latin.txt is not UTF-8 at byte 0",
        "no test/none.txt beside test/none.PNG",
    ]
    out = capsys.readouterr().out
    assert "folder: 8 images, 6 of them with a text of the same name beside them" in out
    assert "folder: texts without an image, not read: README.txt\n" in out
    with pytest.raises(UserError, match=r"for questions write a table with image, question and"):
        load(tmp_path, "vqa")
    (tmp_path / "set" / "info.json").write_text("{}")
    with pytest.raises(UserError, match=r"info.json: a dict; expected a list of objects"):
        load(tmp_path)
    assert load(tmp_path, table="-").cases("train") == source.cases("train")


def test_files_that_do_not_serve(root: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"holds no table \(.csv, .* and no image with a text"):
        load(root)
    for name in ("one.csv", "two.tsv"):
        (root / name).write_text("image\tx\na.png\tb\n")
    with pytest.raises(UserError, match=r"several tables \(one.csv, two.tsv\); name one: --config"):
        load(root)
    message = r"two.tsv: which column holds the report or caption\? There are image, x; name it: --"
    with pytest.raises(UserError, match=message):
        load(root, table="two.tsv")
    with pytest.raises(UserError, match=r"holds the question\? There are image, x;"):
        load(root, "vqa", table="two.tsv")
    bad = {
        "a.csv": (b"", "has no header in its first line"),
        "b.csv": ("image,text\na,b\n".encode("utf-16"), "is UTF-16"),
        "c.csv": (b"image,text,text\na.png,b,c\n", "has two columns 'text'; rename one"),
        "d.json": (b'{"a": 1}', "a dict; expected a list of objects"),
        "e.json": (b"[]", "There are none, the table has no row"),
        "f.xlsx": (b"PK", "is no table that can be read; save it as one of"),
    }
    for name, (data, message) in bad.items():
        (root / name).write_bytes(data)
        with pytest.raises(UserError) as error:
            load(root, table=name)
        assert message in str(error.value), str(error.value)
        assert name in str(error.value)


def test_pefomeds_object_of_reports(root: pathlib.Path) -> None:
    (root / "train.json").write_text(json.dumps({"images/a.png": ["Clear.", "later"]}))
    source = load(root)
    assert (source.name, answers(source)) == ("folder", ["Clear."])
    assert source.cases("train")[0].fields == {"layout": "mimiccxr"}


def test_chest_notes(shared: pathlib.Path, capsys) -> None:
    """71 rows, 68 images; of 29 patients two share images."""
    folder = shared / "data" / "chest-notes"
    with pytest.raises(
        UserError, match=r"There are patientid, .*clinical_notes, .*folder\.answer="
    ):
        load(folder)
    source = load(folder, answer="clinical_notes")
    cases = [case for split in source.splits for case in source.cases(split)]
    assert (len(cases), source.bad_rows) == (71, [])
    assert len({case.image for case in cases}) == 68
    assert len(patients(source, "train") | patients(source, "test")) == 29
    assert not patients(source, "train") & patients(source, "test")
    assert "image=filename, answer=clinical_notes, patient=patientid\n" in capsys.readouterr().out
    assert to_rgb(source.image(cases[0])).mode == "RGB"


def test_vqa_rad_as_a_folder_of_ones_own(shared: pathlib.Path) -> None:
    source = load(shared / "data" / "vqa-rad", "vqa")
    assert (len(source.cases("train")), len(source.cases("test"))) == (2155, 324)
    assert source.bad_rows == []
    named = sources.load(config_of(shared / "data" / "vqa-rad"))
    for split in ("train", "test"):
        mine, theirs = source.cases(split), named.cases(split)
        assert [(c.images, c.question, c.answer) for c in mine] == [
            (c.images, c.question, c.answer) for c in theirs
        ]


def config_of(folder: pathlib.Path):
    config = config_lib.make("vqa", "tiny,data=vqa_rad")
    config.data.dir = str(folder)
    return config


def test_linked_folders_are_read_once(root: pathlib.Path, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(root / "images", elsewhere / "pictures")
    (root / "films").symlink_to(elsewhere / "pictures")
    (elsewhere / "pictures" / "again").symlink_to(elsewhere / "pictures")
    (root / "t.csv").write_text(lines("image,text", "a.png,t", "b,t"))
    source = load(root, test_fraction=0)
    assert [case.image for case in source.cases("train")] == ["films/a.png", "films/b.png"]
