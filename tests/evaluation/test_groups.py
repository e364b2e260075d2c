"""Scores of parts of the cases."""

import numpy as np
import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation import groups
from pefomed_jax.evaluation.measure import mean

ROWS = [
    {"id": "a", "answer_type": "OPEN", "organ": ["lung", "heart", "lung"], "n": 1},
    {"id": "b", "answer_type": "CLOSED", "organ": ["lung"]},
    {"id": "c", "answer_type": "OPEN", "organ": []},
    {"id": "d", "answer_type": "", "organ": "heart", "split": "test"},
]
MEASURE = mean(
    {
        "exact_match": np.array([1.0, 0, 0, 1]),
        "exact_match_open": np.array([1, np.nan, 0, np.nan]),
        "open_recall": np.array([0.5, np.nan, 1, np.nan]),
    }
)


def test_usual_fields_of_few_values():
    made = groups.tables(ROWS, MEASURE, None)
    assert list(made) == ["answer_type", "organ", "split"]
    assert made["answer_type"] == {
        "OPEN": {"n_cases": 2, "exact_match": 0.5, "open_recall": 0.75},
        "(none)": {"n_cases": 1, "exact_match": 1.0, "open_recall": None},
        "CLOSED": {"n_cases": 1, "exact_match": 0.0, "open_recall": None},
    }
    assert list(made["answer_type"]) == ["OPEN", "(none)", "CLOSED"]  # larger ones first


def test_a_case_is_in_the_group_of_each_of_its_values():
    made = groups.tables(ROWS, MEASURE, ["organ"])["organ"]
    assert {name: group["n_cases"] for name, group in made.items()} == {
        "heart": 2,
        "lung": 2,
        "(none)": 1,
    }
    assert made["heart"]["exact_match"] == 1.0
    assert made["lung"]["exact_match"] == 0.5


def test_fields_of_one_value_or_many_are_not_tried():
    rows = [{**row, "organ": str(i), "answer_type": "OPEN"} for i, row in enumerate(ROWS * 6)]
    measure = mean({"x": np.ones(len(rows))})
    assert list(groups.tables(rows, measure, None)) == ["split"]
    assert len(groups.tables(rows, measure, ["organ"])["organ"]) == 24  # asked for


def test_what_cannot_be_grouped():
    with pytest.raises(UserError, match=r"--group_by: no case has a field 'organs'.*organ"):
        groups.tables(ROWS, MEASURE, ["organs"])
    rows = [{"x": str(i)} for i in range(201)]
    with pytest.raises(UserError, match=r"--group_by: 'x' has 201 values"):
        groups.tables(rows, mean({"y": np.ones(201)}), ["x"])
    assert groups.tables([], None, ["x"]) == {}
