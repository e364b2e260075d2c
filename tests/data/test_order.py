"""The order of rows: pure, complete, entered anywhere; buckets."""

import numpy as np
import pytest

from pefomed_jax.data import buckets
from pefomed_jax.data.order import Order
from pefomed_jax.errors import UserError

RNG = np.random.default_rng(5)
N = 101
IMAGES = [(f"i{j}",) for j in RNG.integers(0, 17, N)]
LENGTHS, ANSWERS = RNG.integers(5, 30, N), RNG.integers(1, 5, N)


def make(**changed) -> Order:
    given = dict(prefix=np.full(N, 10), seed=3, batch=8, branches=1, buckets=()) | changed
    return Order(IMAGES, LENGTHS, ANSWERS, **given)


@pytest.mark.parametrize("branches", [1, 4])
@pytest.mark.parametrize("given", [(), (64, 96)])
@pytest.mark.parametrize("batch", [1, 8, 150])
def test_each_case_once_an_epoch(branches: int, given: tuple, batch: int) -> None:
    order = make(branches=branches, buckets=given, batch=batch)
    n_epochs = 4
    n_batches = -(-n_epochs * order.rows_per_epoch // batch)
    seen: dict[int, list[int]] = {}
    for k in range(n_batches):
        found = order.batch(k)
        assert len(found.rows) == len(found.epochs) == batch
        assert order.cases(k) == [i for row in found.rows for i in row]
        for row, epoch in zip(found.rows, found.epochs, strict=True):
            assert 1 <= len(row) <= branches
            assert len({IMAGES[i] for i in row}) == 1
            assert 10 + LENGTHS[list(row)].sum() <= found.bucket[0]
            assert ANSWERS[list(row)].sum() <= found.bucket[1]
            seen.setdefault(epoch, []).extend(row)
        assert found.bucket in order.buckets
    for epoch in range(n_epochs):
        assert sorted(seen[epoch]) == list(range(N))
    assert seen[0] != seen[1]


@pytest.mark.parametrize("branches", [1, 4])
def test_pure_and_entered_anywhere(branches: int) -> None:
    forward, backward = make(branches=branches), make(branches=branches)
    batches = [forward.batch(k) for k in range(40)]
    assert [backward.batch(k) for k in reversed(range(40))] == batches[::-1]
    assert make(branches=branches).digest(7, 40) == forward.digest(7, 40)
    assert make(branches=branches, seed=4).digest(0, 5) != forward.digest(0, 5)
    assert forward.digest(0, 5) != forward.digest(1, 6)


def test_order_does_not_depend_on_how_often_it_was_asked() -> None:
    order = make(branches=3)
    first = order.batch(0)
    for k in (500, 1, 30, 0):
        order.batch(k)
    assert order.batch(0) == first


def test_branches_fill_rows() -> None:
    order = make(branches=4)
    sizes = np.unique([name for (name,) in IMAGES], return_counts=True)[1]
    assert order.rows_per_epoch == sum(-(-n // 4) for n in sizes)
    assert make().rows_per_epoch == N
    assert order.steps_per_epoch == order.rows_per_epoch / 8


def test_no_batch_is_larger_than_it_must_be() -> None:
    order = make(buckets=(20, 30, 40), batch=2)
    for k in range(100):
        found = order.batch(k)
        longest = 10 + max(LENGTHS[list(row)].sum() for row in found.rows)
        fitting = [b for b in order.buckets if longest <= b[0]]
        answers = max(ANSWERS[list(row)].sum() for row in found.rows)
        assert found.bucket == next(b for b in fitting if answers <= b[1])
    assert len({order.batch(k).bucket for k in range(100)}) == 3


def test_a_case_longer_than_the_largest_bucket() -> None:
    with pytest.raises(
        UserError, match=r"row of 39 tokens is longer than the largest bucket \(32\)"
    ):
        make(buckets=(16, 32))


def test_waste_is_the_share_of_padding() -> None:
    lengths = np.asarray([6, 22])
    order = Order(
        [("a",), ("b",)], lengths, lengths // 2, prefix=np.asarray([10, 10]), seed=0, batch=2
    )
    assert order.buckets == ((32, 16, 1),)
    assert order.waste() == pytest.approx(1 - 48 / 64)


def test_buckets_only_where_they_save() -> None:
    even = np.full(50, 60)
    one = np.ones(50, int)
    assert buckets.choose(even, even // 10, one, (62, 7, 1), ()) == ((64, 8, 1),)
    mixed = np.concatenate([np.full(50, 60), np.full(50, 250)])
    images = np.concatenate([one, 2 * one])
    chosen = buckets.choose(mixed, mixed // 10, images, (255, 30, 3), ())
    assert chosen == ((64, 8, 1), (256, 32, 3))
    clusters = np.repeat([60, 250, 500, 1000], 50)
    chosen = buckets.choose(clusters, clusters // 10, np.zeros(200, int), (1000, 99, 0), ())
    assert len(chosen) == buckets.MAX_BUCKETS
    assert chosen == tuple(sorted(chosen))
    assert chosen[-1] == (1024, 112, 0)
    spread = np.arange(20, 250)
    given = buckets.choose(spread, spread // 10, np.ones(230, int), (250, 25, 1), (100, 300))
    assert given == ((100, 16, 1), (300, 32, 1))


def test_a_million_cases_cost_a_moment() -> None:
    """Vectorised: no Python loop over cases in an epoch (seconds here, minutes otherwise)."""
    import time

    rng = np.random.default_rng(0)
    images = [(str(i),) for i in rng.integers(0, 100_000, 1_000_000)]
    lengths = rng.integers(20, 60, 1_000_000)
    start = time.process_time()
    order = Order(
        images, lengths, lengths // 8, prefix=np.full(10**6, 40), seed=1, batch=32, branches=8
    )
    order.batch(3 * order.rows_per_epoch // 32)
    assert time.process_time() - start < 15
