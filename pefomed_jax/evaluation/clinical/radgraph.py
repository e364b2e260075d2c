"""RadGraph F1: whether answer and reference state the same entities and relations.

The three rewards of Delbrouck et al. (2022), by package `radgraph`: `simple` compares entities
(RG_E), `partial` entities with whether they have a relation (RG_ER), `complete` entities with every
relation and its other end (RG with ER barred). The score of a set is the mean over its cases.
"""

import pathlib
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation.clinical.metric import WORKERS, WorkerMetric
from pefomed_jax.evaluation.clinical.pairs import Pair, Values, best
from pefomed_jax.evaluation.measure import mean
from pefomed_jax.evaluation.plugins import Given
from pefomed_jax.evaluation.protocols import Found, Row

Entities = Mapping[str, Mapping[str, Any]]  # by number: tokens, label, relations [[kind, number]]

MODELS = ("radgraph-xl", "radgraph", "modern-radgraph-xl", "echograph")
LEVELS = ("simple", "partial", "complete")


class Radgraph(WorkerMetric):
    """radgraph_simple, radgraph_partial, radgraph_complete."""

    name = "radgraph"
    about = "F1 of the clinical entities and relations of a report, by RadGraph"
    script = WORKERS / "run_radgraph.py"
    modules = ("radgraph", "torch", "transformers", "requests")
    install = "radgraph==0.1.18 requests 'transformers<5'"
    apart = True
    weights = (
        "a folder with an archive of StanfordAIMI/RRG_scorers (radgraph-xl.tar.gz; or a folder "
        "radgraph-xl) and a folder encoder with config.json and the tokenizer of its BERT"
    )
    files = ("encoder/config.json",)
    options: ClassVar = {"model": ""}

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        if self.path is not None and not self.set["model"]:
            self.set["model"] = self._found()

    def check_weights(self, path: pathlib.Path) -> None:
        model = self.set["model"]
        if model not in MODELS:
            here = " and ".join(self._there()) or "none"
            raise UserError(
                f"{path} has to hold one of {', '.join(MODELS)} ({here} is there); "
                f"--metric_options={self.name}.model=NAME chooses"
            )
        if model not in self._there():
            raise UserError(f"{path} has no {model}.tar.gz or {model}: {self._way()}")
        super().check_weights(path)
        folder = path / model
        if folder.is_dir():
            for file in ("config.json", "weights.th", "vocabulary"):
                if not (folder / file).exists():
                    raise UserError(f"{folder} has no '{file}': it is no archive of RadGraph's")
        elif not tarfile.is_tarfile(path / f"{model}.tar.gz"):
            raise UserError(f"{path / model}.tar.gz is no tar archive; fetch it again")

    def score(self, rows: Sequence[Row]) -> list[Found]:
        return [mean(best(rows, self._values, f"{self.name}_partial"))]

    def _values(self, pairs: list[Pair]) -> list[Values]:
        texts = [text for pair in pairs for text in pair if text.strip()]
        held = dict(zip(texts, self.ask(texts), strict=True))
        return [rewards(*(held.get(text, {}) for text in pair)) for pair in pairs]

    def _there(self) -> list[str]:
        path = self.path or pathlib.Path()
        return [m for m in MODELS if (path / m).is_dir() or (path / f"{m}.tar.gz").is_file()]

    def _found(self) -> str:
        there = self._there()
        return there[0] if len(there) == 1 else ""


def rewards(own: Entities, reference: Entities) -> Values:
    """{name: F1} of the three levels; 0 where a side has no entity."""
    return {f"radgraph_{level}": _f1(own, reference, level) for level in LEVELS}


def _f1(own: Entities, reference: Entities, level: str) -> float:
    said, true = _facts(own, level), _facts(reference, level)
    return 2 * len(said & true) / (len(said) + len(true)) if said and true else 0.0


def _facts(entities: Entities, level: str) -> set[tuple[Any, ...]]:
    """What is compared, as the package does: words in lower case only beside a relation."""
    facts: set[tuple[Any, ...]] = set()
    for entity in entities.values():
        plain = (entity["tokens"], entity["label"])
        if level == "complete" and entity["relations"]:
            words = entity["tokens"].lower()
            facts |= {
                (words, entity["label"], kind, entities[end]["tokens"].lower())
                for kind, end in entity["relations"]
            }
        elif level == "partial":
            facts.add((*plain, bool(entity["relations"])))
        else:
            facts.add(plain)
    return facts
