"""How a run is asked to end."""

import os
import signal
from typing import Any

from jax.experimental import multihost_utils

from pefomed_jax.parallel import hosts, join


class Stop:
    """The first SIGTERM or ctrl-C lets the step end and be saved; the second ends at once.

    Of several processes any may be asked. JAX has taken the SIGTERM over (`parallel/join.py`), also
    that of a cloud about to take the machine away, and agrees with the others on a step.
    """

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def at(self, step: int) -> bool:
        """Whether to end behind this step; call it after every step, in all processes."""
        if hosts.several() and not self.asked:
            # it says so only once
            self.asked = multihost_utils.reached_preemption_sync_point(step)
        return self.asked

    def __enter__(self) -> "Stop":
        if hosts.several():
            self._old[signal.SIGTERM] = join.interrupt  # nobody asks JAX any more after this
            self._old[signal.SIGINT] = signal.signal(signal.SIGINT, self._tell_jax)
        else:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: object) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)

    def _tell_jax(self, number: int, _: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(number, signal.SIG_DFL)
