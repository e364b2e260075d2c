"""The page as it is written: one file, nothing loaded, all texts as texts."""

import base64
import hashlib
import html
import re

import pages
import pytest

from pefomed_jax.evaluation import page, writing
from pefomed_jax.evaluation.page import case_list, charts


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return pages.write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def text(films):
    rows = pages.vqa_cases()
    others = [{**row, "prediction": "no", "image": "2.png"} for row in rows]
    return pages.page_of(pages.compared(rows, others), films)


def test_is_well_formed_and_loads_nothing(text):
    found = pages.Reader(text).found
    assert [tag for tag, _ in found if tag in ("img", "iframe", "object", "base")] == []
    links = [attrs.get("href", "") for _, attrs in found] + [a.get("src", "") for _, a in found]
    assert {link for link in links if link and not link.startswith("#")} == {"data:,"}
    assert not re.search(r"https?:|@import|url\(", text)
    assert not [name for _, attrs in found for name in attrs if name.startswith(("on", "style"))]
    ids = [attrs["id"] for _, attrs in found if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {link[1:] for link in links if link.startswith("#")}
    assert {"scores", "comparison", "groups", "distributions", "cases"} <= targets <= set(ids)


def test_only_its_own_program_may_run(text):
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind, element in (("style", "style"), ("script", "script")):
        (own,) = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_texts_stay_texts(text):
    assert text.lower().count("<script") == text.lower().count("</script") == 3
    assert "onerror" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL).replace(
        html.escape(pages.HOSTILE), ""
    )
    rows = pages.Reader(text).data()["cases"]
    assert rows[1][5] == pages.HOSTILE
    assert [row[0] for row in rows] == [f"c{i}" for i in range(120)]


def test_says_what_the_results_say(text):
    made = pages.evaluate(pages.vqa_cases())
    said = " ".join("".join(parts) for parts in pages.Reader(text).texts.values())
    for name in ("exact_match", "token_f1"):
        low, high = made.results["intervals"]["test"][name]
        assert f"{made.results['test'][name]:.3f}" in said
        assert f"{low:.3f} to {high:.3f}" in said
    assert "images shuffled" in said
    assert all(note in said for note in made.results["warnings"])
    assert made.results["signature"] in said
    assert "protocol pefomed · split test · 120 cases" in said
    no_control = pages.page_of(made)
    assert "No control: there are no predictions with shuffled images." in no_control
    assert "skipped: not scored" in pages.page_of(
        made._replace(results=made.results | {"skipped": {"meteor": "not scored <b>"}})
    )


def test_data_of_the_list(text):
    data = pages.Reader(text).data()
    assert data["scores"] == ["exact_match", "token_f1", "open_recall"]
    assert (data["before"], data["prompts"][7]) == ("<Img></Img> [vqa] ", "question 7?")
    assert [f["name"] for f in data["filters"]] == ["answer_type", "organ"]
    kinds = data["filters"][0]["values"]
    assert [kinds[i] for i in data["cases"][5][8][0]] == ["OPEN"]
    assert data["cases"][2][6] == [0.0, 0.5, None]
    assert [row[1] for row in data["cases"][5:10]] == [1, 1, 1, 0, 0]
    assert data["fields"] == ["answer_type", "organ"]
    one = pages.Reader(pages.page_of(pages.evaluate(pages.vqa_cases(1)))).data()
    assert (one["before"], one["prompts"]) == ("", ["<Img></Img> [vqa] question 0?"])


@pytest.mark.parametrize(
    ("prompts", "around"),
    [
        (["[a] is it?", "[a] is he?"], ("[a] ", "")),
        (["[a] x [/a]", "[a] y [/a]"], ("[a] ", " [/a]")),
        (["same", "same"], ("same", "")),
        (["same"], ("", "")),
        (["[a] ", "[a] x"], ("[a] ", "")),
        (["", "x"], ("", "")),
        (["x [b]", "[b]"], ("", " [b]"[1:])),
    ],
)
def test_what_prompts_share(prompts, around):
    before, after = case_list._around(prompts)
    assert (before, after) == around
    assert all(text.startswith(before) and text.endswith(after) for text in prompts)


def test_small_and_odd_sets():
    for rows in ([], pages.vqa_cases(1), [pages.case(i, "") for i in range(4)]):
        data = pages.Reader(pages.page_of(pages.evaluate(rows, split=None))).data()
        assert len(data["cases"]) == len(rows)
    reports = [
        {
            "id": str(i),
            "reference": ["clear lungs", "no finding"],
            "prediction": "clear",
            "n": {"a": i},
        }
        for i in range(3)
    ]
    data = pages.Reader(pages.page_of(pages.evaluate(reports, protocol="coco"))).data()
    assert data["cases"][0][4] == ["clear lungs", "no finding"]
    assert (data["cases"][1][2], data["cases"][1][7]) == ([], ['{"a": 1}'])


