"""Images of the page: each distinct one as a small JPEG in a data URI, or why there is none."""

import base64
import contextlib
import io
import itertools
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from pefomed_jax.data import reading
from pefomed_jax.data.images import to_rgb
from pefomed_jax.errors import ImageError
from pefomed_jax.evaluation.page.saved import SUFFIX, file_name

Picture = Image.Image | np.ndarray
Images = pathlib.Path | Callable[[str], Picture]  # their folder, or what opens one by its name

# longest side in pixels: bytes of a typical data URI
SIZES = {224: 11_000, 160: 6_500, 112: 4_000}
QUALITY = 80
AT_ONCE = 64  # images between two looks at the budget

MISSING, BROKEN, OVER, UNKNOWN = "not found", "cannot be read", "left out", "not looked for"


class Thumbnail(NamedTuple):
    """One image: its name in the cases, and its data URI or why it has none."""

    name: str
    uri: str = ""
    why: str = ""


def thumbnails(names: Sequence[str], images: Images | None, budget: int) -> list[Thumbnail]:
    """One for each name, in order; once `budget` bytes are used up the rest is left out."""
    size = _size(len(names), budget)
    lasts = Counter(pathlib.PurePath(name).name for name in names)
    made: list[Thumbnail] = []

    def one(name: str) -> Thumbnail:
        # two views named alike are never shown as one file
        return _thumbnail(name, images, size, alone=lasts[pathlib.PurePath(name).name] == 1)

    workers = 1 if callable(images) else None  # a source may not be made for threads
    with ThreadPoolExecutor(workers) as pool, _progress(len(names)) as bar:
        for some in _pieces(names):
            if budget <= 0:
                made += [Thumbnail(name, why=OVER) for name in some]
                continue
            for found in pool.map(one, some):
                budget -= len(found.uri)
                made.append(
                    found if budget > 0 or not found.uri else Thumbnail(found.name, "", OVER)
                )
            bar.update(len(some))
    return made


def _pieces(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE))


def _progress(total: int) -> tqdm:
    return tqdm(total=total, desc="images of the page", delay=2, disable=None, leave=False)


def _size(count: int, budget: int) -> int:
    fits = (size for size, typical in SIZES.items() if count * typical <= budget)
    return next(fits, min(SIZES))


def _thumbnail(name: str, images: Images | None, size: int, alone: bool) -> Thumbnail:
    try:
        with contextlib.ExitStack() as stack:
            picture = _open(name, images, size, alone)
            if picture is None:
                return Thumbnail(name, why=UNKNOWN if images is None else MISSING)
            if isinstance(picture, Image.Image):
                stack.enter_context(picture)
            return Thumbnail(name, _uri(picture, size))
    except ImageError as error:
        return Thumbnail(name, why=f"{BROKEN} ({error.reason})")
    except Exception as error:  # whatever a source raises, or a name that is no path
        return Thumbnail(name, why=f"{BROKEN} ({type(error).__name__})")


def _open(name: str, images: Images | None, size: int, alone: bool) -> Picture | None:
    """The picture of a name; None where there is no such file.

    `alone`: no other image has the last part of the name, so that it may be looked for by this.
    """
    if callable(images):
        return images(name)
    path = pathlib.Path(name)
    places = [path] if path.is_absolute() else []
    if images is not None:
        saved = file_name(name)
        places += [images / path, images / saved, images / f"{saved}{SUFFIX}"]
        places += [images / path.name] if alone else []
    found = [place for place in places if place.is_file()]
    found += [place for place in places if reading.place(place)[0].is_file()]  # a frame of a file
    return reading.opened(found[0], draft=2 * size) if found else None


def _uri(picture: Picture, size: int) -> str:
    with reading.quiet():
        small = to_rgb(picture)
        small.thumbnail((size, size))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def summary(found: Sequence[Thumbnail]) -> str:
    """How many images are shown and why others are not; '' where all are."""
    if all(image.uri for image in found):
        return ""
    ways = {
        UNKNOWN: "not looked for, as no folder was given (--images=FOLDER)",
        OVER: "left out to keep this page small",
        MISSING: MISSING,
        BROKEN: BROKEN,
    }
    parts = [f"{sum(bool(image.uri) for image in found)} of {len(found)} images are shown"]
    for why, said in ways.items():
        names = [image.name for image in found if image.why.startswith(why)]
        some = ", ".join(itertools.islice(names, 3)) + (", …" if len(names) > 3 else "")
        named = f" ({some})" if why in (MISSING, BROKEN) else ""
        parts += [f"{len(names)} {said}{named}"] * bool(names)
    return "; ".join(parts)
