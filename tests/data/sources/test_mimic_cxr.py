"""MIMIC-CXR in miniature, in the official layouts, with rows and reports as odd as can be."""

import gzip
import json
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.data.sources import mimic_cxr
from pefomed_jax.errors import UserError
from pefomed_jax.validate import validate

P1, P2, P3 = "10000032", "10000764", "11000011"
S1, S2, S3, S4, S5 = "50000001", "50000002", "50000003", "50000004", "50000005"
SPLIT = f"""dicom_id,study_id,subject_id,split
b-1,{S1},{P1},train
a-1,{S1},{P1},train
c-1,{S1},{P1},train
d-1,{S2},{P1},train
e-1,{S3},{P2},validate
f-1,{S4},{P3},test
g-1,{S5},{P3},test
"""
METADATA = f"""dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,StudyTime
a-1,{P1},{S1},"CHEST (PA AND LAT)",LATERAL,213014.531
b-1,{P1},{S1},"CHEST (PA AND LAT)",PA,213014.531
c-1,{P1},{S1},"CHEST (PA AND LAT)",AP,213014.531
d-1,{P1},{S2},CHEST (PORTABLE AP),AP,1.0
e-1,{P2},{S3},CHEST (PORTABLE AP),AP,1.0
f-1,{P3},{S4},,,1.0
g-1,{P3},{S5},CHEST (PORTABLE AP),AP,1.0
"""
CHEXPERT = f"""subject_id,study_id,Atelectasis,Edema,No Finding
{P1},{S1},1.0,-1.0,
{P2},{S3},,0.0,
"""
FULL = " FINAL REPORT\n INDICATION:  Cough.\n \n FINDINGS: \n \n {}\n \n IMPRESSION:  Normal.\n"
REPORTS = {
    S1: FULL.format("The lungs\n are clear."),
    S2: FULL.format("No effusion.").replace("\n", "\r\n") + "caf\xe9",
    S3: " FINAL REPORT\n HISTORY:  Fall.\n \n Lungs are clear.\n",
    S4: FULL.format("Big heart."),
    S5: " FINAL REPORT\n IMPRESSION:  Small heart.\n",
}
PATIENT = {S1: P1, S2: P1, S3: P2, S4: P3, S5: P3}


def write_table(folder: pathlib.Path, kind: str, text: str, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"mimic-cxr-2.0.0-{kind}.csv"
    if packed:
        with gzip.open(f"{path}.gz", "wt") as file:
            file.write(text)
    else:
        path.write_text(text)


def write_tables(folder: pathlib.Path, packed: bool = True) -> None:
    for kind, text in {"split": SPLIT, "metadata": METADATA, "chexpert": CHEXPERT}.items():
        write_table(folder, kind, text, packed)


def write_images(folder: pathlib.Path, suffix: str = ".jpg") -> None:
    for line in SPLIT.splitlines()[1:]:
        image, study, patient, _ = line.split(",")
        path = folder / "files" / f"p{patient[:2]}" / f"p{patient}" / f"s{study}" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(suffix).touch()
        (path.parent / "index.html").touch()


def write_reports(folder: pathlib.Path) -> None:
    for study, text in REPORTS.items():
        patient = PATIENT[study]
        path = folder / "files" / f"p{patient[:2]}" / f"p{patient}" / f"s{study}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))


@pytest.fixture
def jpg(tmp_path: pathlib.Path) -> pathlib.Path:
    """MIMIC-CXR-JPG with the reports unpacked into it."""
    folder = tmp_path / "mimic"
    write_tables(folder)
    write_images(folder)
    write_reports(folder)
    return folder


def load(folder: pathlib.Path, **own: object):
    config = config_lib.make("mrg", "tiny")
    config.data.update(source="mimic_cxr", dir=str(folder))
    config.data.mimic_cxr.update(**own)
    return mimic_cxr.load(validate(config))


def answers(source) -> dict[str, str]:
    return {case.id: case.answer for split in source.splits for case in source.cases(split)}


def test_one_frontal_of_every_study_with_findings(jpg: pathlib.Path, capsys) -> None:
    source = pickle.loads(pickle.dumps(load(jpg)))
    assert source.bad_rows == []
    assert source.splits == ("train", "val", "test")
    assert answers(source) == {
        f"train-s{S1}": "The lungs are clear.",
        f"train-s{S2}": "No effusion.",
    }
    first, second = source.cases("train")
    assert first.images == (f"files/p10/p{P1}/s{S1}/b-1.jpg",)
    assert first.question == ""
    assert first.fields == {
        "layout": "mimiccxr",
        "patient_id": P1,
        "study_id": S1,
        "view": "PA",
        "chexpert": {"Atelectasis": 1, "Edema": -1},
    }
    assert "chexpert" not in second.fields
    assert source.where[first.id] == ("mimic-cxr-2.0.0-split.csv.gz", 1)
    assert source.where[second.id] == ("mimic-cxr-2.0.0-split.csv.gz", 4)
    assert source.path(first).is_file()
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "mimic_cxr: 2 of 4 train images are used with views=frontal; 0 of 2 studies have none",
        "mimic_cxr: 1 of 2 test images are used with views=frontal; 1 of 2 studies have none",
        "mimic_cxr: 1 val studies have no findings section and are left out (1 have a last "
        "paragraph: --config.data.mimic_cxr.last_paragraph=True takes it)",
        "mimic_cxr: 1 test studies have no findings section and are left out",
    ]
    assert "heart" not in out


