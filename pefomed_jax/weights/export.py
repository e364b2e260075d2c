"""Out of a parameter tree: merged Hugging Face folder, tower file, native folder.

Every name comes from the tables in `names`; a leaf that a layout has no name for is an error, so
nothing that was trained is left behind. Each export is there whole or not at all.
"""

import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from pefomed_jax.errors import UserError
from pefomed_jax.weights import dtypes, llama_config, names, output, parts, trained

Tree = dict[str, Any]
Leaves = dict[str, Callable[[], np.ndarray]]  # canonical path → its values, fetched when asked for
LORA = ("/lora_a", "/lora_b")
DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.jinja", "generation_config.json"),
)


def leaves_of(tree: Tree) -> Leaves:
    """The leaves of a tree in canonical form; a layer of a stacked leaf is cut out when asked."""
    out: Leaves = {}
    for path, leaf in flatten_dict(tree, sep="/").items():
        places = names.canonical(path, leaf)
        if places == [path]:
            out[path] = lambda leaf=leaf: np.asarray(leaf)
        else:
            out |= {p: lambda leaf=leaf, i=i: np.asarray(leaf[i]) for i, p in enumerate(places)}
    return out


def merged(
    out: pathlib.Path,
    params: Tree,
    moved: set[str],
    config: ConfigDict,
    dtype: str,
    card: str,
    own: dtypes.Dtypes | None = None,
) -> None:
    """A Hugging Face LLaMA folder with LoRA added to its kernels, and connector.safetensors.

    The sum is made in float32 and rounded once: to `own`, the tensor's dtype in the file it is
    from, else to `dtype`. `moved`: canonical paths that trained; of the tower and its norm, modules
    with such a path are written beside the connector.
    """
    leaves, tied = leaves_of(params), config.model.llm.tie_embeddings
    kinds = {
        e: dtypes.of(own or {}, e.foreign, DTYPES[dtype])
        for e in names.llama(config.model.llm.depth, tied)
    }
    sizes, alpha = _sizes(params, 1), config.lora.alpha
    decoder = [
        (e.foreign, sizes[e.path] * kind.itemsize, lambda e=e, k=kind: _merged(e, leaves, alpha, k))
        for e, kind in kinds.items()
    ]
    rest = beside(leaves, moved, config)
    others = {e.foreign: _merged(e, leaves, alpha, None) for e in rest}
    need = sum(size for _, size, _ in decoder) + n_bytes(others)
    with output.whole(out, need) as part:
        part.mkdir()
        output.shards(part, "model", decoder)
        if others:
            save_file(others, part / "connector.safetensors", output.PT)
        _copy_tokenizer(part, config)
        own = llama_config.origin(config.weights)
        output.json_file(part / "config.json", llama_config.dump(config.model.llm, dtype, own))
        (part / "README.md").write_text(card, encoding="utf-8")


def check_suffix(out: pathlib.Path) -> None:
    """Errors: UserError where `out` is no name for a tower."""
    if out.suffix != ".safetensors":
        raise UserError(f"--out={out}: a tower is one file; end its name in .safetensors")


def tower(
    out: pathlib.Path,
    params: Tree,
    config: ConfigDict,
    dtype: str = "",
    own: dtypes.Dtypes | None = None,
    bare: bool = False,
) -> None:
    """One safetensors file for weights.vision: tower, ln_vision and, where it is there, connector.

    `dtype`: of all tensors; '': as in `own`, the file that a tensor is from, else as it is here.
    `bare`: the tower alone, as `eva_vit_g.pth` names it.
    """
    check_suffix(out)
    leaves, depth = leaves_of(params), config.model.vision.depth
    table = names.vision(depth) if bare else names.official(depth, 0, True)
    kind, alpha = DTYPES[dtype] if dtype else None, config.lora.alpha
    arrays = {
        e.foreign: _merged(e, leaves, alpha, kind or dtypes.of(own or {}, e.foreign, None))
        for e in table
        if e.path in leaves and not e.path.startswith("llm/")
    }
    with output.whole(out, n_bytes(arrays)) as part:
        save_file(arrays, part, output.PT)


def beside(leaves: Leaves, moved: set[str], config: ConfigDict) -> list[names.Entry]:
    """The connector, and the modules of the tower that trained."""
    modules = {path.rsplit("/", 1)[0] for path in moved}
    table = names.official(config.model.vision.depth, 0, True)
    return [
        e
        for e in table
        if e.path in leaves
        and not e.path.startswith("llm/")
        and (e.path.startswith("connector/") or e.path.rsplit("/", 1)[0] in modules)
    ]


