"""Writers of data sets in miniature, each in the layout of its release, a row of it bad.

They are written by what tests their reading, `tests/data/sources/test_<set>.py`; images are real.
"""

import json
import pathlib
import pickle

import numpy as np
import runs

from . import dicoms
from .conftest import write_image
from .sources import (
    test_clef,
    test_iu_xray,
    test_medexpqa,
    test_medicat,
    test_mediqa_m3g,
    test_mimic_cxr,
    test_pathvqa,
    test_roco,
    test_slake,
    test_vqa_med,
)

Folder = pathlib.Path
RELEASE = "physionet.org/files/mimic-cxr/2.1.0"
VAL_2021 = f"21/{test_vqa_med.VAL_2021}/VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt"


def vqa_rad(folder: Folder) -> None:
    """Two questions about each of 12 and 4 images; a training question has no image."""
    runs.write_pictures(folder)
    (folder / "val.json").unlink()
    (folder / "test.json").rename(folder / "testset.json")
    rows = json.loads((folder / "train.json").read_text())
    (folder / "train.json").unlink()
    rows.append(rows[0] | {"qid": 99, "image_name": "synpic1.jpg"})
    (folder / "trainset.json").write_text(json.dumps(rows))


def slake(folder: Folder) -> None:
    """A question in English, one in Chinese, one without an answer (as the set has it)."""
    row = test_slake.ROW
    closed = row | {"qid": 2, "question": "Is it CT?", "answer": "No", "answer_type": "CLOSED"}
    empty = row | {"qid": 3, "answer": ""}
    test_slake.write(folder / "Slake1.0", [row, test_slake.CHINESE, closed, empty])


def pathvqa(folder: Folder) -> None:
    """The authors' release; the last training question is about a picture that is not there."""
    test_pathvqa.write_original(folder / "pvqa")
    path = folder / "pvqa" / "qas" / "train" / "train_qa.pkl"
    rows = pickle.loads(path.read_bytes())
    rows.append({"image": "train_0009", "question": "What is it?", "answer": "a cell"})
    path.write_bytes(pickle.dumps(rows))


def pathvqa_parquet(folder: Folder) -> None:
    """Hugging Face's files, an image of the test file no picture."""
    from .sources import test_pathvqa_parquet as parquet  # skips where there is no pyarrow

    parquet.write(folder)
    path = folder / "data" / "test-00000-of-00001.parquet"
    parquet.write_file(path, [60, 61, 62])
    rows = parquet.pq.read_table(path).to_pylist()
    rows[2]["image"]["bytes"] = b"no picture"
    parquet.pq.write_table(parquet.pa.Table.from_pylist(rows), path)


def vqa_med(folder: Folder) -> None:
    """Three years side by side, a line of the last one without an answer."""
    test_vqa_med.write_2019(folder / "19")
    test_vqa_med.write_2020(folder / "20")
    test_vqa_med.write_2021(folder / "21")
    with (folder / VAL_2021).open("a") as file:
        file.write("synpic9|and what else?\n")


def medexpqa(folder: Folder) -> None:
    """The light lists of one language; a question whose correct option is none of its options."""
    row = test_medexpqa.ROW
    for name, ids in (("train", (7, 8, 9)), ("dev", (10,)), ("test", (11, 12))):
        rows = [row | {"id": i} for i in ids]
        if name == "train":
            rows[2]["correct_option"] = 5
        test_medexpqa.write(folder / "data" / "en" / f"{name}.en.casimedicos.jsonl", *rows)


def mediqa_m3g(folder: Folder) -> None:
    """Encounters of one, two and three photographs; one without a response."""
    made = test_mediqa_m3g.encounter
    lists = {
        "train.json": [made(1, 3), made(2, 1), made(3, responses=[])],
        "valid_ht.json": [made(4)],
        "test_ht.json": [made(5, 3), made(6, 1)],
    }
    test_mediqa_m3g.write(folder / "data" / "iiyi", lists)
    users = "author_id,validation_level,rank_level\nU1,md_validated,level_4\n"
    (folder / "data" / "iiyi" / "df_userinfo.csv").write_text(users)


def own_folder(folder: Folder) -> None:
    """A table of one's own: a row of two images, a quoted line break, a row without a text."""
    for i in range(8):
        write_image(folder / "images" / f"{i}.png", seed=i)
    table = [
        "file;report;patient;split",
        "0.png|1.png;Clear.;p1;train",
        '2.png;"No\neffusion.";p1;train',
        "3.png;;p2;train",
        "4.png;Nodule.;p3;val",
        "5.png|6.png;Effusion.;p4;test",
        "7.png;Clear.;p5;test",
    ]
    (folder / "metadata.csv").write_text("\n".join(table) + "\n")


def roco_1(folder: Folder) -> None:
    """Version 1 as its copies have it; a figure that can no longer be fetched."""
    for number, split in enumerate(test_roco.PARTS):
        part = folder / "all_data" / split / "radiology"
        names = [f"ROCO_{number}{i}" for i in range(3)]
        lines = [f"{name}\t  Clear {i}.\n" for i, name in enumerate(names)]
        test_roco.write_first(part, lines, [], [f"{name}.jpg" for name in names])
    (folder / "all_data" / "train" / "radiology" / "images" / "ROCO_02.jpg").unlink()


