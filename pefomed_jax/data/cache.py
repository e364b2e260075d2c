"""The folder of what is prepared once: named by `config.data.cache`, movable, safe to delete.

    images/    what is known of the images of a data folder (facts)
    index/     cases of sets whose lists take long to read (index)
    lengths/   tokens of every case under a tokenizer and its prompts (lengths)
    pixels/    decoded, resized images (pixels), where data.cache_pixels asks for them
    features/  what the frozen tower made of them, where data.cache_features asks for them

Nothing in it names the folder itself. One process of a host prepares a thing while others wait.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from pefomed_jax.errors import UserError

DEFAULT = "~/.cache/pefomed_jax"


def folder(cache: str, part: str) -> pathlib.Path:
    """The folder of one part, made where it is not there; reports may lie in it, so it is closed to
    other users. `cache`: config.data.cache.
    """
    path = pathlib.Path(cache or DEFAULT).expanduser() / part
    with told(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def key(*parts: Any) -> str:
    """16 hex digits that stand for these values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Holds `path`.lock; says so where another process has it, and waits. A kill lets it go."""
    with told(path), open(path.with_name(f"{path.name}.lock"), "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process, which prepares {path}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def told(path: pathlib.Path) -> Iterator[None]:
    """Turns errors of the file system about the cache into one line."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not _is_of(path, error.filename):
            raise
        raise UserError(
            f"data.cache: {path} cannot be written ({error.strerror}); set --config.data.cache to "
            "a folder of yours"
        ) from None


def _is_of(path: pathlib.Path, name: str | bytes | int) -> bool:
    if isinstance(name, int):
        return False
    place = pathlib.Path(os.fsdecode(name))
    return place.is_relative_to(path.parent) or path.is_relative_to(place)
