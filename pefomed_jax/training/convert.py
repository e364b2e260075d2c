"""Weights from any place that a config names to any layout that others read."""

import pathlib

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.errors import UserError, nearest
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.training import restore
from pefomed_jax.weights import card, export, files, parts

LAYOUTS = ("native", "adapter", "pth", "merged")


def convert(config: ConfigDict, to: str, out: pathlib.Path, dtype: str = "") -> None:
    """Reads what config.weights names and writes it to `out` as `to`; `dtype` is for 'merged'.

    Errors: UserError for files that do not fit, an `out` that is there, a disk without room.
    """
    if to not in LAYOUTS:
        raise UserError(f"--to={to} is not one of {', '.join(LAYOUTS)}{nearest(to, LAYOUTS)}")
    if dtype and dtype not in ("float32", "bfloat16"):
        raise UserError(f"--dtype={dtype} is not float32 or bfloat16")
    one = mesh_lib.make({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])
    config = _on_one_device(config)
    whole = restore.restore(config, one)
    config, trainable = whole.pieces.config, whole.state.trainable
    run = pathlib.Path(config.weights.checkpoint).expanduser()
    run = run if config.weights.checkpoint and (run / "checkpoints").is_dir() else None
    held = trainable if to in ("adapter", "pth") else whole.params
    text = card.write(config, to, export.kinds(held), run)
    if to == "adapter":
        export.adapter(out, trainable, config, text)
    elif to == "pth":
        export.pth(out, trainable, config, text)
    elif to == "merged":
        dtype = dtype or config.model.base_dtype
        export.merged(out, whole.params, export.moved_paths(trainable), config, dtype, text)
    else:
        export.native(out, whole.params, config, fresh(config, trainable), text)
    print(f"{out}: {to}, {_size(out) / 1e9:.3f} GB")
    for line in export.kinds(held):
        print(f"  {line}")


def _on_one_device(config: ConfigDict) -> ConfigDict:
    out = config.copy_and_resolve_references()
    out.mesh.update(data=1, fsdp=1, tensor=1)
    return out


def fresh(config: ConfigDict, trainable: dict) -> set[str]:
    """Canonical paths that no file has: a native folder leaves them to the seed of each run."""
    if config.weights.checkpoint:
        return set()
    out = {path for path in export.moved_paths(trainable) if path.endswith(export.LORA)}
    return out if _has_connector(config) else out | _connector_paths(trainable)


def _connector_paths(trainable: dict) -> set[str]:
    return {p for p in flatten_dict(trainable, sep="/") if p.startswith(base_lib.FRESH + "/")}


def _has_connector(config: ConfigDict) -> bool:
    vision, kind = config.weights.vision, config.weights.base
    if vision:
        return "llama_proj.weight" in files.open_file(pathlib.Path(vision).expanduser())
    if kind in ("", "tiny", "random"):
        return False
    names = files.open_folder(pathlib.Path(kind).expanduser(), parts.NATIVE)
    return any(name.startswith(base_lib.FRESH + "/") for name in names)


def _size(path: pathlib.Path) -> int:
    inside = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in inside if file.is_file())
