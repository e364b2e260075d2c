"""CheXbert's F1 from labels: by hand, by another computation, over resamples."""

import numpy as np
import pytest

from pefomed_jax.evaluation import intervals
from pefomed_jax.evaluation.clinical import chexbert
from pefomed_jax.evaluation.measure import Skipped
from pefomed_jax.evaluation.plugins import Given

NAMES = {f"chexbert_{m}_f1_{n}{s}" for m in ("micro", "macro") for n in (14, 5) for s in ("", "+")}


def labels(**classes):
    """A row of 14 classes, blank but for those named (Lung_Lesion=1)."""
    return [classes.get(name.replace(" ", "_"), 0) for name in chexbert.LABELS]


def test_values_by_hand():
    own = np.array(
        [
            labels(Cardiomegaly=1, Edema=3, Fracture=2),
            labels(Edema=1, Fracture=1),
            labels(No_Finding=1),
        ]
    )
    reference = np.array(
        [
            labels(Cardiomegaly=1, Edema=1, Fracture=1),
            labels(Edema=3, Fracture=1, Pneumonia=1),
            labels(No_Finding=1),
        ]
    )
    measure = chexbert.measure(own, reference)
    scores = measure.scores()
    assert set(scores) == NAMES
    # uncertain as negative. tp: Cardiomegaly, Fracture, No Finding; fp: Edema; fn: Edema,
    # Fracture, Pneumonia
    assert scores["chexbert_micro_f1_14"] == pytest.approx(6 / (6 + 1 + 3))
    assert scores["chexbert_macro_f1_14"] == pytest.approx((1 + 0 + 2 / 3 + 1 + 0) / 14)
    assert scores["chexbert_micro_f1_5"] == pytest.approx(2 / (2 + 1 + 1))
    assert scores["chexbert_macro_f1_5"] == pytest.approx(1 / 5)
    # uncertain as positive: Edema is right twice
    assert scores["chexbert_micro_f1_14+"] == pytest.approx(10 / (10 + 0 + 2))
    assert scores["chexbert_macro_f1_14+"] == pytest.approx((1 + 1 + 2 / 3 + 1 + 0) / 14)
    assert scores["chexbert_micro_f1_5+"] == 1.0
    assert scores["chexbert_macro_f1_5+"] == pytest.approx(2 / 5)
    np.testing.assert_allclose(measure.cases["chexbert_micro_f1_14"], [2 / 4, 2 / 4, 1.0])
    np.testing.assert_array_equal(measure.cases["chexbert_micro_f1_5+"], [1.0, 1.0, np.nan])


def other_scores(own, reference):
    """Precision, recall, then F1, label by label, as a report of classification makes them."""
    made = {}
    five = {"Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion"}
    sets = {"14": list(chexbert.LABELS), "5": [n for n in chexbert.LABELS if n in five]}
    for sign, positive in (("", {1}), ("+", {1, 3})):
        for size, names in sets.items():
            columns = [chexbert.LABELS.index(name) for name in names]
            said = [[row[c] in positive for row in own] for c in columns]
            true = [[row[c] in positive for row in reference] for c in columns]
            each = [ratio_f1(s, t) for s, t in zip(said, true, strict=True)]
            made[f"chexbert_macro_f1_{size}{sign}"] = sum(each) / len(each)
            made[f"chexbert_micro_f1_{size}{sign}"] = ratio_f1(joined(said), joined(true))
    return made


def joined(columns):
    return [value for column in columns for value in column]


def ratio_f1(said, true):
    both = sum(s and t for s, t in zip(said, true, strict=True))
    precision = both / sum(said) if any(said) else 0.0
    recall = both / sum(true) if any(true) else 0.0
    return 2 * precision * recall / (precision + recall) if both else 0.0


@pytest.mark.parametrize("seed", range(5))
def test_any_labels_agree_with_another_computation_and_so_do_resamples(seed):
    rng = np.random.default_rng(seed)
    shape, odds = (40, 14), [0.7, 0.15, 0.1, 0.05]
    own, reference = rng.choice(4, shape, p=odds), rng.choice(4, shape, p=odds)
    own[:, 3] = reference[:, 3] = 0  # a label that nobody has
    measure = chexbert.measure(own, reference)
    assert measure.scores() == pytest.approx(other_scores(own, reference))
    drawn = rng.integers(0, 40, 40)
    weights = np.bincount(drawn, minlength=40)
    resampled = measure.combine(weights @ measure.stats)
    expected = other_scores(own[drawn], reference[drawn])
    assert {k: float(v) for k, v in resampled.items()} == pytest.approx(expected)
    spans = intervals.intervals(measure, 50, 0)
    assert all(low <= high for low, high in spans.values())


def test_several_references_are_skipped_with_the_case():
    metric = chexbert.Chexbert(Given())
    (found,) = metric.score([{"id": "x7", "prediction": "a", "reference": ["a", "b"]}])
    assert found == Skipped("chexbert", "labels are those of one reference; case 'x7' has 2")


def test_a_folder_without_its_files_is_told_before_a_worker_starts(tmp_path):
    def check(path):
        return chexbert.Chexbert(Given(str(path))).check()

    assert "has no 'vocab.txt'" in check(tmp_path)
    (tmp_path / "vocab.txt").touch()
    assert "has to hold one .pth file (none)" in check(tmp_path)
    assert "is no folder: --metric_weights=chexbert=PATH" in check(tmp_path / "vocab.txt")
