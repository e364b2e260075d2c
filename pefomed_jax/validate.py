"""What can be wrong before anything is read: `validate`; what a run still needs: `missing`.

Errors are one line: the field, its value, and the way out. Rules that depend on the devices
(`mesh`), on the data or on the parameter tree (`trainable`) are checked where these are known.
"""

import math
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import jax
from ml_collections import ConfigDict

from pefomed_jax import config as config_lib
from pefomed_jax.data import dicom, images, sources
from pefomed_jax.data import quirks as quirks_lib
from pefomed_jax.data.augment import Augment
from pefomed_jax.data.sources import files, options
from pefomed_jax.errors import UserError, nearest
from pefomed_jax.weights import hub

DTYPES = ("float32", "bfloat16", "float64")
CHOICES = {
    "task": config_lib.TASKS,
    "model.dtype": DTYPES,
    "model.base_dtype": (*DTYPES, "float16"),
    "model.remat": ("none", "dots", "full"),
    "model.attention": ("auto", "plain", "xla", "cudnn"),
    "optimizer.schedule": ("step", "epoch"),
    "data.fit": images.FITS,
    **{f"data.{field}": choices for field, choices in options.CHOICES.items()},
}
FOLDER = "the folder of data set"  # begins a line of `missing`
BASES = ("", "tiny", "random")  # or a folder
AT_LEAST = {
    "seed": 0,
    "model.concat": 1,
    "lora.rank": 1,
    "optimizer.epoch_steps": 1,
    "optimizer.warmup_steps": 0,
    "optimizer.clip": 0,
    "optimizer.weight_decay": 0,
    "optimizer.min_lr": 0,
    "optimizer.warmup_lr": 0,
    "data.limit": 0,
    "data.branches": 1,
    "data.workers": 0,
    "train.steps": 1,
    "train.batch_size": 1,
    "train.accumulate": 1,
    "train.eval_every": 1,
    "train.checkpoint_every": 1,
    "train.log_every": 1,
    "eval.batch_size": 1,
    "eval.max_new_tokens": 1,
    "eval.val_limit": 1,
    "eval.limit": 0,
    "eval.train_limit": 0,
}
FRACTIONS = (
    *("lora.dropout", "data.val_fraction", "data.max_bad_fraction"),
    *("optimizer.b1", "optimizer.b2"),
)
PROTOCOLS = {
    "vqa": ("", "pefomed", "llava_med", "strict"),
    "report": ("", "coco", "r2gen", "r2gen-iu", "r2gen-mimic", "raw", "raw13a"),
}
# scores that depend on the answer types of the data
TYPED_SCORES = r"exact_match_\w+|open_recall|closed_accuracy"
REPORT_SCORES = ("cider", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4")


def get(config: ConfigDict, path: str) -> Any:
    """The value at a dotted path: get(config, "train.steps")."""
    for part in path.split("."):
        config = config[part]
    return config


def validate(config: ConfigDict) -> ConfigDict:
    """Raises UserError for the first impossible value or combination; returns the config."""
    for path, choices in CHOICES.items():
        _one_of(path, get(config, path), choices)
    for path, least in AT_LEAST.items():
        if not get(config, path) >= least:  # nan is not
            raise UserError(f"{path}={get(config, path)} is too small: at least {least}")
    _doubles(config)
    _fractions(config)
    _sizes(config)
    _base(config)
    _trainable(config)
    _data(config)
    _train(config)
    kind = "vqa" if config.task == "vqa" else "report"
    _one_of("eval.protocol", config.eval.protocol, PROTOCOLS[kind])
    return config


def _one_of(path: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        names = ", ".join(c or "''" for c in choices)
        raise UserError(f"{path}='{value}' is not one of {names}{nearest(value, choices)}")


def _doubles(config: ConfigDict) -> None:
    for path in ("model.dtype", "model.base_dtype"):
        if get(config, path) == "float64" and not jax.config.jax_enable_x64:
            raise UserError(f"{path}='float64' needs JAX_ENABLE_X64=1 in the environment")


def _fractions(config: ConfigDict) -> None:
    for path in FRACTIONS:
        value = get(config, path)
        closed = path == "data.max_bad_fraction"
        if not (0 <= value < 1 or (closed and value == 1)):
            upper = "1" if closed else "below 1"
            raise UserError(f"{path}={value} is no fraction: from 0 to {upper}")
    for path in ("optimizer.lr", "lora.alpha", "optimizer.eps"):
        if not 0 < get(config, path) < math.inf:
            raise UserError(f"{path}={get(config, path)} must be a number above 0")
    lr, min_lr = config.optimizer.lr, config.optimizer.min_lr
    if min_lr > lr:
        raise UserError(f"optimizer.min_lr={min_lr} is above optimizer.lr={lr}: lower it")


def _sizes(config: ConfigDict) -> None:
    vision, llm, concat = config.model.vision, config.model.llm, config.model.concat
    _divides("model.vision.image_size", vision.image_size, "patch_size", vision.patch_size)
    patches = (vision.image_size // vision.patch_size) ** 2
    _divides("visual tokens (image_size/patch_size)²", patches, "model.concat", concat)
    _divides("model.vision.width", vision.width, "heads", vision.heads)
    _divides("model.llm.width", llm.width, "heads", llm.heads)
    _divides("model.llm.heads", llm.heads, "kv_heads", llm.kv_heads)
    if (head_size := llm.width // llm.heads) % 2:
        raise UserError(
            f"model.llm: head size width/heads = {head_size} is odd, rotary positions turn pairs: "
            "choose width/heads even"
        )


def _divides(what: str, whole: int, name: str, part: int) -> None:
    if part < 1 or whole < 1 or whole % part:
        near = max(part, round(whole / part) * part) if part > 0 else whole
        raise UserError(f"{what}={whole} is not divisible by {name}={part}; the nearest is {near}")


def _base(config: ConfigDict) -> None:
    kind, weights = config.weights.base, config.weights
    if kind not in BASES and not pathlib.Path(kind).expanduser().is_dir():
        names = ", ".join(b or "''" for b in BASES)
        raise UserError(
            f"weights.base='{kind}' is not one of {names}, nor a folder{nearest(kind, BASES)}"
        )
    tiny = config_lib.make(config.task, "tiny").model
    own = [part for part in ("vision", "llm") if not weights[part]] if kind == "tiny" else []
    for part in own:
        for key, value in tiny[part].items():
            if config.model[part].get(key) != value:
                raise UserError(
                    f"weights.base='tiny' has model.{part}.{key}={value}, the config says "
                    f"{config.model[part].get(key)}: use weights.base=random or the tiny sizes"
                )


def _trainable(config: ConfigDict) -> None:
    rules = config.trainable
    if not rules or not all(isinstance(r, tuple) and len(r) == 2 for r in rules):
        raise UserError(
            "trainable is a tuple of (regex, group) pairs, such as "
            "\"(('lora_[ab]$','lora'),('.*','frozen'))\""
        )
    for path, pattern in [("trainable", r[0]) for r in rules] + [
        ("lora.targets", config.lora.targets)
    ]:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"{path}: '{pattern}' is no regex: {error}") from None
    if {group for _, group in rules} <= {"frozen"}:
        raise UserError("trainable: every rule freezes; name a group for what shall train")


def _data(config: ConfigDict) -> None:
    data = config.data
    if data.branches > 1 and config.task != "vqa":
        raise UserError(
            f"data.branches={data.branches} packs questions; {config.task} has one text an image: "
            "use 1, or configs/vqa.py"
        )
    sources.names(config)
    _ratios(data)
    dicom.parse_window(data.window)
    quirks, augments = quirks_lib.resolve(config.quirks), Augment(**data.augment) != Augment()
    if augments and (data.cache_features or quirks.random_crop_flip):
        other = "data.cache_features" if data.cache_features else "quirks.random_crop_flip"
        raise UserError(f"data.augment does not go with {other}: turn one of them off")
    for field in ("cache_pixels", "cache_features"):
        if data[field] and quirks.random_crop_flip:
            raise UserError(
                f"data.{field} keeps one picture of each image, quirks.random_crop_flip shows "
                "another one every time: turn one of them off"
            )
    buckets = data.buckets
    if any(type(b) is not int or b < 1 for b in buckets) or list(buckets) != sorted(set(buckets)):
        raise UserError(f"data.buckets={buckets} must be row lengths in rising order: (128,256)")
    visual = (config.model.vision.image_size // config.model.vision.patch_size) ** 2
    visual //= config.model.concat
    if buckets and buckets[-1] <= visual:
        raise UserError(
            f"data.buckets={buckets}: the {visual} visual tokens alone are as long; raise the last"
        )


def _ratios(data: ConfigDict) -> None:
    pairs = [r for r in data.ratios if isinstance(r, tuple) and len(r) == 2]
    weights = [weight for _, weight in pairs if type(weight) in (int, float) and weight >= 0]
    if len(weights) < len(data.ratios) or (weights and not sum(weights)):
        raise UserError(
            f"data.ratios={data.ratios} must be (folder, weight) pairs, weights of 0 or more: "
            "\"(('clef',60),('roco',60))\""
        )
    if len({name for name, _ in pairs}) < len(pairs):
        raise UserError(f"data.ratios={data.ratios} names a folder twice: give each one weight")
    if pairs and data.branches > 1:
        raise UserError(f"data.ratios draws single cases: data.branches={data.branches} must be 1")


def _train(config: ConfigDict) -> None:
    train = config.train
    _divides("train.batch_size", train.batch_size, "train.accumulate", train.accumulate)
    if not re.fullmatch(TYPED_SCORES, train.select_by) or config.task != "vqa":
        _one_of("train.select_by", select_by(config), scores(config))
    sizes = [config.mesh[axis] for axis in ("data", "fsdp", "tensor")]
    if sizes.count(-1) > 1 or any(s < 1 and s != -1 for s in sizes):
        raise UserError(f"mesh={sizes}: sizes are 1 or more, and at most one is -1 (the rest)")


def scores(config: ConfigDict) -> tuple[str, ...]:
    """What validation can select by, the task's own choice first; val_loss counts downwards.

    VQA has TYPED_SCORES too, by the answer types of the data and the protocol.
    """
    if config.task == "vqa":
        return ("exact_match", "token_f1", "val_loss")
    finding = ("finding_f1",) if config.data.source == "phantom" else ()
    first, rest = (finding, REPORT_SCORES) if config.task == "mrg" else (REPORT_SCORES, finding)
    return (*first, *rest, "val_loss")


def select_by(config: ConfigDict) -> str:
    """The score that picks the best checkpoint: `train.select_by`, or the task's own."""
    return config.train.select_by or scores(config)[0]


def missing(config: ConfigDict) -> list[str]:
    """What must be supplied before this config can run, each with the flag that supplies it."""
    need = []
    for part, what in (("vision", "vision tower weights"), ("llm", "decoder weights")):
        if config.weights[part] or not config.weights.base:
            need += _path(config, f"weights.{part}", what)
    if config.tokenizer != "tiny":
        need += _path(config, "tokenizer", "the decoder's tokenizer (a Hugging Face folder)")
    for name in sources.names(config):
        if name != "phantom":
            need += _there(*files.place_of(config, name), f"{FOLDER} '{name}'")
    for path in ("weights.checkpoint", "data.instructions"):
        if get(config, path):
            need += _path(config, path, "file")
    return need


def _path(config: ConfigDict, path: str, what: str) -> list[str]:
    return _there(path, get(config, path), what)


def _there(path: str, value: str, what: str) -> list[str]:
    if path == "weights.llm" and value and hub.is_id(value):
        return []
    if not value:
        return [f"{what}: --config.{path}=PATH"]
    if not pathlib.Path(value).expanduser().exists():
        return [f"{what}: '{value}' does not exist; correct --config.{path}"]
    return []
