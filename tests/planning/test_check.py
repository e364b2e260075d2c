"""Before a run: what is small passes uncompiled, what does not fit is refused, with a way out."""

import pytest
import runs

from pefomed_jax.errors import UserError
from pefomed_jax.planning import advice, check, compiled, memory
from pefomed_jax.training import loop, setup

ROW = (64, 8, 1)


@pytest.fixture
def pieces(tmp_path):
    return setup.assemble(runs.config(tmp_path))


@pytest.mark.slow
def test_the_bound_is_above_both_programs(pieces):
    assert check.needed(pieces, ROW) < check.bound(pieces, ROW)


def test_a_small_run_is_not_compiled(pieces, monkeypatch):
    monkeypatch.setattr(check, "needed", lambda *_: pytest.fail("compiled"))
    check.check(pieces, ROW)


def test_a_device_that_tells_nothing_is_not_asked(pieces, monkeypatch):
    monkeypatch.setattr(check, "limit", lambda _: None)
    monkeypatch.setattr(check, "needed", lambda *_: pytest.fail("compiled"))
    check.check(pieces, ROW)


def test_what_trains_is_what_was_checked(pieces):
    """The step is compiled once: for the check."""
    made = pieces.jit_step()
    assert made is pieces.jit_step()
    assert compiled.step(pieces, ROW).memory.total > memory.held(pieces).total


def test_a_run_that_does_not_fit_is_refused_before_weights_are_read(tmp_path, monkeypatch):
    data = runs.write_pictures(tmp_path / "data")
    config = runs.config(data, mesh__data=8, train__batch_size=32)
    asked = []

    def needed(pieces, shape):
        asked.append((pieces.config.train.accumulate, pieces.config.mesh.fsdp, shape))
        return 900 if pieces.config.train.accumulate < 4 else 400

    monkeypatch.setattr(check, "limit", lambda _: 500.0)
    monkeypatch.setattr(check, "needed", needed)
    monkeypatch.setattr(check.memory, "held", lambda _: memory.Memory(100, 0, 0, 0))
    monkeypatch.setattr(check, "bound", lambda *_: 10**9)
    monkeypatch.setattr(loop.base_lib, "load", lambda *_: pytest.fail("weights were read"))
    line = (
        r"this run needs 0.00 GiB on each device and 0.00 GiB are there; it fits with "
        r"--config.train.accumulate=4 \(0.00 GiB\); --nocheck_memory starts it all the same"
    )
    with pytest.raises(UserError, match=line):
        loop.run(config, tmp_path / "run", check.check)
    assert asked[0][:2] == (1, 1)
    assert len({shape for *_, shape in asked}) == 1


def test_what_is_tried_in_order(tmp_path):
    config = runs.config(tmp_path, mesh__data=8, train__batch_size=32, eval__batch_size=16)
    tried = list(advice.moves(setup.assemble(config)))
    names = [advice.flags(changes)[0] for changes in tried if changes]
    assert names == [
        "--config.model.remat=dots",
        "--config.model.remat=full",
        "--config.train.accumulate=2",
        "--config.train.accumulate=4",
        "--config.mesh.data=1",
        "--config.mesh.data=1",
        "--config.train.batch_size=8",
        "--config.model.base_dtype=bfloat16",
        "--config.data.cache_features=True",
        "--config.eval.batch_size=8",
    ]


def suggest(tmp_path, held, needed, limit=100.0):
    config = runs.config(tmp_path, mesh__data=8, train__batch_size=16)
    said = []
    found = advice.suggest(setup.assemble(config), limit, held, needed, said.append)
    return found, said


def test_flags_are_put_together_where_none_is_enough(tmp_path):
    def needed(config):
        return 160 - 40 * (config.model.remat == "full") - 40 * (config.mesh.fsdp == -1)

    found, said = suggest(tmp_path, lambda _: 10.0, needed)
    assert found.flags[0] == "--config.model.remat=full"
    assert "--config.mesh.fsdp=-1" in found.flags
    assert found.bytes == 80
    assert said[0].startswith("  tried --config.model.remat=dots: ")


def test_nothing_is_compiled_where_the_weights_alone_are_too_many(tmp_path):
    found, _ = suggest(tmp_path, lambda _: 120.0, lambda _: pytest.fail("compiled"))
    assert found.flags == ()
    assert "take more devices" in str(found)
