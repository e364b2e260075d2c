"""Answers to all cases of a set: batches of prompts in, one row per case out."""

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int, UInt32

from pefomed_jax.batch import Batch, Case
from pefomed_jax.data.prompts import Prompts
from pefomed_jax.decoding.generate import Generate
from pefomed_jax.decoding.text import to_text
from pefomed_jax.errors import UserError
from pefomed_jax.parallel import share

IMAGE = "<ImageHere>"  # stands for the image in a written prompt
DIGITS = 6  # of a log-probability
Row = dict[str, Any]
Batches = Iterable[tuple[Batch, Sequence[Case | None]]]


def predict(
    generate: Generate,
    params: Any,
    batches: Batches,
    tokenizer: Any,
    prompts: Prompts,
    mesh: Mesh | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Row]:
    """The rows of `answer` of all batches; `progress` is told how many cases are done."""
    rows: list[Row] = []
    for some in answer(generate, params, batches, tokenizer, prompts, mesh):
        rows += some
        progress(len(rows))
    return rows


def answer(
    generate: Generate,
    params: Any,
    batches: Batches,
    tokenizer: Any,
    prompts: Prompts,
    mesh: Mesh | None = None,
    key: jax.Array | None = None,
    lanes: int = 1,
) -> Iterator[list[Row]]:
    """Batch by batch, one row per case in order; see `to_row`.

    `batches` are those of `data.asked`, and `generate` was made for as many `lanes`. Under a mesh,
    call it inside `jax.set_mesh(mesh)`; of several processes each brings its own rows of a batch
    (`share.mine`) and gets the answers of all.
    `key`: of sampling; each case draws with its own, made of `key` and the case's id.
    Errors: UserError where the model's scores are no numbers.
    """
    for batch, cases in batches:
        placed = share.place(batch, mesh)
        keys = ()
        if key is not None:
            names = _names(cases, len(placed.tokens) * lanes)
            own = names if mesh is None else share.cut(names, mesh)
            keys = (_case_keys(key, share.place(own, mesh)),)
        answers = share.whole(generate(params, placed, *keys))
        there = [(case, i) for i, case in enumerate(cases) if case is not None]
        yield [
            to_row(case, prompts, tokenizer, *(each[i] for each in answers)) for case, i in there
        ]


def _names(cases: Sequence[Case | None], count: int) -> UInt32[np.ndarray, " count"]:
    """A number for each case's id, the same in every process and every run; 0 for no case."""
    numbers = [0 if case is None else zlib.crc32(case.id.encode()) for case in cases]
    return np.asarray(numbers + [0] * (count - len(numbers)), np.uint32)


@jax.jit
def _case_keys(key: jax.Array, names: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, names)


def to_row(
    case: Case,
    prompts: Prompts,
    tokenizer: Any,
    tokens: Int[np.ndarray, " M"],
    length: Any,
    log_prob: Any,
) -> Row:
    """What is written about one case; its own names win over the source's fields.

    `n_tokens` are those of the answer, without its end. `log_prob` is the mean of the model's own
    natural log-probabilities of these and of the end, whatever was changed to choose them.
    `cut` is true where the limit of tokens came before an end. A case without an answer, without
    an image, or without a split, has no such field; `images` is there where it has several.
    """
    text = prompts.evaluate(case)
    n, cut = int(length), int(length) == len(tokens)
    own = {
        "id": case.id,
        "image": case.image,
        "images": list(case.images),
        "prompt": text.before + text.between.join([IMAGE] * text.images) + text.after,
        "reference": case.answer,
        "prediction": to_text(tokenizer, tokens[:n]),
        "n_tokens": n,
        "log_prob": round(float(log_prob) / (n + 1 - cut), DIGITS),
        "cut": cut,
        "split": case.split,
    }
    if not math.isfinite(own["log_prob"]):
        raise UserError(
            f"case {case.id}: the model's scores are no numbers (mean log-probability "
            f"{own['log_prob']}); its weights, or model.dtype, cannot be right"
        )
    optional = ("reference", "image", "cut", "split")
    left_out = {name for name in optional if not own[name]}
    left_out |= {"images"} if text.images < 2 else set()
    shown = {name: value for name, value in own.items() if name not in left_out}
    return shown | {name: value for name, value in case.fields.items() if name not in own}
