"""The miniatures of `miniatures.py`, and what a run on each of them has to find."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from . import miniatures
from .sources import test_medicat, test_mimic_cxr

SPLIT = "mimic-cxr-2.0.0-split.csv.gz"


class Tree(NamedTuple):
    """A miniature, its set and the config that it serves; what is in it."""

    source: str
    task: str
    write: Callable[[pathlib.Path], object]
    train: int  # cases, before a part is set aside for validation
    test: Mapping[str, int]  # the ids of the test cases, and how many images each has
    bad: tuple[tuple[str, int], ...]  # file and row
    options: Mapping[str, Any] = {}  # of the set
    types: Mapping[str, int] = {}  # test cases by answer_type


TREES: dict[str, Tree] = {
    "vqa_rad": Tree(
        *("vqa_rad", "vqa", miniatures.vqa_rad, 24),
        test={f"test-test{i}{kind}": 1 for i in range(4) for kind in "ab"},
        bad=(("trainset.json", 25),),
        types={"OPEN": 4, "CLOSED": 4},
    ),
    "slake": Tree(
        *("slake", "vqa", miniatures.slake, 2),
        test={"test-9": 1},
        bad=(("train.json", 4),),
        types={"OPEN": 1},
    ),
    "slake in both languages": Tree(
        *("slake", "vqa", miniatures.slake, 3),
        test={"test-9": 1},
        bad=(("train.json", 4),),
        types={"OPEN": 1},
        options={"language": "all"},
    ),
    "pathvqa": Tree(
        *("pathvqa", "vqa", miniatures.pathvqa, 2),
        test={"test-row1": 1, "test-row2": 1},
        bad=(("qas/train/train_qa.pkl", 3),),
        types={"OPEN": 1, "CLOSED": 1},
    ),
    "pathvqa in parquet files": Tree(
        *("pathvqa", "vqa", miniatures.pathvqa_parquet, 13),
        test={"test-row1": 1, "test-row2": 1},
        bad=(("data/test-00000-of-00001.parquet", 3),),
        types={"OPEN": 1, "CLOSED": 1},
    ),
    "vqa_med": Tree(
        *("vqa_med", "vqa", miniatures.vqa_med, 3),
        test={f"test-{year}-row{i}": 1 for year in (2019, 2020, 2021) for i in (1, 2)},
        bad=((miniatures.VAL_2021, 2),),
        types={"OPEN": 5, "CLOSED": 1},
    ),
    "medexpqa": Tree(
        *("medexpqa", "vqa", miniatures.medexpqa, 2),
        test={"test-en-11": 0, "test-en-12": 0},
        bad=(("data/en/train.en.casimedicos.jsonl", 3),),
        types={"CLOSED": 2},
    ),
    "mediqa_m3g": Tree(
        *("mediqa_m3g", "vqa", miniatures.mediqa_m3g, 2),
        test={"test-ENC00005": 3, "test-ENC00006": 1},
        bad=(("data/iiyi/train.json", 3),),
        types={"OPEN": 2},
    ),
    "folder": Tree(
        *("folder", "mrg", miniatures.own_folder, 2),
        test={"test-row5": 2, "test-row6": 1},
        bad=(("metadata.csv", 3),),
    ),
    "roco of version 1": Tree(
        *("roco", "caption", miniatures.roco_1, 2),
        test={f"test-ROCO_2{i}": 1 for i in range(3)},
        bad=(("all_data/train/radiology/captions.txt", 3),),
    ),
    "roco of version 2": Tree(
        *("roco", "caption", miniatures.roco_2, 2),
        test={f"test-ROCOv2_2023_test_00000{i}": 1 for i in (1, 2)},
        bad=(("train_captions.csv", 3),),
    ),
    "clef": Tree(  # the validation images are answered, there being no others
        *("clef", "caption", miniatures.clef_2024, 3),
        test={f"val-ImageCLEFmedical_Caption_2024_valid_00000{i}": 1 for i in range(2)},
        bad=(("train_captions.csv", 4),),
    ),
    "clef, its validation images as test": Tree(
        *("clef", "caption", miniatures.clef_2024, 3),
        test={f"test-ImageCLEFmedical_Caption_2024_valid_00000{i}": 1 for i in range(2)},
        bad=(("train_captions.csv", 4),),
        options={"test": "valid"},
    ),
    "medicat": Tree(
        *("medicat", "caption", miniatures.medicat, 2),
        test={f"test-p1_2-Figure{i}-1.png": 1 for i in (1, 2)},
        bad=((f"release/{test_medicat.LIST}", 8),),
    ),
    "medicat by subfigures": Tree(
        *("medicat", "caption", miniatures.medicat, 1),
        test={f"test-p1_2-Figure1-1.png-{i}": 1 for i in (0, 1)},
        bad=((f"release/{test_medicat.SUBCAPTIONS}", 1),),
        options={"images": "subfigures"},
    ),
    "iu_xray of Open-i": Tree(
        *("iu_xray", "mrg", miniatures.iu_xray_open_i, 6),
        test={f"test-CXR{n}": 2 for n in (2, 4, 11)},
        bad=(("NLMCXR_reports/ecgen-radiology/3.xml", 1),),
    ),
    "iu_xray of R2Gen": Tree(
        *("iu_xray", "mrg", miniatures.iu_xray_r2gen, 2),
        test={"test-e": 2, "test-single": 1},
        bad=(("iu_xray/annotation.json", 3),),
    ),
    "mimic_cxr": Tree(
        *("mimic_cxr", "mrg", miniatures.mimic_jpg, 2),
        test={f"test-s{test_mimic_cxr.S4}": 1},
        bad=((SPLIT, 8),),
    ),
    "mimic_cxr by studies": Tree(
        *("mimic_cxr", "mrg", miniatures.mimic_jpg, 2),
        test={f"test-s{test_mimic_cxr.S4}": 1},
        bad=((SPLIT, 8),),
        options={"views": "study"},
    ),
    "mimic_cxr as DICOM, image by image": Tree(
        *("mimic_cxr", "mrg", miniatures.mimic_dicom, 4),
        test={"test-f-1": 1},
        bad=((f"{miniatures.RELEASE}/{SPLIT}", 8),),
        options={"views": "any"},
    ),
}
