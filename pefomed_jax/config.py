"""Defaults and presets: one ConfigDict holds everything a run needs.

`configs/<task>.py` calls `make(task, arg)` with arg = "preset,key=value,...". Fields are set on the
command line as `--config.train.steps=100`. `validate` is in `pefomed_jax/validate.py`.
"""

from ml_collections import ConfigDict

from pefomed_jax.data.sources import options
from pefomed_jax.errors import UserError, nearest

TASKS = ("caption", "vqa", "mrg")
PRESETS = ("tiny", "small", "7b")
STAGE_1 = "clef+roco+medicat+mimic_cxr"  # the captions of the paper

QUIRKS = (
    "prompt_case",  # train sees <img>, evaluation <Img>
    "double_bos",  # two BOS at evaluation, one in training
    "tag_mismatch",  # IU-Xray evaluates under [caption], MIMIC trains and evaluates under it
    "random_instruction",  # a random report instruction at evaluation
    "random_crop_flip",  # random crop and horizontal flip, in training and at evaluation
    "plain_convert",  # Pillow's convert("RGB") alone: 16 bits clipped at 255, transparency dropped
    "ignore_ratios",  # folders mixed by size whatever data.ratios says
    "strip_text",  # lower-case, drop . ! " ( ) * # : ; ~ from questions and targets
    "fifty_words",  # questions and targets cut after 50 words
)


def make(task: str, arg: str | None = None) -> ConfigDict:
    """The config of a task; arg is "preset,key=value,..." with keys `data` (source), `preset`."""
    preset, options = _parse(arg)
    config = _defaults(task, preset)
    PRESET[preset](config)
    if "data" in options:
        config.data.source = options["data"]
    config.lock()
    return config


