"""Small files as other programs write them, and what they hold as our tree, in plain NumPy.

Names and shapes are spelt out here by hand: nothing is taken from the tables under test.
"""

import json
import pathlib
from collections.abc import Callable

import jax
import ml_dtypes
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from pefomed_jax import config as config_lib
from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.parallel import rules
from pefomed_jax.peft import lora

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
OFFICIAL = "llama_model.base_model.model."


def config(**settings: object) -> ConfigDict:
    """2 + 2 layers; settings are dotted paths with __ for the dot."""
    made = config_lib.make("mrg", "tiny")
    flat = {
        "weights.base": "",
        "tokenizer": "",
        "lora.rank": 3,
        "lora.alpha": 6.0,
        "model.vision": dict(image_size=16, patch_size=4, width=16, depth=2, heads=2, mlp_dim=32),
        "model.llm": dict(vocab_size=64, width=32, depth=2, heads=4, kv_heads=2, mlp_dim=48)
        | dict(norm_eps=1e-5, rope_theta=10000.0, rope_scaling=(), tie_embeddings=False),
    }
    with made.unlocked():
        for key in ("model.vision", "model.llm"):
            made.model[key.split(".")[1]] = ConfigDict(flat.pop(key))
        named = {key.replace("__", "."): value for key, value in settings.items()}
        made.update_from_flattened_dict(flat | named)
    return made