@pytest.mark.parametrize(
    ("views", "images"),
    [
        ("frontal", [["b-1"], ["d-1"]]),
        ("frontals", [["b-1"], ["c-1"], ["d-1"]]),
        ("lateral", [["a-1"]]),
        ("any", [["b-1"], ["a-1"], ["c-1"], ["d-1"]]),
        ("study", [["b-1", "a-1"], ["d-1"]]),
    ],
)
def test_views(jpg: pathlib.Path, views: str, images: list[list[str]]) -> None:
    source = load(jpg, views=views)
    cases = source.cases("train")
    assert [[pathlib.PurePath(i).stem for i in case.images] for case in cases] == images
    assert len({case.id for case in cases}) == len(cases)
    shown = {"frontal": "PA", "frontals": "PA", "lateral": "LATERAL", "any": "PA"}
    assert cases[0].fields["view"] == shown.get(views, "PA+LATERAL")


def test_images_of_a_study(jpg: pathlib.Path, capsys) -> None:
    (case, _) = load(jpg, views="study", max_images=3).cases("train")
    assert [pathlib.PurePath(i).stem for i in case.images] == ["b-1", "a-1", "c-1"]
    load(jpg, views="study")
    assert "1 train studies have more than 2 images" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"max_images=0 is too small"):
        load(jpg, views="study", max_images=0)


def test_which_frontal_does_not_hang_on_the_order_of_rows(jpg: pathlib.Path) -> None:
    lines = SPLIT.splitlines()
    write_table(jpg, "split", "\n".join([lines[0], *reversed(lines[1:])]))
    write_table(jpg, "metadata", METADATA.replace("LATERAL", "PA"))
    first = next(case for case in load(jpg).cases("train") if S1 in case.id)
    assert pathlib.PurePath(first.image).stem == "a-1"


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ("impression", {f"train-s{S1}": "Normal.", f"train-s{S2}": "Normal. café"}),
        ("both", {f"train-s{S1}": "FINDINGS: The lungs are clear. IMPRESSION: Normal."}),
        ("full", {f"val-s{S3}": "FINAL REPORT HISTORY: Fall. Lungs are clear."}),
    ],
)
def test_sections(jpg: pathlib.Path, sections: str, expected: dict[str, str]) -> None:
    found = answers(load(jpg, sections=sections))
    assert found | expected == found
    assert len(found) == {"impression": 3, "both": 2, "full": 4}[sections]


