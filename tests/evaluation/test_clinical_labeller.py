"""CheXbert's labels, with random weights, against BERT in NumPy; files of another kind."""

import importlib
import importlib.util
import math
import re
import unicodedata

import numpy as np
import pytest

from pefomed_jax.evaluation.clinical import chexbert
from pefomed_jax.evaluation.clinical import metric as metric_lib
from pefomed_jax.evaluation.measure import Measure
from pefomed_jax.evaluation.plugins import Given

WIDTH, LAYERS, INNER, MOST = 128, 2, 96, 24


@pytest.fixture(scope="module")
def torch():
    if not all(map(importlib.util.find_spec, chexbert.Chexbert.modules)):
        pytest.skip("the worker needs torch and transformers")
    import torch

    return torch


WORDS = [
    "the",
    "heart",
    "is",
    "normal",
    "no",
    "effusion",
    "enlarge",
    "##d",
    "##ment",
    "lung",
    "##s",
]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,:;-/()%"]
VOCAB = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS]
VOCAB += [f"##{letter}" for letter in LETTERS if letter.isalnum() and letter not in "ds"]
TEXTS = [
    "The heart is enlarged.",
    "  no\n\neffusion ",
    "",
    "Lungs: enlargement (2.5 cm), no Épanchement\tof the HEART 🙂",
    "the heart is normal " * 30,
]


