"""One seed, one stream of batches: whatever the workers, processes, kept squares and restarts."""

import multiprocessing
import os
import pathlib

import jax
import numpy as np
import pytest
from absl import flags
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch
from pefomed_jax.data import ahead, asked, kept, pipeline, prepare, sources
from pefomed_jax.errors import UserError

from . import mixed

KINDS = ("train", "loss", "eval")
VISUAL = 4  # tokens of an image


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
    return mixed.write(tmp_path_factory.mktemp("mixed"))


@pytest.fixture
def config(config: ConfigDict, root: pathlib.Path) -> ConfigDict:
    """Rows of three lengths; flags parsed as absl's app.run does, which grain's workers ask for."""
    flags.FLAGS.mark_as_parsed()
    mixed.use(config, root).data.buckets = (150, 300, 600)
    return config


def kept_or_not(tokenizer, config: ConfigDict) -> tuple[sources.Source, prepare.Splits]:
    """What a run reads, with the squares where the config asks for them."""
    source = sources.load(config)
    splits = prepare.prepare(source, tokenizer, config)
    if config.data.cache_pixels:
        loader = pipeline.Loader.of(source, tokenizer, config)
        cases = [*splits.train, *splits.val, *splits.test]
        source = kept.squares(source, cases, loader.square, loader.preparation, config)
    return source, splits


def stream(kind: str, tokenizer, config: ConfigDict, **given) -> list[tuple[Batch, object]]:
    """(batch, what came with it) of a kind of batches."""
    source, splits = kept_or_not(tokenizer, config)
    rest = (tokenizer, config)
    if kind == "train":
        found = pipeline.train_batches(source, splits.train, *rest, **given)
        return [(batch, (k, n)) for k, batch, n in found]
    if kind == "loss":
        return list(pipeline.loss_batches(source, splits.val, *rest, **given))
    return list(asked.eval_batches(source, splits.test, *rest, **given))


def check_equal(some: list, other: list) -> None:
    """Bit by bit, and what came with each batch."""
    assert [rest for _, rest in some] == [rest for _, rest in other]
    for (a, _), (b, _) in zip(some, other, strict=True):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


def test_what_is_mixed(tokenizer, config: ConfigDict) -> None:
    """Several shapes (T, I), rows of no image beside rows of three, two sources as weighed."""
    batches = stream("train", tokenizer, config)
    assert len({batch.images.shape[1] for batch, _ in batches}) > 1
    counts = [(batch.image_slot.max(axis=1) + 1) // VISUAL for batch, _ in batches]
    assert set(np.concatenate(counts).tolist()) == {0, 1, 2, 3}
    assert any(row.min() == 0 and row.max() == 3 for row in counts)
    assert [rest for _, rest in batches] == [(k, 4) for k in range(12)]


def rows_of(process: int, count: int) -> range:
    """The rows of a batch of four that a process makes, where they lie side by side."""
    return range(process * 4 // count, (process + 1) * 4 // count)


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_processes_share_each_batch(kind: str, count: int, tokenizer, config: ConfigDict) -> None:
    whole = stream(kind, tokenizer, config)
    parts = [stream(kind, tokenizer, config, mine=rows_of(p, count)) for p in range(count)]
    joined = []
    for shares in zip(*parts, strict=True):
        batch = jax.tree.map(lambda *rows: np.concatenate(rows), *(batch for batch, _ in shares))
        rests = [rest for _, rest in shares]
        assert rests.count(rests[0]) == count
        joined.append((batch, rests[0]))
    check_equal(joined, whole)


def test_a_process_may_hold_any_rows(tokenizer, config: ConfigDict) -> None:
    """A mesh may lie across the machines."""
    for kind in KINDS:
        whole = stream(kind, tokenizer, config)
        for mine in ((1, 3), (0, 2)):
            some = stream(kind, tokenizer, config, mine=mine)
            rows = [(jax.tree.map(lambda x: x[list(mine)], b), rest) for b, rest in whole]  # noqa: B023
            check_equal(some, rows)


@pytest.mark.parametrize("branches", [1, 3])
def test_processes_share_rows_of_branches(branches: int, tokenizer, config: ConfigDict) -> None:
    """Without weights, where texts alone are rows of several questions."""
    config.data.update(ratios=(), branches=branches)
    whole = stream("train", tokenizer, config)
    halves = [stream("train", tokenizer, config, mine=rows_of(p, 2)) for p in (0, 1)]
    joined = [
        (jax.tree.map(lambda *rows: np.concatenate(rows), a, b), rest)
        for (a, rest), (b, _) in zip(*halves, strict=True)
    ]
    check_equal(joined, whole)


@pytest.mark.parametrize("start", [1, 7])
def test_a_run_goes_on_at_any_batch(start: int, tokenizer, config: ConfigDict) -> None:
    whole = stream("train", tokenizer, config)
    check_equal(stream("train", tokenizer, config, start=start), whole[start:])
    check_equal(stream("train", tokenizer, config), whole)
    config.seed += 1
    other = stream("train", tokenizer, config)
    pairs = [(a.tokens, b.tokens) for (a, _), (b, _) in zip(whole, other, strict=True)]
    assert sum(not np.array_equal(*pair) for pair in pairs) > 10


@pytest.mark.parametrize("kind", KINDS)
def test_kept_squares_change_no_bit(kind: str, tokenizer, config: ConfigDict) -> None:
    plain = stream(kind, tokenizer, config)
    config.data.cache_pixels = True
    check_equal(stream(kind, tokenizer, config), plain)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "keep"), [(1, False), (2, True)])
