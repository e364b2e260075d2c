"""Normalisation and exact match of short answers."""

import pytest

from pefomed_jax.evaluation import vqa


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


def test_scores_by_type():
    rows = [
        {"prediction": "yes", "reference": "Yes.", "answer_type": "CLOSED "},
        {"prediction": "no", "reference": "yes", "answer_type": "CLOSED"},
        {"prediction": "the left lung", "reference": "left lung", "answer_type": "OPEN"},
        {"prediction": "", "reference": "2", "answer_type": ""},
        {"prediction": "two", "reference": 2},
    ]
    assert vqa.scores(rows) == {
        "exact_match": 3 / 5,
        "exact_match_closed": 1 / 2,
        "exact_match_open": 1.0,
    }


def test_edges():
    assert vqa.scores([]) == {}
    assert vqa.scores([{"prediction": "", "reference": "a"}]) == {"exact_match": 1.0}
