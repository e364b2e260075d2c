"""Report scores by hand, and against recorded values of pycocoevalcap 1.2."""

import json
import math

import pytest

from pefomed_jax.evaluation import report
from pefomed_jax.evaluation.ptb import tokenise

PAIRS = (
    (
        "The heart is mildly enlarged. There is a small left pleural effusion.",
        "Heart size is enlarged. Small left-sided pleural effusion; no pneumothorax.",
    ),
    (
        "No acute cardiopulmonary abnormality.",
        "Lungs are clear. No acute cardiopulmonary abnormality (stable since 10/2/2019).",
    ),
    (
        "A 1.2 cm nodule projects over the right upper lobe.",
        "There is a 1.2 cm nodule in the right upper lobe. Dr. Lee doesn't see an effusion.",
    ),
    ("", "The patient's PICC line ends in the SVC."),
    (
        "The lungs are clear. The lungs are clear. The lungs are clear.",
        "The lungs are clear: no effusion, and no consolidation.",
    ),
)
# PTBTokenizer, Bleu(4), Rouge, Cider of pycocoevalcap 1.2 on PAIRS
RECORDED = {
    "bleu_1": 0.3420290869774485,
    "bleu_2": 0.2779557845592057,
    "bleu_3": 0.23002835523406873,
    "bleu_4": 0.182374317919807,
    "rouge_l": 0.38952951124208884,
    "cider": 1.2902642877108472,
}


def scores(hypotheses, references):
    return {
        **report.bleu(hypotheses, references),
        "rouge_l": report.rouge_l(hypotheses, references),
        "cider": report.cider(hypotheses, references),
    }


def test_recorded_values():
    hypotheses = [tokenise(a) for a, _ in PAIRS]
    references = [[tokenise(b)] for _, b in PAIRS]
    assert scores(hypotheses, references) == pytest.approx(RECORDED, abs=1e-12)


def test_published_corpus_example(shared):
    folder = shared / "data" / "nlg-eval-example"
    lines = {
        name: [line.split() for line in (folder / f"{name}.txt").read_text().splitlines()]
        for name in ("hyp", "ref1", "ref2")
    }
    wanted = json.loads((folder / "expected_scores.json").read_text())["corpus_example"]["scores"]
    ours = scores(lines["hyp"], [list(r) for r in zip(lines["ref1"], lines["ref2"], strict=True)])
    assert ours == pytest.approx(named(wanted), abs=1e-5)


def named(wanted):
    """Published names -> ours."""
    bleu = {f"bleu_{n}": wanted[f"Bleu_{n}"] for n in report.ORDERS}
    return bleu | {"rouge_l": wanted["ROUGE_L"], "cider": wanted["CIDEr"]}


def test_bleu_by_hand():
    # 3 of 4 words ("the" is clipped to one) and 1 of 3 pairs; 4 words against 6
    references = [[["the", "heart", "is", "of", "normal", "size"]]]
    ours = report.bleu([["the", "the", "heart", "is"]], references)
    brevity = math.exp(1 - 6 / 4)
    assert ours["bleu_1"] == pytest.approx(brevity * 3 / 4)
    assert ours["bleu_2"] == pytest.approx(brevity * math.sqrt(3 / 4 * 2 / 3))


def test_bleu_is_of_the_corpus_not_a_mean():
    right, wrong = ["a", "b", "c", "d"], ["x", "y"]
    ours = report.bleu([right, wrong], [[right], [["p", "q"]]])
    assert ours["bleu_1"] == pytest.approx(4 / 6)


def test_rouge_l_by_hand():
    # longest common subsequence "a c d": precision 3/4, recall 3/5
    f = (1 + 1.44) * 0.75 * 0.6 / (0.6 + 1.44 * 0.75)
    assert report.rouge_l([["a", "c", "x", "d"]], [[["a", "b", "c", "d", "e"]]]) == pytest.approx(f)
    assert report.rouge_l([["a"], ["b"]], [[["a"]], [["c"]]]) == pytest.approx(0.5)


def test_cider_by_hand():
    # two cases, one word each: idf log 2, cosine 1 or 0, orders 2 to 4 empty
    assert report.cider([["a"], ["x"]], [[["a"]], [["b"]]]) == pytest.approx(10 / 4 / 2)
    # a word of every reference weighs nothing
    assert report.cider([["a"], ["a"]], [[["a"]], [["a"]]]) == 0.0


def test_cider_of_perfect_long_texts_is_ten():
    texts = [f"{w}1 {w}2 {w}3 {w}4 {w}5".split() for w in "abc"]
    assert report.cider(texts, [[t] for t in texts]) == pytest.approx(10)


def test_edges():
    ours = scores([[]], [[["a", "b"]]])
    assert max(ours.values()) < 1e-6
    same = ["the", "heart", "is", "normal"]
    assert scores([same], [[same]]) == pytest.approx(
        {"bleu_1": 1, "bleu_2": 1, "bleu_3": 1, "bleu_4": 1, "rouge_l": 1, "cider": 0}, abs=1e-8
    )
    with pytest.raises(ValueError, match="shorter"):
        report.bleu([same], [])
