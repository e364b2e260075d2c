"""Micro-F1 of findings by hand."""

import pytest

from pefomed_jax.evaluation import findings


def row(prediction, *drawn):
    return {"prediction": prediction, "findings": list(drawn)}


def test_micro_f1_by_hand():
    rows = [
        row("FINDINGS: There is a left effusion. IMPRESSION: x.", "left effusion"),
        row("FINDINGS: No effusion. The heart is normal.", "right effusion", "enlarged heart"),
        row("There is a right nodule. There is a left pneumothorax.", "right nodule"),
    ]
    # 2 hits, 3 named, 4 drawn
    assert findings.f1(rows) == pytest.approx(4 / 7)
    assert findings.unparsed(rows) == 0


def test_the_side_counts():
    assert findings.f1([row("A left effusion.", "right effusion")]) == 0.0


@pytest.mark.parametrize(
    ("rows", "f1"),
    [([], 1.0), ([row("")], 1.0), ([row("", "line")], 0.0), ([row("A left nodule.")], 0.0)],
)
def test_edges(rows, f1):
    assert findings.f1(rows) == f1


def test_sentences_that_no_rule_reads_are_counted():
    assert findings.unparsed([row("Blue sky. The lungs are clear. Green grass.")]) == 2
