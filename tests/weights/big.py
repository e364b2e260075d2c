"""A decoder of two billion parameters on disk, loaded in a process of its own; prints JSON.

python big.py write DIR | own DIR (peak memory of our loading) | race DIR (GB/s, ours and theirs)
"""

import json
import os
import pathlib
import resource
import sys
import time

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from pefomed_jax import config as config_lib
from pefomed_jax.models import mllm, stack
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.parallel import rules
from pefomed_jax.weights import llama_config, names, parts

SHARDS = 4


def config(scan):
    made = config_lib.make("mrg", "small")
    made.model.llm.update(width=2560, depth=24, heads=20, kv_heads=20, mlp_dim=6912)
    made.model.update(dtype="bfloat16", base_dtype="bfloat16", scan=scan)
    return made


def abstract(scan):
    """Shapes of the decoder, sharded eight ways."""
    model = mllm.build(config(scan).model)
    whole = jax.eval_shape(lambda key: mllm.init_params(model, key), jax.random.key(0))
    tree = {"llm": whole["llm"]}
    placed = rules.shardings(tree, mesh_lib.make({"data": 1, "fsdp": 8, "tensor": 1}))
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, placed
    )["llm"]


def write(folder):
    """Random bits of normal numbers: the values do not matter, that they are no zeros does."""
    folder.mkdir(exist_ok=True)
    made, rng = config(False).model.llm, np.random.default_rng(0)
    leaves = flatten_dict(stack.unstack({"llm": abstract(True)}), sep="/")
    entries = names.llama(made.depth, False)
    index = {}
    for i in range(SHARDS):
        arrays = {}
        for e in entries[i * len(entries) // SHARDS : (i + 1) * len(entries) // SHARDS]:
            shape = leaves[e.path].shape
            shape = shape[::-1] if e.turn == "linear" else shape
            bits = rng.integers(0x3C00, 0x3D00, shape, np.uint16)
            arrays[e.foreign] = bits.view(ml_dtypes.bfloat16)
        name = f"model-{i + 1:05}-of-{SHARDS:05}.safetensors"
        save_file(arrays, folder / name, {"format": "pt"})
        index |= dict.fromkeys(arrays, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    content = llama_config.dump(made, "bfloat16", {})
    (folder / "config.json").write_text(json.dumps(content))


def load(folder, scan):
    start = time.perf_counter()
    tree = parts.decoder(folder, abstract(scan), tied=False)
    return tree, time.perf_counter() - start


def size(folder):
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def own(folder, scan):
    tree, _ = load(folder, scan)
    spread = all(
        len(leaf.addressable_shards) == 8 and not leaf.is_fully_replicated
        for leaf in jax.tree.leaves(tree)
        if leaf.nbytes > 2**20
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak": peak, "size": size(folder), "sharded": spread}


def theirs(folder):
    start = time.perf_counter()
    for path in sorted(folder.glob("*.safetensors")):
        arrays = load_file(path)
        del arrays
    return time.perf_counter() - start


def race(folder, scan):
    """Best of four each, in turn; the files are in the page cache for both."""
    theirs(folder)
    rounds = [(theirs(folder), load(folder, scan)[1]) for _ in range(4)]
    gb = size(folder) / 1e9
    return {"theirs": gb / min(t for t, _ in rounds), "own": gb / min(o for _, o in rounds)}


if __name__ == "__main__":
    task, folder, *form = sys.argv[1:]
    folder = pathlib.Path(folder)
    if task == "write":
        write(folder)
    else:
        print(json.dumps({"own": own, "race": race}[task](folder, form == ["scan"])))
