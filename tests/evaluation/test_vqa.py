"""Normalisation of short answers, and their scores by protocol."""

import math

import numpy as np
import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import tokens, vqa
from pefomed_jax.evaluation.measure import Measure, Skipped


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("Yes.", "yes"),
        ("The left lung", "left lung"),
        ("A an the", ""),
        ("x-ray", "xray"),
        ("Chest X Ray", "chest xray"),
        ("left-sided effusion", "left sided effusion"),
        ("left - sided", "left sided"),
        ("right/left", "right left"),
        ("axial (CT)", "axial ct"),
        ("1,000 red-cells", "1000 redcells"),  # a digit-comma-digit deletes every mark
        ("3.5 cm", "3.5 cm"),
        ("T2.", "t2"),
        ("two nodules", "2 nodules"),
        ("None", "0"),
        ("zero", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("isnt enlarged", "isn't enlarged"),
        ("a: b", "a: b"),  # colons, stars and apostrophes are left alone
        ("  many\n blanks\t", "many blanks"),
        ("", ""),
        (".5 and 1.", ".5 and 1"),
        ("." * 40, "." * 8),  # at most 32 full stops, as in the reference evaluation
    ],
)
def test_normalise(answer, normal):
    assert vqa.normalise(answer) == normal


def test_contractions():
    table = vqa.contractions()
    assert len(table) > 100
    assert table["dont"] == "don't"
    assert table["whats"] == "what's"


def scores(rows, protocol):
    """{name: value} of the measures, and the reasons of what was skipped."""
    found = vqa.measures(rows, protocol)
    made = {k: v for m in found if isinstance(m, Measure) for k, v in m.scores().items()}
    return made, {m.name: m.why for m in found if isinstance(m, Skipped)}


def one(prediction, reference, protocol="pefomed", answer_type="OPEN"):
    row = {"id": "1", "prediction": prediction, "reference": reference, "answer_type": answer_type}
    return scores([row], protocol)[0]


def test_exact_match_of_cases():
    rows = [
        {"prediction": "yes", "reference": "Yes.", "answer_type": "CLOSED "},
        {"prediction": "no", "reference": "yes", "answer_type": "CLOSED"},
        {"prediction": "the left lung", "reference": "left lung", "answer_type": "OPEN"},
        {"prediction": "", "reference": "2", "answer_type": ""},
        {"prediction": "two", "reference": 2},
    ]
    measure, recall = vqa.measures(rows, "pefomed")
    np.testing.assert_array_equal(measure.cases["exact_match"], [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(measure.cases["token_f1"], [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(recall.cases["open_recall"], [np.nan] * 2 + [1] + [np.nan] * 2)
    assert measure.scores() == {"exact_match": 3 / 5, "token_f1": 3 / 5}
    assert measure.scores(np.array([0, 1])) == {"exact_match": 1 / 2, "token_f1": 1 / 2}


def test_protocols_differ():
    """The same answer, three verdicts."""
    answer, reference = "The chest x-ray .", "Chest X-Ray"
    assert one(answer, reference)["exact_match"] == 1
    assert one(answer, reference, "llava_med")["exact_match"] == 1
    assert one(answer, reference, "strict")["exact_match"] == 0
    assert one("  CHEST x-ray\n", reference, "strict")["exact_match"] == 1
    # "x ray" is one word for PeFoMed only
    assert one("x ray", "xray")["exact_match"] == 1
    assert one("x ray", "xray", "llava_med")["exact_match"] == 0


def test_best_of_references():
    row = one("left lower lobe", ["right lung", "the left lower lobe", "left"])
    assert row == {"exact_match": 1, "token_f1": 1, "open_recall": 1}
    row = one("left upper", ["left", "right upper lobe"], "strict")
    assert row == {"exact_match": 0, "token_f1": pytest.approx(2 / 3), "open_recall": 1}
    assert one(2, ["two", 3])["exact_match"] == 1
    assert one(None, "None")["exact_match"] == 1
    with pytest.raises(UserError, match="case '1' has an empty list"):
        one("a", [])


def test_no_open_and_no_closed_case():
    made, skipped = scores([{"prediction": "yes", "reference": "yes"}], "llava_med")
    assert made == {"exact_match": 1, "token_f1": 1}
    assert skipped == {
        "open_recall": "no case has the answer_type OPEN",
        "closed_accuracy": "no case has the answer_type CLOSED",
    }
    made, _ = scores([{"prediction": "y", "reference": "y", "answer_type": "yes/no"}], "llava_med")
    assert made["closed_accuracy"] == 1


def test_unknown_protocol():
    with pytest.raises(UserError, match=r"no VQA protocol 'llavamed' \(did you mean llava_med\?\)"):
        vqa.measures([], "llavamed")


@pytest.mark.parametrize(
    ("answer", "reference", "f1", "recall"),
    [
        ("left lung", "left lung", 1, 1),
        ("left left", "left lung", 1 / 2, 1 / 2),
        ("left", "left left left", 1 / 2, 1 / 3),
        ("right", "left", 0, 0),
        ("", "left", 0, 0),
        ("left", "", 0, 0),
        ("", "", 1, 1),
        ("in the left lower lobe", "left lobe", 4 / 7, 1),
    ],
)
def test_overlap(answer, reference, f1, recall):
    assert tokens.f1(answer.split(), reference.split()) == pytest.approx(f1)
    assert tokens.recall(answer.split(), reference.split()) == pytest.approx(recall)


@pytest.mark.parametrize(
    ("answer", "reference", "f1", "recall"),
    [
        # precision s / (s + f), recall s / (s + m): s shared as the answer holds it
        ("left left", "left lung", 2 * 1 * (2 / 3) / (1 + 2 / 3), 2 / 3),
        ("left", "left left left", 1, 1),
        ("left lobe", "left lung lung", 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3), 1 / 3),
        ("right", "left", 0, 0),
        ("", "", 0, 0),
        ("left", "", 0, 0),
    ],
)
def test_overlap_of_llava_med(answer, reference, f1, recall):
    assert tokens.llava_med_f1(answer.split(), reference.split()) == pytest.approx(f1)
    assert tokens.llava_med_recall(answer.split(), reference.split()) == pytest.approx(recall)
    assert one(answer, reference, "llava_med")["open_recall"] == pytest.approx(recall)


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("Yes.", "yes", 1),
        ("Yes, the heart is enlarged", "yes", 1),
        ("The heart is enlarged", "yes", 0),
        ("no", "yes", 0),
        ("it is normal", "No", 1),  # a part of a word is enough, as in the published script
        ("yes and no", "no", 1),
        ("on the right", "right", 1),  # closed questions that offer a choice
        ("one", "1", 1),
        ("", "yes", 0),
    ],
)
def test_closed_accuracy(answer, reference, right):
    made = one(answer, reference, "llava_med", "CLOSED")
    assert made["closed_accuracy"] == right
    assert "open_recall" not in made


def test_words_of_llava_med_are_normalised_twice():
    assert vqa.normalise_llava_med("." * 40 + "a") == "." * 8 + "a"
    assert one("." * 40 + "lung", "lung", "llava_med") == {
        "exact_match": 0,
        "token_f1": 1,
        "open_recall": 1,
    }


@pytest.mark.parametrize("protocol", ["pefomed", "llava_med", "strict"])
def test_a_long_answer(protocol):
    answer = "left, (right) . x-ray 1,000 " * 100_000  # 2.8 MB
    made = one(answer, "left", protocol)
    assert made["exact_match"] == 0
    assert 0 < made["token_f1"] < 4e-5 or protocol != "pefomed"
    assert all(math.isfinite(value) for value in made.values())
