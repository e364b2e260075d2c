"""From tensors in files to leaves on devices: each goes straight into its shard and dtype.

A host maps one tensor after another and copies out of it only what its own devices hold. Layers
are stacked on the way where the tree is stacked.
"""

import contextlib
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from tqdm import tqdm

from pefomed_jax.errors import UserError
from pefomed_jax.weights import names
from pefomed_jax.weights.files import Tensor, Tensors

Tree = dict[str, Any]
BLOCK = 128  # columns: a transposed copy in blocks is four times faster than in one go
PIECE = 256 << 20  # bytes asked of the system at once
THREADS = min(4, 1 + (os.cpu_count() or 1))


def fill(
    abstract: Tree,
    entries: Iterable[names.Entry],
    tensors: Tensors,
    ignored: Sequence[tuple[str, str]] = (),
    name: str = "weights",
) -> Tree:
    """The tree of `abstract` (shapes with shardings) out of the tensors; all of it is checked.

    `entries` must cover the tree; a tensor that none of them names must match a regex of `ignored`.
    Nothing is read before names and shapes are right. Errors: UserError with file and key.
    """
    leaves = flatten_dict(abstract, sep="/")
    table = {entry.path: entry for entry in entries}
    wanted = {path: names.canonical(path, leaf) for path, leaf in leaves.items()}
    _check(leaves, wanted, table, tensors, ignored)
    sources = {
        path: [(tensors[table[p].foreign], table[p].turn) for p in places]
        for path, places in wanted.items()
    }
    for line in _narrowed(leaves, sources):
        print(f"{name}: {line}", flush=True)
    total = sum(_share(leaves[path], rows) * len(rows) for path, rows in sources.items())
    memory = _Memory()
    with _progress(name, total) as bar, ThreadPoolExecutor(THREADS) as pool:
        made = pool.map(lambda path: _leaf(leaves[path], path, sources[path], memory, bar), leaves)
        return unflatten_dict(dict(zip(leaves, made, strict=True)), sep="/")


def _narrowed(leaves: Tree, sources: dict[str, list[tuple[Tensor, str]]]) -> list[str]:
    """A line for each pair of dtypes of which the second cannot hold all values of the first."""
    pairs: Counter[tuple[Any, Any]] = Counter()
    for path, rows in sources.items():
        pairs.update((np.dtype(tensor.dtype), np.dtype(leaves[path].dtype)) for tensor, _ in rows)
    return [
        f"{count} tensors are {old} in the file and {new} here, which rounds them"
        for (old, new), count in pairs.items()
        if ml_dtypes.finfo(new).nmant < ml_dtypes.finfo(old).nmant
    ]


def _share(leaf: Any, rows: list[tuple[Tensor, str]]) -> int:
    """Bytes that this host copies out of each tensor of a leaf, on average."""
    places = leaf.sharding.addressable_devices_indices_map(leaf.shape).values()
    shape = leaf.sharding.shard_shape(leaf.shape)
    count = len({str(index) for index in places}) * int(np.prod(shape, dtype=np.int64))
    return count * np.dtype(rows[0][0].dtype).itemsize // len(rows)


def _check(
    leaves: Tree,
    wanted: dict[str, list[str]],
    table: dict[str, names.Entry],
    tensors: Tensors,
    ignored: Sequence[tuple[str, str]],
) -> None:
    where = next((tensor.file for tensor in tensors.values()), "the file")
    where = where.parent if len({t.file for t in tensors.values()}) > 1 else where
    used = set()
    for path, places in wanted.items():
        for place in places:
            entry = table[place]
            used.add(entry.foreign)
            if entry.foreign not in tensors:
                wrapped = f"module.{entry.foreign}" in tensors
                way = "; save the module inside DistributedDataParallel" if wrapped else ""
                raise UserError(f"{where} has no tensor '{entry.foreign}' (for {place}){way}")
            _check_shape(entry, leaves[path], len(places), path, tensors[entry.foreign])
    left = [key for key in tensors if key not in used]
    odd = [key for key in left if not any(re.search(regex, key) for regex, _ in ignored)]
    if odd:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise UserError(
            f"{tensors[odd[0]].file}: '{odd[0]}'{more} has no place in this model; "
            f"see config.model and config.lora.targets"
        )
    for regex, why in ignored:
        if found := sorted(key for key in left if re.search(regex, key)):
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            print(f"{where}: '{found[0]}'{more} ignored: {why}", flush=True)


