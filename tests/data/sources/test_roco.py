"""ROCO v1 as its repository and its copies have it, v2 as Zenodo has it, and their odd rows."""

import json
import pathlib
import pickle
import re

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.data import sources
from pefomed_jax.errors import UserError

from ..conftest import write_image

LINK = "wget -r ftp://ftp.ncbi.nlm.nih.gov/pub/pmc/oa_package/69/93/{}.tar.gz -P /path/to/Dir"
PARTS = ("train", "validation", "test")


def load(folder: pathlib.Path, subset: str = "radiology"):
    config = config_lib.make("caption", "tiny")
    config.data.update(source="roco", dir=str(folder))
    config.data.roco.subset = subset
    return sources.load(config)


def write_first(
    folder: pathlib.Path, lines: list[str], links: list[str], images: list[str]
) -> None:
    """A folder radiology/ or non-radiology/ of version 1."""
    for name in images:
        write_image(folder / "images" / name)
    (folder / "captions.txt").write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
    (folder / "dlinks.txt").write_text("".join(links))


@pytest.fixture
def first(tmp_path: pathlib.Path) -> pathlib.Path:
    """A clone of the repository after scripts/fetch.py: two figures a split, one out of class."""
    for number, split in enumerate(PARTS):
        for part, ids in (("radiology", (1, 2)), ("non-radiology", (3,))):
            names = [f"ROCO_{number}000{i}" for i in ids]
            links = [f"{n}\t{LINK.format(f'PMC{n[5:]}')}\tAMHSR-4-g0.2.jpg\n" for n in names]
            images = [f"PMC{name[5:]}_AMHSR-4-g0.2.jpg" for name in names]
            lines = [f'{name}\t  "Chest" {part} of {split}. \n' for name in names]
            write_first(tmp_path / "data" / split / part, lines, links, images)
    return tmp_path


def test_version_1_after_its_script(first: pathlib.Path) -> None:
    source = pickle.loads(pickle.dumps(load(first)))
    assert source.bad_rows == []
    assert {s: len(source.cases(s)) for s in source.splits} == {"train": 2, "val": 2, "test": 2}
    case = source.cases("val")[1]
    assert case.id == "val-ROCO_10002"
    assert case.images == ("data/validation/radiology/images/PMC10002_AMHSR-4-g0.2.jpg",)
    assert (case.question, case.answer) == ("", '"Chest" radiology of validation.')
    assert case.fields == {"layout": "caption", "subset": "radiology", "pmc_id": "PMC10002"}
    source.image(case).load()


def test_subsets(first: pathlib.Path) -> None:
    other = load(first, "non-radiology").cases("train")
    assert [case.fields["subset"] for case in other] == ["non-radiology"]
    everything = load(first, "all").cases("train")
    assert [case.id for case in everything] == [f"train-ROCO_0000{i}" for i in (1, 2, 3)]
    (first / "data" / "test" / "non-radiology" / "captions.txt").unlink()
    with pytest.raises(UserError, match=r"no .*test.non-radiology.captions.txt; .*roco.subset"):
        load(first, "all")
    assert len(load(first).cases("test")) == 2


@pytest.mark.parametrize("inside", ["", "all_data", "data", "roco-dataset/data", "one"])
def test_copies_name_images_by_id(tmp_path: pathlib.Path, inside: str) -> None:
    for split in PARTS:
        folder = tmp_path / inside / split / "radiology"
        write_first(folder, ["ROCO_7\t Clear.\n"], [], ["ROCO_7.jpg"])
        (folder / "cuis.txt").write_text("ROCO_7\t\tC0013516\tC3244072\nROCO_8\t\n")
    (case,) = load(tmp_path).cases("test")
    assert case.image == f"{inside}/test/radiology/images/ROCO_7.jpg".lstrip("/")
    assert case.fields["cuis"] == "C0013516;C3244072"
    assert "pmc_id" not in case.fields


