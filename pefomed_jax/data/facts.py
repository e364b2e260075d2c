"""What is known of every image: does it open, how large it is, what it looks like.

Each is decoded once; what was found is kept by size and time of change, so that a run that is
killed goes on where it was.
"""

import collections
import concurrent.futures
import contextlib
import hashlib
import itertools
import math
import pathlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from pefomed_jax.batch import Case
from pefomed_jax.data import cache as cache_lib
from pefomed_jax.data import dicom, images, reading
from pefomed_jax.data.room import Room
from pefomed_jax.data.sources import Source
from pefomed_jax.data.sources.files import ListSource
from pefomed_jax.data.sources.mixture import Mixture
from pefomed_jax.errors import ImageError

THREADS = 8  # Pillow decodes outside the interpreter's lock
ROOM = Room(32 << 20)  # pixels decoded at once, of all threads
AT_ONCE = 256  # images between two writes
DRAFT = 64  # pixels a side at which a JPEG file is looked at
DICOM = "DICOM"
SIDE = 16  # of the picture whose rising grey levels are the look of an image
TABLE = """create table if not exists image
    (name text primary key, stamp text, problem text, width int, height int, mode text,
     look blob, digest blob, kind text)"""


class Fact(NamedTuple):
    """One image. Of one that does not open, only the problem is known."""

    problem: str  # '': it opens
    width: int = 0  # pixels, as height
    height: int = 0
    mode: str = ""  # of Pillow
    look: bytes = b""  # 256 bits: where grey levels rise from left to right
    digest: bytes = b""  # of its pixels: equal for copies
    kind: str = ""  # DICOM, and whether it says that text is burnt in


Where = tuple[Case, int]  # a case, and which of its images


def of(source: Source, cases: Sequence[Case], cache: str = "") -> dict[str, Fact]:
    """The facts of all images of these cases, by name. `cache`: config.data.cache."""
    if not isinstance(source, Mixture):
        return _of(source, cases, cache)
    found: dict[str, Fact] = {}
    for name, part in source.parts.items():
        mine = [source.own(case)[1] for case in cases if case.source == name]
        found |= {f"{name}/{image}": fact for image, fact in _of(part, mine, cache).items()}
    return found


def places(source: Source, cases: Sequence[Case]) -> dict[str, Where]:
    """Where each image of these cases is, by name."""
    return {image: (case, i) for case in cases for i, image in enumerate(case.images)}


def stamp_of(source: Source, case: Case, number: int) -> str:
    """What changes with the file of an image; '' for one that is drawn."""
    if isinstance(source, Mixture):
        source, case = source.own(case)
    return stamp(source.path(case, number)) if isinstance(source, ListSource) else ""


def roots(source: Source) -> str:
    """Whose images a source hands out: their folder, or the drawings themselves."""
    if isinstance(source, Mixture):
        return repr({name: roots(part) for name, part in source.parts.items()})
    is_read = isinstance(source, ListSource)
    return str(pathlib.Path(source.root).resolve()) if is_read else repr(source)


def is_grey(mode: str) -> bool:
    """Whether pictures of this mode of Pillow have equal channels once they are RGB."""
    return mode in ("1", "L") or mode.startswith(("I", "F"))


def _of(source: Source, cases: Sequence[Case], cache: str) -> dict[str, Fact]:
    wanted = places(source, cases)
    if not isinstance(source, ListSource):  # drawn, not read
        return {name: look(source, *where) for name, where in wanted.items()}
    store = cache_lib.folder(cache, "images") / f"{cache_lib.key(roots(source))}.sqlite"
    with cache_lib.locked(store), _opened(store) as table:
        known = {row[0]: (row[1], Fact(*row[2:])) for row in table.execute("select * from image")}
        stamps = {name: stamp_of(source, *where) for name, where in wanted.items()}
        # what did not open is tried again: a plug-in may be there now, or a disk
        good = {
            name
            for name, (old, fact) in known.items()
            if old == stamps.get(name) and not fact.problem
        }
        new = [name for name in wanted if name not in good]
        for name, fact in _looked(source, {name: wanted[name] for name in new}, table, stamps):
            known[name] = (stamps[name], fact)
    return {name: known[name][1] for name in wanted}


