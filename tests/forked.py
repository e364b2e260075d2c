"""Programs of `launch/` started again and again: forked from a process that has the imports done.

Each is a process of its own that runs its whole program; only the imports, most of a start's time,
are not repeated.
"""

import multiprocessing
import os
import pathlib
import runpy
import sys

ROOT = pathlib.Path(__file__).parents[1]
# XLA_FLAGS of programs that compile for longer than they compute, on one device
UNOPTIMISED = "--xla_backend_optimization_level=0"
_IMPORTED = ["pefomed_jax.training.answer", "pefomed_jax.training.opened", "transformers"]


def start(program, args, log):
    """The running process; what it says goes to `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    process = context.Process(target=_run, args=(program, args, str(log)))
    process.start()
    return process


def _run(program, args, log):
    os.environ["XLA_FLAGS"] = UNOPTIMISED  # those of the tests make eight devices
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(ROOT)
    sys.argv = [program, *args]
    runpy.run_path(program, run_name="__main__")
