"""A run goes on on fewer devices, and on another mesh: the same bits, the same next loss."""

import jax
import numpy as np
import pytest
import runs

from pefomed_jax import base as base_lib
from pefomed_jax.data import pipeline, sources
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.parallel import share
from pefomed_jax.training import setup
from pefomed_jax.training.checkpoint import Checkpoints
from pefomed_jax.training.fingerprint import fingerprint

FIRST = (2, 2, 2)
QUICK, OTHERS = ((1, 4, 1),), ((1, 2, 2), (4, 1, 1), (1, 2, 1), (1, 1, 2), (1, 1, 1))
WIDE = {  # sizes that all of these meshes can split
    "model__llm__heads": 4,
    "model__llm__kv_heads": 4,
    "model__llm__mlp_dim": 64,
    "lora__dropout": 0.1,
    "optimizer__lr": 1e-2,
}


class On:
    """The run on a mesh over as many of the devices as it has."""

    def __init__(self, config, sizes: tuple[int, int, int]):
        named = dict(zip(mesh_lib.AXES, sizes, strict=True))
        devices = jax.devices()[: int(np.prod(sizes))]
        self.pieces = setup.assemble(config, mesh_lib.make(named, devices))
        with jax.set_mesh(self.pieces.mesh):
            self.base = base_lib.load(config, self.pieces.model, self.pieces.base)
        self.frozen, self.step = self.pieces.frozen(self.base), self.pieces.jit_step()

    def steps(self, state, batches):
        """(the state after these batches, their losses)."""
        losses = []
        with jax.set_mesh(self.pieces.mesh):
            for batch in batches:
                placed = share.place(batch, self.pieces.mesh)
                state, metrics = self.step(state, self.frozen, placed)
                losses.append(float(metrics["loss"]))
        return state, losses


def host(state):
    return jax.tree.map(np.asarray, state.replace(key=jax.random.key_data(state.key)))


@pytest.fixture(scope="module")
def saved(pictures, tmp_path_factory):
    """(config, folder, state of 8 devices after 3 steps, the next 2 batches, their losses)."""
    config = runs.config(pictures, **WIDE)
    source, tokenizer = sources.load(config), base_lib.tokenizer(config)
    made = pipeline.train_batches(source, source.cases("train"), tokenizer, config)
    batches = [batch for _, batch, _ in made][:5]
    run = On(config, FIRST)
    with jax.set_mesh(run.pieces.mesh):
        state = run.pieces.first_state(run.base)
    state, _ = run.steps(state, batches[:3])
    folder = tmp_path_factory.mktemp("elastic")
    points = Checkpoints(folder, state.trainable, fingerprint(run.frozen))
    points.save(3, state)
    points.close()
    kept = host(state)
    return config, folder, kept, batches[3:], run.steps(state, batches[3:])[1]


@pytest.mark.parametrize(
    "sizes", [*QUICK, *(pytest.param(sizes, marks=pytest.mark.slow) for sizes in OTHERS)]
)
def test_goes_on(saved, sizes):
    config, folder, kept, batches, losses = saved
    run = On(config, sizes)
    abstract = run.pieces.abstract_state()
    points = Checkpoints(folder, abstract.trainable, fingerprint(run.frozen), read_only=True)
    state, _ = points.restore(abstract)
    points.close()
    jax.tree.map(np.testing.assert_array_equal, host(state), kept)
    np.testing.assert_allclose(run.steps(state, batches)[1], losses, rtol=5e-5)
