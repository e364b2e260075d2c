"""Requests to `launch/predict.py` inside the tests' own process."""

import json

from pefomed_jax.training import answer, opened
from pefomed_jax.training.cases import Wanted


def request(run, out, **settings):
    """A request; `fields` are those of the config, what is in Wanted goes there."""
    config = opened.config(run, settings.pop("fields", {}))
    wanted = {name: settings.pop(name) for name in list(settings) if name in Wanted._fields}
    return answer.Request(config, out, Wanted(**wanted), **settings)


def predict(run, out, **settings):
    """The rows that come out."""
    assert answer.run(request(run, out, **settings)) == 0
    return rows(out)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers(found):
    return {row["id"]: row["prediction"] for row in found}
