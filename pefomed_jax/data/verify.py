"""Do the images open? Each is decoded once; what was found is kept by size and time of change."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import tempfile

from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data.sources.files import ListSource
from pefomed_jax.errors import UserError

THREADS = 8  # Pillow decodes outside the interpreter's lock
DEFAULT_CACHE = "~/.cache/pefomed_jax"


def images(source: ListSource, cases: list[Case], cache: str = "") -> dict[str, str]:
    """What is wrong with the images of `cases`, by image name; {} when all open."""
    names = list(dict.fromkeys(name for case in cases for name in case.images))
    root = pathlib.Path(source.root).resolve()
    store = pathlib.Path(cache or DEFAULT_CACHE).expanduser() / "images"
    store = store / f"{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"
    known = _read(store)
    stamps = {name: _stamp(root / name) for name in names}
    new = [name for name in names if known.get(name, [None])[0] != stamps[name]]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        problems = pool.map(lambda name: problem(root / name), new)
        known |= {n: [stamps[n], p] for n, p in zip(new, problems, strict=True)}
    if new:
        _write(store, known)
    return {name: known[name][1] for name in names if known[name][1]}


def problem(path: pathlib.Path) -> str:
    """Why an image does not open; '' when it does.

    It is decoded to the end: Pillow's verify() lets truncated JPEG files pass.
    """
    try:
        with Image.open(path) as image:
            image.draft(None, (64, 64))  # JPEG: the whole file is read, at an eighth of the work
            image.load()
    except FileNotFoundError:
        return "is missing"
    except Image.DecompressionBombError:
        return f"has more than {2 * Image.MAX_IMAGE_PIXELS} pixels"
    except Exception as error:  # decoders raise whatever they like on broken files
        return f"does not open ({' '.join(str(error).split())})"
    return ""


def _stamp(path: pathlib.Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return "missing"
    return f"{stat.st_mtime_ns}/{stat.st_size}"


def _read(store: pathlib.Path) -> dict[str, list[str]]:
    try:
        return json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write(store: pathlib.Path, known: dict[str, list[str]]) -> None:
    """Replaces the file in one move, so that a killed run or two at once leave a whole one."""
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=store.parent, delete=False, encoding="utf-8"
        ) as f:
            json.dump(known, f)
        os.replace(f.name, store)
    except OSError as error:
        raise UserError(
            f"data.cache: {store.parent} cannot be written ({error.strerror}); set "
            f"--config.data.cache to a folder of yours"
        ) from None
