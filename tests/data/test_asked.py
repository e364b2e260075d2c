"""Rows of questions about one image: which stand together, in which batch, in which order."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data import sources
from pefomed_jax.data.asked import Asked, together
from pefomed_jax.data.pipeline import Loader

IMAGES = "abacbaaacab"  # a six times, b three times, c twice


@pytest.fixture
def source(config: ConfigDict, vqa_rows: list[dict]):
    assert vqa_rows
    return sources.load(config)


def rows(n: int) -> list[list[int]]:
    cases = [Case(str(i), (name,), "q", "a", "test") for i, name in enumerate(IMAGES)]
    return [[int(case.id) for case in row] for row in together(cases, n)]


def test_questions_about_an_image_stand_together():
    assert rows(1) == [[i] for i in range(len(IMAGES))]
    assert rows(3) == [[0, 2, 5], [1, 4, 10], [3, 8], [6, 7, 9]]
    assert rows(4) == [[0, 2, 5], [1, 4, 10], [3, 8], [6, 7, 9]]  # of equal size
    assert rows(9) == [[0, 2, 5, 6, 7, 9], [1, 4, 10], [3, 8]]


def test_a_row_is_its_questions_over_one_image(source, tokenizer, config: ConfigDict) -> None:
    cases = source.cases("test")
    loader = Loader.of(source, tokenizer, config)
    asked = Asked.of(loader, cases, size=2, lanes=3)
    assert sorted(case.id for case in asked.cases) == sorted(case.id for case in cases)
    seen = []
    for batch, places in asked.batches():
        assert batch.validate().tokens.shape == (2, asked.shape[0])
        assert len(places) % 3 == 0
        for i, case in enumerate(places):
            row, lane = divmod(i, 3)
            own = batch.branch[row] == lane + 1
            if case is None:
                assert not own.any()
                continue
            seen.append(case)
            assert (batch.images[row, 0] == loader.image(case)).all()
            prefix = batch.branch[row] == 0
            text = loader.encoding.prompts.evaluate(case)
            assert tokenizer.decode(batch.tokens[row][own]).strip() == text.after.strip()
            positions = batch.positions[row][own]
            assert positions.tolist() == list(range(prefix.sum(), prefix.sum() + own.sum()))
    assert seen == asked.cases


@pytest.mark.parametrize("lanes", [1, 3])
def test_it_is_entered_at_any_case(source, tokenizer, config: ConfigDict, lanes: int) -> None:
    cases = source.cases("test")
    asked = Asked.of(Loader.of(source, tokenizer, config), cases, size=2, lanes=lanes)
    whole = list(asked.batches())
    ends = np.cumsum([sum(case is not None for case in places) for _, places in whole])
    for done in range(len(cases)):
        first = asked.first(done)
        assert first == np.flatnonzero(ends > done)[0]
    for (batch, places), (again, same) in zip(whole[first:], asked.batches(first), strict=True):
        assert places == same
        assert np.array_equal(batch.tokens, again.tokens)
        assert np.array_equal(batch.images, again.images)
    assert asked.first(len(cases)) >= len(whole) - 1