def fields(config: ConfigDict, prefix: str = "") -> dict[str, object]:
    """{'train.steps': 300}: every value under its dotted path."""
    out: dict[str, object] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            out |= fields(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def _parse(arg: str | None) -> tuple[str, dict[str, str]]:
    preset, options = "tiny", {}
    for part in filter(None, (arg or "").split(",")):
        key, _, value = part.partition("=")
        if not value:
            key, value = "preset", part
        if key == "preset":
            preset = value
        else:
            options[key] = value
    if preset not in PRESETS:
        near = nearest(preset, PRESETS)
        raise UserError(f"preset '{preset}' is not one of {', '.join(PRESETS)}{near}")
    if unknown := set(options) - {"data"}:
        raise UserError(f"config argument '{sorted(unknown)[0]}' is unknown; use preset= or data=")
    return preset, options


def _defaults(task: str, preset: str) -> ConfigDict:
    return ConfigDict(
        {
            "task": task,
            "preset": preset,
            "seed": 42,
            "model": {
                "vision": {},
                "llm": {},
                "concat": 4,  # neighbouring visual tokens joined by the connector
                "dtype": "float32",  # of the computation
                "base_dtype": "float32",  # of the frozen weights; trainable ones are float32
                "scan": False,
                "remat": "none",  # none, dots, full
                "attention": "auto",  # auto, plain, xla, cudnn
            },
            "weights": {
                "base": "tiny",  # 'tiny' (embedded), 'random', or a folder of launch/convert.py
                "llm": "",  # a Hugging Face LLaMA folder or hub id, instead of the base's decoder
                "vision": "",  # eva_vit_g.pth or the like, instead of the base's tower
                "checkpoint": "",  # what training begins with: a run, .pth, PEFT adapter folder
            },
            "tokenizer": "tiny",  # 'tiny' (embedded) or a Hugging Face folder; '': weights.llm
            # ordered (regex, group) over parameter paths; the first match wins
            "trainable": (("lora_[ab]$", "lora"), ("^connector/", "connector"), (".*", "frozen")),
            "lora": {
                "rank": 64,
                "alpha": 16.0,
                "dropout": 0.05,
                "targets": r"^llm/layers/.*attn/(q|v)_proj$",
            },
            "optimizer": {
                "lr": 1e-5,
                "lr_scale": {"lora": 1.0, "connector": 1.0},  # times lr, by group
                "min_lr": 1e-6,
                "warmup_lr": 1e-6,
                "warmup_steps": 100,
                "schedule": "step",  # 'step': cosine per step; 'epoch': the paper's per-epoch form
                "epoch_steps": 100,
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "weight_decay": 0.05,
                "clip": 0.0,  # global norm over the trainable tree; 0: none
            },
            "data": {
                "source": "phantom",  # docs/sources.md lists them; several of stage 1: roco+clef
                "dir": "",
                "cache": "",  # where prepared data goes; default ~/.cache/pefomed_jax
                "cache_pixels": False,  # keep decoded, resized images there
                "cache_features": False,  # keep what the frozen vision tower makes of them
                "fit": "stretch",  # to the square: stretch, or pad (black beside it)
                "window": "auto",  # of DICOM images: auto, full, or "CENTRE,WIDTH"
                # greatest strength of each, in training; see data/augment.py
                "augment": dict(rotate=0.0, shift=0.0, zoom=0.0, brightness=0.0, contrast=0.0)
                | dict(flip=False),  # a mirrored chest film swaps left and right
                "limit": 0,  # training cases used; 0: all
                "ratios": (),  # (("folder", weight), ...) of data.dir; (): by size
                "branches": 1,  # questions about one image in a row, at most
                "buckets": (),  # row lengths T; (): chosen from the data
                "workers": 0,  # grain worker processes
                "max_bad_fraction": 0.0,
                "val_fraction": 0.1,  # of the training images, where there is no validation split
                "instructions": "",  # a text file of one's own, one instruction a line
                **options.defaults(),  # of each source: where it lies, and what it has to choose
            },
            "train": {
                "steps": 5000,
                "batch_size": 1,  # rows in a global batch
                "accumulate": 1,  # micro-batches in a step
                "eval_every": 500,
                "checkpoint_every": 100,
                "log_every": 10,
                "select_by": "",  # a score of results.json; default: by task
            },
            "eval": {
                "batch_size": 8,
                "max_new_tokens": 300 if task != "vqa" else 32,
                "val_limit": 100,  # validation cases scored during training
                "limit": 0,  # test cases; 0: all
                "protocol": "",  # docs/evaluation.md; default: pefomed for vqa, coco for the others
                "train_limit": 0,  # training cases answered and scored at the end as well
            },
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            "quirks": {"official": False, **dict.fromkeys(QUIRKS, False)},
        }
    )


def _tiny(c: ConfigDict) -> None:
    """Embedded phantoms and base; minutes on two cores (figures: docs/tiny.md)."""
    c.model.vision = ConfigDict(
        dict(image_size=128, patch_size=16, width=128, depth=4, heads=4, mlp_dim=512)
    )
    c.model.llm = ConfigDict(
        dict(vocab_size=640, width=160, depth=4, heads=4, kv_heads=4, mlp_dim=432)
        | dict(norm_eps=1e-5, rope_theta=10000.0, rope_scaling=(), tie_embeddings=True)
    )
    c.lora.update(rank=8, alpha=16.0, dropout=0.05)
    c.optimizer.update(lr=3e-3, min_lr=1e-5, warmup_lr=1e-4, warmup_steps=20)
    c.optimizer.update(weight_decay=0.0, clip=1.0)
    c.train.update(steps=300, batch_size=32, eval_every=150, checkpoint_every=100)
    c.eval.update(batch_size=64, max_new_tokens=96 if c.task != "vqa" else 48)
    if c.task == "vqa":  # answers are short: more to read from a picture, more steps to learn it
        c.data.branches = 4
        c.train.update(steps=400, eval_every=200)
        c.eval.val_limit = 300


def _small(c: ConfigDict) -> None:
    """The size of `small` in the PyTorch comparison; random weights unless some are given."""
    c.model.vision = ConfigDict(
        dict(image_size=224, patch_size=14, width=384, depth=12, heads=6, mlp_dim=1536)
    )
    c.model.llm = ConfigDict(
        dict(vocab_size=32000, width=512, depth=8, heads=8, kv_heads=8, mlp_dim=1376)
        | dict(norm_eps=1e-5, rope_theta=10000.0, rope_scaling=(), tie_embeddings=False)
    )
    c.weights.base = "random"
    c.optimizer.update(lr=1e-3, min_lr=1e-5, warmup_lr=1e-5, warmup_steps=50, clip=1.0)
    c.train.update(steps=500, batch_size=8)


def _7b(c: ConfigDict) -> None:
    """EVA ViT-g at 448 px and LLaMA-2-7B-chat, with the paper's recipe for each stage."""
    c.model.vision = ConfigDict(
        dict(image_size=448, patch_size=14, width=1408, depth=39, heads=16, mlp_dim=6144)
    )
    c.model.llm = ConfigDict(
        dict(vocab_size=32000, width=4096, depth=32, heads=32, kv_heads=32, mlp_dim=11008)
        | dict(norm_eps=1e-5, rope_theta=10000.0, rope_scaling=(), tie_embeddings=False)
    )
    c.model.update(dtype="bfloat16", base_dtype="bfloat16", scan=True, remat="full")
    c.mesh.update(data=1, fsdp=-1)  # weights split over all devices there are
    c.weights.base = ""
    c.tokenizer = ""
    c.data.source = {"caption": STAGE_1, "vqa": "vqa_rad", "mrg": "iu_xray"}[c.task]
    o = c.optimizer
    o.schedule = "epoch"
    if c.task == "caption":  # stage 1: 5 epochs of 1000 iterations, 4 processes of 100 rows
        o.update(warmup_steps=1000, epoch_steps=1000)
        c.train.update(steps=5000, batch_size=400)
        c.data.ratios = (("clef", 60), ("roco", 60), ("medicat", 20), ("mimic_cxr", 60))
    elif c.task == "vqa":  # stage 2: 50 epochs of 100, 4 processes of 1 row
        c.train.update(steps=5000, batch_size=4)
    else:  # stage 2 on IU-Xray: 4 epochs of 100
        o.update(lr=3e-5, min_lr=1e-5)
        c.train.update(steps=400, batch_size=4, eval_every=100)


PRESET = {"tiny": _tiny, "small": _small, "7b": _7b}
