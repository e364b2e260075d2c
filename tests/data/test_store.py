"""Arrays by name in one file: made once, kept over kills, made again where their stamp changed."""

import os
import pathlib
import pickle

import numpy as np
import pytest

from pefomed_jax.data import store as store_lib
from pefomed_jax.data.store import Store
from pefomed_jax.errors import UserError

SHAPE = (3, 2)
NAMES = {f"images/a {i}\n{i}.png": str(i) for i in range(23)}


class Maker:
    """Arrays that tell their name; raises at the call `fails`."""

    def __init__(self, fails: int = -1, shift: int = 0):
        self.asked: list[str] = []
        self.fails, self.shift, self.calls = fails, shift, 0

    def __call__(self, names) -> np.ndarray:
        self.calls += 1
        if self.calls == self.fails:
            raise KeyboardInterrupt
        self.asked += names
        return np.stack([value(name, self.shift) for name in names])


def value(name: str, shift: int = 0) -> np.ndarray:
    return np.arange(6, dtype=np.float32).reshape(SHAPE) + len(name) * 7 + int(name[9:11]) + shift


def make(path: pathlib.Path) -> Store:
    return Store(path / "store", SHAPE, np.float32)


def check(store: Store, names=NAMES, shift: int = 0) -> None:
    for name in names:
        np.testing.assert_array_equal(store[name], value(name, shift))


def test_each_is_made_once_and_travels(tmp_path: pathlib.Path) -> None:
    store, maker = make(tmp_path), Maker()
    assert store.fill(NAMES, maker, 4, "arrays") == len(NAMES)
    assert maker.asked == list(NAMES)
    check(store)
    check(pickle.loads(pickle.dumps(store)))
    assert make(tmp_path).fill(NAMES, maker, 4, "arrays") == 0
    some = dict(list(NAMES.items())[5:8])
    other = make(tmp_path)
    assert other.fill(some, maker, 4, "arrays") == 0
    check(other, some)
    with pytest.raises(KeyError):
        other["images/a 0\n0.png"]


def test_a_kill_loses_what_was_not_written(tmp_path: pathlib.Path) -> None:
    first = Maker(fails=4)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path).fill(NAMES, first, 4, "arrays")
    with open(tmp_path / "store.bin", "ab") as data:  # of an array that was never finished
        data.write(b"half an array")
    with open(tmp_path / "store.jsonl", "a") as lines:
        lines.write('["images/a 12')
    store, second = make(tmp_path), Maker()
    assert store.fill(NAMES, second, 4, "arrays") == len(NAMES) - 12
    assert first.asked + second.asked == list(NAMES)
    check(store)


def test_what_changed_is_made_again(tmp_path: pathlib.Path) -> None:
    make(tmp_path).fill(NAMES, Maker(), 4, "arrays")
    changed = list(NAMES)[7]
    store, maker = make(tmp_path), Maker(shift=100)
    assert store.fill(NAMES | {changed: "new"}, maker, 4, "arrays") == 1
    assert maker.asked == [changed]
    check(store, [changed], 100)
    check(store, [name for name in NAMES if name != changed])


def test_arrays_taken_away_are_made_again(tmp_path: pathlib.Path) -> None:
    make(tmp_path).fill(NAMES, Maker(), 4, "arrays")
    os.truncate(tmp_path / "store.bin", 100)
    store, maker = make(tmp_path), Maker()
    assert store.fill(NAMES, maker, 4, "arrays") == len(NAMES)
    check(store)


def test_a_full_disk_is_one_line(tmp_path: pathlib.Path, monkeypatch) -> None:
    monkeypatch.setattr(store_lib, "SPARE", 1 << 60)
    with pytest.raises(UserError, match=r"data\.cache: arrays take .* GB .* are free; set"):
        make(tmp_path).fill(NAMES, Maker(), 4, "arrays")
