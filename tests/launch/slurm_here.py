"""srun, squeue, scancel and scontrol of a cluster that is this machine, for launch/slurm.sbatch.

What `srun` sets is what JAX's detection of Slurm reads; what it prints of a task that fails, and
its own exit code, are as in its manual: the highest of the tasks', 128 + signal for one killed. A
SIGTERM to srun itself kills the tasks; that of scancel reaches whatever they have started as well.
"""

import os
import random
import signal
import socket
import subprocess
import sys

SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys
args = sys.argv[1:]
first = next(i for i, a in enumerate(args) if not a.startswith("-"))
flags, program = args[:first], args[first:]
print("srun", *flags, file=open(os.environ["SLURM_LOG"], "a"))
tasks = []
for i in range(int(os.environ["SLURM_NTASKS"])):
    more = dict(SLURM_PROCID=str(i), SLURM_LOCALID=str(i), SLURM_STEP_NODELIST="localhost")
    more |= dict(SLURM_STEP_NUM_NODES="1", SLURM_NODEID="0", SLURM_STEP_ID="0")
    tasks.append(subprocess.Popen(program, env=os.environ | more, start_new_session=True))
print(*(t.pid for t in tasks), file=open(os.environ["SLURM_LOG"] + ".tasks", "w"))
def force(*_):
    print("srun: forcing job termination", file=sys.stderr)
    [t.kill() for t in tasks]
signal.signal(signal.SIGTERM, force)
highest = 0
for i, task in enumerate(tasks):
    code = task.wait()
    how = signal.strsignal(-code) if code < 0 else f"Exited with exit code {{code}}"
    if code:
        print(f"srun: error: localhost: task {{i}}: {{how}}", file=sys.stderr)
    highest = max(highest, code if code >= 0 else 128 - code)
sys.exit(highest)
"""
SCANCEL = f"""#!{sys.executable}
import contextlib, os, pathlib, signal, sys
print("scancel", *sys.argv[1:], file=open(os.environ["SLURM_LOG"], "a"))
tasks = pathlib.Path(os.environ["SLURM_LOG"] + ".tasks").read_text().split()
for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
    with contextlib.suppress(OSError):
        if path.read_text().rpartition(")")[2].split()[3] in tasks:
            os.kill(int(path.parent.name), signal.SIGTERM)
"""
SQUEUE = '#!/bin/sh\necho "${SLURM_STATE:-RUNNING}"\n'
SCONTROL = '#!/bin/sh\necho scontrol "$@" >> "$SLURM_LOG"\n'


def install(folder, environment=os.environ):
    """The commands, in `folder`; the environment of a batch script of two tasks on a node."""
    commands = {"srun": SRUN, "scancel": SCANCEL, "squeue": SQUEUE, "scontrol": SCONTROL}
    for name, text in commands.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    python = os.path.dirname(sys.executable)
    return dict(environment) | {
        "PATH": f"{folder}:{python}:{os.environ['PATH']}",
        "SLURM_LOG": str(folder / "log"),
        "SLURM_JOB_ID": str(_job()),
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_CPUS_PER_TASK": "4",
    }


def _job():
    """A job id to which JAX finds a port that is free."""
    while True:
        job = random.randrange(10_000, 1_000_000)
        with socket.socket() as probe:
            try:
                probe.bind(("localhost", job % 4096 + 61440))
            except OSError:
                continue
        return job


def begin(environment, *program, root):
    """slurm.sbatch as Slurm starts it, as it runs."""
    return subprocess.Popen(
        ["bash", "launch/slurm.sbatch", *program],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def warn(process):
    """What --signal=B:TERM@120 does: to the batch script alone."""
    process.send_signal(signal.SIGTERM)
