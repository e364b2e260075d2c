"""MedICaT as its archive unpacks, figures and crops of subfigures, and its odd lines."""

import collections
import json
import pathlib
import pickle
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pefomed_jax import config as config_lib
from pefomed_jax.data import facts, sources
from pefomed_jax.data.sources.medicat.figures import split_of
from pefomed_jax.errors import UserError

from ..conftest import write_image

LIST = "s2_full_figures_oa_nonroco_combined_medical_top4_public.jsonl"
SUBCAPTIONS = "subcaptions_public.jsonl"
TRAIN, VAL, TEST = "p0", "p30", "p1"  # papers whose hashes are of these splits


def load(folder: pathlib.Path, **options: Any):
    config = config_lib.make("caption", "tiny")
    config.data.update(source="medicat", dir=str(folder))
    config.data.medicat.update(options)
    return sources.load(config)


def figure(paper: str, number: int = 1, **changed: Any) -> dict[str, Any]:
    """A line of the list of figures, with all keys that it has."""
    caption = f"Figure {number}. CT of {paper}."
    row = dict(pdf_hash=paper, fig_key=f"Figure{number}", fig_uri=f"2-Figure{number}-1.png")
    row |= dict(s2_caption=caption, s2orc_caption=caption, s2orc_references=None)
    row |= dict(radiology=True, scope=False, predicted_type="Medical images")
    return row | dict(oa_info={"doi": f"10.1/{paper}", "oa": {"license": None}}) | changed


def compound(paper: str, **changed: Any) -> dict[str, Any]:
    """A line of the list of subcaptions: two boxes of a figure of 40 x 30 pixels."""
    words = [
        ("Figure", 0, 6),
        ("(", 7, 8),
        ("a", 8, 9),
        (")", 9, 10),
        ("CT", 11, 13),
        ("MRI", 14, 17),
    ]
    row = {key: figure(paper)[key] for key in ("pdf_hash", "fig_key", "fig_uri")}
    row |= dict(width=40, height=30, text="Figure (a) CT MRI")
    row["tokens"] = [dict(id=i, text=t, start=s, end=e) for i, (t, s, e) in enumerate(words)]
    row["subfigures"] = [
        dict(label="a", points=[[2.4, 3], [2.4, 12.2], [20, 3], [20, 12.2]], color="red"),
        dict(label="b", points=[[-1, 20], [-1, 31], [41, 20], [41, 31]], color="blue"),
    ]
    return row | dict(subcaptions={"a": [1, 2, 3, 4], "b": [0, 5]}) | changed


def write(root: pathlib.Path, name: str, *rows: Any) -> None:
    root.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (root / name).write_bytes("\n".join([*lines, ""]).encode("utf-8", "surrogateescape"))
    for row in rows:
        if isinstance(row, dict) and {"pdf_hash", "fig_uri"} <= row.keys():
            write_image(root / "figures" / f"{row['pdf_hash']}_{row['fig_uri']}", size=(30, 40))


def test_the_papers_of_these_tests() -> None:
    assert [split_of(paper) for paper in (TRAIN, VAL, TEST)] == ["train", "val", "test"]


def test_shares_of_the_splits() -> None:
    count = collections.Counter(split_of(f"{i:040x}") for i in range(4000))
    assert count["train"] == pytest.approx(3600, abs=60)
    assert count["val"] == pytest.approx(200, abs=45)
    assert count["test"] == pytest.approx(200, abs=45)


