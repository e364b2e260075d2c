"""Metrics that others can add: found by entry point, checked before anything is scored.

An entry point of the group `pefomed_jax.metrics` has the metric's name and names a class or
function that takes a `Given` and returns a `Metric`. Those in `evaluation/clinical` are registered
the same way. docs/evaluation.md says how to write one.
"""

import functools
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from pefomed_jax.errors import UserError, nearest
from pefomed_jax.evaluation.measure import Measure, Skipped
from pefomed_jax.evaluation.protocols import Family, Found, Row

GROUP = "pefomed_jax.metrics"


class Given(NamedTuple):
    """What the command line says about one metric."""

    weights: str = ""  # path, '': not given
    python: str = sys.executable  # interpreter with the metric's packages
    options: Mapping[str, str] = {}


@runtime_checkable
class Metric(Protocol):
    """What an entry point's class or function makes."""

    about: str  # what it measures, in one line

    def check(self) -> str:
        """'' or why it cannot run, with the way to mend it."""
        ...

    def score(self, rows: Sequence[Row]) -> list[Found]:
        """Scores of rows with `id`, `prediction` (a text) and `reference` (one or several)."""
        ...

    def label(self) -> str:
        """Its name in the signature, with what its scores depend on; asked for after `check`."""
        ...


class Flags(NamedTuple):
    """--metric_weights, --metric_python and --metric_options, each as a list of NAME=VALUE."""

    weights: Sequence[str] = ()
    python: Sequence[str] = ()
    options: Sequence[str] = ()  # NAME.OPTION=VALUE


NO_FLAGS = Flags()


class Broken:
    """Stands for a metric that could not be made; it says why."""

    def __init__(self, why: str) -> None:
        self.about, self._why = "-", why

    def check(self) -> str:
        return self._why

    def label(self) -> str:
        return "-"

    def score(self, rows: Sequence[Row]) -> list[Found]:
        raise UserError(self._why)


def available(flags: Flags = NO_FLAGS) -> dict[str, Metric]:
    """All registered metrics by name; what cannot be made is there as `Broken`.

    Raises UserError for a flag of a metric that there is not.
    """
    points = _points()
    weights, python, options = (
        _by_name(f"metric_{field}", pairs, points, field == "options")
        for field, pairs in zip(Flags._fields, flags, strict=True)
    )
    return {
        name: _make(
            found,
            Given(
                weights.get(name, {}).get("", ""),
                python.get(name, {}).get("", sys.executable),
                options.get(name, {}),
            ),
        )
        for name, found in points.items()
    }


def chosen(names: Sequence[str], flags: Flags = NO_FLAGS) -> Mapping[str, Family]:
    """{label: scores} of the named metrics, each able to run. Raises UserError for one that is not.

    A label is what stands in the signature.
    """
    known = available(flags)
    for name in names:
        if name not in known:
            raise UserError(
                f"--metrics: '{name}' is not one of {', '.join(known) or 'none'}"
                f"{nearest(name, known)}; --metrics=list shows them"
            )
    for name in dict.fromkeys(names):
        if why := _check(known[name]):
            raise UserError(f"--metrics={name} cannot run: {why}; or leave {name} out")
    return {known[n].label(): functools.partial(_score, n, known[n]) for n in dict.fromkeys(names)}


def table(flags: Flags = NO_FLAGS) -> str:
    """What --metrics=list prints: name, what it measures, and whether it can run or what to do."""
    known = available(flags)
    if not known:
        return f"no metric is registered in the group '{GROUP}': run pip install -e . again"
    wide = max(map(len, known))
    lines = []
    for name, metric in known.items():
        why = _check(metric)
        lines += [f"{name:<{wide}}  {metric.about}"]
        lines += [f"{'':<{wide}}  missing: {why}" if why else f"{'':<{wide}}  available"]
    return "\n".join(lines)


def _points() -> dict[str, list[importlib.metadata.EntryPoint]]:
    """Entry points by name, ours first; several of one name where packages clash."""
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    order = sorted(found, key=lambda name: (_package(found[name][0]) != "pefomed_jax", name))
    return {name: found[name] for name in order}


def _package(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name.replace("-", "_") if point.dist else "?"


def _make(points: Sequence[importlib.metadata.EntryPoint], given: Given) -> Metric:
    packages = [_package(point) for point in points]
    if len(points) > 1:
        return Broken(f"packages {' and '.join(packages)} both register it; uninstall one of them")
    where = f"{points[0].value} of package {packages[0]}"
    try:
        made = points[0].load()(given)
    except UserError as error:
        return Broken(str(error))
    except Exception as error:  # whatever another's module does, it harms only its own metric
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return Broken(f"{where} fails ({what})")
    if not isinstance(made, Metric):
        return Broken(f"{where} makes no metric: it needs about, check, label and score")
    return made


def _check(metric: Metric) -> str:
    try:
        return metric.check()
    except Exception as error:  # as above
        return " ".join(f"its check fails ({type(error).__name__}: {error})".split())


def _score(name: str, metric: Metric, rows: Sequence[Row]) -> list[Found]:
    """The metric's scores, if they have the shape that can be summed and resampled."""
    found = metric.score(rows)
    for made in found:
        if not isinstance(made, Measure | Skipped):
            raise UserError(
                f"--metrics={name} returned {type(made).__name__}, neither Measure nor Skipped; "
                "its author must mend it"
            )
        if isinstance(made, Measure) and len(made.stats) != len(rows):
            raise UserError(
                f"--metrics={name} scored {len(made.stats)} of {len(rows)} cases; its author must "
                "mend it"
            )
    return found


def _by_name(
    flag: str, pairs: Sequence[str], known: Mapping[str, object], dotted: bool
) -> dict[str, dict[str, str]]:
    """{metric: {option or '': value}} of a flag's NAME=VALUE or NAME.OPTION=VALUE."""
    made: dict[str, dict[str, str]] = {}
    for pair in pairs:
        left, equals, value = pair.partition("=")
        name, dot, option = left.partition(".") if dotted else (left, "", "")
        if not (name and equals and value) or dotted != bool(dot and option):
            form = "NAME.OPTION=VALUE" if dotted else "NAME=PATH"
            raise UserError(f"--{flag}={pair}: write {form}, several with commas")
        if name not in known:
            raise UserError(f"--{flag}: there is no metric '{name}'{nearest(name, known)}")
        if option in made.get(name, {}):
            raise UserError(f"--{flag}: {left} is there twice; give it once")
        made.setdefault(name, {})[option] = value
    return made
