"""The parts of a base out of files: decoder, vision tower, or a whole native folder."""

import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from pefomed_jax.errors import UserError
from pefomed_jax.models.vit import interpolate_positions
from pefomed_jax.weights import files, names
from pefomed_jax.weights.files import Tensor, Tensors
from pefomed_jax.weights.load import fill

Tree = dict[str, Any]
INSTRUCTIONS = "instructions.txt"  # in a native folder, where the user has own ones
NATIVE = "base"  # base.safetensors, or base.safetensors.index.json with its parts
POSITIONS = "pos_embed"
SCALES = ("lora_a", "lora_b")


def decoder(folder: pathlib.Path, abstract: Tree, tied: bool) -> Tree:
    """{'llm': ...} of a Hugging Face LLaMA folder."""
    leaves = flatten_dict(abstract, sep="/")
    depth = 1 + max(
        int(p.split("/")[2])
        for path, leaf in leaves.items()
        for p in names.canonical("llm/" + path, leaf)
        if p.startswith("llm/layers/")
    )
    ignored = [names.INV_FREQ, *([names.TIED_HEAD] if tied else [])]
    table = names.llama(depth, tied)
    return fill({"llm": abstract}, table, files.open_folder(folder), ignored, "decoder")


def tower(path: pathlib.Path, abstract: Tree, depth: int, dtype_note: str = "") -> Tree:
    """{'vision': ..., 'ln_vision': ..., maybe 'connector': ...} of `eva_vit_g.pth` or the like.

    The tower's names may begin with 'visual_encoder.'; the file may have `ln_vision` (else it is
    the identity, which is said) and the connector `llama_proj`. A table of positions of another
    grid is interpolated.
    """
    tensors = files.open_file(path)
    rest = [names.Entry(*row) for row in (*names.LN_VISION, *names.CONNECTOR)]
    held = {name for entry in rest if entry.foreign in tensors for name in [entry.path]}
    own = {names.TOWER + e.foreign: e for e in names.vision(depth)}
    prefixed = not own.keys().isdisjoint(tensors)
    entries = [e._replace(foreign=name) if prefixed else e for name, e in own.items()]
    wanted = {"vision": abstract["vision"]}
    for part in ("ln_vision", "connector"):
        if part in abstract and any(name.startswith(part) for name in held):
            wanted[part] = abstract[part]
    prefix = names.TOWER if prefixed else ""
    tensors = _regrid(tensors, prefix + POSITIONS, abstract["vision"]["pos_embed"].shape[0])
    beyond = rf"^(visual_encoder\.)?blocks\.({'|'.join(_beyond(tensors, depth)) or 'x'})\."
    qformer = (names.QFORMER, "a Q-Former; this connector is linear")
    ignored = [names.NO_FINAL, qformer, (beyond, f"the tower has {depth} blocks, 0 to {depth - 1}")]
    if "connector" not in wanted:
        ignored.append((r"^llama_proj\.", "the connector is not asked for"))
    made = fill(wanted, [*entries, *rest], tensors, ignored, "vision tower")
    if "ln_vision" in abstract and "ln_vision" not in made:
        print(f"{path} has no ln_vision: it is the identity (scale 1, bias 0)", flush=True)
        made["ln_vision"] = {
            name: constant(leaf, float(name == "scale"))
            for name, leaf in abstract["ln_vision"].items()
        }
    return made


def constant(leaf: Any, value: float) -> jax.Array:
    """A leaf of one value, where its sharding says."""
    values = np.full(leaf.shape, value, leaf.dtype)
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, values.__getitem__)


def _beyond(tensors: Tensors, depth: int) -> list[str]:
    """Numbers of the one block after the last: the official model drops its 40th."""
    numbers = {key.removeprefix(names.TOWER).split(".")[1] for key in tensors if "blocks." in key}
    return [n for n in sorted(numbers) if n.isdigit() and int(n) == depth]


def _regrid(tensors: Tensors, name: str, wanted: int) -> Tensors:
    """The tensors with the table of positions interpolated to `wanted` rows."""
    table = tensors.get(name)
    if table is None or len(table.shape) != 3 or table.shape[1] == wanted:
        return tensors
    rows = table.shape[1]
    grid, new = math.isqrt(rows - 1), math.isqrt(wanted - 1)
    if 1 + grid**2 != rows:
        raise UserError(f"{table.file}: '{name}' has {rows} positions, not 1 + a square")
    print(f"{table.file}: positions interpolated from {grid} × {grid} to {new} × {new}", flush=True)

    def read() -> np.ndarray:
        values = table.read()[0].astype(np.float32)
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            return np.asarray(interpolate_positions(jnp.asarray(values), grid, new))[None]

    shape = (1, wanted, table.shape[2])
    return tensors | {name: Tensor(table.file, shape, np.dtype(np.float32), read)}


def native(folder: pathlib.Path, abstract: Tree, adapters: bool = False) -> Tree:
    """The leaves of `abstract` out of a folder of `export.native`; the others are left out.

    Without `adapters`, LoRA in the folder is left for `trained.read`.
    """
    tensors = files.open_folder(folder, NATIVE)
    leaves = flatten_dict(abstract, sep="/")
    entries = names.native(leaves)
    asked = {entry.path.split("/")[0] for entry in entries}
    mine = {key: value for key, value in tensors.items() if key.split("/")[0] in asked}
    if not adapters:
        mine = {key: value for key, value in mine.items() if not key.endswith(SCALES)}
    return fill(abstract, entries, mine, (), folder.name)


def native_config(folder: pathlib.Path) -> dict[str, Any]:
    """config.json of a native folder: 'model', 'lora', 'tokenizer'."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        own = {key: content[key] for key in ("model", "lora", "tokenizer", "made_from")}
        return own | {"llama": content.get("llama") or {}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not of a native folder ({type(error).__name__}: {error}); make one with "
            f"launch/convert.py"
        ) from None
