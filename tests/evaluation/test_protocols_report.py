"""Report protocols by name: what each does to the texts, and which scores it gives."""

import doctest
import itertools
import json
import pathlib

import made_up
import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import protocols, results
from pefomed_jax.evaluation.measure import Measure, Skipped
from pefomed_jax.evaluation.results import Settings
from pefomed_jax.evaluation.text import meteor, r2gen, raw13a

REPORTS = ("coco", "r2gen", "r2gen-iu", "r2gen-mimic", "raw", "raw13a")
TEXT = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"}
RECORDED = json.loads(
    pathlib.Path(__file__).with_name("golden_reports.json").read_text(encoding="utf-8")
)


def rows(*pairs):
    return [
        {"id": f"c{i}", "prediction": answer, "reference": reference}
        for i, (answer, reference) in enumerate(pairs)
    ]


def scores(protocol, given):
    found = protocols.get(protocol).measures(given, slow=False)
    return {k: v for m in found if isinstance(m, Measure) for k, v in m.scores().items()}


@pytest.mark.parametrize("name", REPORTS)
def test_every_protocol_scores_odd_and_empty_texts(name):
    given = rows(*made_up.pairs(30, 5), ("", ""), ("", ["", "x"]), ("|||\n😀", "...\t"))
    made = scores(name, given)
    assert made.keys() == TEXT
    assert all(0 <= made[score] <= 1 for score in TEXT - {"cider"})
    assert 0 < made["cider"] <= 10


@pytest.mark.parametrize("name", REPORTS)
def test_equal_texts_score_highest_and_match(name):
    texts = [f"Case {w}: the {w} lung is clear today, no {w} effusion." for w in ("a1", "b2", "c3")]
    given = rows(*zip(texts, texts, strict=True))
    made = scores(name, given)
    assert made.pop("cider") == pytest.approx(10)
    assert made == pytest.approx(dict.fromkeys(made, 1), abs=1e-8)
    assert protocols.get(name).matches(given) == [True] * 3


def test_protocols_differ_on_the_same_texts():
    pair = ("Clear lungs; no 1.2 cm nodule.", "Clear Lungs, no 12 cm nodule (seen).")
    values = {name: scores(name, rows(pair, pair))["bleu_1"] for name in REPORTS}
    # coco: clear lungs no cm nodule, of 6 words against 9
    assert values["coco"] == pytest.approx(5 / 6 * 2.718281828 ** (1 - 9 / 6), abs=1e-6)
    # r2gen: clear lungs no 12 cm nodule ., of 7 against 8
    assert values["r2gen"] == pytest.approx(2.718281828 ** (1 - 8 / 7), abs=1e-6)
    # raw: Clear no cm, of 6 against 7
    assert values["raw"] == pytest.approx(3 / 6 * 2.718281828 ** (1 - 7 / 6), abs=1e-6)
    # 13a: Clear no cm nodule ., of 8 words against 11: its ; is no ,
    assert values["raw13a"] == pytest.approx(5 / 8 * 2.718281828 ** (1 - 11 / 8), abs=1e-6)


@pytest.mark.parametrize(("name", "most"), [("r2gen-iu", 60), ("r2gen-mimic", 100)])
def test_references_are_cut_and_it_is_said(name, most):
    long = " ".join(f"w{i}" for i in range(most + 5))
    short = " ".join(f"w{i}" for i in range(most - 1))
    given = rows((long, long), (short, short))
    protocol = protocols.get(name)
    assert protocol.truncation == f"references to {most} words"
    (said,) = protocol.notes(given)
    assert said.startswith("the references of 1 of 2 cases were CUT")
    # answers are whole: most + 6 words with the stop, of which the reference keeps the first ones
    made = protocol.measures(given[:1], slow=False)[0].scores()
    assert made["bleu_1"] == pytest.approx(most / (most + 6))
    assert protocol.matches(given) == [False, True]
    assert protocols.get("r2gen").notes(given) == []
    assert protocols.get("r2gen").matches(given) == [True, True]
    made = results.evaluate({"test": given, "test_shuffled": None}, protocol, Settings(slow=False))
    assert said in made.results["warnings"]
    assert f"|truncation:references to {most} words|" in made.results["signature"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The heart is normal.", "the heart is normal ."),
        ("A 1.2 cm nodule. Right > left?", "a 12 cm nodule . right left ."),
        ("1. Clear. 2. No effusion. 3. Stable", "clear . no effusion . stable ."),
        ("Level 1. clear", "level clear ."),  # "1. " goes wherever it is
        ("Well-defined (3 mm) [x] {y} a_b 'c' \"d\" e/f\\g", "well-defined 3 mm x y ab c d efg ."),
        ("end.... of", "end . of ."),
        ("a. . b", "a . . b ."),
        ("", "."),
        ("two\nlines", "two lines ."),
    ],
)
def test_r2gen_words(text, words):
    assert r2gen.words(text) == words.split()


