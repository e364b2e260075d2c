"""The frozen base, its weights and its tokenizer: from files, embedded, or random."""

import json
import pathlib
import zlib
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from pefomed_jax.errors import UserError
from pefomed_jax.models import stack
from pefomed_jax.models.mllm import MLLM, init_params
from pefomed_jax.parallel import paths
from pefomed_jax.weights import files, hub, llama_config, parts

ASSETS = pathlib.Path(__file__).parent / "assets" / "tiny"
WEIGHTS, MADE = "base.safetensors", "make.json"
FRESH = "connector"  # not in the tiny base: every run starts it anew
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")


def adopt(config: ConfigDict) -> ConfigDict:
    """A copy whose model and tokenizer are those of the files that config.weights names.

    A LLaMA folder's config.json decides over model.llm, a native folder over all of the model; what
    is not there is left to `validate.missing`. Errors: UserError for a config that cannot be read.
    """
    out = config.copy_and_resolve_references()
    with out.unlocked():
        if out.weights.base not in ("", "tiny", "random") and _is_folder(out.weights.base):
            folder = pathlib.Path(out.weights.base).expanduser()
            own = parts.native_config(folder)
            for part in ("vision", "llm"):
                out.model[part] = ConfigDict(_tuples(own["model"][part]))
            out.model.concat = own["model"]["concat"]
            if out.tokenizer in ("", "tiny"):
                out.tokenizer = {"tiny": "tiny", "": ""}.get(own["tokenizer"], str(folder))
        if name := out.weights.llm:
            if not (_is_folder(name) or hub.is_id(name)):
                return out.lock()
            folder = hub.folder(name, weights=False)
            out.model.llm = ConfigDict(llama_config.read(folder))
            if out.tokenizer in ("", "tiny"):
                has = any((folder / file).is_file() for file in TOKENIZER_FILES)
                out.tokenizer = str(folder) if has else ""
    return out.lock()


def _is_folder(name: str) -> bool:
    return pathlib.Path(name).expanduser().is_dir()


def _tuples(tree: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples they were."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in tree.items()}


def load(config: ConfigDict, model: MLLM, like: Any = None) -> dict[str, Any]:
    """The base's parameters, in the form `model` wants (stacked or not), without adapters.

    The decoder is that of weights.llm, the tower that of weights.vision; what neither gives comes
    from weights.base: 'random' draws it from config.seed, 'tiny' has the embedded weights, a folder
    those that launch/convert.py wrote. A connector that no file has is drawn from config.seed.
    `like`: the result as shapes, where its dtypes or shards are others than the model's own on one
    device. Errors: UserError where files are absent, or do not fit config.model.
    """
    kind = config.weights.base
    abstract = _placed(like or jax.eval_shape(lambda k: init_params(model, k), jax.random.key(0)))
    made = _from_files(config, abstract)
    rest = {name: leaf for name, leaf in abstract.items() if name not in made}
    if kind == "random" or not rest.keys() - {FRESH}:
        return made | _draw(rest, config.seed)
    if not kind:
        field = "llm" if "llm" in rest else "vision"
        raise UserError(
            f"no weights for {', '.join(sorted(rest))}: set --config.weights.{field}=PATH, or "
            f"--config.weights.base=random to try the sizes"
        )
    if kind != "tiny":
        _say_adapter(config)
        return made | _native(pathlib.Path(kind).expanduser(), rest, config.seed)
    wanted = {name: leaf for name, leaf in rest.items() if name != FRESH}
    tree = {name: leaf for name, leaf in read_weights(ASSETS).items() if name in wanted}
    placed = jax.device_put(_fit(tree, wanted), jax.tree.map(lambda leaf: leaf.sharding, wanted))
    return made | placed | _draw({k: v for k, v in rest.items() if k == FRESH}, config.seed)


def _placed(abstract: Any) -> Any:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or here), abstract
    )


