"""Lengths are measured once; another text, template or tokenizer has lengths of its own."""

import dataclasses
import pathlib

import pytest
from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data import lengths
from pefomed_jax.data.encoding import Encoding, Lengths

CASES = [Case(f"c{i}", ("a.png",), f"what {'so ' * (i % 7)}?", f"a{i}", "train") for i in range(50)]


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """How many cases were measured, time by time."""
    times, real = [], Encoding.measure

    def watched(self: Encoding, cases) -> Lengths:
        times.append(len(cases))
        return real(self, cases)

    monkeypatch.setattr(Encoding, "measure", watched)
    monkeypatch.setattr(lengths, "LEAST", 50)
    return times


def same(a: Lengths, b: Lengths) -> bool:
    return bool((a.lengths == b.lengths).all() and (a.answers == b.answers).all())


def test_once_for_all(tokenizer, config: ConfigDict, tmp_path: pathlib.Path, measured) -> None:
    encoding, cache = Encoding.of(tokenizer, config), str(tmp_path)
    first = lengths.of(encoding, CASES, cache)
    assert same(lengths.of(encoding, CASES, cache), first)
    assert measured == [50]
    lengths.of(encoding, CASES[:-1], cache)  # too few to be kept
    lengths.of(encoding, CASES[:-1], cache)
    assert measured == [50, 49, 49]
    assert same(Encoding.of(tokenizer, config).measure(CASES), first)


def test_what_changes_them_is_measured_anew(tokenizer, config, tmp_path, measured) -> None:
    encoding, cache = Encoding.of(tokenizer, config), str(tmp_path)
    lengths.of(encoding, CASES, cache)
    longer = [dataclasses.replace(CASES[0], answer="a longer answer"), *CASES[1:]]
    other = lengths.of(encoding, longer, cache)
    assert other.answers[0] == len("▁a▁longer▁answer") + 1
    config.quirks.fifty_words = True
    lengths.of(Encoding.of(tokenizer, config), CASES, cache)
    assert measured == [50, 50, 50]
