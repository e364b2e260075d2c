"""One machine, several processes of one run: starts them, shows what they say, sees to their end.

python launch/local.py --processes=4 -- python launch/train.py --config=configs/mrg.py:7b
python launch/local.py --processes=2 --devices=2 -- python launch/train.py --config=configs/mrg.py
python launch/local.py --processes=1 --restarts=10 --pause=45 -- python launch/train.py …

What stands after -- is started --processes times, with JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES
and JAX_PROCESS_ID set; its lines come with [process] in front. The GPUs of the machine (or those of
CUDA_VISIBLE_DEVICES) are split evenly between the processes.

--processes=N     how many; 1 leaves the environment alone (a TPU VM, a Slurm task: only restarts)
--devices=N       run on the CPU instead, with N simulated devices a process
--restarts=N      start all again, up to N times, when the run was interrupted (75), lost a process
                  (76), or one was killed; never on 1 (something to put right) or 2 (command line)
--grace=SECONDS   how long the others may take to leave once one has failed (40), then they are
                  killed
--pause=SECONDS   between the end and a restart (0); on several machines more than the 30 s in
                  which the others leave, so that all start again together
--dry_run         print each command with its environment, start nothing

SIGTERM and ctrl-C are passed on, and then nothing restarts; a second one kills. No process outlives
this one, even if it is killed itself. Exit code: that of the process which failed first; 76 only
says that another was lost, so it counts last; 128 + signal for a process that was killed.
"""

import argparse
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

from pefomed_jax.errors import UserError
from pefomed_jax.parallel.children import Round, restarts, say
from pefomed_jax.parallel.guard import POLL, STOPS, Guard


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """(flags, program with its arguments)."""
    own, program = argv, []
    if "--" in argv:
        own, program = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    parser = argparse.ArgumentParser(
        usage="python launch/local.py --processes=N [flags] -- PROGRAM [ARGUMENTS]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--processes", type=int, required=True, help=argparse.SUPPRESS)
    for name in ("devices", "restarts"):
        parser.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--grace", type=float, default=40.0, help=argparse.SUPPRESS)
    parser.add_argument("--pause", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--dry_run", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(own)
    if args.processes < 1 or min(args.devices, args.restarts, args.grace, args.pause) < 0:
        parser.error("--processes is 1 or more, the other numbers are 0 or more")
    if not program:
        parser.error("no program: put it after --, as in -- python launch/train.py --config=…")
    return args, program


def find_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES lists, or else the indices of all GPUs of the machine."""
    if (listed := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in listed.split(",") if name not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    return [str(i) for i, _ in enumerate(x for x in said.splitlines() if x.startswith("GPU "))]


def environment(args: argparse.Namespace, gpus: list[str], port: int, i: int) -> dict[str, str]:
    """What process i gets beside the environment that it inherits."""
    added = {}
    if args.devices:
        count = f"--xla_force_host_platform_device_count={args.devices}"
        added["JAX_PLATFORMS"] = "cpu"
        added["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
    if args.processes == 1:
        return added
    added["JAX_COORDINATOR_ADDRESS"] = f"127.0.0.1:{port}"
    added["JAX_NUM_PROCESSES"], added["JAX_PROCESS_ID"] = str(args.processes), str(i)
    if gpus and not args.devices:
        share, left = divmod(len(gpus), args.processes)
        if left:
            fits = [n for n in range(1, len(gpus) + 1) if len(gpus) % n == 0]
            raise UserError(
                f"{len(gpus)} GPUs do not split evenly over --processes={args.processes}; "
                f"try {', '.join(map(str, fits))}, or --devices=1 for the CPU"
            )
        added["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[i * share : (i + 1) * share])
        # inside a Slurm allocation JAX would take one device, by SLURM_LOCALID
        added["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, range(share)))
    return added


def free_port() -> int:
    """A port that nothing listens on; a new one for every start, as the last may linger."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Supervisor:
    """Rounds, as long as they end with something that a restart may cure."""

    def __init__(self, args: argparse.Namespace, program: list[str], gpus: list[str]) -> None:
        self.args, self.program, self.gpus = args, program, gpus
        self.stopped = False
        self.round: Round | None = None

    def run(self) -> int:
        for number in STOPS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                signal.signal(number, self._stop)
        guard = Guard()
        for left in reversed(range(self.args.restarts + 1)):
            code = self._once(guard)
            if left == 0 or not restarts(code):
                break
            until = time.monotonic() + self.args.pause
            while not self.stopped and time.monotonic() < until:
                time.sleep(POLL)
            if self.stopped:
                break
            say(f"all start again; {left - 1} restarts left")
        return code

    def _once(self, guard: Guard) -> int:
        port, n = free_port(), self.args.processes
        self.round = Round(guard)
        added = [environment(self.args, self.gpus, port, i) for i in range(n)]
        self.round.start(self.program, added)
        if self.stopped:  # while they were being started
            self.round.send(signal.SIGTERM)
        return self.round.wait(self.args.grace)

    def _stop(self, number: int, _: object) -> None:
        kind = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        kind, self.stopped = (signal.SIGKILL if self.stopped else kind), True
        say(f"{kind.name} to all processes")
        if self.round is not None:
            self.round.send(kind)


def main() -> int:
    args, program = parse(sys.argv[1:])
    gpus = [] if args.devices else find_gpus()
    if shutil.which(program[0]) is None:
        raise UserError(f"'{program[0]}' is no program; put one after --, as in -- python …")
    if args.dry_run:
        for i in range(args.processes):
            added = environment(args, gpus, 12345, i)
            words = [f"{key}={shlex.quote(value)}" for key, value in added.items()]
            print(f"[{i}]", *words, shlex.join(program))
        return 0
    return Supervisor(args, program, gpus).run()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
