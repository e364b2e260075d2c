"""Will it fit, and what will it cost? Asked of the compilers, with or without the hardware.

python launch/plan.py --config=configs/vqa.py:7b --topology=v5e:4x4 --branches=8
python launch/plan.py --config=configs/mrg.py:7b --topology=v5e:2x2,v5e:4x4,h200 --batch=16,64
python launch/plan.py --config=configs/mrg.py:small --topology=cpu:8 --remat=none,full

Compiles the real training step and the real generation from shapes alone; no weights, no data and
no device are needed. Prints for each device: bytes by what they are, the limit, what to change
where it does not fit, what travels between the devices, operations, and the times that follow.

--topology=NAME[,NAME]   cpu[:N]; TPU slices v5e:4x4, v6e:4x4, v5p:2x2x2, any shape (needs
                         pip install 'pefomed_jax[plan-tpu]'); h200[:N], h100, a100-80, a100-40,
                         l4, t4 (needs pip install 'pefomed_jax[plan-cuda]'). Default cpu
--config=FILE[:PRESET]   the config of the run, with the same --config.FIELD=VALUE; its mesh is
                         laid over each topology (--config.mesh.fsdp=-1: all devices)
--batch=N[,N]            rows of a global batch (default: train.batch_size); raised to what divides
--per_device=N[,N]       instead: rows of each device
--branches=N             questions in a row of VQA (the same as --config.data.branches)
--row=T[,A[,I]]          tokens, targets and images of a row; else from the data, else assumed
--remat=NAME[,NAME]      none, dots, full
--dtype=NAME[,NAME]      bfloat16, float32: of the computation and of the frozen weights
--programs=NAME[,NAME]   step, generation (default: both)
--noadvise               do not look for what would make it fit
--json=FILE              the same as JSON, written after each plan
--figure=FILE            sending and computing over the number of devices, drawn
--read=FILE[,FILE]       print and draw what --json wrote, and plan nothing

Exit code 0: all fits; 1: something does not.
"""

import os

from absl import flags
from ml_collections import config_flags

from pefomed_jax import cli
from pefomed_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "the config: FILE[:PRESET,data=SOURCE]")
TOPOLOGY = flags.DEFINE_list("topology", ["cpu"], "devices to plan for")
BATCH = flags.DEFINE_list("batch", [], "rows of a global batch")
PER_DEVICE = flags.DEFINE_list("per_device", [], "rows of each device")
BRANCHES = flags.DEFINE_integer("branches", 0, "questions in a row", lower_bound=0)
ROW = flags.DEFINE_list("row", [], "T,A,I")
REMAT = flags.DEFINE_list("remat", [], "policies of recomputing")
DTYPE = flags.DEFINE_list("dtype", [], "of computation and frozen weights")
PROGRAMS = flags.DEFINE_list("programs", ["step", "generation"], "what is compiled")
ADVISE = flags.DEFINE_bool("advise", True, "look for what would make it fit")
JSON = flags.DEFINE_string("json", "", "file for the plans")
FIGURE = flags.DEFINE_string("figure", "", "file for the picture")
READ = flags.DEFINE_list("read", [], "files that --json wrote")


def main() -> int:
    # this process only asks; it must not take a device that others use
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from pefomed_jax.planning import command

    if READ.value:
        return command.read(READ.value, FIGURE.value)
    config = CONFIG.value
    if config is None:
        raise UserError("--config is needed: try --config=configs/mrg.py:7b, or --help")
    if BRANCHES.value:
        config.data.branches = BRANCHES.value
    asked = command.Asked(
        topologies=TOPOLOGY.value,
        batches=BATCH.value,
        per_device=PER_DEVICE.value,
        remats=REMAT.value,
        dtypes=DTYPE.value,
        programs=PROGRAMS.value,
        row=ROW.value,
        advise=ADVISE.value,
    )
    return command.run(config, asked, JSON.value, FIGURE.value)


if __name__ == "__main__":
    cli.run(main)
