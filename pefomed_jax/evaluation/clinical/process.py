"""A worker script in another interpreter: JSON lines over pipes."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from pefomed_jax.errors import UserError
from pefomed_jax.evaluation.program import Program

_KEPT = 5  # last lines of stderr that an error shows
_FIND = (
    "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n) is None])"
)
_PROBE_S = 120


def environment(python: str) -> dict[str, str]:
    """The worker's environment: no download behind one's back, no path of another interpreter."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    other = os.path.abspath(python) != os.path.abspath(sys.executable)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not (other and name in ("PYTHONPATH", "PYTHONHOME"))
    }
    return kept | offline | {"TOKENIZERS_PARALLELISM": "false", "PYTHONIOENCODING": "utf-8"}


def missing(python: str, modules: Sequence[str]) -> list[str]:
    """Which top-level modules an interpreter lacks. Raises UserError for what is no interpreter."""
    if shutil.which(python) is None:
        raise UserError(f"there is no interpreter '{python}'; correct its path")
    command = [python, "-c", _FIND, *modules]
    try:
        ran = subprocess.run(
            command, env=environment(python), capture_output=True, text=True, timeout=_PROBE_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"'{python}' does not run ({error}); name a Python interpreter") from None
    if ran.returncode:
        said = " ".join(ran.stderr.split())[-200:]
        raise UserError(f"'{python}' does not run as Python ({said}); name a Python interpreter")
    return ran.stdout.split()


class Worker:
    """A running worker; it ends with this object."""

    def __init__(self, name: str, python: str, script: pathlib.Path, timeout: float) -> None:
        self._name, self._timeout = name, timeout
        folder = tempfile.mkdtemp(prefix=f"{name}-")
        self._program = Program(
            [python, str(script)],
            env=environment(python) | {"TMPDIR": folder},
            after=functools.partial(shutil.rmtree, folder, ignore_errors=True),
        )

    def start(self, settings: dict[str, Any]) -> dict[str, str]:
        """Hands over the settings; versions of what the worker uses, once it has its weights.

        Raises UserError where it does not come up, or finds the weights unfit.
        """
        self._program.send([json.dumps(settings)])
        answer = self._answer("while it loaded its weights")
        if "error" in answer:
            self._program.close()
            raise UserError(answer["error"])
        return answer["ready"]

    def ask(self, items: Sequence[Any]) -> list[Any]:
        """One result an item, in order, with a bar on a terminal. Raises UserError where the worker
        dies or falls silent.
        """
        self._program.send([json.dumps({"items": list(items)})])
        found, start = [], time.perf_counter()
        with tqdm(total=len(items), desc=self._name, file=sys.stderr, disable=None) as bar:
            for i in range(len(items)):
                found.append(self._answer(f"at text {i + 1} of {len(items)}")["result"])
                bar.update()
        seconds = time.perf_counter() - start
        print(f"{self._name}: {len(items)} texts in {seconds:.1f} s", file=sys.stderr, flush=True)
        return found

    def _answer(self, when: str) -> dict[str, Any]:
        try:
            line = self._program.receive(self._timeout)
        except TimeoutError:
            self._program.close()
            raise UserError(
                f"its worker said nothing for {self._timeout:g} s {when}{self._tail()}; give it "
                f"more time with --metric_options={self._name}.timeout=SECONDS"
            ) from None
        if line is None:
            code = self._program.code()
            self._program.close()
            ended = "no word" if code is None else f"code {code}"
            raise UserError(f"its worker ended with {ended} {when}{self._tail()}")
        try:
            return json.loads(line)
        except ValueError:
            raise UserError(f"its worker wrote what is no JSON {when}: {line[:200]!r}") from None

    def _tail(self) -> str:
        said = " / ".join(self._program.said()[-_KEPT:])
        return f" (it last said: {said})" if said else ""
