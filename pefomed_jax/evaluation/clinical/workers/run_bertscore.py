"""BERTScore of each pair, by package bert-score 0.3.13: [precision, recall, F1]."""

from __future__ import annotations

import os

from worker_io import Unfit, batches, device, serve, versions


def load(settings):
    """(score, versions) of the folder of an encoder."""
    import bert_score

    layer = number_of_layer(settings)
    try:
        scorer = bert_score.BERTScorer(
            model_type=settings["weights"],
            num_layers=layer,
            device=device(settings["device"]),
            lang="en",
            rescale_with_baseline=settings["rescale"] == "yes",
            baseline_path=baseline(bert_score, settings),
        )
    except (OSError, ValueError, AssertionError) as error:
        raise Unfit(f"{settings['weights']}: {str(error)[:300]}") from None
    bound(scorer)
    rescaled = settings["rescale"] == "yes"
    lowest = (
        (-scorer.baseline_vals / (1 - scorer.baseline_vals)).tolist() if rescaled else [0.0] * 3
    )

    def score(pairs):
        for part in batches(pairs, int(settings["batch"])):
            # the package cannot tokenise an empty text with transformers 5; its score of one is 0
            full = [all(text.strip() for text in pair) for pair in part]
            values = iter(rows(scorer, [part[i] for i in range(len(part)) if full[i]]))
            for there in full:
                yield next(values) if there else lowest

    found = versions("bert-score", "torch", "transformers")
    return score, {"layer": str(layer), **found}


def bound(scorer):
    """A longest text where the tokenizer has none, at which the package would fail."""
    tokenizer, config = scorer._tokenizer, scorer._model.config
    if tokenizer.model_max_length > 10**6 and hasattr(config, "max_position_embeddings"):
        tokenizer.model_max_length = config.max_position_embeddings - 2  # RoBERTa keeps two


def rows(scorer, pairs):
    """[precision, recall, F1] of each pair."""
    if not pairs:
        return []
    own, reference = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    parts = scorer.score(own, reference, batch_size=len(pairs))
    return [[float(part[i]) for part in parts] for i in range(len(pairs))]


def number_of_layer(settings):
    """The layer asked for, or the package's own for a model of this name."""
    from bert_score.utils import model2layers

    if settings["layer"]:
        return int(settings["layer"])
    model = settings["model"]
    by_name = {name.split("/")[-1]: layer for name, layer in model2layers.items()}
    if model not in by_name:
        raise Unfit(
            f"bert-score has no layer for a model named '{model}'; give "
            "--metric_options=bertscore.layer=NUMBER, or bertscore.model=NAME of a known one"
        )
    return by_name[model]


def baseline(package, settings):
    """The package's baseline for English and a model of this name."""
    if settings["rescale"] != "yes":
        return None
    folder = os.path.join(os.path.dirname(package.__file__), "rescale_baseline", "en")
    path = os.path.join(folder, settings["model"] + ".tsv")
    if not os.path.isfile(path):
        raise Unfit(
            f"bert-score has no baseline for a model named '{settings['model']}'; give "
            "bertscore.model=NAME of a known one, or rescale=no"
        )
    return path


if __name__ == "__main__":
    serve(load)
