"""An audit as it is handed on."""

from typing import Any, NamedTuple

from pefomed_jax.audit.gather import Gathered
from pefomed_jax.audit.leakage import Record


class Made(NamedTuple):
    """An audit (audit.json), what it is of, and the records of leakage.jsonl."""

    audit: dict[str, Any]
    found: Gathered
    shared: list[Record]
    within: list[Record]
