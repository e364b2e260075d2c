"""Which processes form a run, and how this one joins them. Nothing here imports JAX before `join`.

Looked for in this order: the flags, the variables JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
JAX_PROCESS_ID, Slurm's (of a step of several tasks), and TPUs, whose workers JAX finds in the
metadata of the machine. Where there is none of them, a run is one process.
"""

import dataclasses
import importlib.util
import os
import pathlib
import signal
from collections.abc import Mapping
from typing import NoReturn

from absl import flags

from pefomed_jax.errors import UserError

HELP = """\
Several processes (one for each host, or for each GPU), all started with the same command:
--coordinator=HOST:PORT   where process 0 listens; the others find it there
--num_processes=N --process_id=I
                     also as JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID; under
                     Slurm and on TPU pods all three are found. launch/local.py starts several on
                     one machine
--join_timeout=300   seconds until all must have come
--heartbeat=10       seconds without a sign of life after which a process counts as lost; the
                     others end at most 15 seconds later, with exit code 76"""
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
ENVIRONMENT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
TPU = "the TPU's metadata"
FLAGS = ("coordinator", "num_processes", "process_id")
TIMES = {"join_timeout": 300, "heartbeat": 10}  # seconds


@dataclasses.dataclass(frozen=True)
class Place:
    """A process's place in its run; None: JAX finds it in what surrounds it."""

    by: str  # where that is known from, for messages
    coordinator: str | None = None
    count: int | None = None
    index: int | None = None
    join_timeout: int = TIMES["join_timeout"]
    heartbeat: int = TIMES["heartbeat"]

    @property
    def said(self) -> str:
        """'process 1 of 4', as far as it is known."""
        if self.index is None:
            return "this process"
        return f"process {self.index} of {self.count}"


def define_flags() -> None:
    """The flags of a program that runs on a mesh; `HELP` describes them."""
    flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0")
    flags.DEFINE_integer("num_processes", None, "processes of the run", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "number of this one", lower_bound=0)
    for name, said in (("join_timeout", "until all came"), ("heartbeat", "until one is lost")):
        flags.DEFINE_integer(name, TIMES[name], f"seconds {said}", lower_bound=2)


def place(values: Mapping[str, object], environment: Mapping[str, str]) -> Place | None:
    """The place that flags (name to value) or environment give; None: the run is this process.

    `values` have all of FLAGS, and what is not as in TIMES. Errors: UserError for one that is given
    in part, or is no place.
    """
    times = {name: int(str(values.get(name, default))) for name, default in TIMES.items()}
    given = [values[name] for name in FLAGS]
    if any(value not in (None, "") for value in given):
        return _given(given, [f"--{name}" for name in FLAGS], times)
    found = [environment.get(name) for name in ENVIRONMENT]
    if any(value is not None for value in found):
        return _given(found, ENVIRONMENT, times)
    if all(name in environment for name in SLURM):
        count = int(environment.get("SLURM_STEP_NUM_TASKS", environment["SLURM_NTASKS"]))
        if count > 1:
            return Place("Slurm", None, count, int(environment["SLURM_PROCID"]), **times)
    return Place(TPU, **times) if _on_tpu(environment) else None


def _given(given: list[object], names: list[str] | tuple[str, ...], times: dict[str, int]) -> Place:
    absent = [name for name, v in zip(names, given, strict=True) if v in (None, "")]
    if absent:
        raise UserError(f"{', '.join(absent)} must be given too: {', '.join(names)} go together")
    coordinator, count, index = map(str, given)
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(f"{names[0]}={coordinator} is no HOST:PORT, such as 10.0.0.2:8476")
    if not (count.isdigit() and index.isdigit() and int(index) < int(count)):
        raise UserError(
            f"{names[2]}={index} of {names[1]}={count}: processes are numbered from 0 to "
            f"{names[1].lstrip('-')} - 1"
        )
    by = "flags" if names[0].startswith("--") else "variables"
    return Place(by, coordinator, int(count), int(index), **times)


def _on_tpu(environment: Mapping[str, str]) -> bool:
    """Whether JAX will run on TPUs that are plugged in here, and say who the workers are."""
    if environment.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu":
        return False
    plugged = [*pathlib.Path("/dev").glob("accel[0-9]*"), *pathlib.Path("/dev/vfio").glob("[0-9]*")]
    known = "TPU_WORKER_HOSTNAMES" in environment or "TPU_SKIP_MDS_QUERY" not in environment
    return bool(plugged) and known and importlib.util.find_spec("libtpu") is not None


def join(here: Place, stops: bool) -> None:
    """Joins the run, before anything else asks JAX for devices; once in a process.

    `stops`: a SIGTERM is agreed on with the others (`training/stop.py`) instead of ending this one.
    A TPU that no metadata speak of is a run of this process alone. Errors: UserError where the
    place of the coordinator is taken. Where not all come in time JAX ends the process, which
    `parallel/supervise.py` explains.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    jax.config.update("jax_enable_preemption_service", stops)
    for number in (signal.SIGTERM, signal.SIGINT):  # Python's wait until JAX comes back
        signal.signal(number, signal.SIG_DFL)
    try:
        jax.distributed.initialize(
            here.coordinator,
            here.count,
            here.index,
            initialization_timeout=here.join_timeout,
            heartbeat_timeout_seconds=here.heartbeat,
            shutdown_timeout_seconds=here.join_timeout,
        )
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        if here.by == TPU:
            print(f"one process: {TPU} name no other ({reason})")
            signal.signal(signal.SIGTERM, interrupt)
            return
        raise UserError(
            f"{here.said} cannot join by {here.by} ({reason}); is the port of the coordinator "
            f"{here.coordinator or ''} free, and the run started once?"
        ) from error
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not stops or jax.process_count() == 1:  # JAX has taken it, and nobody will ask JAX
        signal.signal(signal.SIGTERM, interrupt)


def interrupt(number: int, _: object) -> NoReturn:
    """A SIGTERM is as ctrl-C where nothing waits for it to save; a second one ends at once."""
    signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt


def at_once() -> Place | None:
    """The place that this program's own flags and environment give."""
    known = flags.FLAGS
    if "coordinator" not in known:
        return None
    return place({name: known[name].value for name in (*FLAGS, *TIMES)}, os.environ)
