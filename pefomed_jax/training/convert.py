"""Weights from any place that a config names to any layout that others read."""

import pathlib

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from pefomed_jax import base as base_lib
from pefomed_jax.errors import UserError, nearest
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.training import restore, stage
from pefomed_jax.weights import card, dtypes, export, export_trained, files, names, output, parts

LAYOUTS = ("native", "adapter", "pth", "merged", "vision", "eva")
TOWER = {"vision": ("vision", "ln_vision", "connector"), "eva": ("vision",)}
CAST = ("merged", *TOWER)  # layouts whose dtype can be chosen


def convert(config: ConfigDict, to: str, out: pathlib.Path, dtype: str = "") -> None:
    """Reads what config.weights names and writes it to `out` as `to`; `dtype` is for CAST.

    Errors: UserError for files that do not fit, an `out` that is there, a disk without room.
    """
    if to not in LAYOUTS:
        raise UserError(f"--to={to} is not one of {', '.join(LAYOUTS)}{nearest(to, LAYOUTS)}")
    if dtype and (dtype not in export.DTYPES or to not in CAST):
        raise UserError(
            f"--dtype={dtype} with --to={to}: --to={', '.join(CAST)} take "
            f"{', '.join(export.DTYPES)}, the others none"
        )
    if to in TOWER:
        export.check_suffix(out)
    if to == "pth":
        export_trained.check_pth(out)
    output.check_absent(out)
    own = dtypes.of_files(config.weights) if to in CAST else {}
    one = mesh_lib.make({"data": 1, "fsdp": 1, "tensor": 1}, [_host()])
    whole = restore.restore(_on_one_device(config, own), one)
    config, trainable = whole.pieces.config, whole.state.trainable
    own = {} if dtype else own
    left = fresh(whole)
    if to in ("adapter", "pth"):
        _check_trained(config, trainable, left, to)
    held = trainable if to in ("adapter", "pth") else _part(whole.params, left)
    if to in TOWER:
        held = {name: held[name] for name in TOWER[to] if name in held}
        export.tower(out, held, config, dtype, own, bare=to == "eva")
    else:
        _write(whole, held, to, out, dtype or dtypes.commonest(own, True, ""), own)
    print(f"{out}: {to}, {_size(out) / 1e9:.3f} GB")
    dtype = dtype or dtypes.commonest(own, to == "merged", "")
    for line in _said(whole, held, to, dtype):
        print(f"  {line}")


def _check_trained(config: ConfigDict, trainable: dict, left: set[str], to: str) -> None:
    """Errors: UserError where a fresh adapter or a random connector would be written."""
    flat = flatten_dict(trainable, sep="/")
    if config.weights.checkpoint:
        if drawn := left & _connector_paths(trainable):
            raise UserError(
                f"--to={to}: '{min(drawn)}' is in no file and would be drawn from the seed; add "
                f"connector.safetensors to {config.weights.checkpoint}, or name a file that has it "
                f"as config.weights.vision"
            )
        return
    if to == "pth" and _has_connector(config):
        return
    if not any(x.any() for path, x in flat.items() if path.endswith("/lora_b")):
        raise UserError(
            f"--to={to}: nothing here is trained, so the adapter would change nothing; name a run "
            f"(--weights=RUN, or config.weights.checkpoint)"
        )


def _said(whole: restore.Restored, held: dict, to: str, dtype: str) -> list[str]:
    """Lines of what is written; `dtype` as `convert` takes it."""
    if to == "merged":
        moved = export.moved_paths(whole.state.trainable)
        beside = {e.path for e in export.beside(export.leaves_of(held), moved, whole.pieces.config)}
        flat = {
            path: x
            for path, x in flatten_dict(held, sep="/").items()
            if not path.endswith(export.LORA)
            and (path.startswith("llm/") or not beside.isdisjoint(names.canonical(path, x)))
        }
        held = unflatten_dict(flat, sep="/")
    decoder = to == "merged"
    dtype = dtype or (whole.pieces.config.model.base_dtype if decoder else "")
    return card.kinds(_cast(held, dtype, "llm/" if decoder else ""))


