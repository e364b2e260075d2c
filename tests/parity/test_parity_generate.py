"""Greedy decoding and beam search against `generate` of transformers, token for token.

Prompts are text, so that both sides see the same token ids; ours are padded on either side.
"""

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="the comparisons with PyTorch need torch")
pytest.importorskip("peft", reason="the comparisons with PyTorch need peft")

import reference
import samples
import torch
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch
from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options
from pefomed_jax.models import mllm

BOS, ROWS, LONGEST, TIE = 1, 6, 12, 1e-4
QUICK, ALL = range(6), range(6, 30)


def draw(seed):
    """Sizes and settings at random: (config, options without their ends)."""
    rng = np.random.default_rng(seed)
    heads, kv_heads = [(4, 4), (4, 2), (6, 1), (6, 3)][seed % 4]
    llm = dict(vocab_size=int(rng.integers(30, 90)), width=8 * heads, depth=int(rng.integers(1, 3)))
    llm |= dict(heads=heads, kv_heads=kv_heads, mlp_dim=int(rng.integers(40, 70)))
    llm |= dict(norm_eps=1e-5, rope_theta=10000.0, tie_embeddings=bool(rng.integers(2)))
    config = samples.small()
    config.llm = ConfigDict(llm)
    settings = {"beams": seed % 6 or 1, "max_new_tokens": int(rng.integers(4, 14))}
    settings["repetition_penalty"] = float(rng.choice([1.0, 1.0, 1.3, 0.8]))
    settings["min_new_tokens"] = int(rng.choice([0, 0, 2, 4]))
    if settings["beams"] > 1:
        settings["length_penalty"] = float(rng.choice([1.0, 0.0, 2.0, 0.6, -1.0]))
        settings["early_stopping"] = [False, True, "never"][rng.integers(3)]
    return config, settings


def prompts(config, rng):
    """Ragged token ids; the padding of transformers is BOS, which its penalty counts as seen."""
    lengths = rng.integers(1, LONGEST, ROWS)
    return [[BOS, *rng.integers(2, config.llm.vocab_size, n).tolist()] for n in lengths]


def as_batch(config, texts, left):
    """Padded on the left or on the right."""
    long = max(map(len, texts)) + 1
    arrays = {k: np.zeros((ROWS, long), np.int32) for k in ("tokens", "positions")}
    arrays |= {k: np.full((ROWS, long), -1, np.int32) for k in ("branch", "image_slot")}
    for r, text in enumerate(texts):
        at = slice(long - len(text), None) if left else slice(len(text))
        arrays["tokens"][r, at], arrays["branch"][r, at] = text, 0
        arrays["positions"][r, at] = np.arange(len(text))
    patches = (config.vision.image_size // config.vision.patch_size) ** 2
    features = np.zeros((ROWS, 1, patches, config.vision.width), np.float32)
    targets = {k: np.zeros((ROWS, 1), np.int32) for k in ("target_pos", "targets")}
    return Batch(**arrays, **targets, weights=np.zeros((ROWS, 1), np.float32), features=features)


def theirs(model, texts, eos, settings):
    """Their new tokens."""
    long = max(map(len, texts))
    ids = torch.tensor([[BOS] * (long - len(t)) + t for t in texts])
    mask = torch.tensor([[0] * (long - len(t)) + [1] * len(t) for t in texts])
    options = {k: v for k, v in settings.items() if k != "beams"}
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            num_beams=settings["beams"],
            eos_token_id=list(eos) or None,
            pad_token_id=BOS,
            **options,
        )
    return out[:, long:].numpy()


def log_probs(model, text, answer, penalty=1.0):
    """Of every token of an answer, by one pass over all of it; with `penalty` as beams count it."""
    with torch.no_grad():
        logits = model(torch.tensor([[*text, *answer]])).logits[0, len(text) - 1 : -1]
    table = torch.log_softmax(logits, -1).double().numpy()
    for t in range(len(answer)):
        seen = list({*text, *answer[:t]})
        table[t, seen] *= penalty
    return table[range(len(answer)), list(answer)]


def tie(model, text, mine, other, settings):
    """Whether both answers are equally good: then rounding chose between them."""
    penalty, power = settings["repetition_penalty"], settings.get("length_penalty", 0.0)
    if settings["beams"] == 1:
        at = next(i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b) + 1
        mine, other = mine[:at], other[:at]
    a, b = (log_probs(model, text, x, penalty).sum() / len(x) ** power for x in (mine, other))
    return abs(a - b) < TIE


def cut(answer, eos, limit):
    """An answer with its end."""
    hits = [i for i, token in enumerate(answer[:limit].tolist()) if token in eos]
    return answer[: hits[0] + 1 if hits else limit].tolist()


def check(seed):
    """How many answers were compared, how many of them had ended, and how many differ by a tie."""
    config, settings = draw(seed)
    rng = np.random.default_rng(1000 + seed)
    model, params = mllm.build(config), samples.params(mllm.build(config), seed=seed)
    params["llm"]["layers"] = {  # sharper than random parameters are: answers that differ
        i: jax.tree.map(lambda x: 1.5 * x, layer) for i, layer in params["llm"]["layers"].items()
    }
    texts, peer = prompts(config, rng), reference.hugging_face(config, params)
    free = theirs(peer, texts, (), settings | {"min_new_tokens": 0})
    eos = tuple({int(x) for x in rng.choice(free.ravel(), int(rng.integers(1, 4)))} - {BOS})
    expected = theirs(peer, texts, eos, settings)
    generate = make_generate(model, Options(eos=eos, **settings))
    answers = generate(params, as_batch(config, texts, left=bool(seed % 2)))
    ended = ties = 0
    rows = zip(texts, *map(np.asarray, answers), expected, strict=True)
    for text, ours, length, score, other in rows:
        limit = settings["max_new_tokens"]
        mine, other = cut(ours, eos, limit), cut(other, eos, limit)
        if mine != other:
            assert tie(peer, text, mine, other, settings), f"seed {seed}: {settings} {eos}"
            ties += 1
        assert length == len(mine) - (mine[-1] in eos)
        np.testing.assert_allclose(score, log_probs(peer, text, mine).sum(), atol=1e-3)
        ended += mine[-1] in eos
    return ROWS, ended, ties


@pytest.mark.parametrize("seed", QUICK)
def test_a_few_settings(seed):
    check(seed)


@pytest.mark.slow
def test_many_settings():
    counts = np.array([check(seed) for seed in ALL])
    compared, ended, ties = counts.sum(axis=0)
    assert compared >= 140
    assert compared / 4 < ended < compared
    assert ties < compared / 50