def weights(rng):
    """Tensors under the names of the published file."""
    sizes = {"embeddings.word_embeddings.weight": (len(VOCAB), WIDTH)}
    sizes["embeddings.position_embeddings.weight"] = (MOST, WIDTH)
    sizes["embeddings.token_type_embeddings.weight"] = (2, WIDTH)
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        parts = {f"attention.self.{n}": (WIDTH, WIDTH) for n in ("query", "key", "value")}
        parts |= {"attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (INNER, WIDTH)}
        parts |= {"output.dense": (WIDTH, INNER)}
        for name, (out, into) in parts.items():
            sizes[f"{at}.{name}.weight"], sizes[f"{at}.{name}.bias"] = (out, into), (out,)
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    sizes |= {"pooler.dense.weight": (WIDTH, WIDTH), "pooler.dense.bias": (WIDTH,)}
    sizes |= {f"{norm}.bias": (WIDTH,) for norm in norms}
    made = {f"bert.{name}": rng.normal(0, 0.2, shape) for name, shape in sizes.items()}
    made |= {f"bert.{norm}.weight": rng.normal(1, 0.1, WIDTH) for norm in norms}
    for i in range(14):
        classes = 4 if i < 13 else 2
        made[f"linear_heads.{i}.weight"] = rng.normal(0, 1, (classes, WIDTH))
        made[f"linear_heads.{i}.bias"] = rng.normal(0, 1, classes)
    return {name: array.astype(np.float32) for name, array in made.items()}


@pytest.fixture(scope="module")
def checkpoint(torch, tmp_path_factory):
    """(folder, tensors): laid out as chexbert.pth and vocab.txt of bert-base-uncased."""
    folder = tmp_path_factory.mktemp("chexbert")
    tensors = weights(np.random.default_rng(1))
    save(torch, folder / "chexbert.pth", tensors)
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    return folder, tensors


def save(torch, path, tensors):
    state = {f"module.{name}": torch.tensor(array) for name, array in tensors.items()}
    state["module.bert.embeddings.position_ids"] = torch.arange(MOST)[None]  # as old files have
    torch.save({"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {"state": {}}}, path)


def wordpieces(text):
    """Ids by the description of BERT's uncased tokeniser, the longest piece first."""
    text = "".join(
        c for c in unicodedata.normalize("NFD", text.lower()) if ord(c) not in range(768, 880)
    )
    pieces = []
    for word in re.findall(r"\w+|[^\w\s]", text):
        at, found = 0, []
        while at < len(word):
            ends = [e for e in range(len(word), at, -1) if ("##" * (at > 0) + word[at:e]) in VOCAB]
            if not ends:
                found = ["[UNK]"]
                break
            found.append("##" * (at > 0) + word[at : ends[0]])
            at = ends[0]
        pieces += found
    ids = [VOCAB.index(piece) for piece in ["[CLS]", *pieces, "[SEP]"]]
    return ids if len(ids) <= MOST else [*ids[: MOST - 1], VOCAB.index("[SEP]")]


def logits(tensors, text):
    """Scores of each head for one text: BERT in float64, by its paper."""
    t = {name: array.astype(np.float64) for name, array in tensors.items()}

    def dense(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    ids = wordpieces(text)
    at = "bert.embeddings"
    x = t[f"{at}.word_embeddings.weight"][ids] + t[f"{at}.token_type_embeddings.weight"][0]
    x = norm(x + t[f"{at}.position_embeddings.weight"][: len(ids)], f"{at}.LayerNorm")
    for i in range(LAYERS):
        at = f"bert.encoder.layer.{i}"
        q, k, v = (
            dense(x, f"{at}.attention.self.{n}").reshape(len(ids), -1, 64)
            for n in ("query", "key", "value")
        )
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(64)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hqk,khd->qhd", scores / scores.sum(-1, keepdims=True), v)
        mixed = dense(mixed.reshape(len(ids), WIDTH), f"{at}.attention.output.dense")
        x = norm(x + mixed, f"{at}.attention.output.LayerNorm")
        inner = dense(x, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(x + dense(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    return [dense(x[0], f"linear_heads.{i}") for i in range(14)]


def test_labels_are_those_of_bert_with_fourteen_heads(checkpoint):
    folder, tensors = checkpoint
    metric = chexbert.Chexbert(Given(str(folder), options={"batch": "2", "device": "cpu"}))
    assert metric.check() == ""
    assert re.fullmatch(r"chexbert\(weights=\w{8},torch=.*,transformers=.*\)", metric.label())
    expected = [logits(tensors, text) for text in TEXTS]
    margins = [np.sort(head)[-1] - np.sort(head)[-2] for text in expected for head in text]
    assert min(margins) > 1e-3  # else a rounding could decide
    found = metric.ask(TEXTS)
    assert found == [[int(np.argmax(head)) for head in text] for text in expected]
    assert len({c for row in found for c in row}) == 4
    assert len({tuple(row) for row in found}) == len(TEXTS)
    rows = [
        {"id": str(i), "prediction": own, "reference": ref}
        for i, (own, ref) in enumerate(zip(TEXTS, [*TEXTS[:2], *TEXTS[:3]], strict=True))
    ]
    (measure,) = metric.score(rows)
    assert isinstance(measure, Measure)
    expected = chexbert.measure(np.array(found), np.array([*found[:2], *found[:3]]))
    assert measure.scores() == expected.scores()


@pytest.fixture
def worker(torch, monkeypatch):
    """The worker's own module, and what it raises."""
    monkeypatch.syspath_prepend(metric_lib.WORKERS)
    return importlib.import_module("run_chexbert"), importlib.import_module("worker_io").Unfit


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"linear_heads.4.weight": None}, "has no tensor 'linear_heads.4.weight'"),
        ({"bert.pooler.dense.bias": None}, "has no 'bert.pooler.dense.bias'"),
        ({"linear_heads.14.bias": np.zeros(4, np.float32)}, "has 'linear_heads.14.bias' besides"),
        ({"linear_heads.2.bias": np.zeros(3, np.float32)}, "size mismatch for linear_heads.2.bias"),
    ],
)
def test_tensors_that_do_not_fit_are_named(checkpoint, torch, worker, tmp_path, change, says):
    module, unfit = worker
    tensors = {k: v for k, v in (checkpoint[1] | change).items() if v is not None}
    save(torch, tmp_path / "chexbert.pth", tensors)
    with pytest.raises(unfit, match=f"chexbert.pth.*{says}"):
        module.build(module.read(str(tmp_path / "chexbert.pth")), "chexbert.pth")


def test_files_of_another_kind_name_what_is_missing(checkpoint, torch, worker, tmp_path):
    module, unfit = worker
    path = tmp_path / "chexbert.pth"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(unfit, match=r"has no 'model_state_dict' \(it has state_dict\)"):
        module.read(str(path))
    path.write_text("no checkpoint")
    with pytest.raises(unfit, match=r"is no file of tensors by torch\.save"):
        module.read(str(path))
    with pytest.raises(unfit, match=f"has {len(VOCAB)} words, the labeller 30522"):
        module.tokenizer(str(checkpoint[0] / "vocab.txt"), 30522, 512)
