"""CheXbert's labeller: 14 classes a report (0 blank, 1 positive, 2 negative, 3 uncertain).

BERT, then one linear head a label on the state of [CLS]. Needs torch and transformers.
"""

from __future__ import annotations

import os
import re

from worker_io import Unfit, batches, device, serve, versions

HEADS = 14
MOST = 512  # tokens of a report, [CLS] and [SEP] among them
HEAD_SIZE = 64  # of BERT-base


def load(settings):
    """(score, versions) of a folder with one .pth file and vocab.txt."""
    import torch

    folder = settings["weights"]
    (name,) = [name for name in os.listdir(folder) if name.endswith(".pth")]
    tensors = read(os.path.join(folder, name))
    model, heads = build(tensors, name)
    where = torch.device(device(settings["device"]))
    model.to(where), heads.to(where)
    most = min(MOST, model.config.max_position_embeddings)
    encode = tokenizer(os.path.join(folder, "vocab.txt"), model.config.vocab_size, most)

    def score(texts):
        for part in batches(texts, int(settings["batch"])):
            rows = [encode(text) for text in part]
            yield from label(model, heads, rows, where)

    return score, versions("torch", "transformers")


def read(path):
    """{name: tensor} of a checkpoint, without the 'module.' of a parallel run."""
    import pickle

    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise Unfit(f"{path} is no file of tensors by torch.save ({str(error)[:200]})") from None
    if not isinstance(held, dict) or "model_state_dict" not in held:
        have = (
            ", ".join(map(str, list(held)[:5])) if isinstance(held, dict) else type(held).__name__
        )
        raise Unfit(f"{path} has no 'model_state_dict' (it has {have}); name chexbert.pth")
    return {re.sub("^module[.]", "", k): v for k, v in held["model_state_dict"].items()}


def build(tensors, name):
    """(BertModel, heads) of the tensors' own sizes; every tensor has its place and back."""
    import torch
    from transformers import BertModel

    def shape(key):
        if key not in tensors:
            raise Unfit(f"{name} has no tensor '{key}': it is not CheXbert's labeller")
        return tensors[key].shape

    model = BertModel(config(shape, tensors))
    sizes = [shape(f"linear_heads.{i}.weight")[0] for i in range(HEADS)]
    heads = torch.nn.ModuleList(torch.nn.Linear(model.config.hidden_size, n) for n in sizes)
    whole = torch.nn.ModuleDict({"bert": model, "linear_heads": heads})
    try:
        found = whole.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # names the tensor and both shapes
        raise Unfit(f"{name}: {' '.join(str(error).split())[:300]}") from None
    extra = [key for key in found.unexpected_keys if not key.endswith(".position_ids")]
    if found.missing_keys or extra:
        what = f"no '{found.missing_keys[0]}'" if found.missing_keys else f"'{extra[0]}' besides"
        raise Unfit(f"{name} has {what}: it is not CheXbert's labeller")
    whole.eval()
    return model, heads


def config(shape, tensors):
    """The encoder's sizes; heads of 64, as BERT-base has them."""
    from transformers import BertConfig

    words, width = shape("bert.embeddings.word_embeddings.weight")
    layers = {key.split(".")[3] for key in tensors if key.startswith("bert.encoder.layer.")}
    return BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, width // HEAD_SIZE),
        intermediate_size=shape("bert.encoder.layer.0.intermediate.dense.weight")[0],
        max_position_embeddings=shape("bert.embeddings.position_embeddings.weight")[0],
        type_vocab_size=shape("bert.embeddings.token_type_embeddings.weight")[0],
    )


def tokenizer(path, words, most):
    """text -> ids: white space as one space, then uncased WordPiece between [CLS] and [SEP].

    A longer report is cut and still ends in [SEP].
    """
    from tokenizers import BertWordPieceTokenizer

    pieces = BertWordPieceTokenizer(path, lowercase=True)
    if pieces.get_vocab_size() != words:
        raise Unfit(f"{path} has {pieces.get_vocab_size()} words, the labeller {words}")

    def encode(text):
        ids = pieces.encode(re.sub(r"\s+", " ", text).strip()).ids
        return ids if len(ids) <= most else ids[: most - 1] + ids[-1:]

    return encode


def label(model, heads, rows, where):
    """The class of highest score of each head, for rows of ids."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=where)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=where)
    with torch.no_grad():
        first = model(input_ids=ids, attention_mask=mask)[0][:, 0]
        return torch.stack([head(first).argmax(dim=1) for head in heads], dim=1).tolist()


if __name__ == "__main__":
    serve(load)