@contextlib.contextmanager
def _opened(store: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """The table of a store, begun anew where the file is damaged."""
    table = sqlite3.connect(store)
    try:
        table.execute(TABLE)
        table.execute("select kind from image limit 1")  # older ones have none
    except sqlite3.DatabaseError:
        table.close()
        store.unlink()
        table = sqlite3.connect(store)
        table.execute(TABLE)
    with contextlib.closing(table):
        yield table


def _looked(
    source: Source, wanted: dict[str, Where], table: sqlite3.Connection, stamps: dict[str, str]
) -> Iterator[tuple[str, Fact]]:
    names = iter(wanted)
    bar = tqdm(total=len(wanted), desc=f"{source.name}: images", delay=1, disable=None)
    with bar, concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        while some := list(itertools.islice(names, AT_ONCE)):
            facts = list(pool.map(lambda name: look(source, *wanted[name]), some))
            rows = [(name, stamps[name], *fact) for name, fact in zip(some, facts, strict=True)]
            with table:  # one transaction
                table.executemany("insert or replace into image values (?,?,?,?,?,?,?,?,?)", rows)
            bar.update(len(some))
            yield from zip(some, facts, strict=True)


def look(source: Source, case: Case, number: int) -> Fact:
    """Opens an image to its end: Pillow's verify() lets truncated JPEG files pass."""
    try:
        kind, size = _header(source, case, number)
        with ROOM.of(math.prod(size)):
            return _look(source, case, number, kind, size)
    except ImageError as error:
        known = "is missing" if error.reason == reading.MISSING else ""
        return Fact(known or f"does not open ({error.reason})")
    except Exception as error:  # whatever else a source meets
        return Fact(f"does not open ({' '.join(str(error).split())[: reading.LONGEST]})")


def _look(source: Source, case: Case, number: int, kind: str, size: Sequence[int]) -> Fact:
    with _picture(source, case, number) as picture:
        mode, grey = picture.mode, images.to_rgb(picture).convert("L")
        size = size or picture.size
    small = np.asarray(grey.resize((SIDE + 1, SIDE), Image.Resampling.BOX), np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1]).tobytes()
    digest = hashlib.blake2b(repr((tuple(size), mode)).encode() + grey.tobytes(), digest_size=16)
    return Fact("", *size, mode, bits, digest.digest(), kind)


def _is_file(source: Source) -> bool:
    """Whether an image is all there is in its file, not a part that the source takes out."""
    return isinstance(source, ListSource) and type(source).image is ListSource.image


def _header(source: Source, case: Case, number: int) -> tuple[str, Sequence[int]]:
    """(kind, size) without decoding; ('', ()) where only the source knows."""
    if not _is_file(source):
        return "", ()
    path = source.path(case, number)
    size = reading.size(path)
    with reading.told(path):
        if not dicom.is_dicom(reading.place(path)[0]):
            return "", size
        burned_in = dicom.header(reading.place(path)[0]).burned_in
    return f"{DICOM}, burned in" if burned_in else DICOM, size


def _picture(source: Source, case: Case, number: int) -> Image.Image:
    """Of a JPEG file the picture at an eighth of the work."""
    if _is_file(source):
        return reading.opened(source.path(case, number), source.window, draft=DRAFT)
    picture = source.image(case, number)
    return Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture


def reminder(found: Iterable[Fact]) -> list[str]:
    """A line for whoever hands DICOM images, or what was learnt from them, to others."""
    kinds = collections.Counter(fact.kind for fact in found if fact.kind)
    if not kinds:
        return []
    burned = kinds[f"{DICOM}, burned in"]
    said = f"; {burned} of the files say that text is burnt in" if burned else ""
    return [
        f"{kinds.total()} images are DICOM: only pixels and the elements that show them are read, "
        f"but pixels may hold names and dates{said}; see that they are de-identified"
    ]


def stamp(path: pathlib.Path) -> str:
    """When a file was changed, and its size."""
    try:
        stat = path.stat()
    except OSError:
        return "missing"
    return f"{stat.st_mtime_ns}/{stat.st_size}"
