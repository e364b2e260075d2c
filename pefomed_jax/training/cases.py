"""Which cases `launch/predict.py` answers: a split of a source, or images with one prompt."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.batch import Case
from pefomed_jax.data import dicom, facts, pipeline, prepare, sources
from pefomed_jax.data import prompts as prompts_lib
from pefomed_jax.data.prompts import Prompts
from pefomed_jax.data.sources import Source, pictures
from pefomed_jax.data.sources.files import BadRow
from pefomed_jax.errors import UserError
from pefomed_jax.validate import FOLDER, missing, validate


class Wanted(NamedTuple):
    """What is asked for; `images` is a folder, a list or an image instead of config.data."""

    split: str = ""  # '': test
    images: str = ""
    prompt: str = ""
    branches: int = 1
    batch_size: int = 0  # 0: eval.batch_size
    limit: int | None = None  # 0: all; None: as config.data and config.eval say


class Found(NamedTuple):
    """The cases in the source's order, and the images that cannot be answered."""

    source: Source
    cases: list[Case]
    prompts: Prompts
    bad: list[BadRow]


def settled(config: ConfigDict, wanted: Wanted) -> ConfigDict:
    """The config with what is wanted in it, checked. Errors: UserError."""
    _agree(config, wanted)
    out = base_lib.adopt(config)
    with out.unlocked():
        if wanted.branches != 1:
            out.data.branches = wanted.branches
        if wanted.batch_size:
            out.eval.batch_size = wanted.batch_size
        if wanted.limit is not None:
            out.data.limit = out.eval.limit = wanted.limit
    validate(out)
    need = [line for line in missing(out) if not (wanted.images and line.startswith(FOLDER))]
    if need:
        raise UserError(f"still needed: {'; '.join(need)}")
    return out


def _agree(config: ConfigDict, wanted: Wanted) -> None:
    """No flag without an effect, and a question for a model that answers questions."""
    if not wanted.images:
        if wanted.prompt:
            raise UserError("--prompt belongs to --images; a data set has prompts of its own")
        return
    if wanted.split or wanted.branches != 1:
        name = "split" if wanted.split else "branches"
        raise UserError(f"--{name} is for data sets; --images has one prompt for all: leave it out")
    if config.task == "vqa" and not wanted.prompt.strip():
        raise UserError("--prompt is needed: this model answers questions, so ask one")


def find(config: ConfigDict, wanted: Wanted, listed: pathlib.Path | None) -> Found:
    """Opens the source; images that do not open go into the file `listed` (None: nowhere).

    Errors: UserError where no case is left, or more are bad than config.data.max_bad_fraction (of
    a data set; of --images any number may be).
    """
    prompts = prompts_lib.make(config)
    if not wanted.images:
        source = sources.load(config)
        cases = prepare.split(source, wanted.split or "test", config, listed)
        return Found(source, cases[: wanted.limit or None], prompts, [])
    if wanted.prompt.strip() and config.task != "vqa":
        prompts = dataclasses.replace(prompts, instructions=(prompts_lib.SLOT,), own=True)
    source = pictures.load(wanted.images, wanted.prompt)
    source.window = dicom.parse_window(config.data.window)
    cases = source.cases("")[: wanted.limit or None]
    known = facts.of(source, cases, config.data.cache)
    bad = [*source.bad_rows]
    for case in cases:
        if problem := known[case.image].problem:
            problem, remedy = f"{case.image} {problem}", "replace the file or delete it"
            bad.append(BadRow(*source.where[case.id], "path", problem, remedy))
    prepare.list_bad(bad, listed)
    for row in bad:
        print(f"not answered: {row}")
    cases = [case for case in cases if not known[case.image].problem]
    if not cases:
        raise UserError(f"--images={wanted.images}: none of the {len(bad)} images opens")
    return Found(source, cases, prompts, bad)


def control(cases: Sequence[Case]) -> list[Case]:
    """The cases with their images shuffled. Errors: UserError where there is one image only."""
    made = pipeline.control_images(cases)
    if not made:
        raise UserError("--shuffled: all cases are about one image; leave the flag out")
    return made


def digest(found: Found) -> str:
    """16 hex digits over what is asked about which image, and the answers known."""
    sums = hashlib.sha256()
    for case in found.cases:
        text = found.prompts.evaluate(case)
        row = (case.id, case.images, text.before, text.after, case.answer, case.split)
        sums.update(json.dumps(row).encode())
    return sums.hexdigest()[:16]
