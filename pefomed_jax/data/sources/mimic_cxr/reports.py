"""Texts of reports, from the unpacked tree or from mimic-cxr-reports.zip as it is."""

import concurrent.futures
import itertools
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from pefomed_jax.data.sources.mimic_cxr import folders
from pefomed_jax.errors import UserError

THREADS = 16  # small files: most of the time is spent waiting for the disk
AT_ONCE = 2048

Key = TypeVar("Key")
Read = Callable[[str, str], str | None]  # (patient, study): the report, None where there is none


def opened(found: folders.Found, own: str) -> Read:
    """Reads reports. `own`: config.data.mimic_cxr.reports. Errors: there are no reports."""
    if own:
        path = pathlib.Path(own).expanduser()
        if not path.exists():
            raise UserError(f"data.mimic_cxr.reports: there is no {path}")
        found = folders.find(path) if path.is_dir() else found._replace(trees=[], zipped=path)
    if tree := folders.report_tree(found.trees):
        return lambda patient, study: _of_file(_path(tree, patient, study))
    if found.zipped:
        return _zipped(found.zipped)
    where = f" in {own}" if own else ""
    raise UserError(
        f"mimic_cxr: no reports{where} (files/p10/p.../s....txt or {folders.ZIPPED}); fetch "
        f"{folders.ZIPPED} of MIMIC-CXR and set --config.data.mimic_cxr.reports to it"
    )


def _path(tree: pathlib.Path, patient: str, study: str) -> pathlib.Path:
    return tree / f"p{patient[:2]}" / f"p{patient}" / f"s{study}.txt"


def _of_file(path: pathlib.Path) -> str | None:
    try:
        return decoded(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None


def _zipped(path: pathlib.Path) -> Read:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} is no zip file ({error}); fetch it again") from None
    names = {pathlib.PurePosixPath(name).name: name for name in archive.namelist()}

    def read(patient: str, study: str) -> str | None:
        name = names.get(f"s{study}.txt")
        try:
            return None if name is None else decoded(archive.read(name))
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise UserError(f"{path}: {name} is damaged ({error}); fetch it again") from None

    return read


def decoded(raw: bytes) -> str:
    """UTF-8, or Latin-1 where it is not; lines end in one character."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_all(
    keys: Iterable[Key], total: int, name: str, read: Callable[[Key], str | None]
) -> Iterator[tuple[Key, str | None]]:
    """(key, its report) in the order of `keys`; few are read ahead of their use."""
    rest = iter(keys)
    bar = tqdm(total=total, desc=name, delay=1, disable=None, unit=" reports")
    with bar, concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        while some := list(itertools.islice(rest, AT_ONCE)):
            yield from zip(some, pool.map(read, some), strict=True)
            bar.update(len(some))
