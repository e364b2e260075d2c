"""Tokens of every case, measured once: of large sets they are kept (`data.cache`)."""

import hashlib
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pefomed_jax import whole
from pefomed_jax.batch import Case
from pefomed_jax.data import cache as cache_lib
from pefomed_jax.data.encoding import Encoding, Lengths

LEAST = 5000  # cases: fewer are measured in a moment


def of(encoding: Encoding, cases: Sequence[Case], cache: str = "") -> Lengths:
    """`encoding.measure(cases)`. `cache`: config.data.cache."""
    tokenizer = _identity(encoding.encoder.tokenizer)
    if len(cases) < LEAST or tokenizer is None:
        return encoding.measure(cases)
    key = cache_lib.key(tokenizer, encoding.prompts, _digest(cases))
    path = cache_lib.folder(cache, "lengths") / f"{key}.npy"
    with cache_lib.locked(path), cache_lib.told(path):
        if path.exists():
            return Lengths(*np.load(path))
        made = encoding.measure(cases)
        data = io.BytesIO()
        np.save(data, np.stack([made.lengths, made.answers]))
        whole.write(path, data.getvalue())
    return made


def _identity(tokenizer: Any) -> str | None:
    """What stands for all that a tokenizer does; None where that cannot be told."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    return None if core is None else hashlib.sha256(core.to_str().encode()).hexdigest()


def _digest(cases: Sequence[Case]) -> str:
    sums = hashlib.sha256()
    for case in cases:
        row = case.id, case.question, case.answer, case.fields.get("layout"), len(case.images)
        sums.update(json.dumps(row).encode())
    return sums.hexdigest()