def test_r2gen_iu_halves_dots_less_often():
    assert r2gen.words("a" + "." * 40 + " b", "iu") == ["a", ".", "b", "."]
    assert r2gen.words("a__b  c\nd", "iu") == ["ab", "c", "d", "."]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A 1.2-cm nodule (left), stable.", "A 1.2 - cm nodule ( left ) , stable ."),
        ("5-6 mm; 1,000 3.", "5 - 6 mm ; 1,000 3 ."),
        ("&lt;x&gt; &amp; &quot;y&quot;", '< x > & " y "'),
        ("ab-\ncd\nef <skipped>", "abcd ef"),
        ("a.b. c-d é's", "a . b . c-d é ' s".replace("é ' s", "é's")),
        ("", ""),
    ],
)
def test_13a_words(text, words):
    assert raw13a.words(text) == words.split()


def test_examples_in_the_docstrings():
    assert doctest.testmod(r2gen).failed == 0
    assert doctest.testmod(raw13a).failed == 0


def test_raw13a_is_recorded_sacrebleu():
    given = rows(*((row["answer"], row["references"]) for row in RECORDED["pairs"]))
    made = scores("raw13a", given)
    for name, wanted in RECORDED["sacrebleu"].items():
        assert made[name] == pytest.approx(wanted, abs=1e-12)


def test_raw13a_is_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu", reason="no sacrebleu here: pip install '.[test]'")
    pairs = made_up.pairs(300, 11)
    sets = [pairs, *([pair] for pair in pairs[:60])]  # a single case, too: orders without a match
    for n, some in itertools.product((1, 2, 3, 4), sets):
        most = max(len(refs) for _, refs in some)
        streams = [[refs[i] if i < len(refs) else None for _, refs in some] for i in range(most)]
        wanted = sacrebleu.BLEU(max_ngram_order=n).corpus_score([a for a, _ in some], streams)
        ours = scores("raw13a", rows(*some))[f"bleu_{n}"]
        assert ours == pytest.approx(wanted.score / 100, abs=1e-9)


def test_what_takes_long_is_left_out_of_training():
    for name in REPORTS:
        slow = protocols.get(name).slow
        assert set(slow) == {"meteor_nltk" if name.startswith("raw") else "meteor"}
        assert "meteor:" not in str(protocols.get(name).versions(slow=False))


def test_versions_are_those_of_what_runs(monkeypatch):
    monkeypatch.setattr(meteor, "located", lambda: ("java", pathlib.Path()))
    monkeypatch.setattr(meteor, "_java_version", lambda java: "21.0")
    monkeypatch.setattr(meteor.importlib.metadata, "version", lambda name: "1.2")
    versions = {"meteor": "1.5", "pycocoevalcap": "1.2", "java": "21.0"}
    assert protocols.get("coco").versions() == versions
    assert protocols.get("raw").versions() == {}


def test_skipped_scores_are_in_the_table_with_the_reason(monkeypatch):
    monkeypatch.setattr(meteor, "measure", None)
    monkeypatch.setitem(protocols.METEORS, "meteor", lambda *_: Skipped("meteor", "needs java"))
    answered = {"test": rows(("a b", "a b"), ("c", "c d")), "test_shuffled": None}
    made = results.evaluate(answered, protocols.get("coco"), Settings(resamples=10)).results
    assert made["skipped"] == {"meteor": "needs java"}
    assert "meteor" not in made["test"]
    assert "meteor                  skipped: needs java" in results.table(made)


def test_a_protocol_that_is_none():
    with pytest.raises(UserError, match=r"protocol 'r2gen_iu' is not one of .*r2gen-iu"):
        protocols.get("r2gen_iu")
