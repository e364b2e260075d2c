"""Rows by hand; n branches hold what n rows hold; collation."""

import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from pefomed_jax.batch import Case
from pefomed_jax.data.encoding import Encoding
from pefomed_jax.data.tokens import SLOT, Row, build, collate


def test_a_row_by_hand() -> None:
    row = build([1, 10, SLOT, SLOT, SLOT], [([20, 21], [30, 2]), ([22], [31, 32, 2])], pad=0)
    assert row.tokens.tolist() == [1, 10, 0, 0, 0, 20, 21, 30, 2, 22, 31, 32, 2]
    assert row.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8]
    assert row.branch.tolist() == [0] * 5 + [1] * 4 + [2] * 4
    assert row.image_slot.tolist() == [-1, -1, 0, 1, 2] + [-1] * 8
    assert row.target_pos.tolist() == [6, 7, 9, 10, 11]
    assert row.targets.tolist() == [30, 2, 31, 32, 2]


def test_one_branch_is_the_causal_row() -> None:
    row = build([1, 10, SLOT, SLOT], [([20, 21], [30, 2])], pad=0)
    assert row.positions.tolist() == list(range(8))
    assert (row.tokens[row.target_pos + 1] == row.targets).all()


def test_a_prompt_row_has_no_targets() -> None:
    row = build([1, SLOT, SLOT], [([20, 21], [])], pad=9)
    assert row.tokens.tolist() == [1, 9, 9, 20, 21]
    assert len(row.targets) == len(row.target_pos) == 0


CASES = [
    Case(f"q{i}", ("a.png",), question, answer, "train")
    for i, (question, answer) in enumerate(
        [("Is it big?", "no"), ("Where is the café?", "left — lower lobe"), ("Why?", "α")]
    )
]


def test_branches_hold_what_rows_hold(tokenizer, config: ConfigDict) -> None:
    encoding = Encoding.of(tokenizer, config)
    together = encoding.train_rows([CASES], [3])[0]
    apart = encoding.train_rows([[case] for case in CASES], [3] * 3)
    assert together.targets.tolist() == [t for row in apart for t in row.targets.tolist()]
    prefix = together.branch == 0
    for number, row in enumerate(apart, 1):
        seen = prefix | (together.branch == number)
        assert together.tokens[seen].tolist() == row.tokens.tolist()
        assert together.positions[seen].tolist() == row.positions.tolist()
        where = np.cumsum(seen)[together.target_pos[together.branch[together.target_pos] == number]]
        assert (where - 1).tolist() == row.target_pos.tolist()


def test_rows_read_back_as_text(tokenizer, config: ConfigDict) -> None:
    encoding = Encoding.of(tokenizer, config)
    row = encoding.eval_rows(CASES[1:2])[0]
    text = encoding.prompts.evaluate(CASES[1])
    slots = np.flatnonzero(row.image_slot >= 0)
    assert len(slots) == 4 == encoding.encoder.n_visual
    assert row.tokens[0] == tokenizer.bos_token_id
    assert row.tokens[-1] == tokenizer.eos_token_id == row.targets[-1]
    assert tokenizer.decode(row.tokens[1 : slots[0]]) == text.before
    after = row.tokens[slots[-1] + 1 : row.target_pos[0] + 1]
    assert tokenizer.decode(after) == text.after
    assert tokenizer.decode(row.targets[:-1]) == text.answer
    prompt = encoding.prompt_rows(CASES[1:2])[0]
    assert prompt.tokens.tolist() == row.tokens[: row.target_pos[0] + 1].tolist()


def test_measured_lengths_are_the_longest_of_all_epochs(tokenizer, config: ConfigDict) -> None:
    encoding = Encoding.of(tokenizer, config)
    measured = encoding.measure(CASES)
    rows = [encoding.train_rows([[c] for c in CASES], [epoch] * 3) for epoch in range(20)]
    lengths = np.max([[len(row.tokens) for row in epoch] for epoch in rows], axis=0)
    assert (measured.lengths + encoding.n_prefix() == lengths).all()
    assert measured.answers.tolist() == [len(row.targets) for row in rows[0]]


def test_collate_pads_to_the_bucket() -> None:
    rows: list[Row | None] = [build([1, SLOT], [([5], [6, 2])], pad=7), None]
    images = np.zeros((2, 1, 4, 4, 3), np.uint8)
    batch = collate(rows, 8, 4, images, pad=7)
    assert batch.tokens.tolist() == [[1, 7, 5, 6, 2, 7, 7, 7], [7] * 8]
    assert batch.branch.tolist() == [[0, 0, 1, 1, 1, -1, -1, -1], [-1] * 8]
    assert batch.image_slot.tolist() == [[-1, 0, -1, -1, -1, -1, -1, -1], [-1] * 8]
    assert batch.weights.tolist() == [[1, 1, 0, 0], [0] * 4]
    assert batch.target_pos.tolist() == [[2, 3, 0, 0], [0] * 4]
    assert batch.targets.tolist() == [[6, 2, 0, 0], [0] * 4]
    for shape in ((4, 4), (8, 1)):
        with pytest.raises(ValueError, match="a row of 5 tokens, 2 targets is not in"):
            collate(rows, *shape, images, pad=7)


def test_a_long_answer_is_never_cut(tokenizer, config: ConfigDict) -> None:
    case = dataclasses.replace(CASES[0], answer="word " * 400 + "end.")
    row = Encoding.of(tokenizer, config).eval_rows([case])[0]
    assert tokenizer.decode(row.targets[:-1]) == case.answer
