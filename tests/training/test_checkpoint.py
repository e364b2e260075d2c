"""Checkpoints: round trip over meshes, last and best, mismatches, a save killed half-way."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from pefomed_jax import config as configs
from pefomed_jax.errors import UserError
from pefomed_jax.models import stack
from pefomed_jax.parallel import mesh, rules
from pefomed_jax.training import checkpoint, optimizer, state
from pefomed_jax.training.fingerprint import fingerprint

LABELS = {"connector": {"kernel": "connector"}, "llm": {"lora_a": "lora", "lora_b": "lora"}}


def trainable(rank: int = 4, value: float = 1.0):
    shapes = {"connector": {"kernel": (16, 8)}, "llm": {"lora_a": (8, rank), "lora_b": (rank, 16)}}
    return jax.tree.map(
        lambda shape: value + jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def opt():
    c: ConfigDict = configs.make("vqa", "tiny").optimizer
    return optimizer.make(c, 10, LABELS)


def on(devices: int, value: float = 1.0) -> state.TrainState:
    made = mesh.make(dict(data=1, fsdp=-1, tensor=1), devices=jax.devices()[:devices])
    return state.create(lambda key: trainable(value=value), opt(), jax.random.key(3), made)


def abstract_on(devices: int) -> state.TrainState:
    made = mesh.make(dict(data=1, fsdp=-1, tensor=1), devices=jax.devices()[:devices])
    return state.abstract(trainable(), opt(), jax.random.key(0), made)


def data(tree):
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        tree,
    )


@pytest.fixture
def opened(tmp_path):
    points = checkpoint.Checkpoints(tmp_path / "c", trainable(), base="b" * 64)
    yield points
    points.close()


def test_saved_on_eight_restores_on_four_and_one(opened):
    saved = on(8).replace(step=jnp.int32(5))
    assert not saved.trainable["connector"]["kernel"].sharding.is_fully_replicated
    opened.save(5, saved, extra={"batch": 5})
    opened.wait()
    for devices in (8, 4, 1):
        found, extra = opened.restore(abstract_on(devices))
        assert extra == {"batch": 5}
        kernel = found.opt_state[1].mu["connector"]["kernel"]
        assert len(kernel.sharding.device_set) == devices
        assert jax.tree.structure(found) == jax.tree.structure(saved)
        jax.tree.map(np.testing.assert_array_equal, data(found), data(saved))


def test_last_and_best_are_kept_over_a_restart(opened):
    scores = {1: 0.2, 2: 0.7, 3: None, 4: 0.5, 5: float("nan"), 6: None}
    for step, score in scores.items():
        opened.save(step, on(1, value=step), score=score)
    opened.wait()
    assert (opened.latest, opened.best) == (6, 2)
    assert sorted(int(p.name) for p in opened.folder.iterdir()) == [2, 6]
    opened.close()
    again = checkpoint.Checkpoints(opened.folder, trainable(), base="b" * 64)
    assert (again.latest, again.best, again.score(2)) == (6, 2, 0.7)
    best, _ = again.restore(abstract_on(1), step=again.best)
    assert float(best.trainable["connector"]["kernel"][0, 0]) == 2.0
    again.save(7, on(1), score=0.7)  # of equal scores the later one
    again.wait()
    assert (again.best, sorted(again._manager.all_steps())) == (7, [7])
    again.close()


def test_a_donated_state_does_not_reach_the_file(opened):
    current = on(1)
    want = np.array(current.trainable["connector"]["kernel"])
    opened.save(1, current)
    jax.jit(
        lambda s: jax.tree.map(
            lambda x: x, s.replace(trainable=jax.tree.map(jnp.zeros_like, s.trainable))
        ),
        donate_argnums=0,
    )(current)
    opened.wait()
    found, _ = opened.restore(abstract_on(1))
    np.testing.assert_array_equal(found.trainable["connector"]["kernel"], want)


@pytest.mark.parametrize(
    ("tree", "base", "message"),
    [
        (trainable(), "c" * 64, r"trained on another base \(bbbbbbbbbbbb, here cccccccccccc\)"),
        (trainable(rank=2), "b" * 64, r"has LoRA rank 4, config\.lora\.rank is 2"),
        ({"llm": trainable()["llm"]}, "c" * 64, "1 trains 'connector/kernel'"),
        (trainable() | {"new": {"bias": jnp.ones(3)}}, "c" * 64, "1 does not train 'new/bias'"),
        (trainable() | {"connector": {"kernel": jnp.ones((3, 3))}}, "b" * 64, "of shape"),
    ],
)
def test_mismatch_is_one_line(opened, tree, base, message):
    opened.save(1, on(1))
    opened.wait()
    other = checkpoint.Checkpoints(opened.folder, tree, base)
    with pytest.raises(UserError, match=message) as error:
        other.restore(abstract_on(1))
    assert "\n" not in str(error.value)
    other.close()


def test_nothing_to_restore(opened):
    assert opened.latest is None
    assert opened.best is None
    with pytest.raises(UserError, match=r"no checkpoint$"):
        opened.restore(abstract_on(1))
    with pytest.raises(UserError, match=r"no checkpoint 7$"):
        opened.restore(abstract_on(1), step=7)


def test_a_step_that_was_being_deleted_is_passed_over(opened):
    opened.save(1, on(1), score=0.9)
    opened.save(2, on(1), score=0.1)
    opened.close()
    for file in (opened.folder / "1" / "meta").iterdir():
        file.unlink()
    again = checkpoint.Checkpoints(opened.folder, trainable(), base="b" * 64)
    assert (again.latest, again.best) == (2, 2)
    with pytest.raises(UserError, match="unreadable; delete this folder"):
        again.restore(abstract_on(1), step=1)
    again.close()


def test_damaged_data_are_one_line(opened):
    opened.save(1, on(1))
    opened.close()
    for file in (opened.folder / "1" / "state").rglob("*"):
        if file.is_file() and file.stat().st_size:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    again = checkpoint.Checkpoints(opened.folder, trainable(), base="b" * 64)
    with pytest.raises(UserError, match=r"its data cannot be read .*delete this folder$") as caught:
        again.restore(abstract_on(1))
    assert "\n" not in str(caught.value)
    again.close()


KILLED = """
    import os, sys
    import jax, jax.numpy as jnp
    from orbax.checkpoint._src.path import atomicity
    from pefomed_jax.training import checkpoint, state

    tree = {"kernel": jnp.ones((64, 64))}
    points = checkpoint.Checkpoints(sys.argv[1], tree, base="b")
    make = lambda step: state.TrainState(jnp.int32(step), tree, (), jax.random.key(0))
    points.save(1, make(1))
    points.wait()
    os.rename = os.replace = lambda *names, **rest: os._exit(9)  # as if killed before the commit
    points.save(2, make(2))
    points.wait()