def _from_files(config: ConfigDict, abstract: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if name := config.weights.llm:
        folder = hub.folder(name)
        made |= parts.decoder(folder, abstract["llm"], config.model.llm.tie_embeddings)
    if name := config.weights.vision:
        path = pathlib.Path(name).expanduser()
        made |= parts.tower(path, abstract, config.model.vision.depth)
    return made


def _native(folder: pathlib.Path, rest: dict[str, Any], seed: int) -> dict[str, Any]:
    held = {key.split("/")[0] for key in files.open_folder(folder, parts.NATIVE)}
    fresh = {name: leaf for name, leaf in rest.items() if name == FRESH and name not in held}
    wanted = {name: leaf for name, leaf in rest.items() if name not in fresh}
    return parts.native(folder, wanted) | _draw(fresh, seed)


def _say_adapter(config: ConfigDict) -> None:
    """A line where weights.base has an adapter that is not asked for."""
    folder = pathlib.Path(config.weights.base).expanduser()
    if config.weights.checkpoint or parts.native_config(folder)["lora"] is None:
        return
    print(
        f"{folder} holds a trained adapter, which is left out here; to begin with it: "
        f"--config.weights.checkpoint={folder}",
        flush=True,
    )


def _draw(abstract: Any, seed: int) -> Any:
    """normal(0.02), scales of 1 and biases of 0, by seed and canonical path alone.

    Drawn on the host and leaf by leaf: a program for it takes longer to compile than to draw, and
    one for all leaves several times their memory.
    """

    def values_of(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if name.endswith(("scale", "bias")):
            return np.full(shape, name.endswith("scale"), dtype)
        rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
        values = rng.standard_normal(shape, np.float32)
        return np.multiply(values, np.float32(0.02), out=values).astype(dtype)

    def one(key_path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = paths.name(key_path)
        if paths.is_stacked(name):  # layer by layer: the same values in either form
            values = np.empty(leaf.shape, leaf.dtype)
            for i, place in enumerate(paths.canonical(name, leaf.shape)):
                values[i] = values_of(place, leaf.shape[1:], leaf.dtype)
        else:
            values = values_of(name, leaf.shape, leaf.dtype)
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, values.__getitem__)

    return jax.tree_util.tree_map_with_path(one, abstract)


def _fit(tree: dict[str, Any], abstract: dict[str, Any]) -> dict[str, Any]:
    """The weights stacked and cast like `abstract`; a UserError names the first that differs."""
    want = flatten_dict(stack.unstack(abstract), sep="/")
    have = flatten_dict(tree, sep="/")
    for path in sorted(want.keys() | have.keys()):
        shapes = [getattr(side.get(path), "shape", None) for side in (have, want)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the tiny base has {path} {_say(shapes[0])}, config.model asks for "
                f"{_say(shapes[1])}; leave config.model as in the preset tiny, or set "
                f"--config.weights.base=random"
            )
    cast = {path: np.asarray(leaf).astype(want[path].dtype) for path, leaf in have.items()}
    canonical = unflatten_dict(cast, sep="/")
    same = jax.tree.structure(canonical) == jax.tree.structure(abstract)
    return canonical if same else stack.stack(canonical)


def _say(shape: tuple[int, ...] | None) -> str:
    return "not at all" if shape is None else f"{list(shape)}"


def read_weights(folder: pathlib.Path) -> dict[str, Any]:
    """The tree in a folder's base.safetensors: float16, canonical form, no connector."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"no file {path}; reinstall the package, or run launch/make_tiny.py")
    try:
        return unflatten_dict(load_file(path), sep="/")
    except SafetensorError as error:
        raise UserError(f"{path}: {error}; reinstall the package") from None


def write(folder: pathlib.Path, tree: dict[str, Any], made: dict[str, Any]) -> None:
    """Stores a canonical tree in float16 without its connector, and how it was made."""
    kept = flatten_dict({k: v for k, v in tree.items() if k != FRESH}, sep="/")
    folder.mkdir(parents=True, exist_ok=True)
    half = {path: np.asarray(leaf).astype(np.float16) for path, leaf in kept.items()}
    (folder / WEIGHTS).write_bytes(save(half))
    (folder / MADE).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def tokenizer(config: ConfigDict) -> Any:
    """The Hugging Face tokenizer: 'tiny', or that of the folder config.tokenizer."""
    if config.tokenizer == "tiny":
        # not AutoTokenizer: importing that takes two seconds more
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(ASSETS, local_files_only=True)
    if not config.tokenizer:
        raise UserError("config.tokenizer is empty; give a Hugging Face folder, or 'tiny'")
    folder = pathlib.Path(config.tokenizer).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"config.tokenizer: no folder {folder}; give a Hugging Face folder, or 'tiny'"
        )
    found = read_tokenizer(folder)
    if found.bos_token_id is None or found.eos_token_id is None:
        raise UserError(f"{folder}: the tokenizer has no BOS or no EOS; name them in its config")
    if len(found) > config.model.llm.vocab_size:
        raise UserError(
            f"{folder}: {len(found)} pieces, but model.llm.vocab_size is "
            f"{config.model.llm.vocab_size}; give the tokenizer that belongs to the weights"
        )
    return found


def ends(config: ConfigDict, found: Any) -> tuple[int, ...]:
    """The tokens that end an answer: the tokenizer's EOS, then those of generation_config.json.

    That file lies beside the tokenizer or the decoder; LLaMA-3's chat models name several in it.
    """
    own, more = int(found.eos_token_id), []
    for name in filter(None, (config.tokenizer, config.weights.llm)):
        path = pathlib.Path(name).expanduser() / "generation_config.json"
        if path.is_file():
            try:
                listed = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
                more = [] if listed is None else [int(i) for i in np.atleast_1d(listed)]
            except (ValueError, TypeError, AttributeError) as error:
                raise UserError(f"{path} is damaged ({error}); copy it again") from None
            break
    return tuple(dict.fromkeys([own, *more]))


def read_tokenizer(folder: pathlib.Path) -> Any:
    """The tokenizer files of a folder. Errors: UserError where there are none that can be read."""
    # imported here: it takes a second, and plans need no tokenizer
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{folder}: no tokenizer can be read ({reason}); it needs tokenizer.json or "
            f"tokenizer.model with tokenizer_config.json"
        ) from None
