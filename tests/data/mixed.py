"""A mixture of all that makes rows differ: several images a case, DICOM, parquet, text alone."""

import pathlib

import numpy as np
from ml_collections import ConfigDict

from . import dicoms
from .conftest import write_image
from .sources import test_medexpqa

COUNTS = {"train": 11, "val": 5, "test": 6}
AUGMENT = {"rotate": 10.0, "shift": 0.1, "zoom": 0.1, "brightness": 0.1, "contrast": 0.1}
RATIOS = (("folder", 3), ("medexpqa", 1))


def write_folder(root: pathlib.Path) -> None:
    """Rows of one to three images, the more the longer; every other one is DICOM of 12 bits."""
    lines, shape = ["image,question,answer,split"], (24, 20)
    (root / "images").mkdir(parents=True)
    for split, count in COUNTS.items():
        for i in range(count):
            names = [f"{split}{i}_{j}.{'dcm' if (i + j) % 2 else 'png'}" for j in range(1 + i % 3)]
            for j, name in enumerate(names):
                if name.endswith("png"):
                    write_image(root / "images" / name, seed=10 * i + j, size=shape)
                else:
                    values = np.random.default_rng(10 * i + j).integers(0, 4096, shape, np.uint16)
                    dicoms.write(root / "images" / name, values, BitsStored=12, HighBit=11)
            words = "so " * (0, 20, 80)[i % 3]
            lines.append(f"{';'.join(names)},What is {words}{i}?,a{i},{split}")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")


def write_texts(root: pathlib.Path) -> None:
    """Exam questions, which have no image."""
    own = {"full_question": "Fever?", "options": {"1": "Gout.", "2": "Flu."}}
    for split, name in (("train", "train"), ("val", "dev"), ("test", "test")):
        first = 100 * len(name)
        rows = [test_medexpqa.ROW | own | {"id": first + i} for i in range(COUNTS[split])]
        test_medexpqa.write(root / f"{name}.en.casimedicos.jsonl", *rows)


def write(root: pathlib.Path) -> pathlib.Path:
    """Both, each in the folder of its source's name."""
    write_folder(root / "folder")
    write_texts(root / "medexpqa")
    return root


def use(config: ConfigDict, root: pathlib.Path) -> ConfigDict:
    """The config reads them, with weights and augmentation."""
    config.data.update(source="folder+medexpqa", dir=str(root), ratios=RATIOS, branches=1)
    config.data.augment.update(AUGMENT)
    return config
