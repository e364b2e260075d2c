"""What was trained elsewhere: MiniGPT-v2 and PeFoMed files, PEFT adapters, native folders."""

import json
import pathlib
import re
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from pefomed_jax.errors import UserError
from pefomed_jax.parallel import paths
from pefomed_jax.weights import files, names, parts
from pefomed_jax.weights.files import Tensors
from pefomed_jax.weights.load import fill

Tree = dict[str, Any]
ADAPTER_CONFIG, ADAPTER = "adapter_config.json", "adapter_model"
CONNECTORS = ("connector.safetensors", "vision_proj.safetensors", "vision_proj.pth")
# options of peft under which its matrices mean something else: name → the value that is plain
PLAIN = {
    "use_rslora": False,
    "use_dora": False,
    "fan_in_fan_out": False,
    "bias": "none",
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "layers_to_transform": None,
    "layer_replication": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "alora_invocation_tokens": None,
    "arrow_config": None,
    "use_bdlora": None,
    "use_qalora": False,
    "lora_bias": False,
}
# Others (PiSSA, OLoRA, ...) change the base too when PEFT opens the adapter.
PLAIN_STARTS = (True, False, "gaussian", "orthogonal")


def is_foreign(path: pathlib.Path) -> bool:
    """Whether `read` is for this path, and not for a run's folder."""
    named = [ADAPTER_CONFIG, "base.safetensors", "base.safetensors.index.json"]
    return path.is_file() or any((path / name).is_file() for name in named)


def read(path: pathlib.Path, abstract: Tree, lora: Any) -> Tree:
    """The leaves of `abstract` (what trains: shapes with shardings) that the file or folder has.

    `lora`: config.lora, whose rank and alpha must be the adapter's. A leaf that is there for some
    layers must be there for all; a tensor without a place is an error, so nothing is lost.
    """
    leaves = flatten_dict(abstract, sep="/")
    if (path / ADAPTER_CONFIG).is_file():
        check(path / ADAPTER_CONFIG, lora)
        tensors, spelling = _adapter(path), names.PEFT
    elif path.is_dir():
        return _native(path, leaves, lora)
    else:
        tensors, spelling = files.open_file(path), names.OFFICIAL
    tensors = _one_spelling(path, tensors, spelling)
    if reserved := [key for key in tensors if re.search(names.QFORMER, key)]:
        raise UserError(
            f"{path}: '{reserved[0]}' belongs to a Q-Former, this connector is linear; give a "
            f"MiniGPT-v2 or PeFoMed checkpoint"
        )
    entries = table(leaves, spelling)
    held = _held(leaves, {e.path for e in entries if e.foreign in tensors})
    if not held:
        raise UserError(f"{path} holds nothing that trains here; see config.lora.targets")
    name = f"checkpoint {path.name}"
    return fill(unflatten_dict(held, sep="/"), entries, tensors, [names.INV_FREQ], name)


def table(leaves: Tree, spelling: tuple[str, str]) -> list[names.Entry]:
    """Entries for a flat tree of trained leaves, LoRA and others."""
    places = [p for path, leaf in leaves.items() for p in names.canonical(path, leaf)]
    modules = [p.removesuffix("/lora_a") for p in places if p.endswith("/lora_a")]
    others = {e.path: e for e in names.official(*_depths(places), False)}
    rest = [p for p in places if not p.endswith(("/lora_a", "/lora_b"))]
    try:
        return [*names.lora(modules, spelling), *(others[p] for p in rest)]
    except ValueError as error:
        raise UserError(f"{error}: neither peft's layout nor the official one has it") from None


def _depths(places: list[str]) -> tuple[int, int]:
    numbers = {"vision": 0, "llm": 0}
    for place in places:
        if found := re.match(r"(vision|llm)/\w+/(\d+)/", place):
            numbers[found[1]] = max(numbers[found[1]], 1 + int(found[2]))
    return numbers["vision"], numbers["llm"]


