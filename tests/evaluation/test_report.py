"""Report scores by hand, against recorded values of pycocoevalcap 1.2, and against it beside us."""

import functools
import json
import math
import pathlib

import coco
import made_up
import numpy as np
import pytest

from pefomed_jax.evaluation.text import ptb, report
from pefomed_jax.evaluation.text.lcs import common_subsequence

NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
RECORDED = json.loads(
    pathlib.Path(__file__).with_name("golden_reports.json").read_text(encoding="utf-8")
)


def scores(hypotheses, references):
    made = {}
    for measure in report.measures(hypotheses, references):
        made |= measure.scores()
    return made


def cases(hypotheses, references):
    made = {}
    for measure in report.measures(hypotheses, references):
        made |= measure.cases
    return made


def words(pairs):
    """(hypotheses, references) of (answer, references) as COCO has them."""
    lines = iter(ptb.tokenise_lines([text for _, refs in pairs for text in refs]))
    references = [[next(lines) for _ in refs] for _, refs in pairs]
    return ptb.tokenise_lines([answer for answer, _ in pairs]), references


def test_recorded_values():
    split = words([(row["answer"], row["references"]) for row in RECORDED["pairs"]])
    wanted = {name: RECORDED["coco"][name] for name in NAMES}
    assert scores(*split) == pytest.approx(wanted, abs=1e-11)
    by_case = cases(*split)
    for name in NAMES:
        np.testing.assert_allclose(by_case[name][:20], RECORDED["cases"][name], atol=1e-11)


@functools.cache
def published(folder):
    found = json.loads((folder / "expected_scores.json").read_text(encoding="utf-8"))
    lines = {
        name: [line.split() for line in (folder / f"{name}.txt").read_text().splitlines()]
        for name in ("hyp", "ref1", "ref2")
    }
    sets = [(lines["hyp"], list(zip(lines["ref1"], lines["ref2"], strict=True)))]
    sets += [
        ([row["hypothesis"].split()], [[text.split() for text in row["references"]]])
        for row in found["single"]
    ]
    wanted = [found["corpus_example"]["scores"], *(row["scores"] for row in found["single"])]
    return list(zip(sets, wanted, strict=True))


@pytest.mark.parametrize("i", range(3))
def test_published_examples(shared, i):
    (hypotheses, references), wanted = published(shared / "data" / "nlg-eval-example")[i]
    wanted = {f"bleu_{n}": wanted[f"Bleu_{n}"] for n in (1, 2, 3, 4)} | {
        "rouge_l": wanted["ROUGE_L"],
        "cider": wanted["CIDEr"],
    }
    assert scores(hypotheses, references) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.slow
def test_made_up_pairs_beside_pycocoevalcap(tmp_path):
    pairs = made_up.pairs(800, 7)
    _agree(pairs, tmp_path)


@pytest.mark.slow
def test_real_pairs_beside_pycocoevalcap(shared, tmp_path):
    texts = list(dict.fromkeys(coco.real_texts(shared / "data")))
    # neighbours are of one kind: captions, notes, questions
    pairs = [(a, [b, c]) for a, b, c in zip(texts, texts[1:], texts[2:], strict=False)]
    assert len(pairs) > 1000
    _agree(pairs, tmp_path)


def _agree(pairs, folder):
    flat = coco.tokenised([text for _, refs in pairs for text in refs], folder)
    lines = iter(flat)
    references = [[next(lines) for _ in refs] for _, refs in pairs]
    wanted, by_case = coco.scored(coco.tokenised([a for a, _ in pairs], folder), references)
    assert scores(*words(pairs)) == pytest.approx(wanted, abs=1e-9)
    ours = cases(*words(pairs))
    for name in NAMES:
        np.testing.assert_allclose(ours[name], by_case[name], atol=1e-9)


