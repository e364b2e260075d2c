"""Two real processes load one folder: each reads what its own devices hold, and counts that."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from weights import foreign

ROOT = pathlib.Path(__file__).parents[2]
HOST = """
import json, pathlib, sys
import jax
number, address, folder = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
jax.distributed.initialize(address, 2, number)
import numpy as np
from flax.traverse_util import flatten_dict
from weights import foreign
from pefomed_jax.weights import load, names, parts

made, copied, totals = foreign.config(), [], []
copy, progress = load._copy, load._progress
load._copy = lambda part, view: (copied.append(part.size * view.itemsize), copy(part, view))
load._progress = lambda name, total: (totals.append(total), progress(name, total))[1]
abstract = foreign.abstract(made, (1, 4, 1))["llm"]
tree = flatten_dict(parts.decoder(folder, abstract, False), sep="/")
arrays = foreign.read(folder)
for e in names.llama(made.model.llm.depth, False):
    values = names.TURNS[e.turn].ours(arrays[e.foreign])
    for shard in tree[e.path].addressable_shards:
        assert np.array_equal(np.asarray(shard.data), values[shard.index]), e.path
split = {p for p, leaf in tree.items() if not leaf.is_fully_replicated}
sizes = {p: leaf.nbytes for p, leaf in tree.items()}
print(json.dumps({
    "copied": sum(copied), "total": totals, "all": sum(sizes.values()),
    "split": sum(sizes[p] for p in split),
}))
"""


@pytest.mark.slow
def test_each_host_reads_its_half(tmp_path):
    made = foreign.config()
    arrays = foreign.draw(foreign.llama_shapes(made.model.llm))
    foreign.write_llama(tmp_path / "llama", made, arrays, shards=2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    env |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, str(i), address, str(tmp_path / "llama")],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    ended = [host.communicate(timeout=120) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], [err[-2000:] for _, err in ended]
    for out, _ in ended:
        said = json.loads(out.strip().splitlines()[-1])
        assert said["split"] > 0.9 * said["all"]
        assert said["copied"] == said["all"] - said["split"] // 2  # the rest is on every host
        assert said["total"] == [said["copied"]]
