"""The years of ImageCLEFmedical Caption as their archives unpack, and their odd rows."""

import json
import pathlib
import pickle
import re

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.data import sources
from pefomed_jax.errors import UserError

from ..conftest import write_image

OF_2022 = "{}_ImageCLEFmedCaption_2022_caption_prediction_{}.csv"
OF_2023 = "ImageCLEFmedical_Caption_2023_caption_prediction_{}_labels.csv"


def load(folder: pathlib.Path, test: str = "none"):
    config = config_lib.make("caption", "tiny")
    config.data.update(source="clef", dir=str(folder))
    config.data.clef.test = test
    return sources.load(config)


def write(path: pathlib.Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogateescape"))


def write_2022(root: pathlib.Path) -> None:
    """Uploads carry a prefix of hex digits; the archives unpack into folders of their own."""
    for split, prefix in (("train", "c856ae07-029b"), ("valid", "cc3d9c72-6c2b")):
        ids = [f"ImageCLEFmedCaption_2022_{split}_00000{i}" for i in (1, 2)]
        for name in ids:
            write_image(
                root / f"e229_ImageCLEFmedCaption_2022_{split}_images" / split / f"{name}.jpg"
            )
        rows = [f"{ids[0]}\tFilm, clear", f'{ids[1]}\t"Bat sign" of the ribs']
        write(root / OF_2022.format(prefix, split), "ID\tcaption", *rows)
        concepts = f"b47c_ImageCLEFmedCaption_2022_concept_detection_{split}.csv"
        write(root / concepts, "ID\tcuis", f"{ids[0]}\tC0040398;C0034579")
    write(root / "concepts.csv", "concept\tconcept_name", "C0040398\tTomography")


def write_2023(root: pathlib.Path) -> None:
    for split in ("train", "valid"):
        name = f"ImageCLEFmedical_Caption_2023_{split}_000001"
        write_image(root / f"ImageCLEFmedical_Caption_2023_{split}_images" / split / f"{name}.jpg")
        write(root / OF_2023.format(split), "ID\tcaption", f'{name}\t"A ""new"" sign"')
        concepts = OF_2023.format(split).replace("caption_prediction", "concept_detection")
        write(root / concepts, "ID\tcuis", f"{name}\tC1306645")
    write(root / "ImageCLEFmedical_Caption_2023_cui_mapping.csv", "C1306645\tPlain x-ray")


def write_2024(root: pathlib.Path) -> None:
    for split in ("train", "valid", "test"):
        name = f"ImageCLEFmedical_Caption_2024_{split}_000001"
        write_image(root / split / f"{name}.jpg")
        if split != "test":
            write(root / f"{split}_captions.csv", "ID,Caption", f'{name},"Film, clear."')
            write(root / f"{split}_concepts.csv", "ID,CUIs", f"{name},C1306645")
            write(root / f"{split}_concepts_manual.csv", "ID,CUIs", f"{name},C0")


def write_2021(root: pathlib.Path) -> None:
    for name, number in (("Training", 1), ("Validation", 2)):
        inside = root / f"ImageCLEF2021_CaptionPrediction_{name}-Set"
        write_image(inside / f"{name}-Images" / f"synpic{number}.jpg")
        write(inside / f"{name}_Set_Captions.csv", "ID\tCaption", f"synpic{number}.jpg\tClear")


@pytest.mark.parametrize(
    ("make", "train", "answer", "cuis"),
    [
        (write_2021, "synpic1.jpg", "Clear", None),
        (write_2022, "ImageCLEFmedCaption_2022_train_000001", "Film, clear", "C0040398;C0034579"),
        (write_2023, "ImageCLEFmedical_Caption_2023_train_000001", 'A "new" sign', "C1306645"),
        (write_2024, "ImageCLEFmedical_Caption_2024_train_000001", "Film, clear.", "C1306645"),
    ],
)
def test_years(tmp_path: pathlib.Path, make, train: str, answer: str, cuis, capsys) -> None:
    make(tmp_path / "year")
    for folder in (tmp_path, tmp_path / "year"):
        source = pickle.loads(pickle.dumps(load(folder)))
        assert source.bad_rows == []
        case = source.cases("train")[0]
        assert (case.id, case.answer) == (f"train-{train}", answer)
        assert (case.question, case.fields["layout"]) == ("", "caption")
        assert case.fields.get("cuis") == cuis
        source.image(case).load()
        assert len(source.cases("val")) == len(source.cases("train"))
        assert source.cases("test") == []
        assert "clef: no captions of test images, so no test split;" in capsys.readouterr().out


def test_validation_images_as_the_test_split(tmp_path: pathlib.Path, capsys) -> None:
    write_2024(tmp_path)
    source = load(tmp_path, "valid")
    assert (len(source.cases("train")), source.cases("val")) == (1, [])
    (case,) = source.cases("test")
    assert (case.id, case.split) == ("test-ImageCLEFmedical_Caption_2024_valid_000001", "test")
    assert source.where[case.id] == ("valid_captions.csv", 1)
    assert capsys.readouterr().out == ""
    write(tmp_path / "test_captions.csv", "ID,Caption")
    with pytest.raises(UserError, match=r"clef.test=valid: .*test_captions.csv has the test capt"):
        load(tmp_path, "valid")


def test_quotes_that_a_table_of_tabs_does_not_mean(tmp_path: pathlib.Path) -> None:
    write_2022(tmp_path)
    assert load(tmp_path).cases("val")[1].answer == '"Bat sign" of the ribs'


def test_one_list_of_two_splits(tmp_path: pathlib.Path, capsys) -> None:
    """2026: the IDs tell them apart. With captions of the test images there is a test split."""
    names = [
        f"ImageCLEFmedical_Caption_2026_{split}_{i}" for i, split in enumerate(("valid", "train"))
    ]
    for name in names:
        write_image(tmp_path / "dev_caption" / "images" / f"{name}.png")
    rows = [f"{name},Caption of {name}" for name in names]
    listed = tmp_path / "dev_caption" / "captions.csv"
    write(listed, "ID,Caption", *rows, "x,\udcff", "x,")
    write(tmp_path / "dev_caption" / "concepts.csv", "ID,CUIs", f"{names[0]},C1")
    source = load(tmp_path)
    assert [c.id for c in source.cases("train")] == [f"train-{names[1]}"]
    assert [(c.id, c.fields["cuis"]) for c in source.cases("val")] == [(f"val-{names[0]}", "C1")]
    assert [(bad.row, bad.problem) for bad in source.bad_rows] == [
        (3, "is not UTF-8"),
        (4, "empty"),
    ]
    write(
        listed, "ID,Caption", *rows, f"{names[0]},Again", f"{names[1].replace('train', 'test')},T"
    )
    write_image(tmp_path / "test" / f"{names[1].replace('train', 'test')}.jpg")
    capsys.readouterr()
    source = load(tmp_path)
    assert [c.answer for c in source.cases("test")] == ["T"]
    assert "is row 1 already" in str(source.bad_rows[0])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}_9,Clear", "field 'ID': no image ImageCLEF.*_9 in .*; fetch it or delete the row"),
        ("{}_1,", "field 'Caption': empty"),
        ("{}_1,a,b", "field 'Caption': 3 cells where there are 2 columns"),
        ('{}_1,"a', "quotes do not match"),
        ("{}_1,\udcff", "field 'Caption': is not UTF-8"),
    ],
)
def test_bad_rows(tmp_path: pathlib.Path, line: str, message: str) -> None:
    name = "ImageCLEFmedical_Caption_2024_train"
    write_image(tmp_path / "train" / f"{name}_1.jpg")
    write_image(tmp_path / "train" / f"{name}_2.jpg")
    write(
        tmp_path / "train_captions.csv", f"\ufeffID,Caption\r\n{name}_2,Good\r", line.format(name)
    )
    source = load(tmp_path)
    assert [case.answer for case in source.cases("train")] == ["Good"]
    (bad,) = source.bad_rows
    assert str(bad).startswith("train_captions.csv, row 2, ")
    assert re.search(message, str(bad)), str(bad)