def test_version_1_bad_rows(first: pathlib.Path) -> None:
    folder = first / "data" / "train" / "radiology"
    link = LINK.format("PMC9")
    lines = [
        "\ufeffROCO_00001\t With a mark of byte order.\r\n",
        "ROCO_00009\t Gone from PubMed Central.\n",
        "ROCO_00001\t Once more.\n",
        "\n",
        "ROCO_00002\t\n",
        "ROCO_00002\n",
        "ROCO_00002\t a\tb\n",
        "ROCO_00002\t Fi\udce8vre.\n",
        'ROCO_00002\t "An open quote.\n',
    ]
    links = [f"ROCO_0000{i}\t{link}\tx.jpg\n" for i in (1, 9)]
    write_first(folder, lines, links, ["ROCO_00001.jpg", "ROCO_00002.jpg"])
    (folder / "images" / "PMC9_y.jpg").touch()  # belongs to no row
    source = load(first)
    assert [c.answer for c in source.cases("train")] == [
        "With a mark of byte order.",
        '"An open quote.',
    ]
    expected = [
        "row 2, field 'ID': no image ROCO_00009 in .*radiology.images; fetch it or delete",
        "row 3, field 'id': train-ROCO_00001 is row 1 already",
        "row 4, field 'caption': empty",
        "row 5, field '.*': 1 cells where there are 2 columns",
        "row 6, field 'caption': 3 cells where there are 2 columns",
        "row 7, field 'caption': is not UTF-8",
    ]
    assert len(source.bad_rows) == len(expected)
    for bad, message in zip(source.bad_rows, expected, strict=True):
        assert str(bad).startswith("data/train/radiology/captions.txt, ")
        assert re.search(message, str(bad)), str(bad)


def write_second(folder: pathlib.Path, inside: str = "{0}_images/{0}") -> None:
    """Version 2 as Zenodo's archives unpack, with two figures a split."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "valid", "test"):
        ids = [f"ROCOv2_2023_{split}_00000{i}" for i in (1, 2)]
        for name in ids:
            write_image(folder / inside.format(split) / f"{name}.jpg")
        rows = [f'{ids[0]},"Film, with\n""air""."', f"{ids[1]},CT of the head."]
        (folder / f"{split}_captions.csv").write_text("\n".join(["ID,Caption", *rows, ""]))
        (folder / f"{split}_concepts.csv").write_text(f"ID,CUIs\n{ids[1]},C0040405;C0018670\n")


@pytest.mark.parametrize("inside", ["{0}_images/{0}", "{0}_images", "{0}", "images"])
def test_version_2(tmp_path: pathlib.Path, inside: str) -> None:
    write_second(tmp_path / "rocov2", inside)
    source = load(tmp_path)
    assert source.bad_rows == []
    a, b = source.cases("val")
    assert a.answer == 'Film, with\n"air".'
    assert "cuis" not in a.fields
    assert b.fields["cuis"] == "C0040405;C0018670"
    assert b.id == "val-ROCOv2_2023_valid_000002"
    assert b.image == f"rocov2/{inside.format('valid')}/ROCOv2_2023_valid_000002.jpg"
    assert [len(source.cases(s)) for s in ("train", "test")] == [2, 2]
    with pytest.raises(UserError, match=r"roco.subset: .* is ROCO v2, all radiology"):
        load(tmp_path, "non-radiology")


def test_what_is_missing_is_named(tmp_path: pathlib.Path, first: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"no ROCO in .*data/train/radiology/captions.txt \(v1\)"):
        load(first / "data" / "train")
    (first / "data" / "validation" / "radiology" / "images").rename(tmp_path / "aside")
    with pytest.raises(UserError, match=r"no .*radiology.images; run scripts/fetch.py"):
        load(first)
    second = tmp_path / "second"
    write_second(second)
    (second / "test_captions.csv").unlink()
    with pytest.raises(UserError, match=r"no .*test_captions.csv; fetch it"):
        load(second)
    (second / "test_captions.csv").write_text("file,words\na,b\n")
    with pytest.raises(
        UserError, match=r"test_captions.csv: no columns id and caption in its first"
    ):
        load(second)


def test_version_2_without_images(tmp_path: pathlib.Path) -> None:
    write_second(tmp_path)
    (tmp_path / "valid_images").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"unpack valid_images.zip into .*valid_images"):
        load(tmp_path)


def test_as_pefomed_lists(tmp_path: pathlib.Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "train.json").write_text(json.dumps([{"image": "a.png", "caption": "Clear."}]))
    source = load(tmp_path)
    assert [(source.name, c.image, c.answer) for c in source.cases("train")] == [
        ("roco", "images/a.png", "Clear.")
    ]


def test_the_published_version_2(shared: pathlib.Path) -> None:
    source = load(shared / "data" / "rocov2-sample")
    assert source.bad_rows == []
    assert {s: len(source.cases(s)) for s in source.splits} == {"train": 90, "val": 20, "test": 20}
    case = source.cases("train")[1]
    assert case.id == "train-ROCOv2_2023_train_032234"
    assert case.answer == "Computed tomography scan with multiple calculus in left kidney."
    assert case.fields["cuis"] == "C0040405;C1265741;C0227614"
    assert all("cuis" in c.fields for s in source.splits for c in source.cases(s))
    source.image(case).load()
