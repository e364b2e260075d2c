"""Answers to all cases of a set: batches of prompts in, one row per case out."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pefomed_jax.batch import Batch, Case
from pefomed_jax.data.prompts import Prompts
from pefomed_jax.decoding.generate import Generate
from pefomed_jax.decoding.text import to_text
from pefomed_jax.parallel import rules

IMAGE = "<ImageHere>"  # stands for the image in a written prompt


def predict(
    generate: Generate,
    params: Any,
    batches: Iterable[tuple[Batch, Sequence[Case]]],
    tokenizer: Any,
    prompts: Prompts,
    mesh: Mesh | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """One row per case, in order: id, image, prompt, reference, prediction, the source's fields.

    `cut` is true where the answer did not end within the tokens it was given.

    `batches` come from `data.pipeline.eval_batches`; rows past the cases are dropped. Under a mesh,
    call it inside `jax.set_mesh(mesh)`; with several processes each gets the rows of its own cases.
    `progress` is told how many cases are done.
    """
    rows: list[dict[str, Any]] = []
    for batch, cases in batches:
        tokens, lengths = _own_rows(generate(params, place(batch, mesh))[:2], len(batch.tokens))
        for case, answer, length in zip(cases, tokens, lengths, strict=False):
            row = to_row(case, prompts, to_text(tokenizer, answer[:length]))
            rows.append(row | ({"cut": True} if length == len(answer) else {}))
        progress(len(rows))
    return rows


def place(batch: Batch, mesh: Mesh | None) -> Batch:
    """The batch on the devices: rows over data × fsdp, each process bringing its own ones."""
    if mesh is None:
        return batch
    sharding = rules.rows(mesh)
    return jax.tree.map(
        lambda array: jax.make_array_from_process_local_data(sharding, np.asarray(array)), batch
    )


def _own_rows(arrays: tuple[jax.Array, jax.Array], count: int) -> tuple[np.ndarray, np.ndarray]:
    start = jax.process_index() * count
    tokens, lengths = (np.asarray(array)[start : start + count] for array in arrays)
    return tokens, lengths


def to_row(case: Case, prompts: Prompts, prediction: str) -> dict[str, Any]:
    """What is written about one case; its own names win over the source's fields."""
    text = prompts.evaluate(case)
    own = {
        "id": case.id,
        "image": case.image,
        "prompt": f"{text.before}{IMAGE}{text.after}",
        "reference": case.answer,
        "prediction": prediction,
    }
    return own | {name: value for name, value in case.fields.items() if name not in own}
