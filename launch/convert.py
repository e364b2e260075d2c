"""Bring weights in once, or hand on what was trained.

python launch/convert.py --config=configs/mrg.py:7b --config.weights.llm=LLAMA_FOLDER_OR_HUB_ID \\
    --config.weights.vision=eva_vit_g.pth --config.weights.checkpoint=minigptv2.pth --out=base7b
python launch/convert.py --weights=runs/mrg-tiny-phantom --to=adapter --out=my_adapter

What is read: --config (fields weights.*), or --weights=DIR: a run's folder (its best checkpoint), a
folder that this program wrote, or llama/ + adapter/ + vision_proj.safetensors + preset.json.

--to=native    (default with --config) a folder for --config.weights.base: sharded, read fastest
--to=adapter   (default with --weights) adapter_config.json, adapter_model.safetensors for peft,
               and connector.safetensors with all else that trained
--to=pth       one file in the layout of MiniGPT-v2 and PeFoMed (needs torch)
--to=merged    a Hugging Face LLaMA folder with the adapter in its weights, and the connector
--to=vision    one .safetensors file for --config.weights.vision: tower, ln_vision, connector
--to=eva       one .safetensors file of the tower alone, named as in eva_vit_g.pth
--out=PATH     must not be there; it is written whole or not at all
--dtype=NAME   of --to=merged, vision, eva: float32, bfloat16 or float16 (default: each tensor's own
               in the file it is from); LoRA is added in float32
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from pefomed_jax import cli
from pefomed_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "the config: FILE[:PRESET,data=SOURCE]")
WEIGHTS = flags.DEFINE_string("weights", "", "folder of a run, or of weights")
TO = flags.DEFINE_string("to", "", "native, adapter, pth, merged, vision or eva")
OUT = flags.DEFINE_string("out", "", "what to write")
DTYPE = flags.DEFINE_string("dtype", "", "of what is written: float32, bfloat16 or float16")


def main() -> int:
    if not OUT.value or bool(WEIGHTS.value) == (CONFIG.value is not None):
        raise UserError("--out=PATH and one of --config=FILE, --weights=DIR are needed; see --help")
    # imported late: a wrong flag should not wait for JAX
    from pefomed_jax.training import convert
    from pefomed_jax.weights import bundle

    config = bundle.config(WEIGHTS.value) if WEIGHTS.value else CONFIG.value
    to = TO.value or ("adapter" if WEIGHTS.value else "native")
    convert.convert(config, to, pathlib.Path(OUT.value), DTYPE.value)
    return 0


if __name__ == "__main__":
    cli.run(main)