@pytest.mark.parametrize("inside", ["", "release", "medicat_release"])
def test_figures(tmp_path: pathlib.Path, inside: str, capsys) -> None:
    rows = [
        figure(TRAIN),
        figure(TRAIN, 2),
        figure(VAL),
        figure(TEST),
        figure(TEST, 2, radiology=False),
    ]
    write(tmp_path / inside, LIST, *rows)
    write(tmp_path / inside, SUBCAPTIONS, compound(TRAIN))
    (tmp_path / inside / "roco_references").mkdir()
    source = pickle.loads(pickle.dumps(load(tmp_path)))
    assert source.bad_rows == []
    assert {s: len(source.cases(s)) for s in source.splits} == {"train": 2, "val": 1, "test": 1}
    case = source.cases("train")[1]
    assert case.id == f"train-{TRAIN}_2-Figure2-1.png"
    assert case.image == f"{inside}/figures/{TRAIN}_2-Figure2-1.png".lstrip("/")
    assert (case.question, case.answer) == ("", f"Figure 2. CT of {TRAIN}.")
    assert case.fields == {
        "layout": "caption",
        "study_id": TRAIN,
        "radiology": True,
        "scope": False,
        "doi": f"10.1/{TRAIN}",
    }
    with source.image(case) as picture:
        assert picture.size == (40, 30)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("medicat: 1 of 5 figures are not marked radiology and left out")
    assert "90 of 100 papers train, 5 validate, 5 test" in out[1]
    assert len(load(tmp_path, radiology_only=False).cases("test")) == 2
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_no_paper_is_on_two_sides(tmp_path: pathlib.Path) -> None:
    papers = [f"{i:040x}" for i in range(60)]
    write(tmp_path, LIST, *(figure(paper, n) for n in (1, 2) for paper in papers))
    write(tmp_path, SUBCAPTIONS, *map(compound, papers))
    by_figure, by_box = load(tmp_path), load(tmp_path, images="subfigures")
    sides = collections.defaultdict(set)
    for source in (by_figure, by_box):
        for split in ("train", "val", "test"):
            for case in source.cases(split):
                sides[case.fields["study_id"]].add(split)
    assert len(sides) == 60
    assert {len(side) for side in sides.values()} == {1}
    assert len(set().union(*sides.values())) > 1


def test_figures_that_cannot_be_used(tmp_path: pathlib.Path) -> None:
    only_second = figure(TRAIN, 1, s2_caption=" ", s2orc_caption="From the text.")
    neither = figure(TRAIN, 2, s2_caption=None, s2orc_caption=None)
    no_flag = {k: v for k, v in figure(TRAIN, 3).items() if k != "radiology"}
    rows = [only_second, neither, figure(TRAIN, 1), "{", "[1]", '{"a": "\udcff"}', no_flag]
    write(tmp_path, LIST, *rows, figure(TRAIN, 4))
    (tmp_path / "figures" / f"{TRAIN}_2-Figure4-1.png").unlink()
    source = load(tmp_path, radiology_only=False)
    assert [case.answer for case in source.cases("train")] == ["From the text."]
    expected = [
        "row 2, field 's2orc_caption': empty",
        "row 3, field 'id': train-p0_2-Figure1-1.png is row 1 already",
        "row 4, field 'line': is not JSON",
        "row 5, field 'pdf_hash': the row is a list",
        "row 6, field 'line': is not UTF-8",
        "row 7, field 'radiology': no such key",
        "row 8, field 'fig_uri': no image p0_2-Figure4-1.png in .*figures; fetch it or",
    ]
    assert len(source.bad_rows) == len(expected)
    for bad, message in zip(source.bad_rows, expected, strict=True):
        assert re.search(message, str(bad)), str(bad)


def test_subfigures_are_cropped(tmp_path: pathlib.Path, capsys) -> None:
    write(tmp_path, LIST, figure(TRAIN), figure(TEST, radiology=False))
    alone = compound(VAL, radiology=True)
    alone["subcaptions"].pop("b")
    write(tmp_path, SUBCAPTIONS, compound(TRAIN), compound(TEST), alone)
    source = pickle.loads(pickle.dumps(load(tmp_path, images="subfigures")))
    assert source.bad_rows == []
    a, b = source.cases("train")
    assert a.images == (f"figures/{TRAIN}_2-Figure1-1.png#xywh=2,3,18,10",)
    assert b.images == (f"figures/{TRAIN}_2-Figure1-1.png#xywh=0,20,40,10",)
    assert (a.answer, b.answer) == ("(a) CT", "Figure MRI")
    assert (a.id, a.fields["label"]) == (f"train-{TRAIN}_2-Figure1-1.png-0", "a")
    whole = np.asarray(Image.open(tmp_path / "figures" / f"{TRAIN}_2-Figure1-1.png"))
    assert np.array_equal(np.asarray(source.image(a)), whole[3:13, 2:20])
    assert np.array_equal(np.asarray(source.image(b)), whole[20:, :])
    assert source.path(a).is_file()
    assert source.cases("test") == []
    assert [case.answer for case in source.cases("val")] == ["(a) CT"]
    out = capsys.readouterr().out
    assert "medicat: 1 of 4 subfigures have no caption and are left out" in out
    assert "medicat: 1 of 3 figures are not marked radiology" in out
    found = facts.of(source, [a, b], str(tmp_path / "cache"))
    assert [found[case.image][:3] for case in (a, b)] == [("", 18, 10), ("", 40, 10)]


