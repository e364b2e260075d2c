"""VQA-Med of three years in the layouts of their releases, and each way they can be off."""

import json
import pathlib
import re

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.data import sources
from pefomed_jax.errors import UserError

from ..conftest import write_image

TRAIN = "ImageClef-2019-VQA-Med-Training"
VAL = "ImageClef-2019-VQA-Med-Validation"
TRAIN_2020 = "VQAMed2020-VQAnswering-TrainingSet"
TEST_2020 = "VQA-TestSet-ReferenceAnswers-VQAMed2020-Task1"
VAL_2021 = "VQA-Med-2021-Tasks-1-2-NewValidationSets"
TEST_2021 = "Task1-VQA-2021-TestSet-w-GroundTruth"
ASKED_2020 = "VQAMed2020-Task1-VQAnswering-Test-Questions.txt"
KNOWN_2020 = "VQAMed2020-Task1-VQAnswering-Test-ReferenceAnswers.txt"


def load(folder: pathlib.Path):
    config = config_lib.make("vqa", "tiny")
    config.data.update(source="vqa_med", dir=str(folder))
    return sources.load(config)


def write(root: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
    """Texts, and images where a name ends in .jpg."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".jpg"):
            write_image(path)
        else:
            path.write_bytes(content.encode())
    return root


def write_2019(root: pathlib.Path) -> pathlib.Path:
    pairs = "synpic1|what modality is shown?|ct w/contrast (iv)\r\nsynpic1|is this an mri?|no\r\n"
    return write(
        root,
        {
            f"{TRAIN}/All_QA_Pairs_train.txt": pairs,
            f"{TRAIN}/train_ImageIDs.txt": "synpic1\n",
            f"{TRAIN}/QAPairsByCategory/C1_Modality_train.txt": pairs,
            f"{TRAIN}/Train_images/synpic1.jpg": "",
            f"{VAL}/All_QA_Pairs_val.txt": "synpic2|in what plane is this?|axial\n",
            f"{VAL}/val_ImageIDs.txt": "synpic2\n",
            f"{VAL}/QAPairsByCategory/C2_Plane_val.txt": "synpic2|in what plane is this?|axial",
            f"{VAL}/Val_images/synpic2.jpg": "",
            "VQAMed2019Test/README-VQA-Med-2019-TestSet.txt": "read me",
            "VQAMed2019Test/VQAMed2019_Test_Questions.txt": "synpic3|what is alarming?\n",
            "VQAMed2019Test/VQAMed2019_Test_Questions_w_Ref_Answers.txt": (
                'synpic3|abnormality|what is alarming?|cervix, "hourglass."#(big) mass\n'
                "synpic4|organ|what organ is this?|breast\n"
            ),
            "VQAMed2019Test/VQAMed2019_Test_Images/synpic3.jpg": "",
            "VQAMed2019Test/VQAMed2019_Test_Images/synpic4.jpg": "",
        },
    )


def write_2020(root: pathlib.Path) -> pathlib.Path:
    val = "VQAMed2020-VQAnswering-ValidationSet"
    return write(
        root,
        {
            f"{TRAIN_2020}/VQAnswering_2020_Train_QA_pairs.txt": "synpic5|what is wrong?|cyst\n",
            f"{TRAIN_2020}/VQAnswering_2020_Train_images/synpic5.jpg": "",
            f"{val}/VQAnswering_2020_Val_QA_Pairs.txt": "synpic6|is this normal?|yes\n",
            f"{val}/VQAnswering_2020_Val_images/synpic6.jpg": "",
            f"{TEST_2020}/{ASKED_2020}": "synpic7|is this normal?\nsynpic8|what is wrong?\n",
            f"{TEST_2020}/{KNOWN_2020}": "synpic8| mass\nsynpic7|no\n",
            f"{TEST_2020}/Task1-2020-VQAnswering-Test-Images/synpic7.jpg": "",
            f"{TEST_2020}/Task1-2020-VQAnswering-Test-Images/synpic8.jpg": "",
        },
    )


def write_2021(root: pathlib.Path) -> pathlib.Path:
    known = 'synpic10|"a ""drowned"" lobe"|fluid\nsynpic11|acl injury\n'
    return write(
        root,
        {
            f"{VAL_2021}/VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt": "synpic9|q?|a\n",
            f"{VAL_2021}/VQA-Med-2021-VQGeneration-Task2-New-ValidationSet.txt": "synpic9|q?\n",
            f"{VAL_2021}/ImageCLEF-2021-VQA-Med-New-Validation-Images/synpic9.jpg": "",
            f"{TEST_2021}/Task1-VQA-2021-TestSet-Questions.txt": "synpic10|q?\nsynpic11|r?\n",
            f"{TEST_2021}/Task1-VQA-2021-TestSet-ReferenceAnswers.txt": known,
            f"{TEST_2021}/images/VQA-500-Images/synpic10.jpg": "",
            f"{TEST_2021}/images/VQA-500-Images/synpic11.jpg": "",
        },
    )


@pytest.mark.parametrize("inside", ["", "VQA-Med-2019"])
def test_2019(tmp_path: pathlib.Path, inside: str, capsys) -> None:
    write_2019(tmp_path / inside)
    source = load(tmp_path)
    assert source.bad_rows == []
    train, val, test = (source.cases(split) for split in ("train", "val", "test"))
    assert [case.id for case in train] == ["train-2019-row1", "train-2019-row2"]
    assert train[0].image.endswith(f"{TRAIN}/Train_images/synpic1.jpg")
    assert [case.answer for case in train] == ["ct w/contrast (iv)", "no"]
    wanted = {"year": "2019", "answer_type": "CLOSED", "question_type": "modality"}
    assert train[1].fields == wanted
    assert val[0].fields["question_type"] == "plane"
    assert [case.fields["question_type"] for case in test] == ["abnormality", "organ"]
    assert test[0].answer == 'cervix, "hourglass."'
    assert test[0].fields["answers"] == ['cervix, "hourglass."', "(big) mass"]
    assert "answers" not in test[1].fields
    with source.image(test[0]) as picture:
        assert picture.size == (24, 20)
    assert capsys.readouterr().out == "vqa_med 2019: 2 train, 1 val, 2 test\n"


def test_2020(tmp_path: pathlib.Path) -> None:
    source = load(write_2020(tmp_path))
    assert source.bad_rows == []
    assert [(c.question, c.answer) for c in source.cases("test")] == [
        ("is this normal?", "no"),
        ("what is wrong?", "mass"),
    ]
    assert [c.fields["answer_type"] for c in source.cases("test")] == ["CLOSED", "OPEN"]
    assert [c.answer for c in source.cases("train") + source.cases("val")] == ["cyst", "yes"]
    assert source.cases("train")[0].fields["question_type"] == "abnormality"


def test_years_side_by_side(tmp_path: pathlib.Path, capsys) -> None:
    for name, of_year in (("19", write_2019), ("20", write_2020), ("21", write_2021)):
        of_year(tmp_path / name)
    source = load(tmp_path)
    assert source.bad_rows == []
    assert [len(source.cases(split)) for split in ("train", "val", "test")] == [3, 3, 6]
    case = next(c for c in source.cases("test") if c.id == "test-2021-row1")
    assert (case.answer, case.fields["answers"]) == (
        'a "drowned" lobe',
        ['a "drowned" lobe', "fluid"],
    )
    assert capsys.readouterr().out == (
        "vqa_med 2019: 2 train, 1 val, 2 test\n"
        "vqa_med 2020: 1 train, 1 val, 2 test\n"
        "vqa_med 2021: 1 val, 2 test\n"
    )


def test_an_image_in_two_places_is_that_of_its_list(tmp_path: pathlib.Path) -> None:
    write_2019(tmp_path)
    write(tmp_path, {"AAA/synpic2.jpg": "", f"{TEST_2020}/x/synpic2.jpg": ""})
    assert load(tmp_path).cases("val")[0].image == f"{VAL}/Val_images/synpic2.jpg"


def test_all_in_one_folder(tmp_path: pathlib.Path) -> None:
    text = "synpic1|what?|this\n"
    write(tmp_path, {"all_qa_pairs_train.txt": text, "synpic1.jpg": "", "synpic1.txt": "a note"})
    assert [case.image for case in load(tmp_path).cases("train")] == ["synpic1.jpg"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("synpic1|what?", r"row 2, field 'answer': 2 cells where there are 3 columns"),
        ("synpic1|what?|a|b", r"row 2, field 'answer': 4 cells where there are 3 columns"),
        ("synpic1|what?| ", r"row 2, field 'answer': empty"),
        ("synpic99|what?|a", r"row 2, field 'image': no image synpic99.jpg below .*; unpack the"),
    ],
)
def test_bad_rows_of_pairs(tmp_path: pathlib.Path, row: str, message: str) -> None:
    path = write_2019(tmp_path) / TRAIN / "All_QA_Pairs_train.txt"
    path.write_text(f"\ufeffsynpic1|is this an mri?|no\n{row}\n")
    source = load(tmp_path)
    (bad,) = source.bad_rows
    assert re.match(rf"{TRAIN}/All_QA_Pairs_train.txt, {message}", str(bad)), str(bad)
    assert [case.answer for case in source.cases("train")] == ["no"]


def test_a_line_that_is_not_utf8(tmp_path: pathlib.Path) -> None:
    write_2020(tmp_path)
    path = tmp_path / TRAIN_2020 / "VQAnswering_2020_Train_QA_pairs.txt"
    path.write_bytes(b"synpic5|what is wrong?|hodgkin\x92s lymphoma\nsynpic5|and?|cyst\n")
    known = tmp_path / TEST_2020 / KNOWN_2020
    known.write_bytes(b"synpic7|no\nsynpic8|b\xe9nign\n")
    source = load(tmp_path)
    said = [str(bad) for bad in source.bad_rows]
    assert "Train_QA_pairs.txt, row 1, field 'answer': is not UTF-8; save" in said[0]
    assert "ReferenceAnswers.txt, row 2, field 'answer': is not UTF-8; save" in said[1]
    assert "Questions.txt, row 2, field 'answer': no answer for synpic8 in" in said[2]
    assert len(source.cases("train")) == 1


def test_questions_and_answers_that_do_not_meet(tmp_path: pathlib.Path) -> None:
    folder = write_2020(tmp_path) / TEST_2020
    (folder / ASKED_2020).write_text("synpic7|one?\nsynpic7|two?\nsynpic8|three?\n")
    (folder / KNOWN_2020).write_text("synpic8|\nsynpic7|no\nsynpic7|yes\n\nsynpic9|mass\n")
    source = load(tmp_path)
    said = [str(bad).partition(".txt, ")[2] for bad in source.bad_rows]
    assert said == [
        "row 1, field 'answer': synpic8 has none; write image|answer",
        "row 3, field 'image': synpic7 has row 2 already; delete one of the rows",
        "row 2, field 'image': synpic7 is asked about in row 1 already; answers go by image; "
        "delete one of the rows",
        f"row 3, field 'answer': no answer for synpic8 in {TEST_2020}/{KNOWN_2020}; add its row",
        f"row 4, field 'image': no question about synpic9 in {TEST_2020}/{ASKED_2020}; "
        "add it or delete the row",
    ]
    assert [(case.question, case.answer) for case in source.cases("test")] == [("one?", "no")]


def test_folders_that_do_not_serve(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"no training list, none of VQA-Med; looked for All_QA_P"):
        load(tmp_path)
    write_2021(tmp_path / "21")
    with pytest.raises(UserError, match=r"only 21/VQA-Med-2021-Tasks.*trains on that of 2020: lay"):
        load(tmp_path)
    write_2020(tmp_path / "20")
    write_2020(tmp_path / "copy")
    with pytest.raises(UserError, match=r"holds 20/VQA\S+ and copy/VQA\S+: keep one of them"):
        load(tmp_path)
    (tmp_path / "copy" / TEST_2020 / KNOWN_2020).unlink()
    with pytest.raises(UserError, match=rf"{ASKED_2020} has no answers: no {KNOWN_2020}; fetch it"):
        load(tmp_path / "copy")


def test_questions_of_2019_without_answers(tmp_path: pathlib.Path) -> None:
    folder = write_2019(tmp_path) / "VQAMed2019Test"
    (folder / "VQAMed2019_Test_Questions_w_Ref_Answers.txt").unlink()
    with pytest.raises(UserError, match=r"Questions.txt has no answers: no \S+_w_Ref_Answers.txt;"):
        load(tmp_path)


def test_images_that_are_still_packed(tmp_path: pathlib.Path) -> None:
    pairs = {"t/All_QA_Pairs_train.txt": "synpic1|q?|a\n", "t/Train_images.zip": ""}
    with pytest.raises(UserError, match=r"holds no images; unpack t/Train_images.zip"):
        load(write(tmp_path, pairs))


def test_the_form_of_pefomed(tmp_path: pathlib.Path) -> None:
    row = {"qid": 3, "image_name": "a.png", "question": "Q?", "answer": "A"}
    (tmp_path / "train.json").write_text(json.dumps([row]))
    write_image(tmp_path / "a.png")
    source = load(tmp_path)
    assert (source.name, [case.id for case in source.cases("train")]) == ("vqa_med", ["train-3"])