def test_scores_follow_from_summed_statistics():
    hypotheses, references = words(made_up.pairs(40, 3))
    bleu, others = report.measures(hypotheses, references)
    some = [3, 3, 17, 30, 31]
    drawn = scores([hypotheses[i] for i in some], [references[i] for i in some])
    for n in (1, 2, 3, 4):
        assert bleu.scores(some)[f"bleu_{n}"] == pytest.approx(drawn[f"bleu_{n}"], abs=1e-12)
    assert others.scores(some)["rouge_l"] == pytest.approx(drawn["rouge_l"], abs=1e-12)
    # the weights of words stay those of all 40 cases
    assert others.scores(some)["cider"] == pytest.approx(others.cases["cider"][some].mean())
    assert others.scores(some)["cider"] != pytest.approx(drawn["cider"], abs=1e-3)


def test_bleu_by_hand():
    # 3 of 4 words ("the" is clipped to one) and 1 of 3 pairs; 4 words against 6
    references = [[["the", "heart", "is", "of", "normal", "size"]]]
    ours = scores([["the", "the", "heart", "is"]], references)
    brevity = math.exp(1 - 6 / 4)
    assert ours["bleu_1"] == pytest.approx(brevity * 3 / 4)
    assert ours["bleu_2"] == pytest.approx(brevity * math.sqrt(3 / 4 * 2 / 3))


def test_bleu_is_of_the_corpus_not_a_mean():
    right, wrong = ["a", "b", "c", "d"], ["x", "y"]
    ours = scores([right, wrong], [[right], [["p", "q"]]])
    assert ours["bleu_1"] == pytest.approx(4 / 6)


def test_rouge_l_by_hand():
    # longest common subsequence "a c d": precision 3/4, recall 3/5
    f = (1 + 1.44) * 0.75 * 0.6 / (0.6 + 1.44 * 0.75)
    ours = scores([["a", "c", "x", "d"]], [[["a", "b", "c", "d", "e"]]])
    assert ours["rouge_l"] == pytest.approx(f)
    assert scores([["a"], ["b"]], [[["a"]], [["c"]]])["rouge_l"] == pytest.approx(0.5)


def test_cider_by_hand():
    # two cases, one word each: idf log 2, cosine 1 or 0, orders 2 to 4 empty
    assert scores([["a"], ["x"]], [[["a"]], [["b"]]])["cider"] == pytest.approx(10 / 4 / 2)
    # a word of every reference weighs nothing
    assert scores([["a"], ["a"]], [[["a"]], [["a"]]])["cider"] == 0.0


def test_cider_of_perfect_long_texts_is_ten():
    texts = [f"{w}1 {w}2 {w}3 {w}4 {w}5".split() for w in "abc"]
    assert scores(texts, [[t] for t in texts])["cider"] == pytest.approx(10)


def test_edges():
    assert max(scores([[]], [[["a", "b"]]]).values()) < 1e-6
    empty = scores([[]], [[[]]])  # as pycocoevalcap, where two empty texts have one empty word
    assert (empty["rouge_l"], empty["cider"]) == (1.0, 0.0)
    same = ["the", "heart", "is", "normal"]
    assert scores([same], [[same]]) == pytest.approx(
        dict.fromkeys(NAMES, 1.0) | {"cider": 0.0}, abs=1e-8
    )
    with pytest.raises(ValueError, match="as many"):
        report.measures([same], [])
    with pytest.raises(ValueError, match="none of them empty"):
        report.measures([same], [[]])


def test_common_subsequence_is_that_of_the_table():
    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = (list(rng.choice(list("abcd"), rng.integers(0, 90))) for _ in "ab")
        assert common_subsequence(a, b) == _table(a, b) == common_subsequence(b, a)


def _table(a, b):
    row = [0] * (len(b) + 1)
    for x in a:
        above = row
        row = [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(row[-1], above[j + 1]))
    return row[-1]


def test_one_very_long_answer():
    reference = ["the", "heart", "is", "normal", "in", "size"]
    long = (reference + ["and"] * 30) * 30_000  # a million words, six megabytes
    ours = cases([long, reference], [[reference], [reference]])
    assert ours["bleu_1"][0] == pytest.approx(len(reference) / len(long))
    assert ours["rouge_l"][1] == 1.0
    assert ours["rouge_l"][0] == pytest.approx(2.44 / len(long) * 6 / (1 + 1.44 * 6 / len(long)))
