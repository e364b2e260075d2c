"""Fine-tune a multimodal language model on medical images, evaluate it, and write its reports.

python launch/train.py --config=configs/mrg.py               # reports; minutes on a laptop
python launch/train.py --config=configs/vqa.py               # questions and answers
python launch/train.py --config=configs/mrg.py:7b --dry_run  # the paper's size: counts, memory

--config=FILE[:PRESET,data=SOURCE]   configs/{caption,vqa,mrg}.py; tiny (default), small, 7b
--workdir=FOLDER                     default runs/<task>-<preset>-<source>; the same command goes
                                     on where the last one stopped
--dry_run                            say what would train, what is missing and how much memory it
                                     takes; read no weights, allocate nothing
--nocheck_memory                     start also what would not fit into the devices' memory
--config.FIELD=VALUE                 set any field of the config, for example
                                     --config.train.steps=1000 --config.lora.rank=16
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from pefomed_jax import cli
from pefomed_jax.errors import UserError
from pefomed_jax.parallel import join

CONFIG = config_flags.DEFINE_config_file("config", None, "the config: FILE[:PRESET,data=SOURCE]")
WORKDIR = flags.DEFINE_string("workdir", "", "folder of the run")
join.define_flags()
CHECK = flags.DEFINE_bool("check_memory", True, "refuse what would not fit")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "plan the run without reading weights")


def main() -> int:
    config = CONFIG.value
    if config is None:
        raise UserError("--config is needed: try --config=configs/mrg.py, or --help")
    # imported late: a wrong flag should not wait for JAX
    if DRY_RUN.value:
        from pefomed_jax.planning import dry_run

        dry_run.plan(config)
        return 0
    from pefomed_jax.planning import check
    from pefomed_jax.training import loop

    name = f"{config.task}-{config.preset}-{config.data.source}"
    workdir = pathlib.Path(WORKDIR.value or f"runs/{name}")
    return loop.run(config, workdir, check.check if CHECK.value else None)


if __name__ == "__main__":
    cli.run(main, stops=True)
