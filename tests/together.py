"""Several processes of a program on this machine, as a cluster would start them."""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

ROOT = pathlib.Path(__file__).parents[1]
WAIT = 240.0  # seconds for anything that processes have to do
DEVICES = 2  # simulated ones of each process


def environment(devices: int = DEVICES, **others: str) -> dict[str, str]:
    """That of a process with so many devices; programs compiled as in the other tests."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return dict(os.environ) | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags} | others


def port() -> int:
    """One that is free now."""
    with socket.socket() as own:
        own.bind(("localhost", 0))
        return own.getsockname()[1]


@dataclasses.dataclass
class Together:
    """Started processes; use as a context, which leaves none behind."""

    running: list[subprocess.Popen]

    def __enter__(self) -> "Together":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            process.kill()
            process.communicate()

    def ended(self, within: float = WAIT) -> list[tuple[int, str]]:
        """(exit code, what it said) of each, all of which must end in so many seconds."""
        end = time.monotonic() + within
        said = [p.communicate(timeout=max(0.1, end - time.monotonic()))[0] for p in self.running]
        return [(p.returncode, text) for p, text in zip(self.running, said, strict=True)]

    def wait_for(self, happened: Callable[[], bool]) -> None:
        """Until `happened()`; a process that ends before fails the test."""
        end = time.monotonic() + WAIT
        while not happened():
            for process in self.running:
                assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, "it took too long"
            time.sleep(0.01)


def start(
    count: int,
    args: Sequence[str],
    program: str = "launch/train.py",
    own: Mapping[int, Sequence[str]] | None = None,
    **others: str,
) -> Together:
    """`count` processes of a program; `own`: further arguments of single ones."""
    place = [f"--coordinator=localhost:{port()}", f"--num_processes={count}"]
    return Together(
        [
            subprocess.Popen(
                [
                    sys.executable,
                    program,
                    *args,
                    *place,
                    f"--process_id={i}",
                    *(own or {}).get(i, ()),
                ],
                cwd=ROOT,
                env=environment(**others),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for i in range(count)
        ]
    )


def alone(
    args: Sequence[str], program: str = "launch/train.py", devices: int = 1, **others: str
) -> str:
    """What one process says that must end well."""
    done = subprocess.run(
        [sys.executable, program, *args],
        cwd=ROOT,
        env=environment(devices, **others),
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