def roco_2(folder: Folder) -> None:
    """Version 2 as its archives unpack, a caption of a quoted line break; one that is empty."""
    test_roco.write_second(folder)
    with (folder / "train_captions.csv").open("a") as file:
        file.write("ROCOv2_2023_train_000003,\n")
    write_image(folder / "train_images" / "train" / "ROCOv2_2023_train_000003.jpg")


def clef_2024(folder: Folder) -> None:
    """A year without captions of its test images; an ID without an image."""
    for split, n in (("train", 4), ("valid", 2), ("test", 1)):
        names = [f"ImageCLEFmedical_Caption_2024_{split}_{i:06}" for i in range(n)]
        for i, name in enumerate(names):
            write_image(folder / split / f"{name}.jpg", seed=i)
        if split != "test":
            rows = [f'{name},"Clear, {i}."' for i, name in enumerate(names)]
            test_clef.write(folder / f"{split}_captions.csv", "ID,Caption", *rows)
    (folder / "train" / "ImageCLEFmedical_Caption_2024_train_000003.jpg").unlink()


def medicat(folder: Folder) -> None:
    """Figures of papers of each split and boxes of some; a figure and a box that are bad."""
    papers = (test_medicat.TRAIN, test_medicat.VAL, test_medicat.TEST)
    figures = [
        test_medicat.figure(paper, n, s2_caption=f"Clear {n}.") for paper in papers for n in (1, 2)
    ]
    figures.append(test_medicat.figure(test_medicat.TRAIN, 3, radiology=False))
    figures.append(test_medicat.figure(test_medicat.TRAIN, 4, s2_caption="", s2orc_caption=""))
    boxes = [test_medicat.compound(paper) for paper in papers]
    flat = {"label": "a", "points": [[34, 2], [34, 2], [36, 2]]}  # as in the release
    boxes[0]["subfigures"] = [flat, *boxes[0]["subfigures"][1:]]
    root = folder / "release"
    test_medicat.write(root, test_medicat.LIST, *figures)
    test_medicat.write(root, test_medicat.SUBCAPTIONS, *boxes)


def iu_xray_open_i(folder: Folder) -> None:
    """Twelve reports of two images; the one of training report 3 cannot be read."""
    reports = folder / "NLMCXR_reports" / "ecgen-radiology"
    for n in range(1, 13):
        test_iu_xray.write_report(reports, n, "Clear &amp; normal.")
        for view in test_iu_xray.VIEWS:
            write_image(folder / "NLMCXR_png" / f"CXR{n}_{view}.png", seed=n)
    (reports / "3.xml").write_text("<eCitation><uId")


def iu_xray_r2gen(folder: Folder) -> None:
    """R2Gen's list: two images a study, one with one; an empty report."""
    row, none = test_iu_xray.ROW, {"report": " "}
    single = {"id": "single", "image_path": row["image_path"][:1]}
    lists = {"train": [row, row | single, row | {"id": "c"} | none]}
    lists |= {"val": [row | {"id": "d"}], "test": [row | {"id": "e"}, row | single]}
    test_iu_xray.write_r2gen(folder / "iu_xray", **lists)


def mimic_jpg(folder: Folder) -> None:
    """MIMIC-CXR-JPG with the reports unpacked into it; one image was never fetched."""
    _mimic(folder, ".jpg")
    for i, path in enumerate(sorted((folder / "files").rglob("*.jpg"))):
        write_image(path, seed=i, size=(40, 36))


def mimic_dicom(folder: Folder) -> None:
    """MIMIC-CXR as `wget` leaves it: 12 and 16 bits, every other image inverted."""
    tree = folder / RELEASE
    _mimic(tree, ".dcm")
    inverted = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    for i, path in enumerate(sorted((tree / "files").rglob("*.dcm"))):
        pixels = np.random.default_rng(i).integers(0, 4096, (40, 36), np.uint16)
        own = {"Modality": "DX", "SOPInstanceUID": f"1.2.{i}", **(inverted if i % 2 else {})}
        dicoms.write(path, pixels, **own)


def _mimic(folder: Folder, suffix: str) -> None:
    """Tables and reports, findings in all of them but one; a row that the metadata lacks."""
    given = test_mimic_cxr
    lost = f"z-1,50000009,{given.P1},train\n"
    given.write_tables(folder)
    given.write_table(folder, "split", given.SPLIT + lost)
    given.write_table(
        folder, "metadata", given.METADATA.replace(f"f-1,{given.P3},{given.S4},,", _FRONTAL)
    )
    given.write_images(folder, suffix)
    given.write_reports(folder)
    report = folder / "files" / "p10" / f"p{given.P2}" / f"s{given.S3}.txt"
    report.write_text(given.FULL.format("Clear lungs."))


_FRONTAL = f"f-1,{test_mimic_cxr.P3},{test_mimic_cxr.S4},CHEST (PA AND LAT),PA"