def llama_shapes(llm: ConfigDict) -> Shapes:
    """A Hugging Face LLaMA's tensors, [out, in]."""
    width, kv = llm.width, llm.kv_heads * (llm.width // llm.heads)
    out = {"model.embed_tokens.weight": (llm.vocab_size, width), "model.norm.weight": (width,)}
    for i in range(llm.depth):
        layer = f"model.layers.{i}."
        out[layer + "input_layernorm.weight"] = (width,)
        out[layer + "post_attention_layernorm.weight"] = (width,)
        out[layer + "self_attn.q_proj.weight"] = (width, width)
        out[layer + "self_attn.k_proj.weight"] = (kv, width)
        out[layer + "self_attn.v_proj.weight"] = (kv, width)
        out[layer + "self_attn.o_proj.weight"] = (width, width)
        out[layer + "mlp.gate_proj.weight"] = (llm.mlp_dim, width)
        out[layer + "mlp.up_proj.weight"] = (llm.mlp_dim, width)
        out[layer + "mlp.down_proj.weight"] = (width, llm.mlp_dim)
    if not llm.tie_embeddings:
        out["lm_head.weight"] = (llm.vocab_size, width)
    return out


def tower_shapes(vision: ConfigDict, prefix: str = "") -> Shapes:
    """The tensors of eva_vit_g.pth that the model uses."""
    width, mlp, patch = vision.width, vision.mlp_dim, vision.patch_size
    out: Shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + (vision.image_size // patch) ** 2, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for i in range(vision.depth):
        block = f"blocks.{i}."
        for name in ("norm1", "norm2"):
            out |= {f"{block}{name}.weight": (width,), f"{block}{name}.bias": (width,)}
        out |= {block + "attn.q_bias": (width,), block + "attn.v_bias": (width,)}
        out[block + "attn.qkv.weight"] = (3 * width, width)
        out |= {block + "attn.proj.weight": (width, width), block + "attn.proj.bias": (width,)}
        out |= {block + "mlp.fc1.weight": (mlp, width), block + "mlp.fc1.bias": (mlp,)}
        out |= {block + "mlp.fc2.weight": (width, mlp), block + "mlp.fc2.bias": (width,)}
    return {prefix + name: shape for name, shape in out.items()}


def norm_shapes(model: ConfigDict) -> Shapes:
    return {"ln_vision.weight": (model.vision.width,), "ln_vision.bias": (model.vision.width,)}


def connector_shapes(model: ConfigDict) -> Shapes:
    joined = model.concat * model.vision.width
    return {"llama_proj.weight": (model.llm.width, joined), "llama_proj.bias": (model.llm.width,)}


def lora_shapes(made: ConfigDict, before: str, after: str) -> Shapes:
    """LoRA of q_proj and v_proj: 'base_model.model.', '' for peft; OFFICIAL, '.default'."""
    out, llm, rank = {}, made.model.llm, made.lora.rank
    kv = llm.kv_heads * (llm.width // llm.heads)
    for i in range(llm.depth):
        for kind, wide in (("q", llm.width), ("v", kv)):
            module = f"{before}model.layers.{i}.self_attn.{kind}_proj"
            out[f"{module}.lora_A{after}.weight"] = (rank, llm.width)
            out[f"{module}.lora_B{after}.weight"] = (wide, rank)
    return out


def draw(shapes: Shapes, dtype: str = "float32", seed: int = 0) -> Arrays:
    """Random values with zeros of both signs among them: a copy must keep even those."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, shape in shapes.items():
        array = rng.standard_normal(shape, np.float32)
        array.flat[:2] = -0.0, 0.0
        out[name] = array.astype(DTYPES[dtype])
    return out


def write_llama(folder: pathlib.Path, made: ConfigDict, arrays: Arrays, shards: int = 1) -> str:
    """A Hugging Face folder; returns its name for config.weights.llm."""
    folder.mkdir()
    llm = made.model.llm
    content = {
        "model_type": "llama",
        "vocab_size": llm.vocab_size,
        "hidden_size": llm.width,
        "num_hidden_layers": llm.depth,
        "num_attention_heads": llm.heads,
        "num_key_value_heads": llm.kv_heads,
        "intermediate_size": llm.mlp_dim,
        "rms_norm_eps": llm.norm_eps,
        "rope_theta": llm.rope_theta,
        "tie_word_embeddings": llm.tie_embeddings,
    }
    (folder / "config.json").write_text(json.dumps(content))
    if shards == 1:
        save_file(arrays, folder / "model.safetensors", {"format": "pt"})
        return str(folder)
    names, places = list(arrays), {}
    for i in range(shards):
        name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = names[i::shards]
        save_file({key: arrays[key] for key in part}, folder / name, {"format": "pt"})
        places |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return str(folder)


def write_adapter(folder: pathlib.Path, made: ConfigDict, arrays: Arrays) -> str:
    """A folder as peft writes it, arrays of other names in connector.safetensors."""
    folder.mkdir()
    content = {"peft_type": "LORA", "r": made.lora.rank, "lora_alpha": made.lora.alpha}
    content |= {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    own = {key: array for key, array in arrays.items() if "lora_" in key}
    rest = {key: array for key, array in arrays.items() if key not in own}
    save_file(own, folder / "adapter_model.safetensors", {"format": "pt"})
    if rest:
        save_file(rest, folder / "connector.safetensors", {"format": "pt"})
    return str(folder)


def read(path: pathlib.Path) -> Arrays:
    """All tensors of a file, or of the safetensors files of a folder."""
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return {key: value for file in found for key, value in load_file(file).items()}


def assert_same(have: Arrays, want: Arrays) -> None:
    """The same names, types, shapes and bytes."""
    assert have.keys() == want.keys()
    for key, array in want.items():
        assert (have[key].dtype, have[key].shape) == (array.dtype, array.shape), key
        assert have[key].tobytes() == array.tobytes(), key


def abstract(
    made: ConfigDict,
    mesh: tuple[int, int, int] = (1, 1, 1),
    dtype: str = "",
    adapters: bool = False,
) -> dict:
    """Shapes of the model's tree with the shardings of `parallel.rules`, all of one dtype."""
    model = mllm.build(made.model)

    def init(key: jax.Array) -> dict:
        tree = mllm.init_params(model, key)
        return lora.add(tree, made.lora.targets, made.lora.rank, key) if adapters else tree

    sizes = dict(zip(mesh_lib.AXES, mesh, strict=True))
    count = int(np.prod(mesh))
    whole = jax.eval_shape(init, jax.random.key(0))
    placed = rules.shardings(whole, mesh_lib.make(sizes, jax.devices()[:count]))

    def one(x: jax.ShapeDtypeStruct, s: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, DTYPES[dtype] if dtype else x.dtype, sharding=s)

    return jax.tree.map(one, whole, placed)


def as_tree(made: ConfigDict, arrays: Arrays) -> Arrays:
    """The arrays of decoder, tower (eva names), norm and connector by canonical path."""
    out = {}
    for i in range(made.model.llm.depth):
        ours, theirs = f"llm/layers/{i}/", f"model.layers.{i}."
        out[ours + "attn_norm/scale"] = arrays[theirs + "input_layernorm.weight"]
        out[ours + "mlp_norm/scale"] = arrays[theirs + "post_attention_layernorm.weight"]
        for kind in "qkvo":
            weight = arrays[f"{theirs}self_attn.{kind}_proj.weight"]
            out[f"{ours}attn/{kind}_proj/kernel"] = np.swapaxes(weight, 0, 1)
        for kind in ("gate", "up", "down"):
            weight = arrays[f"{theirs}mlp.{kind}_proj.weight"]
            out[f"{ours}mlp/{kind}_proj/kernel"] = np.swapaxes(weight, 0, 1)
    out["llm/embed/embedding"] = arrays["model.embed_tokens.weight"]
    out["llm/norm/scale"] = arrays["model.norm.weight"]
    if "lm_head.weight" in arrays:
        out["llm/head/kernel"] = np.swapaxes(arrays["lm_head.weight"], 0, 1)
    return out | _tower_tree(made, arrays)


def _tower_tree(made: ConfigDict, arrays: Arrays) -> Arrays:
    out = {
        "vision/cls_token": arrays["cls_token"].reshape(-1),
        "vision/pos_embed": arrays["pos_embed"][0],
        "vision/patch_embed/kernel": np.einsum("ecij->ijce", arrays["patch_embed.proj.weight"]),
        "vision/patch_embed/bias": arrays["patch_embed.proj.bias"],
        "ln_vision/scale": arrays["ln_vision.weight"],
        "ln_vision/bias": arrays["ln_vision.bias"],
        "connector/proj/kernel": np.swapaxes(arrays["llama_proj.weight"], 0, 1),
        "connector/proj/bias": arrays["llama_proj.bias"],
    }
    for i in range(made.model.vision.depth):
        ours, theirs = f"vision/blocks/{i}/", f"blocks.{i}."
        for norm in ("norm1", "norm2"):
            out[f"{ours}{norm}/scale"] = arrays[f"{theirs}{norm}.weight"]
            out[f"{ours}{norm}/bias"] = arrays[f"{theirs}{norm}.bias"]
        for kind in "qv":
            out[f"{ours}attn/{kind}_bias"] = arrays[f"{theirs}attn.{kind}_bias"]
        for ours_name in ("attn/qkv", "attn/proj", "mlp/fc1", "mlp/fc2"):
            name = theirs + ours_name.replace("/", ".")
            out[f"{ours}{ours_name}/kernel"] = np.swapaxes(arrays[name + ".weight"], 0, 1)
            if ours_name != "attn/qkv":
                out[f"{ours}{ours_name}/bias"] = arrays[name + ".bias"]
    return out


def tower_files(made: ConfigDict, prefix: str, dtype: str, all_of_it: bool) -> Arrays:
    """A tower file's tensors; with `all_of_it` those of ln_vision and the connector too."""
    shapes = tower_shapes(made.model.vision, prefix)
    if all_of_it:
        shapes |= norm_shapes(made.model) | connector_shapes(made.model)
    return draw(shapes, dtype, seed=1)


def refused(call: Callable[[], object], *said: object) -> None:
    """The error is one line that says all of it."""
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert [part for part in map(str, said) if part not in text] == [], text