def test_last_paragraph_and_indication(jpg: pathlib.Path) -> None:
    source = load(jpg, last_paragraph=True, indication=True)
    (case,) = source.cases("val")
    assert (case.answer, case.question) == ("Lungs are clear.", "")
    assert case.fields["indication"] == "Fall."
    assert source.cases("train")[0].fields["indication"] == "Cough."
    assert "indication" not in load(jpg).cases("train")[0].fields


def test_choices_are_known() -> None:
    config = config_lib.make("mrg", "tiny")
    config.data.mimic_cxr.views = "frontl"
    with pytest.raises(UserError, match=r"data.mimic_cxr.views='frontl' is not one of frontal,"):
        validate(config)


@pytest.mark.parametrize("place", ["mimic-cxr-reports/files", "files", "zip", "reports"])
def test_where_reports_lie(tmp_path: pathlib.Path, place: str) -> None:
    jpg, other = tmp_path / "mimic", tmp_path / "other"
    write_tables(jpg, packed=False)
    write_images(jpg)
    write_reports(other)
    own = {}
    if place == "zip":
        pack(other, jpg / "mimic-cxr-reports.zip")
    elif place == "reports":
        own = {"reports": str(other)}
    else:
        shutil.copytree(other / "files", jpg / place, dirs_exist_ok=True)
    assert len(answers(load(jpg, **own))) == 2
    assert answers(load(jpg, **own))[f"train-s{S2}"] == "No effusion."


