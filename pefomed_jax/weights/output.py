"""Folders and files that appear whole or not at all."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from pefomed_jax.errors import UserError

Named = Iterable[tuple[str, int, Callable[[], np.ndarray]]]  # name, bytes, values
SHARD = 2 * 10**9  # bytes in a file, at most
PT = {"format": "pt"}  # without it transformers does not read a file


def check_absent(path: pathlib.Path) -> None:
    """Raises UserError where `path` is there already; an empty folder may be."""
    path = path.expanduser().absolute()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UserError(f"{path} is there already; give another --out, or remove it")


@contextlib.contextmanager
def whole(path: pathlib.Path, need: int) -> Iterator[pathlib.Path]:
    """A path to write to, which becomes `path` when all went well; otherwise nothing is left.

    `need`: bytes that will be written. Errors: UserError where `path` is there already, and where
    the disk has not got the room, before or on the way.
    """
    check_absent(path)
    path = path.expanduser().absolute()
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
        if free < need:
            raise UserError(
                f"{path} takes {_size(need)}, the disk has {_size(free)} left; make room or give "
                f"another --out"
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


def _size(count: int) -> str:
    """Bytes in a unit that shows them."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e3:.1f} kB"


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


def shards(folder: pathlib.Path, stem: str, rows: Named) -> None:
    """One safetensors file, or several with an index, each written before the next is fetched."""
    groups: list[list[Any]] = [[]]
    filled = 0
    for row in rows:
        if filled and filled + row[1] > SHARD:
            groups.append([])
            filled = 0
        groups[-1].append(row)
        filled += row[1]
    n, places = len(groups), {}
    for i, group in enumerate(groups, 1):
        name = f"{stem}.safetensors" if n == 1 else f"{stem}-{i:05}-of-{n:05}.safetensors"
        save_file({key: read() for key, _, read in group}, folder / name, PT)
        places |= {key: name for key, _, _ in group}
    if n > 1:
        total = sum(size for group in groups for _, size, _ in group)
        index = {"metadata": {"total_size": total}, "weight_map": places}
        json_file(folder / f"{stem}.safetensors.index.json", index)


def json_file(path: pathlib.Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
