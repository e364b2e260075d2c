"""One bijective table of names for each family: (foreign name, tree path, how it is turned).

`load` reads the tables forwards, `export` and `trained` backwards. Names and shapes as the
official checkpoints have them: LLaMA as in Hugging Face folders, the vision tower as in
`eva_vit_g.pth`, the rest as in MiniGPT-v2 and PeFoMed checkpoints, LoRA as peft writes it.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from pefomed_jax.parallel import paths

# what follows the number of a layer in both worlds: ours, theirs, turn
LLAMA_LAYER = (
    ("attn_norm/scale", "input_layernorm.weight", "same"),
    *((f"attn/{p}_proj/kernel", f"self_attn.{p}_proj.weight", "linear") for p in "qkvo"),
    ("mlp_norm/scale", "post_attention_layernorm.weight", "same"),
    *((f"mlp/{p}_proj/kernel", f"mlp.{p}_proj.weight", "linear") for p in ("gate", "up", "down")),
)
LLAMA = (
    ("llm/embed/embedding", "model.embed_tokens.weight", "same"),
    ("llm/norm/scale", "model.norm.weight", "same"),
)
HEAD = ("llm/head/kernel", "lm_head.weight", "linear")
VISION_LAYER = (
    *((f"{n}/scale", f"{n}.weight", "same") for n in ("norm1", "norm2")),
    *((f"{n}/bias", f"{n}.bias", "same") for n in ("norm1", "norm2")),
    *((f"attn/{b}_bias", f"attn.{b}_bias", "same") for b in "qv"),
    ("attn/qkv/kernel", "attn.qkv.weight", "linear"),
    *((f"{m}/kernel", f"{m.replace('/', '.')}.weight", "linear")
      for m in ("attn/proj", "mlp/fc1", "mlp/fc2")),
    *((f"{m}/bias", f"{m.replace('/', '.')}.bias", "same")
      for m in ("attn/proj", "mlp/fc1", "mlp/fc2")),
)  # fmt: skip
VISION = (
    ("vision/cls_token", "cls_token", "row"),
    ("vision/pos_embed", "pos_embed", "table"),
    ("vision/patch_embed/kernel", "patch_embed.proj.weight", "conv"),
    ("vision/patch_embed/bias", "patch_embed.proj.bias", "same"),
)
LN_VISION = (
    ("ln_vision/scale", "ln_vision.weight", "same"),
    ("ln_vision/bias", "ln_vision.bias", "same"),
)
CONNECTOR = (
    ("connector/proj/kernel", "llama_proj.weight", "linear"),
    ("connector/proj/bias", "llama_proj.bias", "same"),
)
TOWER = "visual_encoder."  # before the tower's names in files that hold more than the tower
PEFT = ("base_model.model.", "")  # (before the module, before '.weight') of adapter folders
OFFICIAL = ("llama_model.base_model.model.", ".default")  # of MiniGPT-v2 and PeFoMed files

# names that are left out on purpose: (regex, why)
INV_FREQ = (r"rotary_emb\.inv_freq$", "a constant that rotary positions need not")
TIED_HEAD = (r"^lm_head\.weight$", "the head is the embedding (tie_word_embeddings)")
NO_FINAL = (r"^(visual_encoder\.)?(norm|fc_norm|head)\.", "the tower ends before its norm and head")
QFORMER = r"^(Qformer\.|query_tokens$)"


class Entry(NamedTuple):
    """One tensor: `turn` is a key of TURNS."""

    path: str  # canonical, 'llm/layers/3/attn/q_proj/kernel'
    foreign: str
    turn: str


class Turn(NamedTuple):
    """Array → array, as views without a copy."""

    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[Any], Any]  # of NumPy and jax arrays


TURNS = {
    "same": Turn(lambda x: x, lambda x: x),
    "linear": Turn(lambda x: x.T, lambda x: x.T),  # [out, in] ↔ [in, out]
    "conv": Turn(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)),
    "row": Turn(lambda x: x[0, 0], lambda x: x[None, None]),  # [1, 1, E] ↔ [E]
    "table": Turn(lambda x: x[0], lambda x: x[None]),  # [1, T, E] ↔ [T, E]
}


def llama(depth: int, tied: bool) -> list[Entry]:
    """A LLaMA of `depth` layers; with tied embeddings it has no head."""
    layers = [
        Entry(f"llm/layers/{i}/{ours}", f"model.layers.{i}.{theirs}", turn)
        for i in range(depth)
        for ours, theirs, turn in LLAMA_LAYER
    ]
    return [*map(Entry._make, LLAMA), *layers, *([] if tied else [Entry(*HEAD)])]


def vision(depth: int) -> list[Entry]:
    """The tower's own names, as `eva_vit_g.pth` has them."""
    layers = [
        Entry(f"vision/blocks/{i}/{ours}", f"blocks.{i}.{theirs}", turn)
        for i in range(depth)
        for ours, theirs, turn in VISION_LAYER
    ]
    return [*map(Entry._make, VISION), *layers]


def official(vision_depth: int, llm_depth: int, tied: bool) -> list[Entry]:
    """Everything without adapters, as the official model's state dict names it."""
    tower = [Entry(e.path, TOWER + e.foreign, e.turn) for e in vision(vision_depth)]
    rest = [Entry(*row) for row in (*LN_VISION, *CONNECTOR)]
    decoder = [Entry(e.path, OFFICIAL[0] + e.foreign, e.turn) for e in llama(llm_depth, tied)]
    return [*tower, *rest, *decoder]


def lora(modules: Iterable[str], spelling: tuple[str, str] = PEFT) -> list[Entry]:
    """Both matrices of every LoRA module ('llm/layers/3/attn/q_proj') of the decoder.

    Raises ValueError for a module outside the decoder: neither layout has a name for it.
    """
    before, after = spelling
    out = []
    for module in modules:
        foreign = f"{before}{decoder_module(module)}"
        out += [
            Entry(f"{module}/lora_{ours}", f"{foreign}.lora_{ours.upper()}{after}.weight", "linear")
            for ours in "ab"
        ]
    return out


def decoder_module(module: str) -> str:
    """'llm/layers/3/attn/q_proj' → 'model.layers.3.self_attn.q_proj'."""
    *front, number, kind = re.split(r"/(\d+)/", module) if "/layers/" in module else ("", "", "")
    for ours, theirs, _ in LLAMA_LAYER:
        if front == ["llm/layers"] and ours == f"{kind}/kernel":
            return f"model.layers.{number}.{theirs.removesuffix('.weight')}"
    if f"{module}/kernel" == HEAD[0]:
        return HEAD[1].removesuffix(".weight")
    raise ValueError(f"'{module}' is not a linear layer of the decoder")


def our_module(name: str) -> str:
    """The end of a tree path that a module's name in Hugging Face style, whole or its end, means.

    'q_proj' → 'q_proj', 'model.layers.3.self_attn.q_proj' → 'layers/3/attn/q_proj'.
    """
    parts = name.removeprefix("base_model.model.").removeprefix("model.").split(".")
    return "/".join({"self_attn": "attn", "lm_head": "head"}.get(part, part) for part in parts)


def native(abstract: dict[str, Any]) -> list[Entry]:
    """Our own paths, canonical, for all leaves of a flat tree."""
    return [Entry(p, p, "same") for path, leaf in abstract.items() for p in canonical(path, leaf)]


def canonical(path: str, leaf: Any) -> list[str]:
    """The paths of a leaf's layers; of a leaf that is not stacked, its own."""
    return paths.canonical(path, leaf.shape)