"""


def test_a_save_killed_half_way_leaves_the_older_step(tmp_path):
    environment = os.environ | {"XLA_FLAGS": ""}
    script = textwrap.dedent(KILLED)
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=environment,
        timeout=120,
        check=False,
        capture_output=True,
    )
    left = sorted(path.name for path in tmp_path.iterdir())
    assert killed.returncode == 9, killed.stderr
    assert left[0] == "1"
    assert any("tmp" in name for name in left), left
    tree = {"kernel": jnp.ones((64, 64))}
    first = state.TrainState(jnp.int32(0), tree, (), jax.random.key(0))
    first = state.placed(first, mesh.make(dict(data=8, fsdp=1, tensor=1)))
    reader = checkpoint.Checkpoints(tmp_path, tree, base="b", read_only=True)
    assert int(reader.restore(first)[0].step) == 1
    reader.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    points = checkpoint.Checkpoints(tmp_path, tree, base="b")
    assert points.latest == 1
    found, _ = points.restore(first)
    assert int(found.step) == 1
    points.save(2, found)
    points.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["2"]
    points.close()


def test_fingerprint_depends_on_values_places_and_names_only():
    kernel = jax.random.normal(jax.random.key(0), (16, 16))
    frozen = {"llm": {"head": {"kernel": kernel}, "norm": {"scale": kernel[0] * 2}}}
    first = fingerprint(frozen)
    assert len(first) == 64
    for sizes in (dict(data=1, fsdp=4, tensor=2), dict(data=1, fsdp=1, tensor=8)):
        placed = jax.device_put(frozen, rules.shardings(frozen, mesh.make(sizes)))
        assert fingerprint(placed) == first
    assert fingerprint(jax.tree.map(np.asarray, frozen)) == first

    def changed(change) -> str:
        head = frozen["llm"]["head"]
        llm = frozen["llm"] | {"head": {"kernel": change(head["kernel"])}}
        return fingerprint(frozen | {"llm": llm})

    changes = [
        lambda x: x.at[3, 5].add(1e-6),
        lambda x: x.at[0].set(x[1]).at[1].set(x[0]),  # two rows swapped
        lambda x: x[:, ::-1],
        lambda x: x.astype(jnp.bfloat16),
        lambda x: x.T,
    ]
    assert len({first, *map(changed, changes)}) == 1 + len(changes)
    renamed = frozen | {"head": frozen["llm"]["head"]}
    assert fingerprint(renamed) != first


def test_fingerprint_is_the_same_in_stacked_form():
    layers = {str(i): {"kernel": jax.random.normal(jax.random.key(i), (8, 4))} for i in range(3)}
    canonical = {"llm": {"layers": layers, "head": {"kernel": jnp.ones((4, 2))}}}
    stacked = stack.stack(canonical)
    assert fingerprint(stacked) == fingerprint(canonical)
    swapped = canonical | {"llm": {"layers": layers | {"0": layers["1"], "1": layers["0"]}}}
    assert fingerprint(stack.stack(swapped)) != fingerprint(stacked)