def test_a_box_outside_its_figure_does_not_open(tmp_path: pathlib.Path) -> None:
    write(tmp_path, SUBCAPTIONS, compound(TRAIN, width=80))
    source = load(tmp_path, images="subfigures", radiology_only=False)
    case = source.cases("train")[1]
    assert case.image.endswith("#xywh=0,20,41,10")
    with pytest.raises(ValueError, match=r"xywh=0,20,41,10 is not in 40 x 30 pixels"):
        source.image(case)
    assert facts.of(source, [case], str(tmp_path / "cache"))[case.image].problem.startswith(
        "does not open (xywh=0,20,41,10 is not in"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"points": [[34, 1.7], [34, 1.7], [35.7, 1.7]]},
            "line 2: box 0 is 2 x 0 pixels; an error",
        ),
        ({"points": [[50, 1], [60, 9]]}, "line 2: box 0 is -10 x 8 pixels"),
        ({"points": [[1], [2]]}, "line 2: box 0 has no corners x, y"),
        ({"points": "none"}, "line 2: box 0 has no corners x, y"),
    ],
)
def test_boxes_that_cannot_be_used(tmp_path: pathlib.Path, changed: dict, message: str) -> None:
    row = compound(VAL)
    row["subfigures"] = [row["subfigures"][0] | changed]
    write(tmp_path, SUBCAPTIONS, compound(TRAIN), row)
    source = load(tmp_path, images="subfigures", radiology_only=False)
    (bad,) = source.bad_rows
    assert (bad.file, bad.row, bad.field) == (SUBCAPTIONS, 3, "points")
    assert message in str(bad)


def test_lines_of_another_form(tmp_path: pathlib.Path) -> None:
    rows = ["{", "[]", compound(TRAIN, tokens=[{}]), compound(TRAIN, subcaptions=[1])]
    write(tmp_path, SUBCAPTIONS, *rows, compound(TRAIN, subfigures=None, subcaptions=None))
    source = load(tmp_path, images="subfigures", radiology_only=False)
    assert [(bad.field, bad.problem.partition(" (")[0]) for bad in source.bad_rows] == [
        ("line", "1 is not JSON"),
        ("line", "2 is a list"),
        ("tokens", "line 3 has a word without id, start, end and text"),
        ("tokens", "line 3 has a word without id, start, end and text"),
        ("subcaptions", "line 4 has a list there"),
    ]


def test_what_is_missing_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        UserError, match=r"no folder figures in .*medicat_release.tar.gz was unpacked"
    ):
        load(tmp_path)
    write(tmp_path, SUBCAPTIONS, compound(TRAIN))
    with pytest.raises(UserError, match=r"has no list of figures; keep s2_full_figures"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"no list of figures; .*says what is radiology"):
        load(tmp_path, images="subfigures")
    write(tmp_path, "a.jsonl", figure(TRAIN))
    write(tmp_path, "b.jsonl", figure(TRAIN))
    with pytest.raises(UserError, match=r"has both a.jsonl and b.jsonl"):
        load(tmp_path)
    (tmp_path / SUBCAPTIONS).unlink()
    with pytest.raises(UserError, match=r"there is no .*subcaptions_public.jsonl; fetch it"):
        load(tmp_path, images="subfigures")


def test_as_pefomed_lists(tmp_path: pathlib.Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "train.json").write_text(json.dumps([{"image": "a.png", "caption": "Clear."}]))
    assert [case.image for case in load(tmp_path).cases("train")] == ["images/a.png"]
