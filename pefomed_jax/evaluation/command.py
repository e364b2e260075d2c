"""`launch/evaluate.py` from its flags to its files and its table."""

import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from pefomed_jax.errors import UserError, nearest
from pefomed_jax.evaluation import inputs, paired, plugins, protocols, results, writing
from pefomed_jax.evaluation.about import image_names, without_images
from pefomed_jax.evaluation.journal import noted
from pefomed_jax.evaluation.notes import file_notes
from pefomed_jax.evaluation.page import saved
from pefomed_jax.evaluation.results import Evaluation, Row, Scored, Settings

WRITTEN = ("results.json", "cases.jsonl", "report.html", "scores.csv", "cases.csv")


class Request(NamedTuple):
    """The flags of `launch/evaluate.py`; '' and None: not given."""

    predictions: pathlib.Path
    out: pathlib.Path
    protocol: str
    references: pathlib.Path | None = None
    compare: pathlib.Path | None = None
    common_only: bool = False
    shuffled: pathlib.Path | None = None
    split: str = ""
    group_by: Sequence[str] | None = None
    metrics: Sequence[str] = ()
    metric_flags: plugins.Flags = plugins.NO_FLAGS
    images: pathlib.Path | None = None
    resamples: int = results.RESAMPLES
    seed: int = 0


class Sets(NamedTuple):
    """The rows that are scored, those of the control and of the comparison, and what was seen."""

    test: list[Row]
    shuffled: list[Row] | None
    pairs: paired.Pairs | None
    split: str | None
    notes: list[str]


def evaluate(request: Request) -> None:
    """Reads, scores, writes and prints. Raises UserError before anything is written or computed
    where a file, a flag or a metric is not as it should be.
    """
    protocol = protocols.get(request.protocol)
    if request.resamples < 0:
        raise UserError(f"--resamples={request.resamples} must be 0 (no intervals) or more")
    if request.images is not None and not request.images.is_dir():
        raise UserError(f"--images={request.images} is no folder; name the one with the images")
    sets = read(request)
    chosen = plugins.chosen(request.metrics, request.metric_flags)
    settings = Settings(
        chosen, request.group_by, request.resamples, request.seed, sets.split, slow=True
    )
    _make_folder(request)
    answered = {"test": sets.test, "test_shuffled": sets.shuffled}
    slow = f"; {', '.join(protocol.slow)} takes longest" if protocol.slow else ""
    print(f"scoring {len(sets.test)} cases under {protocol.name}{slow}", flush=True)
    made = results.evaluate(answered, protocol, settings)
    made.results["warnings"][:0] = sets.notes
    if sets.pairs is not None and request.compare is not None:
        compared = _compare(sets.pairs, made.test, protocol, settings)
        made.results["comparison"] = {"file": str(request.compare), **compared}
    writing.write(request.out, made, _images(request))
    _say(request, made)


def read(request: Request) -> Sets:
    """All files of a request, cut to its split, paired by case id."""
    path = request.predictions
    test, notes = _rows(path, request.references)
    test, split, said = of_split(test, request.split, path)
    notes += said
    beside = path.with_name(f"{path.stem}_shuffled{path.suffix}")
    control = request.shuffled or (beside if beside.is_file() else None)
    shuffled = None
    if control is not None:
        rows, said = _others(request, control)
        asked = _with_control(test, rows)
        shuffled = paired.pair(asked, rows, ("--predictions", f"--shuffled={control}")).other
        notes += said
        _check_other_images(asked, shuffled, control)
    pairs = None
    if request.compare is not None:
        rows, said = _others(request, request.compare)
        pairs = paired.pair(test, rows, common_only=request.common_only)
        notes += said
    return Sets(test, shuffled, pairs, split, notes)


def _others(request: Request, path: pathlib.Path) -> tuple[list[Row], list[str]]:
    """(rows, warnings) of another file, cut to the split of the request."""
    rows, said = _rows(path, request.references)
    return of_split(rows, request.split, path)[0], said