def pack(folder: pathlib.Path, path: pathlib.Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*.txt")):
            archive.write(file, file.relative_to(folder))


def test_a_zip_elsewhere_and_a_broken_one(tmp_path: pathlib.Path) -> None:
    jpg, other = tmp_path / "mimic", tmp_path / "other"
    write_tables(jpg)
    write_images(jpg)
    write_reports(other)
    pack(other, tmp_path / "all.zip")
    assert len(answers(load(jpg, reports=str(tmp_path / "all.zip")))) == 2
    with pytest.raises(UserError, match=r"reports: there is no .*none.zip"):
        load(jpg, reports=str(tmp_path / "none.zip"))
    raw = (tmp_path / "all.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(UserError, match=r"cut.zip is no zip file .*; fetch it again"):
        load(jpg, reports=str(tmp_path / "cut.zip"))
    (tmp_path / "bad.zip").write_bytes(raw.replace(b"\x50\x4b\x03\x04", b"\x50\x4b\x03\x05"))
    with pytest.raises(UserError, match=r"bad.zip: files/.*txt is damaged"):
        load(jpg, reports=str(tmp_path / "bad.zip"))


def test_as_wget_leaves_it_with_dicom(tmp_path: pathlib.Path) -> None:
    """Both releases below one folder: tables in the one, images and reports in the other."""
    base = tmp_path / "physionet.org" / "files"
    write_tables(base / "mimic-cxr-jpg" / "2.1.0")
    write_images(base / "mimic-cxr" / "2.1.0", ".dcm")
    write_reports(base / "mimic-cxr" / "2.1.0")
    (base / "mimic-cxr" / "2.1.0" / "cxr-record-list.csv.gz").touch()
    source = load(tmp_path)
    tree = "physionet.org/files/mimic-cxr/2.1.0/files"
    assert source.cases("train")[0].image == f"{tree}/p10/p{P1}/s{S1}/b-1.dcm"
    write_images(base / "mimic-cxr-jpg" / "2.1.0")
    assert "mimic-cxr-jpg" in load(tmp_path).cases("train")[0].image, "JPEG comes before DICOM"


def test_one_folder_too_deep(jpg: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.move(jpg / "files", tmp_path / "trees" / "files")
    for table in jpg.glob("*.csv.gz"):
        shutil.move(table, tmp_path / "trees" / "files")
    source = load(tmp_path / "trees" / "files")
    assert source.cases("train")[0].image == f"p10/p{P1}/s{S1}/b-1.jpg"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"z-1,{S1},{P1},train", r"row 8, field 'dicom_id': z-1 is not in the metadata, so its"),
        (f"b-1,{S1},{P1},train", r"row 8, field 'dicom_id': b-1 is listed already; delete one"),
        (f"../b,{S1},{P1},train", r"field 'dicom_id': '../b' is no name of an image"),
        (f"z-1,{S1},{P1},dev", r"field 'split': 'dev' is none of train, validate, test"),
        (f"z-1,x,{P1},train", r"field 'study_id': 'x' is no number of eight digits"),
        (f"z-1,{S1},,train", r"field 'subject_id': '' is no number of eight digits"),
        ("z-1,1", r"row 8, field 'subject_id': 2 cells where there are 4 columns"),
        (f"h-1,{S1},{P1},test", r"field 'study_id': 50000001 is of another split or patient"),
        (f"h-1,59999999,{P2},test", r"row 8, field 'study_id': no report s59999999.txt; unpack"),
        ("h-1,59999999,19999999,test", r"'subject_id': no folder p19999999 in files; fetch it"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used(jpg: pathlib.Path, row: str, message: str) -> None:
    write_table(jpg, "split", SPLIT + row + "\n")
    write_table(jpg, "metadata", METADATA + f"h-1,{P1},{S1},,PA,1.0\n")
    source = load(jpg)
    (bad,) = source.bad_rows
    assert re.search(message, str(bad)), str(bad)
    assert len(answers(source)) == 2


def test_what_was_not_fetched(jpg: pathlib.Path, capsys) -> None:
    shutil.rmtree(jpg / "files" / "p10" / f"p{P1}" / f"s{S1}")
    source = load(jpg)
    assert f"train-s{S1}" in answers(source), "images are looked for before training, not here"
    capsys.readouterr()
    source = load(jpg, partial=True)
    assert list(answers(source)) == [f"train-s{S2}"]
    assert source.bad_rows == []
    told = "mimic_cxr: 1 train studies have no folder and are left out (partial)"
    assert told in capsys.readouterr().out
    shutil.rmtree(jpg / "files" / "p10" / f"p{P2}")
    shutil.rmtree(jpg / "files" / "p11")
    assert list(answers(load(jpg, partial=True))) == [f"train-s{S2}"]


def test_few_images_among_all_reports(tmp_path: pathlib.Path) -> None:
    """Only a late patient's images were fetched, into the tree of the reports."""
    write_tables(tmp_path)
    for i in range(30):
        (tmp_path / "files" / "p10" / f"p100000{i:02d}").mkdir(parents=True)
    write_reports(tmp_path)
    folder = tmp_path / "files" / "p10" / f"p{P1}" / f"s{S1}"
    folder.mkdir()
    (folder / "b-1.jpg").touch()
    assert list(answers(load(tmp_path, partial=True))) == [f"train-s{S1}"]


def test_labels_and_metadata_that_are_not_there(jpg: pathlib.Path) -> None:
    (jpg / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    write_table(jpg, "negbio", CHEXPERT)
    fields = load(jpg).cases("train")[0].fields
    assert fields["negbio"] == {"Atelectasis": 1, "Edema": -1}
    assert "chexpert" not in fields
    (jpg / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    with pytest.raises(UserError, match=r"no mimic-cxr-2.0.0-metadata.csv.gz .*, or set --config"):
        load(jpg)
    source = load(jpg, views="any")
    assert len(source.cases("train")) == 4
    assert "view" not in source.cases("train")[0].fields


def test_rows_of_labels_that_cannot_be_read(jpg: pathlib.Path, capsys) -> None:
    write_table(jpg, "chexpert", CHEXPERT + f"{P1},{S2},1.0\n")
    cases = load(jpg).cases("train")
    assert ["chexpert" in case.fields for case in cases] == [True, False]
    told = "mimic_cxr: 1 rows of mimic-cxr-2.0.0-chexpert.csv.gz cannot be read and give no labels"
    assert told in capsys.readouterr().out


def test_parts_that_are_missing(jpg: pathlib.Path, tmp_path: pathlib.Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"no mimic-cxr-2.0.0-split.csv.gz below .*JPG$"):
        load(empty)
    write_tables(empty)
    with pytest.raises(UserError, match=r"no image below .*; fetch files/ of MIMIC-CXR-JPG"):
        load(empty)
    write_images(empty)
    with pytest.raises(UserError, match=r"no reports \(files.*set --config.data.mimic_cxr.reports"):
        load(empty)
    write_tables(empty / "again")
    with pytest.raises(UserError, match=r"chexpert.csv.gz lies in .*again as well: keep"):
        load(empty)
    with pytest.raises(UserError, match=r"split.csv.gz is a file; name the folder"):
        load(jpg / "mimic-cxr-2.0.0-split.csv.gz")


def test_packed_and_unpacked_tables_are_one(jpg: pathlib.Path) -> None:
    write_tables(jpg, packed=False)
    source = load(jpg)
    assert len(answers(source)) == 2
    assert {file for file, _ in source.where.values()} == {"mimic-cxr-2.0.0-split.csv.gz"}


def test_as_r2gen_and_pefomed_have_it(tmp_path: pathlib.Path, capsys) -> None:
    image = f"p10/p{P1}/s{S1}/b-1.jpg"
    for name in ("r2gen", "pefomed"):
        (tmp_path / name / "images" / image).parent.mkdir(parents=True)
        (tmp_path / name / "images" / image).touch()
    row = f'{{"id": "b-1", "study_id": {S1}, "subject_id": {P1}, "report": "Clear .\\n No mass .",'
    row += f' "image_path": ["{image}"], "split": "train"}}'
    (tmp_path / "r2gen" / "annotation.json").write_text(f'{{"train": [{row}]}}')
    (case,) = load(tmp_path / "r2gen").cases("train")
    assert (case.id, case.answer) == ("train-b-1", "Clear . No mass .")
    assert case.images == (f"images/{image}",)
    assert case.fields == {"layout": "mimiccxr", "study_id": S1, "patient_id": P1}
    assert "data.mimic_cxr.views is not used" in capsys.readouterr().out
    (tmp_path / "pefomed" / "train.json").write_text(f'{{"{image}": ["Clear."]}}')
    (case,) = load(tmp_path / "pefomed").cases("train")
    assert (case.images, case.fields["layout"]) == ((f"images/{image}",), "mimiccxr")


MEASURE = """
import json, resource, sys, time
from pefomed_jax import config as config_lib
from pefomed_jax.data.sources import mimic_cxr

config = config_lib.make("mrg", "tiny")
config.data.update(source="mimic_cxr", dir=sys.argv[1])
most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
start, before = time.monotonic(), most()
source = mimic_cxr.load(config)
counts = len(source.cases("train")), len(source.bad_rows)
print(json.dumps([*counts, time.monotonic() - start, most() - before]))
"""


def test_a_large_set(tmp_path: pathlib.Path) -> None:
    """50,000 images of 25,000 studies: seconds, and little beside what the cases are."""
    split, metadata = ["dicom_id,study_id,subject_id,split"], ["dicom_id,ViewPosition"]
    with zipfile.ZipFile(tmp_path / "mimic-cxr-reports.zip", "w") as archive:
        for i in range(25_000):
            study, patient = 50_000_000 + i, 10_000_000 + i // 50
            for view in ("PA", "LATERAL"):
                split.append(f"{view.lower()}-{i:040d},{study},{patient},train")
                metadata.append(f"{view.lower()}-{i:040d},{view}")
            name = f"files/p10/p{patient}/s{study}.txt"
            archive.writestr(name, FULL.format(f"Case {i}. " + "The lungs are clear. " * 20))
    write_table(tmp_path, "split", "\n".join(split))
    write_table(tmp_path, "metadata", "\n".join(metadata))
    for i in range(500):
        (tmp_path / "files" / "p10" / f"p{10_000_000 + i}" / "s1").mkdir(parents=True)
    (tmp_path / "files" / "p10" / "p10000000" / "s1" / "x.jpg").touch()
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]  # without the checks of annotations
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cases, bad, seconds, megabytes = json.loads(out.splitlines()[-1])
    assert (cases, bad) == (25_000, 0)
    assert seconds < 20
    assert megabytes < 120
