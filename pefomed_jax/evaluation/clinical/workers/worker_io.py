"""What every worker shares: settings and items in, one line a result out, all else to stderr."""

from __future__ import annotations

import io
import json
import os
import sys


class Unfit(Exception):
    """Weights or settings that do not fit, in one line for the user."""


def serve(load):
    """Answers requests until the input ends.

    `load(settings)` returns (score, versions); `score(items)` yields one JSON value an item, in
    order. What packages print goes to stderr, as stdout carries the answers.
    """
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer):
        out.write(json.dumps(answer) + "\n")
        out.flush()

    lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8")
    try:
        score, versions = load(json.loads(lines.readline()))
    except Unfit as error:
        say({"error": " ".join(str(error).split())})
        return
    say({"ready": versions})
    for line in lines:
        for result in score(json.loads(line)["items"]):
            say({"result": result})


def device(asked):
    """'cuda' or 'cpu', as asked or as there is."""
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise Unfit("device=cuda, but torch finds none in this interpreter; use device=cpu")
    return "cuda" if there and asked != "cpu" else "cpu"


def batches(items, size):
    """The items in order, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def versions(*packages):
    """{package: version} of what the scores depend on."""
    from importlib.metadata import version

    return {name: version(name) for name in packages}