def _cast(held: dict, dtype: str, prefix: str) -> dict:
    """Shapes of `held`, of this dtype under `prefix`; '': each its own."""

    def shape(path: str, x: jax.Array) -> jax.ShapeDtypeStruct:
        kind = export.DTYPES[dtype] if dtype and path.startswith(prefix) else x.dtype
        return jax.ShapeDtypeStruct(x.shape, kind)

    flat = flatten_dict(held, sep="/")
    return unflatten_dict({path: shape(path, x) for path, x in flat.items()}, sep="/")


def _run(whole: restore.Restored) -> card.Run | None:
    """Where it was trained, if that is a run of this package."""
    config, path = whole.pieces.config, whole.pieces.config.weights.checkpoint
    folder = pathlib.Path(path).expanduser()
    if not path or not (folder / "checkpoints").is_dir():
        return None
    with stage.opened(config, whole.state.trainable) as (_, step):
        return card.Run(folder, step)


def _write(
    whole: restore.Restored,
    held: dict,
    to: str,
    out: pathlib.Path,
    dtype: str,
    own: dtypes.Dtypes,
) -> None:
    config, trainable = whole.pieces.config, whole.state.trainable
    text = card.write(config, to, _said(whole, held, to, dtype), _run(whole))
    if to == "adapter":
        export_trained.adapter(out, trainable, config, text)
    elif to == "pth":
        export_trained.pth(out, trainable, config, text)
    elif to == "merged":
        dtype = dtype or config.model.base_dtype
        export.merged(out, held, export.moved_paths(trainable), config, dtype, text, own)
    else:
        export.native(out, whole.params, config, fresh(whole), text)


def _part(tree: dict, left: set[str]) -> dict:
    """The tree without leaves of which every layer is in `left`."""
    flat = flatten_dict(tree, sep="/")
    kept = {path: x for path, x in flat.items() if not left.issuperset(names.canonical(path, x))}
    return unflatten_dict(kept, sep="/")


def _on_one_device(config: ConfigDict, own: dtypes.Dtypes) -> ConfigDict:
    """The config on one device, in dtypes that hold all of the files whose dtypes are `own`."""
    out = config.copy_and_resolve_references()
    out.mesh.update(data=1, fsdp=1, tensor=1)
    out.model.base_dtype = dtypes.holding(own, config.model.base_dtype)
    return out


def _host() -> jax.Device:
    """The host's own device: a model that is spread over accelerators may fit none of them."""
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        return jax.devices()[0]


def fresh(whole: restore.Restored) -> set[str]:
    """Canonical paths that no file has: a native folder leaves them to the seed of each run."""
    config, trainable = whole.pieces.config, whole.state.trainable
    out = {path for path in export.moved_paths(trainable) if path.endswith(export.LORA)}
    if not _has_connector(config):
        out |= _connector_paths(trainable)
    if not config.weights.checkpoint:
        return out
    flat = flatten_dict(trainable, sep="/")
    return out & {one for path in whole.fresh for one in names.canonical(path, flat[path])}


def _connector_paths(trainable: dict) -> set[str]:
    return {p for p in flatten_dict(trainable, sep="/") if p.startswith(base_lib.FRESH + "/")}


def _has_connector(config: ConfigDict) -> bool:
    vision, kind = config.weights.vision, config.weights.base
    if vision and "llama_proj.weight" in files.open_file(pathlib.Path(vision).expanduser()):
        return True
    if kind in ("", "tiny", "random"):
        return False
    tensors = files.open_folder(pathlib.Path(kind).expanduser(), parts.NATIVE)
    return any(name.startswith(base_lib.FRESH + "/") for name in tensors)


def _size(path: pathlib.Path) -> int:
    inside = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in inside if file.is_file())
