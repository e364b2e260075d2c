"""Looks few bits apart: all pairs and no other, whatever else is crowded, and fast."""

import time

import numpy as np
import pytest

from pefomed_jax.audit import near


def looks_of(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32), np.uint8)


def flipped(look, n, seed):
    bits = np.unpackbits(look)
    bits[np.random.default_rng(seed).permutation(256)[:n]] ^= 1
    return np.packbits(bits)


def by_hand(looks, reach):
    bits = np.unpackbits(looks, axis=1).astype(np.int16)
    apart = np.abs(bits[:, None] - bits).sum(axis=2)
    i, j = np.nonzero(np.triu(apart <= reach, 1))
    return {(int(a), int(b), int(apart[a, b])) for a, b in zip(i, j, strict=True)}


@pytest.mark.parametrize("reach", [100, 110, 115])
def test_as_counted_by_hand(monkeypatch, reach):
    monkeypatch.setattr(near, "ROWS", 32)
    monkeypatch.setattr(near, "COLUMNS", 48)
    looks = looks_of(200)
    found, left = near.pairs(looks, np.arange(200), reach)
    assert left == 0
    assert {tuple(row) for row in found.tolist()} == by_hand(looks, reach)
    assert len(found)


def test_twenty_thousand_looks():
    n, planted = 20_000, 150
    looks, want = looks_of(n), {}
    places = np.random.default_rng(1).permutation(n)[: 2 * planted].reshape(-1, 2)
    for k, (a, b) in enumerate(places.tolist()):
        looks[b] = flipped(looks[a], k % (near.REACH + 1), k)
        want[min(a, b), max(a, b)] = k % (near.REACH + 1)
    start = time.perf_counter()
    found, left = near.pairs(looks, np.zeros(n, np.int64))
    assert time.perf_counter() - start < 30
    assert left == 0
    assert {(i, j): apart for i, j, apart in found.tolist()} == want


@pytest.mark.parametrize("block", [8, 1024])
def test_of_too_many_pairs_the_nearest_are_kept(monkeypatch, block):
    """As many between groups as within; crowded blocks raise the bar for the next."""
    monkeypatch.setattr(near, "ROWS", block)
    monkeypatch.setattr(near, "COLUMNS", 2 * block)
    base = looks_of(1)[0]
    looks = np.stack([flipped(base, k % 9, k) for k in range(300)])
    group = np.arange(300) % 3
    everything, none = near.pairs(looks, group, most=10**6)
    assert (len(everything), none) == (300 * 299 // 2, 0)
    found, left = near.pairs(looks, group, most=50)
    assert (len(found), left) == (100, len(everything) - 100)
    for part, of in ((found[:50], True), (found[50:], False)):
        assert ((group[part[:, 0]] != group[part[:, 1]]) == of).all()
        apart = (group[everything[:, 0]] != group[everything[:, 1]]) == of
        assert part[:, 2].tolist() == sorted(everything[apart, 2].tolist())[:50]


@pytest.mark.slow
def test_fifty_thousand_looks_that_are_all_near():
    """The worst case: a thousand million pairs, nearly all of them within reach."""
    n, rng = 50_000, np.random.default_rng(0)
    common, own = rng.integers(0, 2, 256, np.uint8), rng.integers(0, 2, (n, 256), np.uint8)
    looks = np.packbits(np.where(rng.random((n, 256)) < 0.8, common, own), axis=1)
    looks[-1] = flipped(looks[0], 3, 0)
    start = time.perf_counter()
    found, left = near.pairs(looks, np.arange(n) % 2)
    assert time.perf_counter() - start < 120
    assert found[0].tolist() == [0, n - 1, 3]
    assert len(found) == 2 * near.MOST
    assert left > 0.9 * n * n / 2


def test_pictures_without_features_are_told():
    few = np.packbits(np.arange(256) < near.PLAIN - 1)
    looks = np.stack([np.zeros(32, np.uint8), np.full(32, 255, np.uint8), few, looks_of(1)[0]])
    assert near.telling(looks).tolist() == [False, False, False, True]