@pytest.mark.parametrize("kind", KINDS)
def test_workers_change_no_bit(
    kind: str, workers: int, keep: bool, tokenizer, config: ConfigDict
) -> None:
    given = {"start": 5} if kind == "train" else {}
    plain = stream(kind, tokenizer, config, **given)
    config.data.update(workers=workers, cache_pixels=keep)
    check_equal(stream(kind, tokenizer, config, **given), plain)


@pytest.mark.slow
def test_workers_read_images_out_of_parquet(tokenizer, config: ConfigDict, tmp_path) -> None:
    from .sources import test_pathvqa_parquet as parquet  # skips where there is no pyarrow

    parquet.write(tmp_path / "pathvqa")
    config.data.update(source="pathvqa", dir=str(tmp_path), ratios=(), buckets=())
    plain = stream("train", tokenizer, config)
    config.data.workers = 1
    check_equal(stream("train", tokenizer, config), plain)


def shared_memory() -> set[str]:
    """Names of what is open in shared memory, where the system shows them."""
    return {path.name for path in pathlib.Path("/dev/shm").glob("psm_*")}


@pytest.mark.slow
def test_a_closed_iterator_leaves_nothing(tokenizer, config: ConfigDict) -> None:
    config.data.workers = 2
    source, splits = kept_or_not(tokenizer, config)
    before = shared_memory()
    batches = pipeline.train_batches(source, splits.train, tokenizer, config)
    held = [next(batches) for _ in range(3)]
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert multiprocessing.active_children() == []
    assert shared_memory() <= before  # with the batches still in hand
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves([b for _, b, _ in held]))


class Lost:
    """Fails as a worker's process does at batch 1: by its own end."""

    def __call__(self, k: int):
        if k:
            os._exit(9)
        return k, np.zeros(1)


@pytest.mark.slow
def test_a_worker_that_was_killed_is_told_in_a_line() -> None:
    flags.FLAGS.mark_as_parsed()
    with pytest.raises(
        UserError, match=r"one of 1 worker processes was ended \(exit code 9\)"
    ) as e:
        list(ahead.run(Lost(), 0, 3, 1))
    assert "\n" not in str(e.value)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("workers", "ending"), [(0, "png"), (0, "dcm"), (1, "dcm")])
def test_an_image_that_vanished_is_named(
    workers: int, ending: str, tokenizer, config: ConfigDict, tmp_path
) -> None:
    config.data.dir, config.data.workers = str(mixed.write(tmp_path / "own")), workers
    source, splits = kept_or_not(tokenizer, config)
    for path in (tmp_path / "own" / "folder" / "images").glob(f"train*.{ending}"):
        path.unlink()
    words = rf"folder/images/train\d+_\d\.{ending} does not open \(no such file\)"
    with pytest.raises(UserError, match=words) as caught:
        list(pipeline.train_batches(source, splits.train, tokenizer, config))
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []


def test_no_fault_ends_the_stream_early() -> None:
    def broken(k: int):
        return k, next(iter([0][k:]))

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(ahead.run(broken, 0, 3, 0))
