"""Counts compilations of what was compiled before: after warm-up there should be none."""

import contextlib
from collections.abc import Hashable, Iterator

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"
_compiled = 0


def _listen(event: str, _: float, **__: object) -> None:
    global _compiled
    _compiled += event == _EVENT


# JAX offers no way to take a listener back, so there is one for the process
jax.monitoring.register_event_duration_secs_listener(_listen)


class Compilations:
    """Programs by shape: the first call under a key warms it up, later ones must not compile."""

    def __init__(self) -> None:
        self._warm: dict[Hashable, int] = {}
        self.after_warm_up = 0

    @contextlib.contextmanager
    def watch(self, key: Hashable) -> Iterator[bool]:
        """Counts what compiles inside; gives True where this is the first call under the key."""
        before, first = _compiled, key not in self._warm
        yield first
        new = _compiled - before
        if first:
            self._warm[key] = new
        else:
            self.after_warm_up += new

    def __str__(self) -> str:
        shapes = ", ".join(" ".join(map(str, key)) for key in self._warm)
        return f"{self.after_warm_up} recompilations after warm-up (shapes: {shapes})"
