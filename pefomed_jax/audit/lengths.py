"""Tokens: how long rows are, which buckets they fall into, what is padding, steps an epoch."""

import math
from typing import Any

import numpy as np
from jaxtyping import Int

from pefomed_jax.audit.gather import Gathered
from pefomed_jax.data import pipeline
from pefomed_jax.data.encoding import Encoding
from pefomed_jax.data.order import Order
from pefomed_jax.errors import UserError

BINS = 40
BATCHES = 5000  # of epoch 0 that padding is measured in


def lengths(found: Gathered) -> dict[str, Any]:
    """Counts of tokens, buckets and steps; `problem` and steps alone where lengths are unknown.

    Without lengths the steps of an epoch are known where a row is one case, else None.
    """
    train, config = found.parts["train"], found.config
    if found.encoding is None:
        return {"problem": f"lengths are not known: {found.without}"} | _steps(found, None)
    if not train:
        return {"problem": "lengths are not known: no training case is left"} | _steps(found, None)
    try:
        order = pipeline.make_order(train, found.tokenizer, config)
    except UserError as error:
        return {"problem": f"the run would stop: {error}"} | _steps(found, None)
    rows, buckets = _rows(found.encoding, found, order)
    answers = found.encoding.measure(train).answers
    n_batches = min(BATCHES, math.ceil(order.steps_per_epoch))
    return {
        "rows": _summary(rows),
        "answers": _summary(answers),
        "prefix": int(found.encoding.prefixes(train).max()),
        "histogram": _histogram(rows, max(b["tokens"] for b in buckets)),
        "buckets": buckets,
        "padding": order.waste(n_batches),
        "measured_batches": n_batches,
    } | _steps(found, order.rows_per_epoch)


def _steps(found: Gathered, rows: int | None) -> dict[str, Any]:
    """`rows` of an epoch; None: one for each case, if a row is one case."""
    config, cases = found.config, len(found.parts["train"])
    rows = cases if rows is None and config.data.branches == 1 else rows
    per_epoch = rows / config.train.batch_size if rows else None
    return {
        "rows_per_epoch": rows,
        "cases_per_epoch": cases,
        "batch_size": config.train.batch_size,
        "steps_per_epoch": per_epoch,
        "steps": config.train.steps,
        "epochs": config.train.steps / per_epoch if per_epoch else None,
    }


def _rows(
    encoding: Encoding, found: Gathered, order: Order
) -> tuple[Int[np.ndarray, " r"], list[dict[str, Any]]]:
    """Tokens of the rows of epoch 0, and of each bucket its batches, rows and padding."""
    train = found.parts["train"]
    own, prefix = encoding.measure(train).lengths, encoding.prefixes(train)
    seen: list[int] = []
    table = {bucket: [0, 0, 0] for bucket in order.buckets}
    for k in range(min(BATCHES, math.ceil(order.steps_per_epoch))):
        batch = order.batch(k)
        tokens = [int(prefix[row[0]] + own[list(row)].sum()) for row in batch.rows]
        seen += tokens
        for i, n in enumerate((1, len(tokens), sum(tokens))):
            table[batch.bucket][i] += n
    made = [
        {"tokens": t, "answers": a, "images": n_images, "batches": n, "rows": rows}
        | {"padding": 1 - used / (rows * t) if rows else None}
        for (t, a, n_images), (n, rows, used) in table.items()
    ]
    return np.asarray(seen, np.int64), made


def _summary(counts: Int[np.ndarray, " n"]) -> dict[str, int]:
    middle, most = np.percentile(counts, [50, 99]).tolist()
    return {"median": round(middle), "p99": round(most), "most": int(counts.max())}


def _histogram(counts: Int[np.ndarray, " n"], end: int) -> dict[str, Any]:
    """Counts of bins of whole tokens from 0 to the largest bucket."""
    width = max(1, math.ceil((end + 1) / BINS))
    n = np.bincount(counts // width, minlength=math.ceil((end + 1) / width))
    return {"width": width, "counts": n.tolist()}
