"""METEOR 1.5 (Denkowski and Lavie, 2014) by its own program, which needs Java.

The program comes with pycocoevalcap (`pip install 'pefomed_jax[coco]'`). It is started once a
process, with the settings of COCO, and gives each case's counts; the scores are computed here from
their sums, as the program does, so that they can be resampled. Where it cannot run, the score is
skipped, with the reason.
"""

import functools
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pefomed_jax.evaluation.measure import Measure, Scores, Skipped
from pefomed_jax.evaluation.text.java import Java, JavaError
from pefomed_jax.evaluation.text.report import References, Words

Numbers = np.ndarray | np.float64  # of several sets, or of one

NAME = "meteor"
_SETTINGS = ("-Dfile.encoding=UTF-8", "-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio")
# the table by its name: the program does not find it by itself where a folder's name has a blank
_SETTINGS += ("-l", "en", "-norm", "-a", "data/paraphrase-en.gz")
_FILES = ("meteor-1.5.jar", "data/paraphrase-en.gz")
_COUNTS = 23  # lengths, function words, matches of four kinds, chunks, matched words

# what the program takes for English: of exact, stemmed, synonymous and paraphrased words
_KINDS = np.array([1.0, 0.6, 0.8, 0.6])
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75


def measure(hypotheses: Sequence[Words], references: Sequence[References]) -> Measure | Skipped:
    """meteor of the cases, in 0..1."""
    lines = [line(words, refs) for words, refs in zip(hypotheses, references, strict=True)]
    try:
        answers = _program().ask(lines)
        stats = np.array([_counts(answer) for answer in answers], np.float64)
    except JavaError as error:
        return Skipped(NAME, str(error))
    stats = stats.reshape(-1, _COUNTS)
    return Measure(stats, combine, {k: np.asarray(v) for k, v in combine(stats).items()})


def line(words: Words, refs: References) -> str:
    """A case as the program reads it; the marks between its texts are taken out of these."""
    texts = (" ".join(text).replace("|||", "").replace("  ", " ") for text in (*refs, words))
    return " ||| ".join(("SCORE", *texts))


def _counts(answer: str) -> list[float]:
    try:
        made = [float(part) for part in answer.split()]
    except ValueError:
        made = []
    if len(made) != _COUNTS:
        raise JavaError(f"METEOR answered {answer[:100]!r} instead of {_COUNTS} numbers")
    length, wanted, chunks, own, theirs = (made[i] for i in (0, 1, 20, 21, 22))
    if chunks == 1 and own == length and theirs == wanted:
        made[20] = 0.0  # a case without any difference adds no chunk to the sum
    return made


def combine(sums: Float[np.ndarray, "*sets 23"]) -> Scores:
    """meteor from summed counts: a weighted mean of precision and recall, less for many chunks."""
    length, wanted, function, wanted_function = np.moveaxis(sums[..., :4], -1, 0)
    matches = np.moveaxis(sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4), -1, 0) @ _KINDS
    chunks, own, theirs = np.moveaxis(sums[..., 20:], -1, 0)
    precision = _ratio(_weighed(matches[0], matches[2]), _weighed(length - function, function))
    recall = _ratio(
        _weighed(matches[1], matches[3]), _weighed(wanted - wanted_function, wanted_function)
    )
    mean = _ratio(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    pieces = _ratio(chunks, (own + theirs) / 2)
    return {NAME: mean * (1 - _GAMMA * pieces**_BETA)}


def _weighed(content: Numbers, function: Numbers) -> Numbers:
    return _DELTA * content + (1 - _DELTA) * function


def _ratio(a: Numbers, b: Numbers) -> Numbers:
    """a / b, 0 where b is 0."""
    return np.where(b > 0, a / np.where(b > 0, b, 1), 0.0)


def versions() -> dict[str, str]:
    """What runs METEOR here; nothing where it cannot run."""
    try:
        java, _ = located()
    except JavaError:
        return {}
    return {
        "meteor": "1.5",
        "pycocoevalcap": importlib.metadata.version("pycocoevalcap"),
        "java": _java_version(java),
    }


def located() -> tuple[str, pathlib.Path]:
    """(java, folder of the program). Raises JavaError that says what is missing."""
    found = importlib.util.find_spec("pycocoevalcap")
    if found is None or not found.submodule_search_locations:
        raise JavaError("needs pycocoevalcap: pip install 'pefomed_jax[coco]'")
    folder = pathlib.Path(next(iter(found.submodule_search_locations))) / "meteor"
    for name in _FILES:
        if not (folder / name).is_file():
            raise JavaError(f"{folder / name} is missing; install pycocoevalcap again")
    beside = pathlib.Path(os.environ.get("JAVA_HOME", "")) / "bin"
    java = shutil.which("java") or shutil.which("java", path=str(beside))
    if java is None:
        raise JavaError("needs java, which is not on the PATH; install a Java runtime (8 or later)")
    return java, folder


@functools.cache
def _java_version(java: str) -> str:
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60).stderr
    found = re.search(r'version "([^"]+)"', said)
    return found[1] if found else "unknown"


_started: list[Java] = []


def _program() -> Java:
    """The program, started where it is not running. Raises JavaError where it cannot be."""
    if not _started or not _started[0].running:
        java, folder = located()
        _started[:] = [Java([java, *_SETTINGS], folder, "METEOR")]
    return _started[0]