def _held(leaves: Tree, there: set[str]) -> Tree:
    """The leaves of a kind of which the file has at least one layer."""
    kinds = {paths.collapse(path) for path in there}
    return {
        path: leaf
        for path, leaf in leaves.items()
        if paths.collapse(names.canonical(path, leaf)[0]) in kinds
    }


def _adapter(folder: pathlib.Path) -> Tensors:
    """The adapter's tensors, and of a connector file beside it those that are no tower's."""
    found = [folder / f"{ADAPTER}{suffix}" for suffix in (".safetensors", ".bin")]
    path = next((path for path in found if path.is_file()), found[0])
    tensors = files.open_file(path)
    for name in CONNECTORS:
        if (folder / name).is_file():
            return tensors | files.open_file(folder / name)
    return tensors


def _one_spelling(path: pathlib.Path, tensors: files.Tensors, spelling: tuple[str, str]) -> dict:
    """The tensors under one spelling. Errors: UserError where two would share a name."""
    out, came = {}, {}
    for key, tensor in tensors.items():
        name = _spelt(key, spelling)
        if name in out:
            raise UserError(f"{path} holds '{came[name]}' and '{key}', which are one; drop one")
        out[name], came[name] = tensor, key
    return out


def _spelt(key: str, spelling: tuple[str, str]) -> str:
    """Older peft had no '.default'; newer ones may name the plain matrix 'base_layer'."""
    return re.sub(r"\.(lora_[AB])(\.default)?\.weight$", rf".\1{spelling[1]}.weight", key)


def _native(folder: pathlib.Path, leaves: Tree, lora: Any) -> Tree:
    own = parts.native_config(folder)["lora"]
    if own is not None:
        _same(folder / "config.json", own["rank"], own["alpha"], lora)
    tensors = files.open_folder(folder, parts.NATIVE)
    entries = names.native(leaves)
    held = _held(leaves, {e.path for e in entries if e.foreign in tensors})
    asked = {e.foreign for e in names.native(held)}
    lost = [key for key in tensors if key.endswith(parts.SCALES) and key not in asked]
    if lost:
        raise UserError(f"{folder}: '{lost[0]}' has no place here; see config.lora.targets")
    mine = {key: tensor for key, tensor in tensors.items() if key in asked}
    return fill(unflatten_dict(held, sep="/"), entries, mine, (), folder.name) if held else {}


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """adapter_config.json. Errors: UserError where it is damaged, or is no plain LoRA."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        plain = {key: content.get(key, value) for key, value in PLAIN.items()}
        out = {"rank": int(content["r"]), "alpha": float(content["lora_alpha"])}
        targets = content["target_modules"]
        if not targets or not isinstance(targets, str | list):
            raise ValueError(f"target_modules={targets}")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is damaged or no LoRA's ({error!r}); copy it again") from None
    plain["init_lora_weights"] = start = content.get("init_lora_weights", True)
    odd = {key: value for key, value in plain.items() if value and value != PLAIN.get(key)}
    if start in PLAIN_STARTS:
        odd.pop("init_lora_weights", None)
    if content.get("peft_type", "LORA") != "LORA":
        odd = {"peft_type": content["peft_type"]}
    for key, value in odd.items():
        raise UserError(f"{path}: {key}={value} is not supported, only plain LoRA")
    return out | {"targets": targets}


def check(path: pathlib.Path, lora: Any) -> None:
    """Raises UserError unless the adapter's rank and alpha are those of config.lora."""
    own = read_config(path)
    _same(path, own["rank"], own["alpha"], lora)


def _same(path: pathlib.Path, rank: int, alpha: float, lora: Any) -> None:
    if rank != lora.rank:
        raise UserError(
            f"{path}: LoRA rank is {rank}, config.lora.rank is {lora.rank}; set "
            f"--config.lora.rank={rank}"
        )
    if alpha != lora.alpha:
        raise UserError(
            f"{path}: LoRA alpha is {alpha:g}, config.lora.alpha is {lora.alpha:g}; set "
            f"--config.lora.alpha={alpha:g}"
        )
