"""A metric that a worker computes: its checks, its process, and each text asked about once."""

import abc
import hashlib
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pefomed_jax.errors import UserError, nearest
from pefomed_jax.evaluation.clinical.process import Worker, missing
from pefomed_jax.evaluation.notes import texts
from pefomed_jax.evaluation.plugins import Given
from pefomed_jax.evaluation.protocols import Found, Row

WORKERS = pathlib.Path(__file__).parent / "workers"
DEVICES = ("auto", "cpu", "cuda")
SEEN = 1 << 16  # bytes of a file's beginning and of its end
TIMEOUT = "600"  # seconds without a word, loading included


class WorkerMetric(abc.ABC):
    """What the metrics of this folder share; a subclass says what is its own in these fields.

    `options` of the command line reach the worker as text, `weights` as a path.
    """

    name: str
    about: str
    script: pathlib.Path
    modules: tuple[str, ...]  # that the worker imports
    install: str  # the arguments of pip install
    apart: bool = False  # these do not go with the packages of this environment
    weights: str  # what --metric_weights names, in words
    files: tuple[str, ...] = ()  # that a folder of weights has to hold
    options: ClassVar[Mapping[str, str]]  # with their defaults

    def __init__(self, given: Given) -> None:
        self.path = pathlib.Path(given.weights).expanduser() if given.weights else None
        self.python = given.python
        for option in given.options:
            if option not in self._defaults():
                raise UserError(
                    f"--metric_options: {self.name} has no option '{option}' "
                    f"({', '.join(self._defaults())}){nearest(option, self._defaults())}"
                )
        self.set = self._defaults() | dict(given.options)
        self._worker: Worker | None = None
        self._versions: dict[str, str] = {}
        self._seen: dict[str, Any] = {}

    def check(self) -> str:
        """'' once the worker has its weights; else all that keeps it from running."""
        missing_parts = []
        for part in (self._check_path, self._check_options, self._check_python):
            try:
                part()
            except UserError as error:
                missing_parts.append(str(error))
        if missing_parts:
            return "; and ".join(missing_parts)
        try:
            self._start()
        except UserError as error:
            return str(error)
        return ""

    def label(self) -> str:
        """The metric with its options and versions, as 'radgraph(model=radgraph-xl,torch=2.13)'."""
        own = {k: v for k, v in self.set.items() if k not in ("timeout", "device", "batch") and v}
        if self.path is not None:
            own["weights"] = fingerprint(self.path)
        said = ",".join(f"{k}={v}" for k, v in (own | self._versions).items())
        return f"{self.name}({said})" if said else self.name

    @abc.abstractmethod
    def score(self, rows: Sequence[Row]) -> list[Found]:
        """Scores of the rows; a subclass says which."""

    def ask(self, items: Sequence[Any]) -> list[Any]:
        """The worker's result for each item; what was asked before is remembered."""
        keys = [json.dumps(item) for item in items]
        by_key = dict(zip(keys, items, strict=True))
        # those of one length together, as a batch is padded; the longest first shows what fits
        new = sorted(by_key.keys() - self._seen.keys(), key=lambda key: (-len(key), key))
        if new:
            try:
                results = self._start().ask([by_key[key] for key in new])
            except UserError as error:
                self._worker = None
                raise UserError(f"--metrics={self.name}: {error}") from None
            self._seen |= zip(new, results, strict=True)
        return [self._seen[key] for key in keys]

    def check_weights(self, path: pathlib.Path) -> None:
        """Raises UserError where what the worker reads is not there."""
        for file in self.files:
            if not (path / file).exists():
                raise UserError(f"{path} has no '{file}': {self._way()}")

    def _defaults(self) -> dict[str, str]:
        return {**self.options, "device": "auto", "timeout": TIMEOUT}

    def _way(self) -> str:
        return f"--metric_weights={self.name}=PATH names {self.weights}"

    def _check_path(self) -> None:
        if self.path is None:
            raise UserError(f"its weights are not named (nothing is downloaded): {self._way()}")
        if not self.path.exists():
            raise UserError(f"there is no '{self.path}': {self._way()}")
        self.check_weights(self.path)

    def _check_options(self) -> None:
        if self.set["device"] not in DEVICES:
            raise UserError(f"device={self.set['device']} is not one of {', '.join(DEVICES)}")
        for option in ("timeout", "batch"):
            number(option, self.set.get(option, "1"))

    def _check_python(self) -> None:
        lacking = missing(self.python, self.modules)
        if not lacking:
            return
        what = f"{self.python} lacks {', '.join(lacking)}"
        if self.apart and self.python == sys.executable:
            raise UserError(
                f"{what}, which want an environment of their own: python -m venv {self.name}-env "
                f"&& {self.name}-env/bin/pip install {self.install}, then "
                f"--metric_python={self.name}={self.name}-env/bin/python"
            )
        raise UserError(
            f"{what}: {self.python} -m pip install {self.install}; or name an interpreter that has "
            f"them with --metric_python={self.name}=PATH"
        )

    def _start(self) -> Worker:
        if self._worker is None:
            worker = Worker(self.name, self.python, self.script, float(self.set["timeout"]))
            self._versions = worker.start({"weights": str(self.path), **self.set})
            self._worker = worker
        return self._worker


def fingerprint(path: pathlib.Path) -> str:
    """Eight digits that change with the files of weights: their names, sizes, beginnings and ends.

    A few reads a file, as the files may be gigabytes.
    """
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)} {size} ".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(SEEN))
            stream.seek(max(0, size - SEEN))
            digest.update(stream.read(SEEN))
    return digest.hexdigest()[:8]


def number(option: str, text: str) -> int:
    """A whole number above 0. Raises UserError for what is none."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UserError(f"{option}={text} is no whole number above 0")
    return int(text)


def answers(rows: Sequence[Row]) -> list[str]:
    """The texts that are scored. Raises UserError for a row without one."""
    for row in rows:
        if not isinstance(row.get("prediction"), str):
            raise UserError(f"case '{row.get('id')}' has no text under 'prediction'; write one")
    return [row["prediction"] for row in rows]


def references(rows: Sequence[Row]) -> list[list[str]]:
    """The references of each row, one or more. Raises UserError for a row without one."""
    for row in rows:
        held = row.get("reference")
        several = held if isinstance(held, list | tuple) else [held]
        if not several or not all(isinstance(text, str) for text in several):
            raise UserError(f"case '{row.get('id')}' has no text under 'reference'; write one")
    return [texts(row, "reference") for row in rows]
