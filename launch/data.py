"""Look at the data before training: prepare what a run needs of them, and say what is in them.

python launch/data.py --config=configs/vqa.py:tiny,data=vqa_rad --config.data.dir=path/to/VQA-RAD
python launch/data.py --config=configs/mrg.py:tiny,data=iu_xray --config.data.dir=FOLDER

Reads every row, opens every image (once: stopped, the same command goes on; a second process on
this machine waits for it), and writes to --out

    audit.html      counts, answers, lengths, images, bad rows, leakage, samples: one page
    audit.json      the same figures
    bad_rows.jsonl  every row that cannot be used: file, row, field, what is wrong, how to mend it
    leakage.jsonl   what the splits share, and what comes twice: images, patients, questions, texts

It does not stop at bad rows. It changes nothing in the data.

--config=FILE[:PRESET,data=SOURCE]   the config of the run, with the same --config.FIELD=VALUE
--out=FOLDER                         default runs/data-<task>-<source>
--nopage                             no audit.html
--config.data.cache=FOLDER           where what was found is kept; may be moved
                                     (default ~/.cache/pefomed_jax)
"""

from absl import flags
from ml_collections import config_flags

from pefomed_jax import cli
from pefomed_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "the config: FILE[:PRESET,data=SOURCE]")
OUT = flags.DEFINE_string("out", "", "folder of the audit")
PAGE = flags.DEFINE_bool("page", True, "write audit.html")


def main() -> int:
    config = CONFIG.value
    if config is None:
        raise UserError("--config is needed: try --config=configs/vqa.py, or --help")
    # imported late: a wrong flag should not wait for JAX
    from pefomed_jax.audit import command

    return command.run(config, command.usable(OUT.value, config), PAGE.value)


if __name__ == "__main__":
    cli.run(main)
