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


def start(program, args, programs, log):
    """The running process; what it says goes to `log`. `programs` keeps what JAX compiles."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    process = context.Process(target=_run, args=(program, args, str(programs), str(log)))
    process.start()
    return process


def _run(program, args, programs, log):
    import jax

    os.environ["XLA_FLAGS"] = UNOPTIMISED  # those of the tests make eight devices
    jax.config.update("jax_compilation_cache_dir", programs)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(ROOT)
    sys.argv = [program, *args]
    runpy.run_path(program, run_name="__main__")
