"""What is embedded for a first look: the tiny base with a trained connector and adapter."""

import pathlib

import pytest

import pefomed_jax
from pefomed_jax.data.sources.phantom import rules

IMAGES = pathlib.Path(__file__).parents[1] / "docs" / "images"
# as drawn: the references of the README
DRAWN = {
    "case_0.png": {"enlarged heart", "right effusion"},
    "case_1.png": {"left consolidation", "right consolidation"},
    "case_2.png": {"right pneumothorax"},
}


@pytest.mark.slow
def test_the_demo_reads_films():
    model = pefomed_jax.load("demo")
    reports = model.generate([IMAGES / name for name in DRAWN])
    assert [rules.findings_in(text) for text in reports] == list(DRAWN.values())
