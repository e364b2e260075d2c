"""RaTEScore: how close the medical entities of answer and reference are (Zhao et al., 2024).

By package RaTEScore, which finds entities with one model and compares them with another. A text in
which it finds no entity gives 0.5, as in the package; one without any sentence, which the package
cannot score, gives 0.
"""

import pathlib
from collections.abc import Sequence
from typing import ClassVar

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation.clinical.metric import WORKERS, WorkerMetric
from pefomed_jax.evaluation.clinical.pairs import Pair, Values, best
from pefomed_jax.evaluation.measure import mean
from pefomed_jax.evaluation.protocols import Found, Row

MATRICES = ("long", "short")


class Ratescore(WorkerMetric):
    """ratescore."""

    name = "ratescore"
    about = "similarity of the medical entities of two reports, by RaTEScore"
    script = WORKERS / "run_ratescore.py"
    modules = ("RaTEScore", "medspacy", "pandas", "torch", "transformers")
    install = "RaTEScore==0.6.0 medspacy 'numpy<2' 'pandas<3' torch transformers"
    apart = True
    weights = "a folder with the models RaTE-NER-Deberta and BioLORD-2023-C"
    files = ("RaTE-NER-Deberta/config.json", "BioLORD-2023-C/config.json")
    options: ClassVar = {"matrix": "long"}

    def check_weights(self, path: pathlib.Path) -> None:
        if self.set["matrix"] not in MATRICES:
            raise UserError(f"matrix={self.set['matrix']} is not one of {', '.join(MATRICES)}")
        super().check_weights(path)

    def score(self, rows: Sequence[Row]) -> list[Found]:
        return [mean(best(rows, self._values, self.name))]

    def _values(self, pairs: list[Pair]) -> list[Values]:
        return [{self.name: value} for value in self.ask(pairs)]
