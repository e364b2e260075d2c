"""Where a process finds its place in a run, and what its end means."""

import signal
import socket

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from pefomed_jax.errors import UserError
from pefomed_jax.parallel import join, mesh, share, supervise

NONE = {"coordinator": "", "num_processes": None, "process_id": None}
GIVEN = {"coordinator": "10.0.0.2:8476", "num_processes": 4, "process_id": 0}
VARIABLES = {
    "JAX_COORDINATOR_ADDRESS": "head:1234",
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": "1",
}
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_NTASKS": "16",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
}


def test_flags_come_before_variables_and_these_before_slurm():
    flags = join.place(GIVEN | {"heartbeat": 4}, VARIABLES | SLURM)
    assert (flags.coordinator, flags.count, flags.index) == ("10.0.0.2:8476", 4, 0)
    assert (flags.join_timeout, flags.heartbeat) == (300, 4)
    variables = join.place(NONE, VARIABLES | SLURM)
    assert (variables.coordinator, variables.count, variables.index) == ("head:1234", 2, 1)
    slurm = join.place(NONE, SLURM)
    assert (slurm.coordinator, slurm.count, slurm.index) == (None, 16, 9)
    assert slurm.said == "process 9 of 16"
    assert (slurm.join_timeout, slurm.heartbeat) == (300, 10)


def test_a_process_alone_has_no_place():
    assert join.place(NONE, {}) is None
    assert join.place(NONE, SLURM | {"SLURM_NTASKS": "1"}) is None
    # a job of 16 tasks, of which a step has one: srun --ntasks=1 on it
    assert join.place(NONE, SLURM | {"SLURM_STEP_NUM_TASKS": "1"}) is None
    # inside sbatch itself no step has been started
    batch = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"}
    assert join.place(NONE, batch) is None


@pytest.mark.parametrize(
    ("flags", "variables", "words"),
    [
        ({"process_id": 1}, {}, "--coordinator, --num_processes must be given too"),
        ({}, {"JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES must be given"),
        (GIVEN | {"coordinator": "host"}, {}, "--coordinator=host is no HOST:PORT"),
        (GIVEN | {"coordinator": "host:99999"}, {}, "is no HOST:PORT"),
        (GIVEN | {"process_id": 4}, {}, "--process_id=4 of --num_processes=4"),
        ({}, VARIABLES | {"JAX_PROCESS_ID": "x"}, "JAX_PROCESS_ID=x of JAX_NUM_PROCESSES=2"),
    ],
)
def test_what_is_no_place_is_one_line(flags, variables, words):
    with pytest.raises(UserError) as raised:
        join.place(NONE | flags, variables)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_how_a_process_ended():
    here = join.Place("flags", "localhost:1", 2, 1, join_timeout=7)
    said, code = supervise.explained(signal.SIGABRT, here, joined=True)
    assert (code, "process 1 of 2 was ended by JAX" in said) == (76, True)
    said, code = supervise.explained(signal.SIGKILL, here, joined=True)
    assert code == 137
    assert "SIGKILL (by hand, or because memory ran out)" in said
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        listening.listen()
        there = join.Place("flags", f"localhost:{listening.getsockname()[1]}", 2, 1, join_timeout=7)
        said, code = supervise.explained(signal.SIGABRT, there, joined=False)
    assert code == 1
    assert "could not join within 7 seconds" in said
    assert "answers, but not every process came" in said
    said, _ = supervise.explained(signal.SIGABRT, there, joined=False)
    assert "nothing answers at the coordinator" in said


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 1, 8)])
def test_one_process_holds_all_rows(sizes):
    made = mesh.make(dict(zip(mesh.AXES, sizes, strict=True)))
    assert share.mine(made, 16) == tuple(range(16))
    rows = np.arange(32).reshape(16, 2)
    placed = share.place({"rows": rows}, made)["rows"]
    assert len(placed.sharding.device_set) == 8
    np.testing.assert_array_equal(share.whole(placed), rows)


def test_rows_of_a_process_may_lie_apart(monkeypatch):
    """Devices 0, 2, 5 and 7 are this process's, in a mesh whose order is another."""
    order = np.array(jax.devices())[[3, 0, 6, 5, 1, 2, 4, 7]].reshape(8, 1, 1)
    made, mine = Mesh(order, mesh.AXES), {0, 2, 5, 7}
    whole = jax.sharding.NamedSharding.devices_indices_map

    def own(self, shape):
        return {d: index for d, index in whole(self, shape).items() if d.id in mine}

    monkeypatch.setattr(jax.sharding.NamedSharding, "addressable_devices_indices_map", own)
    assert share.mine(made, 16) == (2, 3, 6, 7, 10, 11, 14, 15)
