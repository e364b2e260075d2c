"""Stage 2: medical visual question answering.

python launch/train.py --config=configs/vqa.py                # tiny: embedded data and base
python launch/train.py --config=configs/vqa.py:7b --dry_run   # the paper's recipe
"""

from pefomed_jax import config


def get_config(arg=None):
    """arg: "preset,data=SOURCE"; any field can be set as --config.field=value."""
    return config.make("vqa", arg)
