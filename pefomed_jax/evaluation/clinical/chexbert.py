"""CheXbert F1: whether answer and reference carry the same of 14 labels (Smit et al., 2020).

The labeller is BERT-base with 14 heads, read from the published `chexbert.pth`. F1 as LLaVA-Rad
reports it: micro and macro, over 14 labels and over 5, with 'uncertain' as negative, and with '+'
as positive.
"""

import pathlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation.clinical.metric import WORKERS, WorkerMetric, answers, references
from pefomed_jax.evaluation.measure import Measure, Scores, Skipped
from pefomed_jax.evaluation.protocols import Found, Row

LABELS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
BLANK, POSITIVE, NEGATIVE, UNCERTAIN = range(4)  # classes of a head; that of No Finding has two

_POSITIVES = {"": (POSITIVE,), "+": (POSITIVE, UNCERTAIN)}
_SETS = {"14": list(range(len(LABELS))), "5": [LABELS.index(name) for name in FIVE]}


class Chexbert(WorkerMetric):
    """chexbert_micro_f1_14, chexbert_macro_f1_14, the same of 5, and all four with '+'."""

    name = "chexbert"
    about = "F1 of 14 and of 5 chest X-ray labels, micro and macro, by CheXbert"
    script = WORKERS / "run_chexbert.py"
    modules = ("torch", "transformers", "tokenizers")
    install = "torch transformers"
    weights = "the folder that holds chexbert.pth and the vocab.txt of bert-base-uncased"
    files = ("vocab.txt",)
    options: ClassVar = {"batch": "16"}

    def check_weights(self, path: pathlib.Path) -> None:
        if not path.is_dir():
            raise UserError(f"{path} is no folder: {self._way()}")
        super().check_weights(path)
        found = sorted(file.name for file in path.glob("*.pth"))
        if len(found) != 1:
            have = ", ".join(found) or "none"
            raise UserError(f"{path} has to hold one .pth file ({have}): {self._way()}")

    def score(self, rows: Sequence[Row]) -> list[Found]:
        refs = references(rows)
        for row, several in zip(rows, refs, strict=True):
            if len(several) > 1:
                why = f"labels are those of one reference; case '{row['id']}' has {len(several)}"
                return [Skipped(self.name, why)]
        own = self.ask(answers(rows))
        return [measure(np.array(own), np.array(self.ask([ref for (ref,) in refs])))]


def measure(
    own: Int[np.ndarray, "cases labels"], reference: Int[np.ndarray, "cases labels"]
) -> Measure:
    """F1 of the classes of both sides. What is summed over cases: tp, fp, fn of each label."""
    stats = np.stack([_counts(own, reference, classes) for classes in _POSITIVES.values()], axis=1)
    flat = stats.reshape(len(own), -1)
    return Measure(flat, _combine, _cases(stats))


def _counts(
    own: Int[np.ndarray, "cases labels"],
    reference: Int[np.ndarray, "cases labels"],
    positive: tuple[int, ...],
) -> Float[np.ndarray, "cases labels 3"]:
    said, true = np.isin(own, positive), np.isin(reference, positive)
    return np.stack([said & true, said & ~true, ~said & true], axis=-1).astype(np.float64)


def _combine(sums: np.ndarray) -> Scores:
    """[..., variants × labels × (tp, fp, fn)] to the eight scores."""
    table = sums.reshape(*sums.shape[:-1], len(_POSITIVES), len(LABELS), 3)
    made: Scores = {}
    for i, sign in enumerate(_POSITIVES):
        for size, labels in _SETS.items():
            part = table[..., i, labels, :]
            made[f"chexbert_micro_f1_{size}{sign}"] = f1(part.sum(axis=-2))
            # a label that neither side has counts as 0, as in the published scripts
            made[f"chexbert_macro_f1_{size}{sign}"] = f1(part).mean(axis=-1)
    return made


def _cases(stats: Float[np.ndarray, "cases variants labels 3"]) -> dict[str, np.ndarray]:
    """Micro F1 of each case's own labels; NaN where neither side has any."""
    made = {}
    for i, sign in enumerate(_POSITIVES):
        for size, labels in _SETS.items():
            sums = stats[:, i, labels].sum(axis=1)
            nothing: Bool[np.ndarray, " cases"] = sums.sum(axis=1) == 0
            made[f"chexbert_micro_f1_{size}{sign}"] = np.where(nothing, np.nan, f1(sums))
    return made


def f1(counts: np.ndarray) -> np.ndarray | np.float64:
    """2tp / (2tp + fp + fn) of (tp, fp, fn) along the last axis; 0 where all three are 0."""
    tp, fp, fn = np.moveaxis(counts, -1, 0)
    return 2 * tp / np.maximum(2 * tp + fp + fn, 1)