def native(
    out: pathlib.Path, params: Tree, config: ConfigDict, skip: Iterable[str], card: str
) -> None:
    """A folder for weights.base: our own names and dtypes, read without turning anything.

    `skip`: canonical paths that are left out, being no more than fresh draws from a seed.
    """
    left = set(skip)
    leaves = {path: leaf for path, leaf in leaves_of(params).items() if path not in left}
    sizes = _sizes(params)
    rows = [(path, sizes[path], leaf) for path, leaf in leaves.items()]
    has_lora = any(path.endswith(LORA) for path in leaves)
    lora = {key: config.lora[key] for key in ("rank", "alpha", "dropout", "targets")}
    kept = ("vision", "llm", "concat", "dtype", "base_dtype")
    model = {key: config.model[key] for key in kept}
    with output.whole(out, sum(size for _, size, _ in rows)) as part:
        part.mkdir()
        output.shards(part, parts.NATIVE, rows)
        copied = _copy_tokenizer(part, config)
        if config.data.instructions:
            _copy_instructions(part, pathlib.Path(config.data.instructions).expanduser())
        content = {
            "task": config.task,
            "asked": {
                "max_new_tokens": config.eval.max_new_tokens,
                "quirks": {name: True for name, on in config.quirks.items() if on},
            },
            "llama": llama_config.origin(config.weights),
            "made_from": {k: v for k, v in config.weights.items() if v},
            "model": {k: v.to_dict() if isinstance(v, ConfigDict) else v for k, v in model.items()},
            "lora": lora if has_lora else None,
            "tokenizer": config.tokenizer if config.tokenizer == "tiny" else ("." * bool(copied)),
        }
        output.json_file(part / "config.json", content)
        (part / "README.md").write_text(card, encoding="utf-8")


def _sizes(params: Tree, itemsize: int | None = None) -> dict[str, int]:
    """Bytes of every canonical leaf, with its own or another number of bytes a value."""
    out = {}
    for path, leaf in flatten_dict(params, sep="/").items():
        places = names.canonical(path, leaf)
        size = int(np.prod(leaf.shape, dtype=np.int64)) * (itemsize or leaf.dtype.itemsize)
        out |= dict.fromkeys(places, size // len(places))
    return out


def names_for(leaves: Leaves, spelling: tuple[str, str]) -> list[names.Entry]:
    """The table of canonical leaves. Errors: UserError for a leaf without a name."""
    described = {path: _Whole for path in leaves}
    return trained.table(described, spelling)


class _Whole:
    shape = ()  # canonical leaves are never stacked


def turned(entries: list[names.Entry], leaves: Leaves) -> Iterator[tuple[str, np.ndarray]]:
    """(foreign name, array as the layout has it) of every entry."""
    for e in entries:
        yield e.foreign, np.ascontiguousarray(names.TURNS[e.turn].theirs(leaves[e.path]()))


def _merged(e: names.Entry, leaves: Leaves, alpha: float, dtype: Any) -> np.ndarray:
    """The tensor of an entry with LoRA added; dtype None: the leaf's own."""
    x, module = leaves[e.path](), e.path.rsplit("/", 1)[0]
    kind = dtype or x.dtype
    if e.path.endswith("/kernel") and f"{module}/lora_a" in leaves:
        a, b = (leaves[f"{module}/lora_{side}"]().astype(np.float32) for side in "ab")
        if b.any():  # adding the zeros of a fresh adapter would turn -0 into 0
            x = x.astype(np.float32) + np.float32(alpha / a.shape[-1]) * (a @ b)
    return np.ascontiguousarray(_cast(names.TURNS[e.turn].theirs(x), kind, e.foreign))


def _cast(x: np.ndarray, dtype: Any, name: str) -> np.ndarray:
    """Errors: UserError where a value is too large for the dtype."""
    with np.errstate(over="ignore"):
        out = x.astype(dtype)
    if np.isfinite(x).all() and not np.isfinite(out).all():
        most = np.abs(x.astype(np.float32)).max()
        kind = np.dtype(dtype)
        raise UserError(f"'{name}' holds {most:.3g}, too large for {kind}: use --dtype=float32")
    return out


def _copy_tokenizer(folder: pathlib.Path, config: ConfigDict) -> list[str]:
    # imported here: base imports this package
    from pefomed_jax.base import ASSETS

    sources = [ASSETS] if config.tokenizer == "tiny" else []
    sources += [pathlib.Path(p).expanduser() for p in (config.tokenizer, config.weights.llm) if p]
    copied = []
    for source in sources:
        for name in TOKENIZER_FILES:
            if (source / name).is_file() and not (folder / name).exists():
                shutil.copyfile(source / name, folder / name)
                copied.append(name)
    return [name for name in copied if name.startswith("tokenizer")]


def _copy_instructions(folder: pathlib.Path, own: pathlib.Path) -> None:
    if own.is_file():
        shutil.copyfile(own, folder / parts.INSTRUCTIONS)
    else:
        print(f"data.instructions: {own} is not there any more, so it is left out", flush=True)


def n_bytes(arrays: dict[str, np.ndarray]) -> int:
    """Of all arrays."""
    return sum(array.nbytes for array in arrays.values())


def moved_paths(trainable: Tree) -> set[str]:
    """Canonical paths of what trained."""
    return {
        place
        for path, leaf in flatten_dict(trainable, sep="/").items()
        for place in names.canonical(path, leaf)
    }