def test_concepts_that_cannot_be_read_are_counted(tmp_path: pathlib.Path, capsys) -> None:
    write_2024(tmp_path)
    write(tmp_path / "train_concepts.csv", "ID,CUIs", "a,b,c")
    assert "cuis" not in load(tmp_path).cases("train")[0].fields
    assert re.search(r"train_concepts.csv: 1 rows are not readable", capsys.readouterr().out)


def test_what_does_not_serve(tmp_path: pathlib.Path) -> None:
    write_2023(tmp_path)
    write_2024(tmp_path / "more")
    with pytest.raises(UserError, match=r"both list captions of the split train; .* one year"):
        load(tmp_path)
    write(tmp_path / "none" / "concept_detection_train.csv", "ID\tcuis", "a\tC1")
    with pytest.raises(UserError, match=r"no training captions in .*concepts alone are another"):
        load(tmp_path / "none")
    write(tmp_path / "none" / "train_captions.csv", "ID,Caption", "a,b")
    with pytest.raises(UserError, match=r"has captions but no images; unpack their archives"):
        load(tmp_path / "none")
    write_image(tmp_path / "none" / "images" / "a.jpg")
    write(tmp_path / "none" / "captions.csv", "ID,Caption", "a,b")
    with pytest.raises(UserError, match=r"captions.csv has no train, valid or test in its name"):
        load(tmp_path / "none")


def test_copies_of_an_image(tmp_path: pathlib.Path) -> None:
    write_2024(tmp_path)
    write_image(tmp_path / "train_resized" / "ImageCLEFmedical_Caption_2024_train_000001.png")
    with pytest.raises(UserError, match=r"train/Image.*jpg and train_resized/Image.*png are both"):
        load(tmp_path)


def test_a_list_that_tells_no_split(tmp_path: pathlib.Path) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    write(tmp_path / "captions.csv", "ID,Caption", "a,Clear")
    (bad,) = load(tmp_path).bad_rows
    assert "a tells no split; name the list after its split" in str(bad)
    write(tmp_path / "captions.csv", "ID,Caption", "x_test_1,Clear")
    write_image(tmp_path / "images" / "x_test_1.jpg")
    with pytest.raises(UserError, match=r"captions.csv: no row is of a training image"):
        load(tmp_path)


def test_as_pefomed_lists(tmp_path: pathlib.Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "train.json").write_text(json.dumps([{"image": "far/a.png", "caption": "Clear."}]))
    (case,) = load(tmp_path).cases("train")
    assert (case.image, case.answer) == ("images/a.png", "Clear.")