def test_ten_megabytes_of_answer_are_cut():
    made = pages.evaluate(pages.vqa_cases())
    made.cases[9]["prediction"] = "word " * 2_000_000
    text = pages.page_of(made)
    assert len(text) < 200_000
    shown, length = pages.Reader(text).data()["cases"][9][5]
    assert (len(shown), length) == (4000, 10_000_000)


def test_many_long_texts_are_cut_shorter_then_left_out(monkeypatch):
    rows = [pages.case(i, "word " * 700) for i in range(400)]
    rows[7]["prediction"] = "yes"
    made = pages.evaluate(rows)
    monkeypatch.setattr(case_list, "BYTES", 300_000)
    text = pages.page_of(made)
    assert "texts are shown and searched up to 500 characters" in text
    assert {len(row[5][0]) for row in pages.Reader(text).data()["cases"] if row[0] != "c7"} == {500}
    monkeypatch.setattr(case_list, "BYTES", 60_000)
    text = pages.page_of(made)
    kept = pages.Reader(text).data()["cases"]
    assert len(kept) == 200
    assert "the 200 best cases are left out here; cases.csv has them" in text
    assert "c7" not in [row[0] for row in kept]


def test_axes_hold_their_values():
    assert [charts.top(v) for v in ([0.2, None], [1.0], [2.5], [])] == [1, 1, 3, 1]
    for most in (1, 7, 11, 99, 101, 0.03, 12345):
        assert most <= charts.nice(most) <= 2 * most
    assert charts.n_cases(1) == "1 case"
    svg = charts.bar(-0.2, 0.5, 1.0) + charts.bar(None, None, 1.0)
    assert 'width="0.00"' in svg
    assert "-0" not in svg


def drawn(value, span):
    """Where the ends of an interval and the value are, as parts of the axis, and its reach."""
    svg = charts.difference(value, span)
    places = [float(x) for x in re.findall(r'(?:x1|x2|cx)="([\d.]+)"', svg)]
    (reach,) = re.findall("±([^<]+)", svg)
    room = charts.LONG / 2 - charts.MARGIN
    return [round((x - charts.LONG / 2) / room, 2) for x in places], float(reach)


def test_a_difference_has_the_scale_of_its_score():
    for unit in (0.01, 1):
        assert drawn(2 * unit, (-1 * unit, 4 * unit)) == ([-0.25, 1, 0.5], 4 * unit)
    assert drawn(-0.03, None) == ([-1], 0.03)
    assert drawn(1e-17, (0.0, 0.0)) == ([0, 0, 0], 0.001)
    assert charts.difference(None, None) == ""


def test_histograms_count_every_case(text):
    plots = re.findall(r'aria-label="(.*?)">(.*?)</svg>', text)
    plots = {
        label.split(":")[0]: plot for label, plot in plots if "cases" in label or "words" in label
    }
    for name, n in {"words": 120, "exact_match": 120, "token_f1": 120, "open_recall": 60}.items():
        counts = re.findall(r"<title>.*?: ([\d,]+)</title>", plots[name])
        assert sum(int(count.replace(",", "")) for count in counts) == n
    cases = pages.evaluate(pages.vqa_cases()).cases
    right = sum(case["token_f1"] == 1 for case in cases)
    half = sum(case["token_f1"] == 0.5 for case in cases)
    assert f"<title>0.95 to 1: {right}</title>" in plots["token_f1"]
    assert f"<title>0.5 to 0.55: {half}</title>" in plots["token_f1"]


def luminance(colour):
    """Relative luminance of #rrggbb or #rgb (WCAG 2.1)."""
    digits = colour.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    parts = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    linear = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_read(dark):
    light, night = re.findall(r":root \{(.*?)\}", page.asset("style.css"), re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", light + (night if dark else "")))
    grounds = {"paper": ("ink", "quiet", "good", "bad", "test"), "back": ("ink", "quiet", "test")}
    grounds |= {"soft": ("ink", "quiet"), "mark": ("ink",), "warn": ("ink",)}
    for ground, texts in grounds.items():
        for text in texts:
            pair = sorted(luminance(colours[name]) + 0.05 for name in (ground, text))
            assert pair[1] / pair[0] >= 4.5, (ground, text)


def test_is_written_beside_the_results(tmp_path, films):
    made = pages.evaluate(pages.vqa_cases())
    writing.write(tmp_path, made, films)
    names = {"results.json", "cases.jsonl", "report.html", "scores.csv", "cases.csv"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "report.html").read_text() == pages.page_of(made, films)
    assert page.files(made.results, made.cases, pages.names(made)).keys() <= names
