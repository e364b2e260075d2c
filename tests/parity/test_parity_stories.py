"""A trained LLaMA of 260,000 parameters writes its known text through our decoder, to the byte."""

import re
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from pefomed_jax.models import mllm

STEPS = 200


def read(path):
    """(sizes, canonical `llm` tree) of a llama2.c checkpoint, version 0, with a tied head."""
    raw = path.read_bytes()
    names = ("width", "mlp_dim", "depth", "heads", "kv_heads", "vocab_size", "length")
    c = ConfigDict(dict(zip(names, struct.unpack("7i", raw[:28]), strict=True)))
    flat = np.frombuffer(raw, np.float32, offset=28)
    kv = c.width * c.kv_heads // c.heads
    shapes = {
        "embedding": (c.vocab_size, c.width),
        "attn_norm": (c.depth, c.width),
        "q": (c.depth, c.width, c.width),
        "k": (c.depth, kv, c.width),
        "v": (c.depth, kv, c.width),
        "o": (c.depth, c.width, c.width),
        "mlp_norm": (c.depth, c.width),
        "gate": (c.depth, c.mlp_dim, c.width),
        "down": (c.depth, c.width, c.mlp_dim),
        "up": (c.depth, c.mlp_dim, c.width),
        "norm": (c.width,),
    }
    arrays, at = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        arrays[name] = flat[at : at + size].reshape(shape)
        at += size
    arrays["q"] = half_split(arrays["q"], c.heads)
    arrays["k"] = half_split(arrays["k"], c.kv_heads)
    return c, tree(arrays, c.depth)


def half_split(weight, heads):
    """Rows [L, heads · H, D] for rotary pairs (2i, 2i + 1) reordered for the pairs (i, i + H/2)."""
    layers, rows, width = weight.shape
    pairs = weight.reshape(layers, heads, rows // heads // 2, 2, width)
    return pairs.swapaxes(2, 3).reshape(weight.shape)


def tree(arrays, depth):
    layers = {}
    for i in range(depth):
        kernels = {
            n: {"kernel": arrays[n[:-5]][i].T} for n in ("gate_proj", "up_proj", "down_proj")
        }
        attn = {f"{n}_proj": {"kernel": arrays[n][i].T} for n in "qkvo"}
        layers[str(i)] = {"attn": attn, "mlp": kernels}
        layers[str(i)] |= {n: {"scale": arrays[n][i]} for n in ("attn_norm", "mlp_norm")}
    return {
        "embed": {"embedding": arrays["embedding"]},
        "layers": layers,
        "norm": {"scale": arrays["norm"]},
    }


def pieces(path, count):
    """The bytes of each token; a byte token such as <0x0A> stands for that byte."""
    raw, at, out = path.read_bytes(), 4, []
    for _ in range(count):
        (size,) = struct.unpack_from("i", raw, at + 4)
        piece = raw[at + 8 : at + 8 + size]
        byte = re.fullmatch(rb"<0x(..)>", piece)
        out.append(bytes.fromhex(byte[1].decode()) if byte else piece)
        at += 8 + size
    return out


def greedy(model, params, steps):
    """Token ids from BOS on, one cached step each."""

    def step(carry, position):
        token, cache = carry
        at = jnp.full((1, 1), position, jnp.int32)
        x = model.apply(params, token, at * 0 - 1, jnp.zeros((1, 1, 64)), method="embed")
        hidden, cache = model.apply(params, x, at, at * 0 + 1, cache, method="hidden")
        logits = model.apply(params, hidden, method="logits")
        token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return (token, cache), token[0, 0]

    start = (jnp.ones((1, 1), jnp.int32), mllm.empty_cache(model, 1, steps))
    return jax.lax.scan(step, start, jnp.arange(steps))[1]


def test_greedy_text_of_the_trained_stories_model(shared, model_config):
    folder = shared / "data" / "tinyllama-stories260k"
    if not folder.is_dir():
        pytest.skip("no stories260K model in the shared folder")
    sizes, llm = read(folder / "stories260K.bin")
    assert sizes.kv_heads < sizes.heads
    model_config.llm.update({k: v for k, v in sizes.items() if k != "length"})
    model_config.llm.tie_embeddings = True
    model = mllm.build(model_config)
    tokens = jax.jit(lambda p: greedy(model, {"params": {"llm": p}}, STEPS))(llm)
    words = pieces(folder / "tok512.bin", sizes.vocab_size)
    text = b"".join(words[int(token)] for token in tokens).removeprefix(b" ")
    expected = (folder / "expected_greedy_200.txt").read_bytes()
    assert text == expected
