"""A program as one of several processes: joined, supervised, and ended with the others."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from pefomed_jax.parallel import join, supervise

# an error -> (line, exit code); None where it is a fault of the program
Said = Callable[[BaseException], tuple[str, int] | None]


def run(
    here: join.Place | None, main: Callable[[], int | None], stops: bool, said: Said
) -> int | None:
    """`main()`; where `here` is a place in a run of several processes, after joining the others
    and before leaving them.

    There what is written on the standard output is written by process 0 alone, and an error ends
    all processes with its line. `stops`: of `join.join`.
    """
    if here is None:
        return main()
    child = supervise.begin(here)
    from pefomed_jax.parallel import hosts  # imported late: no JAX in the parent

    try:
        join.join(here, stops)
        child.joined()
        hosts.watch()
        hosts.check_same({"number of devices": hosts.devices()})
        if not hosts.is_first():
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        code = main()
        hosts.leave()
        return code
    except BaseException as error:
        if not hosts.several():
            raise
        _end(error, here, said, hosts)


def _end(error: BaseException, here: join.Place, said: Said, hosts: Any) -> None:
    """Says what happened, to the others too, and leaves without JAX's farewell, which waits."""
    known = said(error)
    line, code = known or (f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", 1)
    with contextlib.suppress(OSError):  # nobody may be there to read it: the others still end
        if known is None:
            traceback.print_exc()
    if known is None:
        hosts.lost(error, here.heartbeat)
    with contextlib.suppress(OSError):
        print(f"error: {line}", file=sys.stderr, flush=True)
    hosts.fail(line, code)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)
