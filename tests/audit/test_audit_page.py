"""The page of an audit: what it says, that it loads nothing, that texts stay texts."""

import html
import json
import re

import planted
import pytest

from pefomed_jax.audit import command, page


@pytest.fixture(scope="module")
def text(made):
    return page.page(made)


def plain(part):
    return " ".join(
        html.unescape(re.sub(r"<[^>]+>", " ", part)).replace("\N{NO-BREAK SPACE}", " ").split()
    )


def section(text, name):
    return plain(re.search(rf'<section id="{name}">(.*?)</section>', text, re.DOTALL)[1])


def test_it_stands_alone(text):
    assert "<script" not in text
    assert re.findall(r'(?:src|href)="(?!#|data:)', text) == []
    assert re.search(r"default-src 'none'; img-src data:; style-src 'sha256-[\w+/=]{44}'", text)
    assert "url(" not in text
    assert len(text.encode()) < 2_000_000


def test_texts_of_the_data_are_texts(text):
    assert planted.HOSTILE not in text
    assert html.escape(planted.HOSTILE) in text


def test_what_it_says(text, made):
    for warning in made.audit["warnings"]:
        assert html.escape(warning) in text
    bad = section(text, "bad-rows")
    assert "6 of 55 rows (11 %)" in bad
    assert all(row.remedy in bad for row in made.found.bad)
    leakage = section(text, "leakage")
    assert "train and test: another file with the same pixels 1 2 8.3 % 1 5.9 %" in leakage
    assert "2 pictures have no features" in leakage
    assert "near-duplicate likeness" in leakage
    assert "another thing" in leakage  # the second answer of the contradiction
    assert "yes 6" in section(text, "answers")


def test_every_image_is_there_or_says_why(text, made):
    assert text.count("<img ") == text.count('src="data:image/jpeg;base64,')
    assert text.count("<img ") > 20
    assert 'class="no-film"' not in text


def test_prompts_are_those_of_the_model(text, made):
    samples = section(text, "samples")
    assert "<s> [INST] <Img> 16 visual tokens </Img> [vqa] " in samples
    case = made.found.parts["test"][0]
    prompt = made.found.encoding.prompts.evaluate(case)
    assert f"{prompt.after} {prompt.answer} </s>" in samples


def test_texts_of_credentialed_sets_stay_on_the_page(planted_set, tmp_path, capsys, monkeypatch):
    """Neither the terminal nor audit.json shows an answer or what a row held."""
    root, cache, _ = planted_set
    monkeypatch.setattr(command, "CREDENTIALED", ("pefomed",))
    config = planted.config(root, cache, data__max_bad_fraction=1.0)
    assert command.run(config, tmp_path) == 0
    said = capsys.readouterr().out
    kept = json.loads((tmp_path / "audit.json").read_text())
    assert "top" not in kept
    answers = {case.answer for case in command.make(config).found.cases if len(case.answer) > 4}
    assert answers
    for answer in answers:
        assert answer not in said
        assert answer not in (tmp_path / "audit.json").read_text()
    assert "it is 3" in (tmp_path / "audit.html").read_text()


def test_without_images_or_rows(tmp_path):
    """A set of which nothing is left still makes a page."""
    w = planted.Writer(tmp_path / "set")
    w.row("train", "lost.png", "a?", "b")
    w.close()
    made = command.make(planted.config(w.root, tmp_path / "cache"))
    text = page.page(made)
    assert "No image opens." in text
    assert "1 of 1 rows" in section(text, "bad-rows")


def test_reports_of_mimic_in_other_lists_are_credentialed_too(tmp_path, capsys):
    """PeFoMed's list of MIMIC-CXR: an object of paths and reports."""
    w = planted.Writer(tmp_path / "set")
    for seed, split in enumerate(("train", "train", "val", "test")):
        w.image(f"{seed}.png", planted.picture(seed))
        w.rows[split].append(f"{seed}.png")
    lists = {s: {name: [f"Secret finding {name}."] for name in n} for s, n in w.rows.items()}
    lists["val"] = {name: ["Secret finding 3.png."] for name in lists["val"]}  # the test case's
    for split, rows in lists.items():
        (w.root / f"{split}.json").write_text(json.dumps(rows))
    config = planted.config(w.root, tmp_path / "cache")
    config.task = "mrg"
    assert command.run(config, tmp_path / "out") == 0
    assert "Secret" not in capsys.readouterr().out
    assert "Secret" not in (tmp_path / "out" / "audit.json").read_text()
    assert "Secret finding 3.png." in (tmp_path / "out" / "audit.html").read_text()
    shared = (tmp_path / "out" / "leakage.jsonl").read_text()
    assert '"kind": "text"' in shared
    assert "secret" not in shared.lower()
