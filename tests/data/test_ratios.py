"""Folders mixed by weight: exact counts, complete passes, pure; what is said of wrong names."""

import collections

import numpy as np
import pytest

from pefomed_jax import config as config_lib
from pefomed_jax import validate
from pefomed_jax.batch import Case
from pefomed_jax.data import pipeline, ratios
from pefomed_jax.data.order import Order
from pefomed_jax.errors import UserError

SIZES = {"clef": 70, "roco": 23, "medicat": 6}
RATIOS = (("roco", 60), ("clef", 30), ("medicat", 10))
CASES = [
    Case(f"{name}/train-row{i}", (f"{name}/{i}.png",), "", "clear.", "train", {"layout": "caption"})
    for name, n in SIZES.items()
    for i in range(n)
]


def drawn(order: Order, n_epochs: int) -> list[list[str]]:
    """The ids of each epoch."""
    epochs: list[list[str]] = [[] for _ in range(n_epochs)]
    for k in range(-(-n_epochs * order.rows_per_epoch // order.batch_size)):
        batch = order.batch(k)
        for (case,), epoch in zip(batch.rows, batch.epochs, strict=True):
            if epoch < n_epochs:
                epochs[epoch].append(CASES[case].id)
    return epochs


def make(seed: int = 3, pairs: tuple = RATIOS) -> Order:
    ones = np.ones(len(CASES), np.int64)
    mix = ratios.make(CASES, pairs, seed)
    images = [case.images for case in CASES]
    return Order(images, 9 * ones, ones, prefix=4 * ones, seed=seed, batch=8, mix=mix)


def test_every_epoch_has_the_weights_and_no_case_comes_early() -> None:
    epochs = drawn(make(), 12)
    assert make().rows_per_epoch == len(CASES) == 99
    for ids in epochs:
        counts = collections.Counter(i.split("/")[0] for i in ids)
        assert counts == {"roco": 59, "clef": 30, "medicat": 10}
    times = collections.Counter(i for ids in epochs for i in ids)
    for name in SIZES:
        own = [times[case.id] for case in CASES if case.id.startswith(name)]
        assert max(own) - min(own) <= 1
    assert epochs[0][:20] != sorted(epochs[0][:20])


def test_the_draw_is_of_seed_and_epoch_alone() -> None:
    late, early = make(), make()
    batch = late.batch(80)
    for k in range(30):
        early.batch(k)
    assert early.batch(80) == batch
    assert make(seed=4).digest(0, 4) != make().digest(0, 4)


def test_a_weight_of_zero_leaves_a_folder_out() -> None:
    (ids,) = drawn(make(pairs=(("clef", 1), ("roco", 1), ("medicat", 0))), 1)
    assert {i.split("/")[0] for i in ids} == {"clef", "roco"}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((("rocco", 1), *RATIOS), r"in a folder 'rocco'.* roco.*\(folders: clef, roco, medicat\)"),
        (RATIOS[:2], r"no weight for 'medicat', 0 leaves it out"),
    ],
)
def test_folders_and_weights_belong_together(pairs: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ratios.make(CASES, pairs, 0)


def test_the_quirk_mixes_by_size(tokenizer) -> None:
    config = config_lib.make("caption", "tiny,data=pefomed")
    config.data.ratios = RATIOS
    config.train.batch_size = 9
    weighted = pipeline.make_order(CASES, tokenizer, config)
    config.quirks.ignore_ratios = True
    by_size = pipeline.make_order(CASES, tokenizer, config)
    assert len(set(drawn(weighted, 1)[0])) < len(CASES)
    assert sorted(drawn(by_size, 1)[0]) == sorted(case.id for case in CASES)


@pytest.mark.parametrize(
    "pairs", [(("a", -1),), (("a", 0),), ("ab",), (("a", 1), ("a", 2)), (("a", "x"),)]
)
def test_weights_that_are_none(pairs: tuple) -> None:
    config = config_lib.make("caption", "tiny")
    config.data.ratios = pairs
    with pytest.raises(UserError, match=r"data\.ratios="):
        validate.validate(config)


def test_the_paper_mixes_its_captions_by_weight() -> None:
    assert dict(config_lib.make("caption", "7b").data.ratios)["medicat"] == 20
    assert config_lib.make("mrg", "7b").data.ratios == ()