def _check_shape(entry: names.Entry, leaf: Any, layers: int, path: str, tensor: Tensor) -> None:
    own = leaf.shape[1:] if path != entry.path else leaf.shape
    shape = names.TURNS[entry.turn].theirs(np.broadcast_to(np.int8(0), own)).shape
    if tensor.shape != shape:
        raise UserError(
            f"{tensor.file}: '{entry.foreign}' is {list(tensor.shape)}, this model has "
            f"{list(shape)}{_advice(entry, tensor, shape)}"
        )
    if np.issubdtype(tensor.dtype, np.integer):
        raise UserError(f"{tensor.file}: '{entry.foreign}' holds whole numbers, no weights")


def _advice(entry: names.Entry, tensor: Tensor, shape: tuple[int, ...]) -> str:
    if entry.path.endswith(("lora_a", "lora_b")) and len(tensor.shape) == 2:
        rank, own = ((s[0] if entry.path.endswith("a") else s[1]) for s in (tensor.shape, shape))
        if rank != own:
            return f": its LoRA rank is {rank}; set --config.lora.rank={rank}"
    if entry.path.startswith(("llm/", "connector/")):
        return "; these weights belong to a decoder or a tower of another size"
    return "; correct config.model.vision"


class _Memory:
    """Room for many leaves in pieces that NumPy asks of the system in large pages.

    Filling fresh small pages takes as long as the copy itself.
    """

    def __init__(self) -> None:
        self._lock, self._left = threading.Lock(), np.empty(0, np.uint8)

    def take(self, size: int) -> np.ndarray:
        """uint8 [size], not initialised; large ones get a piece of their own."""
        if size > PIECE // 4:
            return np.empty(size, np.uint8)
        with self._lock:
            if size > len(self._left):
                self._left = np.empty(PIECE, np.uint8)
            taken, self._left = self._left[:size], self._left[size:]
        return taken


def _leaf(
    leaf: Any, path: str, rows: list[tuple[Tensor, str]], memory: _Memory, bar: tqdm
) -> jax.Array:
    stacked, share = names.paths.is_stacked(path), _share(leaf, rows)
    places = leaf.sharding.addressable_devices_indices_map(leaf.shape)
    shape = leaf.sharding.shard_shape(leaf.shape)
    distinct = {str(index): index for index in places.values()}  # replicas share one part
    room = _room(memory, len(distinct), shape, leaf.dtype)
    parts = {key: (index, part) for (key, index), part in zip(distinct.items(), room, strict=True)}
    for i, (tensor, turn) in enumerate(rows):
        # asarray: slices of a memmap are memmaps, which are slow to make
        view = names.TURNS[turn].ours(np.asarray(tensor.read()))
        for index, part in parts.values():
            if stacked:
                first = index[0].start or 0
                if 0 <= i - first < len(part):
                    _copy(part[i - first], view[index[1:]])
            else:
                _copy(part, view[index])
        bar.update(share)
    arrays = [jax.device_put(parts[str(index)][1], device) for device, index in places.items()]
    made = jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, arrays)
    return jax.block_until_ready(made)  # so that the parts are free before the next leaf


def _room(memory: _Memory, count: int, shape: tuple[int, ...], dtype: Any) -> list[np.ndarray]:
    """`count` arrays side by side.

    Each begins at a multiple of 64 bytes, where a CPU device takes it over without a copy.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    step = -(-size // 64) * 64
    raw = memory.take(count * step + 64)
    first = -raw.ctypes.data % 64
    starts = range(first, first + count * step, step) if step else [first] * count
    return [raw[start : start + size].view(dtype).reshape(shape) for start in starts]


def _copy(part: np.ndarray, view: np.ndarray) -> None:
    """part[...] = view, transposed in blocks that stay in the cache."""
    if view.ndim != 2 or view.strides[0] >= view.strides[1]:
        part[...] = view
        return
    for column in range(0, view.shape[1], BLOCK):
        part[:, column : column + BLOCK] = view[:, column : column + BLOCK]


@contextlib.contextmanager
def _progress(name: str, total: int) -> Iterator[tqdm]:
    """A bar with GB and GB/s on a terminal, and one line at the end anywhere."""
    start = time.perf_counter()
    options = {"unit": "B", "unit_scale": True, "disable": None, "leave": False}
    with tqdm(total=total, desc=name, file=sys.stderr, **options) as bar:
        yield bar
    seconds = max(time.perf_counter() - start, 1e-9)
    if total >= 2**20:
        gb = total / 1e9
        print(f"{name}: {gb:.2f} GB in {seconds:.1f} s ({gb / seconds:.2f} GB/s)", flush=True)
