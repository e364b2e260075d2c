"""Tiny random weights in the layout of a metric's published ones, and its package's own scores.

Run by the interpreter that has the package: `python metric_reference.py METRIC FOLDER < PAIRS`
writes FOLDER and prints the scores of the pairs (JSON: [[answer, reference], ...]).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile

import torch
from transformers import BertConfig, BertForTokenClassification, BertModel

HUB = "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["the", "heart", "is", "normal", "enlarged", "no", "effusion", "lungs", "clear", "left"]
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, ".", ",", *WORDS]
VOCAB += ["##" + letter for letter in LETTERS]
KINDS = ["ABNORMALITY", "NON-ABNORMALITY", "DISEASE", "NON-DISEASE", "ANATOMY"]


def encoder(folder, kind=BertModel, **fields):
    """A BERT of two layers with its tokenizer."""
    sizes = {
        "vocab_size": len(VOCAB),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,  # so that texts differ
    }
    config = BertConfig(**{**sizes, **fields})
    model = kind(config).eval()
    if kind is BertForTokenClassification:
        torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(VOCAB) + "\n")
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        names = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
        json.dump({**names, "model_max_length": 512}, file)
    return model


def bertscore(folder, pairs):
    """Precision, recall and F1 by their formula, from the states of the second layer."""
    model = encoder(folder)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def states(text):
        ids = torch.tensor([tokenizer.encode(text)])
        with torch.no_grad():
            found = model(ids, output_hidden_states=True).hidden_states[2][0]
        return torch.nn.functional.normalize(found, dim=-1)

    made = []
    for own, reference in pairs:
        if not own.strip() or not reference.strip():
            made.append([0.0, 0.0, 0.0])
            continue
        alike = states(own) @ states(reference).T
        # [CLS] and [SEP] can be matched but do not count
        precision = alike.max(dim=1).values[1:-1].mean().item()
        recall = alike.max(dim=0).values[1:-1].mean().item()
        made.append([precision, recall, 2 * precision * recall / (precision + recall)])
    return made


def ratescore(folder, pairs):
    """The package's score of each pair, asked alone."""
    labels = ["O", *(sign + kind for kind in KINDS for sign in ("B-", "I-"))]
    ids = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    encoder(os.path.join(folder, "RaTE-NER-Deberta"), BertForTokenClassification, **ids)
    encoder(os.path.join(folder, "BioLORD-2023-C"))
    from RaTEScore import RaTEScore

    paths = [os.path.join(folder, name) for name in ("RaTE-NER-Deberta", "BioLORD-2023-C")]
    scorer = RaTEScore(*paths, use_gpu=False)
    return [
        [float(*scorer.compute_score([own], [ref])) if own.strip() and ref.strip() else 0.0]
        for own, ref in pairs
    ]


def radgraph(folder, pairs):
    """The package's three rewards of each pair."""
    local = os.path.join(folder, "encoder")
    encoder(local, initializer_range=0.02)
    for name in os.listdir(local):  # the archive has the tensors; of the encoder only its sizes
        if name.endswith((".safetensors", ".bin")):
            os.remove(os.path.join(local, name))
    cache = os.path.join(folder, "cache", "radgraph-xl")
    write_radgraph(cache, local)
    from radgraph import F1RadGraph

    scorer = F1RadGraph("all", "radgraph-xl", model_cache_dir=os.path.dirname(cache), cuda=-1)
    rewards = scorer(hyps=[own for own, _ in pairs], refs=[ref for _, ref in pairs])[1]
    write_config(cache, HUB)
    with tarfile.open(os.path.join(folder, "radgraph-xl.tar.gz"), "w:gz") as archive:
        for name in os.listdir(cache):
            archive.add(os.path.join(cache, name), name)
    shutil.rmtree(os.path.dirname(cache))
    return [[float(level[i]) for level in rewards] for i in range(len(pairs))]


def write_config(folder, name):
    bert = {"model_name": name, "max_length": 32, "type": "pretrained_transformer_mismatched"}
    per_word = {"trigger_spans_per_word": 0.3, "argument_spans_per_word": 0.8}
    modules = {
        "ner": {},
        "relation": {"spans_per_word": 0.5},
        "coref": {"spans_per_word": 0.3, "max_antecedents": 10, "coref_prop": 0},
        "events": {**per_word, "loss_weights": {"trigger": 0.5, "arguments": 0.5}},
    }
    model = {
        "type": "dygie",
        "embedder": {"token_embedders": {"bert": bert}},
        "initializer": {},
        "module_initializer": {},
        "feature_size": 4,
        "max_span_width": 2,
        "target_task": "relation",
        "feedforward_params": {"num_layers": 1, "hidden_dims": 8, "dropout": 0.1},
        "loss_weights": {"ner": 0.2, "relation": 1.0, "coref": 0.0, "events": 0.0},
        "modules": modules,
    }
    reader = {"type": "dygie", "max_span_width": 2, "token_indexers": {"bert": bert}}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump({"dataset_reader": reader, "vocabulary": {}, "model": model}, file)


def write_radgraph(folder, encoder_folder):
    """config.json, vocabulary, weights.th of a random model."""
    words = os.path.join(folder, "vocabulary")
    os.makedirs(words)
    write_config(folder, encoder_folder)
    kinds = {
        "radgraph-xl__ner_labels": ["", "Observation::present", "Anatomy::present"],
        "radgraph-xl__relation_labels": ["", "modify", "located_at"],
        "non_padded_namespaces": ["*labels", "*tags"],
    }
    for name, lines in kinds.items():
        with open(os.path.join(words, name + ".txt"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    from radgraph.allennlp.data import Vocabulary
    from radgraph.allennlp.modules import text_field_embedders, token_embedders
    from radgraph.dygie.models import dygie

    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        fields = json.load(file)["model"]
    for name in ("type", "embedder", "initializer", "module_initializer"):
        del fields[name]
    states = token_embedders.PretrainedTransformerMismatchedEmbedder(encoder_folder, max_length=32)
    model = dygie.DyGIE(
        vocab=Vocabulary.from_files(words),
        embedder=text_field_embedders.BasicTextFieldEmbedder({"bert": states}),
        **fields,
    )
    for name, tensor in model.named_parameters():
        if "_ner" in name or "_relation" in name:
            torch.nn.init.normal_(tensor, std=0.7)
    torch.save(model.state_dict(), os.path.join(folder, "weights.th"))


if __name__ == "__main__":
    torch.manual_seed(5)
    out = os.dup(1)
    os.dup2(2, 1)  # packages print
    values = globals()[sys.argv[1]](sys.argv[2], json.load(sys.stdin))
    os.write(out, json.dumps(values).encode())
