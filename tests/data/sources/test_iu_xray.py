"""IU X-Ray as R2Gen and Open-i hand it out, in miniature, with what can be wrong in it."""

import json
import pathlib
import pickle
import re
import shutil

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.data.sources import iu_xray
from pefomed_jax.errors import UserError
from pefomed_jax.validate import validate

from ..conftest import write_image

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
  <meta type="rr"/>
  <uId id="CXR{n}"/>
  <MedlineCitation Owner="Indiana University" Status="supplied by publisher">
    <Article PubModel="Electronic">
      <Abstract>
        <AbstractText Label="COMPARISON">None.</AbstractText>
        <AbstractText Label="INDICATION">Positive TB test</AbstractText>
        <AbstractText Label="FINDINGS">{findings}</AbstractText>
        <AbstractText Label="IMPRESSION">{impression}</AbstractText>
      </Abstract>
    </Article>
  </MedlineCitation>
  <MeSH>
    <major>Cardiomegaly/mild</major>
    <major>normal</major>
  </MeSH>
  {images}
</eCitation>
"""
IMAGE = """<parentImage id="{name}">
    <figure><figureId>F1</figureId><caption>Xray Chest PA and Lateral</caption></figure>
    <panel><url>/hadoop/storage/radiology/extract/{name}.jpg</url></panel>
  </parentImage>"""
VIEWS = ("IM-0001-3001", "IM-0001-4001")


def write_report(
    folder: pathlib.Path, n: int, findings="Clear &amp; dry.", impression="Normal.", views=VIEWS
) -> None:
    images = "\n".join(IMAGE.format(name=f"CXR{n}_{view}") for view in views)
    text = XML.format(n=n, findings=findings, impression=impression, images=images)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{n}.xml").write_text(text, encoding="utf-8")


@pytest.fixture
def open_i(tmp_path: pathlib.Path) -> pathlib.Path:
    """Twelve reports, each with two PNG images."""
    for n in range(1, 13):
        write_report(tmp_path / "NLMCXR_reports" / "ecgen-radiology", n)
        for view in VIEWS:
            write_image(tmp_path / "NLMCXR_png" / f"CXR{n}_{view}.png", seed=n)
    return tmp_path


def load(folder: pathlib.Path, **own: str):
    config = config_lib.make("mrg", "tiny")
    config.data.update(source="iu_xray", dir=str(folder))
    config.data.iu_xray.update(**own)
    return iu_xray.load(validate(config))


def cases(source) -> list:
    return [case for split in source.splits for case in source.cases(split)]


def test_open_i(open_i: pathlib.Path, capsys) -> None:
    (open_i / "NLMCXR_png" / "._CXR1_IM-0001-3001.png").touch()
    source = pickle.loads(pickle.dumps(load(open_i)))
    assert source.splits == ("train", "val", "test")
    assert source.bad_rows == []
    found = {case.fields["study_id"]: case for case in cases(source)}
    assert set(found) == {f"CXR{n}" for n in range(1, 13)}
    case = found["CXR7"]
    assert case.id == f"{case.split}-CXR7"
    assert case.images == tuple(f"NLMCXR_png/CXR7_{view}.png" for view in VIEWS)
    assert (case.question, case.answer) == ("", "Clear & dry.")
    mesh = ["Cardiomegaly/mild", "normal"]
    assert case.fields == {"layout": "iuxray", "study_id": "CXR7", "mesh": mesh}
    assert source.where[case.id] == ("NLMCXR_reports/ecgen-radiology/7.xml", 1)
    source.image(case, 1).load()
    assert capsys.readouterr().out == ""


def test_splits_are_the_same_everywhere(open_i: pathlib.Path) -> None:
    splits = [iu_xray.split_of(f"CXR{n}") for n in range(1, 4000)]
    shares = [splits.count(split) / len(splits) for split in ("train", "val", "test")]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.02)
    assert splits[:7] == ["train", "test", "train", "test", "train", "train", "val"]
    for n in (2, 5):
        (open_i / "NLMCXR_reports" / "ecgen-radiology" / f"{n}.xml").unlink()
    split_of = {case.fields["study_id"]: case.split for case in cases(load(open_i))}
    assert split_of == {f"CXR{n}": splits[n - 1] for n in range(1, 13) if n not in (2, 5)}
    numbers = [int(case.fields["study_id"][3:]) for case in load(open_i).cases("train")]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(("views", "images"), [("both", 2), ("frontal", 1), ("each", 1)])
def test_views(open_i: pathlib.Path, views: str, images: int) -> None:
    found = cases(load(open_i, views=views))
    assert {len(case.images) for case in found} == {images}
    assert len(found) == (24 if views == "each" else 12)
    assert len({case.id for case in found}) == len(found)
    first = next(case for case in found if case.fields["study_id"] == "CXR7")
    assert first.image == "NLMCXR_png/CXR7_IM-0001-3001.png"


@pytest.mark.parametrize(
    ("sections", "answer"),
    [("impression", "Normal."), ("both", "FINDINGS: Clear & dry. IMPRESSION: Normal.")],
)
def test_sections(open_i: pathlib.Path, sections: str, answer: str) -> None:
    assert {case.answer for case in cases(load(open_i, sections=sections))} == {answer}


def test_what_is_left_out_is_counted(open_i: pathlib.Path, capsys) -> None:
    folder = open_i / "NLMCXR_reports" / "ecgen-radiology"
    write_report(folder, 2, views=())
    write_report(folder, 3, findings="")
    write_report(folder, 4, findings=" \n ")
    write_report(folder, 7, views=(*VIEWS, "IM-0001-5001"))
    assert len(cases(load(open_i))) == 9
    assert capsys.readouterr().out.splitlines() == [
        "iu_xray: 1 test studies have no findings and are left out",
        "iu_xray: 1 test studies name no image and are left out",
        "iu_xray: 1 train studies have no findings and are left out",
        "iu_xray: 1 val studies have more than two images, of which the first two are used",
    ]
    load(open_i, sections="both")
    assert "have no findings and impression and are left out" in capsys.readouterr().out


BOMB = '<?xml version="1.0"?>\n<!DOCTYPE x [<!ENTITY a "{}">]>\n<eCitation>&a;</eCitation>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB.format("ha" * 9).encode(), r"5.xml, row 1, field 'file': declares a document type"),
        (BOMB.format("x").encode("utf-16"), r"field 'file': is not UTF-8 at byte 0; save it"),
        (b"<eCitation>" + b" " * (1 << 20) + b"</eCitation>", r"1,048,599 bytes are no report"),
        (b"<eCitation><uId", r"field 'file': is no XML \(unclosed token: line 1"),
        (b"<html/>", r"<html> is no report of Open-i; move it away"),
        (b"", r"is no XML \(no element found"),
    ],
)
def test_reports_that_cannot_be_used(open_i: pathlib.Path, content: bytes, message: str) -> None:
    (open_i / "NLMCXR_reports" / "ecgen-radiology" / "5.xml").write_bytes(content)
    source = load(open_i)
    (bad,) = source.bad_rows
    assert re.search(message, str(bad)), str(bad)
    assert len(cases(source)) == 11


def test_images_that_are_missing(open_i: pathlib.Path) -> None:
    (open_i / "NLMCXR_png" / "CXR7_IM-0001-4001.png").unlink()
    (bad,) = load(open_i).bad_rows
    assert str(bad) == (
        "NLMCXR_reports/ecgen-radiology/7.xml, row 1, field 'parentImage': no image "
        "CXR7_IM-0001-4001; unpack the images again"
    )
    source = load(open_i, views="each")
    assert len(source.bad_rows) == 1
    assert len(cases(source)) == 23
    assert load(open_i, views="frontal").bad_rows == []


def test_unpacked_into_one_folder_and_dicom(open_i: pathlib.Path) -> None:
    """NLMCXR_png.tgz has no folder; the DICOM files leave the report's number out of their name."""
    for image in (open_i / "NLMCXR_png").iterdir():
        shutil.move(image, open_i)
    source = load(open_i)
    assert cases(source)[0].image == "CXR1_IM-0001-3001.png"
    for n in range(1, 13):
        for view in VIEWS:
            place = open_i / "NLMCXR_dcm" / str(n) / f"{n}_{view}.dcm"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        text = open_i / "NLMCXR_reports" / "ecgen-radiology" / f"{n}.xml"
        text.write_text(text.read_text().replace(f'id="CXR{n}_', f'id="CXR{n}_{n}_'))
    assert cases(load(open_i))[0].images == tuple(f"NLMCXR_dcm/1/1_{view}.dcm" for view in VIEWS)
    write_image(open_i / "CXR1_1_IM-0001-3001.png")
    assert cases(load(open_i))[0].image == "CXR1_1_IM-0001-3001.png", "PNG comes before DICOM"


