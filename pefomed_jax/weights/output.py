"""Folders and files that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from safetensors import SafetensorError

from pefomed_jax.errors import UserError


@contextlib.contextmanager
def whole(path: pathlib.Path, need: int) -> Iterator[pathlib.Path]:
    """A path to write to, which becomes `path` when all went well; otherwise nothing is left.

    `need`: bytes that will be written. Errors: UserError where `path` is there already, and where
    the disk has not got the room, before or on the way.
    """
    path = path.expanduser().absolute()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UserError(f"{path} is there already; give another --out, or remove it")
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < need:
            raise UserError(
                f"{path} takes {need / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB left; make "
                f"room or give another --out"
            )
        _remove(part)
        yield part
        _open_rights(part)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path} could not be written ({reason}); nothing is left of it") from None
    finally:
        _remove(part)


def _open_rights(path: pathlib.Path) -> None:
    """Rights as of any new file: safetensors makes its files readable for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~mask)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
