"""What the audit looks at: the cases as the run would use them, every bad row, every image."""

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.batch import Case
from pefomed_jax.data import facts, prepare, sources
from pefomed_jax.data.encoding import Encoding
from pefomed_jax.data.facts import Fact
from pefomed_jax.data.sources import Source
from pefomed_jax.data.sources.files import BadRow
from pefomed_jax.errors import UserError

SPLITS = ("train", "val", "test")


class Gathered(NamedTuple):
    """A data set as a run would find it."""

    config: ConfigDict
    source: Source
    parts: dict[str, list[Case]]  # by split: the usable cases
    unused: dict[str, int]  # by split: readable cases past data.limit or eval.limit
    bad: list[BadRow]
    total: int  # rows, bad ones included
    known: dict[str, Fact]  # of every image of a case
    where: dict[str, tuple[Case, int]]  # a case that has an image, and which of its images it is
    tokenizer: Any | None
    encoding: Encoding | None
    without: str  # why there is no tokenizer
    notes: list[str]  # what source and carving say

    @property
    def cases(self) -> list[Case]:
        return [case for cases in self.parts.values() for case in cases]


def gather(config: ConfigDict) -> Gathered:
    """Reads all rows, opens all images; none that is bad stops it. Errors: no rows can be read."""
    with _told() as said:
        source = sources.load(config)
    read = {split: source.cases(split) for split in SPLITS}
    bad = [*getattr(source, "bad_rows", ())]
    total = sum(map(len, read.values())) + len(bad)
    read["train"], read["val"], notes = prepare.carve(
        source.name, read["train"], read["val"], config
    )
    test, said_of_test = prepare.tested(source.name, read["test"], read["val"], config)
    used = read | {"train": read["train"][: config.data.limit or None]}
    used["test"] = [] if said_of_test else test  # validation cases are not counted twice
    everything = [case for cases in used.values() for case in cases]
    print(f"{source.name}: {len(everything):,} cases; their images are looked at", flush=True)
    known = facts.of(source, everything, config.data.cache)
    tokenizer, without = _tokenizer(config)
    encoding = None if tokenizer is None else Encoding.of(tokenizer, config)
    parts = {}
    for split, cases in used.items():
        found = prepare.check(source, cases, known, encoding, config, split != "test")
        bad += found.values()
        parts[split] = [case for i, case in enumerate(cases) if i not in found]
    unused = {split: len(read[split]) - len(cases) for split, cases in used.items()}
    where = facts.places(source, everything)
    lines = [*_of_the_data(said.getvalue()), *notes, *said_of_test]
    made = (parts, unused, bad, total, known, where, tokenizer, encoding, without, lines)
    return Gathered(config, source, *made)


def _tokenizer(config: ConfigDict) -> tuple[Any | None, str]:
    try:
        return base_lib.tokenizer(config), ""
    except UserError as error:
        return None, str(error)


def _of_the_data(said: str) -> list[str]:
    """The lines of a source but those on other processes."""
    return [line for line in said.splitlines() if not line.startswith("waiting for another")]


class _Tee(io.StringIO):
    """Keeps what is printed, and prints it."""

    def __init__(self, out: io.TextIOBase):
        super().__init__()
        self._out = out

    def write(self, text: str) -> int:
        self._out.write(text)
        self._out.flush()
        return super().write(text)


@contextlib.contextmanager
def _told() -> Iterator[io.StringIO]:
    """What is printed inside."""
    with contextlib.redirect_stdout(_Tee(cast(io.TextIOBase, sys.stdout))) as said:
        yield said
