"""BERTScore: greedy cosine matching of the words of answer and reference (Zhang et al., 2020).

By package bert-score, without word weights (idf). Its value depends on the model, the layer, and on
whether it is rescaled by a baseline: all three stand in the signature.
"""

import pathlib
from collections.abc import Sequence
from typing import ClassVar

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation.clinical.metric import WORKERS, WorkerMetric, number
from pefomed_jax.evaluation.clinical.pairs import Pair, Values, best
from pefomed_jax.evaluation.measure import mean
from pefomed_jax.evaluation.plugins import Given
from pefomed_jax.evaluation.protocols import Found, Row


class Bertscore(WorkerMetric):
    """bertscore_precision, bertscore_recall, bertscore_f1."""

    name = "bertscore"
    about = "cosine matching of the words of two texts in a language model's space, by BERTScore"
    script = WORKERS / "run_bertscore.py"
    modules = ("bert_score", "torch", "transformers")
    install = "bert-score==0.3.13 torch transformers"
    weights = "the folder of an encoder (config.json, weights, tokenizer), as roberta-large"
    files = ("config.json",)
    options: ClassVar = {"model": "", "layer": "", "rescale": "no", "batch": "64"}

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        if self.path is not None and not self.set["model"]:
            self.set["model"] = self.path.resolve().name

    def check_weights(self, path: pathlib.Path) -> None:
        if self.set["layer"]:
            number("layer", self.set["layer"])
        if self.set["rescale"] not in ("yes", "no"):
            raise UserError(f"rescale={self.set['rescale']} is neither yes nor no")
        super().check_weights(path)

    def score(self, rows: Sequence[Row]) -> list[Found]:
        return [mean(best(rows, self._values, f"{self.name}_f1"))]

    def _values(self, pairs: list[Pair]) -> list[Values]:
        names = [f"{self.name}_{part}" for part in ("precision", "recall", "f1")]
        return [dict(zip(names, values, strict=True)) for values in self.ask(pairs)]