def _rows(path: pathlib.Path, references: pathlib.Path | None) -> tuple[list[Row], list[str]]:
    found = inputs.read(path, references)
    return list(found.rows), file_notes(path.name, found.n_blank, found.n_repeated)


def of_split(
    rows: Sequence[Row], split: str, path: pathlib.Path
) -> tuple[list[Row], str | None, list[str]]:
    """(rows, name, warnings): the cases of a split where rows have that field, else all of them.

    Raises UserError where rows have splits and none is the one that is asked for.
    """
    have = Counter(str(row["split"]) for row in rows if row.get("split") is not None)
    if not have:
        return list(rows), split or None, []
    named = ", ".join(f"{name} {count}" for name, count in have.items())
    if not split:
        mixed = f"{path.name} holds several splits ({named}); --split=NAME scores one"
        return list(rows), "+".join(have), [mixed] if len(have) > 1 else []
    if split not in have:
        raise UserError(f"--split={split}: {path} has no such case ({named}){nearest(split, have)}")
    kept = [row for row in rows if row.get("split") == split]
    return kept, split, []


def _with_control(test: Sequence[Row], control: Sequence[Row]) -> list[Row]:
    """The cases that a control is to have: those of text alone it may leave out."""
    there = {row["id"] for row in control}
    left = {name for name in without_images(test) if name not in there}
    return [row for row in test if row["id"] not in left]


def _check_other_images(test: Sequence[Row], other: Sequence[Row], path: pathlib.Path) -> None:
    pairs = [(image_names(a), image_names(b)) for a, b in zip(test, other, strict=True)]
    shown = [(a, b) for a, b in pairs if a or b]
    if shown and all(a == b for a, b in shown):
        raise UserError(
            f"{path} answers every case about its own image: that is no control; predict with "
            "other images"
        )


def _compare(
    pairs: paired.Pairs, test: Scored, protocol: protocols.Protocol, settings: Settings
) -> dict[str, Any]:
    """What stands under "comparison": both sides scored over the cases that both have."""
    own = results.score_all(pairs.own, protocol, settings) if pairs.only_own else test
    other = results.score_all(pairs.other, protocol, settings)
    assert own.measure is not None
    assert other.measure is not None
    found = paired.compare(own.measure, other.measure, settings.resamples, settings.seed)
    return {
        "n_cases": len(pairs.own),
        "only_this": pairs.only_own,
        "only_other": pairs.only_other,
        "scores": {
            name: row | results.plain({k: row[k] for k in ("this", "other", "difference")})
            for name, row in found.items()
        },
    }


def _images(request: Request) -> pathlib.Path | None:
    """Their folder: as given, or where `launch/predict.py` has saved them."""
    place = noted(request.predictions, saved.NOTE)
    if request.images is not None or not isinstance(place, str):
        return request.images
    folder = request.predictions.parent / place
    if not folder.is_dir():
        return None
    print(f"images of the page: {folder}, where they were saved")
    return folder


def _make_folder(request: Request) -> None:
    out = request.out
    if (out / "config.json").exists():
        raise UserError(
            f"--out={out} is the folder of a run, whose results.json stays; give another"
        )
    read_from = (request.predictions, request.references, request.compare, request.shuffled)
    for path in filter(None, read_from):
        if path.resolve() in [(out / name).resolve() for name in WRITTEN]:
            raise UserError(f"--out={out} would overwrite {path}; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out={out} is no folder to write in ({error.strerror}); give another"
        ) from None


def _say(request: Request, made: Evaluation) -> None:
    split = made.results["split"]
    of = f"split {split}, " if split else ""
    print(f"{request.predictions}: {of}{len(made.cases)} cases, protocol {request.protocol}")
    print(f"\n{results.table(made.results)}\n")
    written = ", ".join(name for name in WRITTEN if (request.out / name).exists())
    print(f"{request.out}: {written}")
