"""RaTEScore of each pair, by package RaTEScore 0.6.0 (which needs medspacy and pandas too)."""

from __future__ import annotations

import os

from worker_io import Unfit, device, serve, versions


def load(settings):
    """(score, versions) of a folder with both models."""
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # else its splitter tells of every word
    from RaTEScore import RaTEScore

    entities = os.path.join(settings["weights"], "RaTE-NER-Deberta")
    try:
        scorer = RaTEScore(
            bert_model=entities,
            eval_model=os.path.join(settings["weights"], "BioLORD-2023-C"),
            use_gpu=device(settings["device"]) == "cuda",
            affinity_matrix=settings["matrix"],
        )
    except (OSError, ValueError) as error:
        raise Unfit(str(error)) from None
    check_labels(scorer, entities)

    def score(pairs):
        for own, reference in pairs:
            yield value(scorer, own, reference)

    return score, versions("RaTEScore", "medspacy", "torch", "transformers")


def check_labels(scorer, path):
    """Raises Unfit where the entities' kinds are not those that the package has weights for."""
    kinds = {label[2:] for label in scorer.idx2label.values() if label != "O"}
    known = {kind for kind, _ in scorer.affinity_matrix} - {"NEG"}
    if not kinds or not {kind.upper() for kind in kinds} <= known:
        have = ", ".join(sorted(kinds)) or "none"
        raise Unfit(f"{path} labels {have}, not {', '.join(sorted(known))}: name RaTE-NER-Deberta")


def value(scorer, own, reference):
    """One case at a time: a list would shift past a text in which the package sees no sentence."""
    from RaTEScore.utils import sentence_split

    if not all(sentence_split([text])[0] for text in (own, reference)):
        return 0.0
    (found,) = scorer.compute_score([own], [reference])
    return float(found)


if __name__ == "__main__":
    serve(load)