def test_parts_that_are_missing(open_i: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no annotation.json nor a report \(.xml\) below"):
        load(tmp_path / "empty")
    shutil.rmtree(open_i / "NLMCXR_png")
    with pytest.raises(UserError, match=r"no image \(.png or .dcm\) below .*NLMCXR_png.tgz"):
        load(open_i)


ROW = {
    "id": "CXR2384_IM-0942",
    "report": "The heart size is normal .\nNo effusion .",
    "image_path": ["CXR2384_IM-0942/0.png", "CXR2384_IM-0942/1.png"],
    "split": "train",
}


def write_r2gen(folder: pathlib.Path, **lists: object) -> pathlib.Path:
    for image in ROW["image_path"]:
        write_image(folder / "images" / image)
    (folder / "annotation.json").write_text(json.dumps(lists))
    return folder


@pytest.mark.parametrize("deep", ["", "iu_xray"])
def test_r2gen(tmp_path: pathlib.Path, deep: str) -> None:
    write_r2gen(tmp_path / deep, train=[ROW], val=[ROW | {"id": "b"}], test=[])
    source = load(tmp_path)
    assert source.splits == ("train", "val", "test")
    (case,) = source.cases("train")
    assert (case.id, case.answer) == (
        "train-CXR2384_IM-0942",
        "The heart size is normal . No effusion .",
    )
    folder = f"{deep}/images" if deep else "images"
    assert case.images == tuple(f"{folder}/{image}" for image in ROW["image_path"])
    assert case.fields == {"layout": "iuxray", "study_id": "CXR2384_IM-0942"}
    source.image(case, 1).load()


def test_views_of_r2gen(tmp_path: pathlib.Path) -> None:
    single = ROW | {"id": "b", "image_path": ROW["image_path"][:1]}
    write_r2gen(tmp_path, train=[ROW, single])
    assert [len(c.images) for c in load(tmp_path).cases("train")] == [2, 1]
    assert [c.image[-5:] for c in load(tmp_path, views="frontal").cases("train")] == ["0.png"] * 2
    each = load(tmp_path, views="each")
    ids = ["train-CXR2384_IM-0942-0", "train-b", "train-CXR2384_IM-0942-1"]
    assert [case.id for case in each.cases("train")] == ids
    assert each.where[ids[-1]] == ("annotation.json", 1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"report": " "}, r"annotation.json, row 2, field 'report': empty; fill it in"),
        ({"id": ROW["id"]}, r"row 2, field 'id': train-CXR2384_IM-0942 is row 1 already"),
        ({"image_path": []}, r"field 'image_path': names no image; write a list of paths"),
        ({"image_path": [3]}, r"field 'image_path': names no image; write a list of paths"),
        ({"image_path": ["x/9.png"]}, r"field 'image_path': no image .*images/x/9.png; add"),
    ],
)
@pytest.mark.parametrize("views", ["both", "each"])
def test_bad_rows_of_r2gen(tmp_path: pathlib.Path, row: dict, message: str, views: str) -> None:
    if views == "each":
        message = message.replace("0942 is", "0942-0 is")
    write_r2gen(tmp_path, train=[ROW, ROW | {"id": "b"} | row])
    source = load(tmp_path, views=views)
    assert re.search(message, str(source.bad_rows[0])), str(source.bad_rows[0])
    lost = len((ROW | row)["image_path"]) if views == "each" else 1
    assert len(source.bad_rows) == max(lost, 1)


def test_lists_of_r2gen_that_do_not_serve(tmp_path: pathlib.Path) -> None:
    write_r2gen(tmp_path, train=[ROW], validate=[ROW])
    with pytest.raises(UserError, match=r"'validate' is none of train, val, test; rename it"):
        load(tmp_path)
    write_r2gen(tmp_path, train={"a": 1})
    with pytest.raises(UserError, match=r"expected an object with the lists train, val, test"):
        load(tmp_path)
    write_r2gen(tmp_path, train=[ROW, "text"])
    (bad,) = load(tmp_path).bad_rows
    assert "row 2, field 'id': the row is a str" in str(bad)
    with pytest.raises(UserError, match=r"sections='both': .*annotation.json has findings only"):
        load(tmp_path, sections="both")


def test_as_pefomed_has_it(tmp_path: pathlib.Path) -> None:
    write_image(tmp_path / "images" / "CXR1" / "0.png")
    row = {"image_path": "CXR1/0.png", "report": "Clear."}
    (tmp_path / "train.json").write_text(json.dumps([row]))
    (case,) = load(tmp_path).cases("train")
    assert (case.image, case.fields["layout"]) == ("images/CXR1/0.png", "iuxray")
