"""Images that are one picture: copies of the same pixels, and near-duplicates of these."""

import collections
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pefomed_jax.audit import alike, near
from pefomed_jax.batch import Case
from pefomed_jax.data.facts import Fact
from pefomed_jax.data.sources import Source
from pefomed_jax.data.sources.files import ListSource
from pefomed_jax.data.sources.mixture import Mixture


class Near(NamedTuple):
    """Two images, neither a copy of the other, that show one picture."""

    first: str
    second: str
    distance: int  # bits of 256
    likeness: float  # see alike


class Twins(NamedTuple):
    """What is the same picture among the images that open."""

    first_of: dict[str, str]  # an image and the first of its copies: itself where it has none
    near: list[Near]  # between the first of their copies, the most alike first
    plain: int  # distinct pictures without features, of which only copies are found
    left: int  # pairs with looks not far apart that were not compared, as there are too many

    def copies(self) -> dict[str, list[str]]:
        """The images of each distinct picture by the first of them."""
        found: dict[str, list[str]] = collections.defaultdict(list)
        for name, first in self.first_of.items():
            found[first].append(name)
        return found


def find(
    source: Source,
    known: Mapping[str, Fact],
    where: Mapping[str, tuple[Case, int]],
    splits: Mapping[str, int],
) -> Twins:
    """The twins among the images of `where`. `splits`: a number for the splits each image is in.

    Pairs of different splits are compared first.
    """
    by_digest: dict[bytes, str] = {}
    opened = [name for name in where if name in known and not known[name].problem]
    first_of = {name: by_digest.setdefault(known[name].digest, name) for name in opened}
    names = list(by_digest.values())
    looks = np.frombuffer(b"".join(known[name].look for name in names), np.uint8).reshape(-1, 32)
    telling = np.flatnonzero(near.telling(looks))
    if not isinstance(source, ListSource | Mixture):
        return Twins(first_of, [], 0, 0)  # drawings of ours are alike, and none is a copy
    group = np.asarray([splits[names[i]] for i in telling], np.int64)
    found, left = near.pairs(looks[telling], group)
    found[:, :2] = telling[found[:, :2]]
    same = _same(source, names, where, found)
    return Twins(first_of, same, len(names) - len(telling), left)


def _same(
    source: Source, names: list[str], where: Mapping[str, tuple[Case, int]], found: np.ndarray
) -> list[Near]:
    """Those of the pairs whose pixels agree."""
    if not len(found):
        return []
    used, place = np.unique(found[:, :2], return_inverse=True)
    place = place.reshape(-1, 2)
    small = alike.small(source, [where[names[i]] for i in used])
    scores = alike.likeness(small[place[:, 0]], small[place[:, 1]])
    kept = [
        Near(names[i], names[j], int(apart), round(float(score), 3))
        for (i, j, apart), score in zip(found.tolist(), scores, strict=True)
        if score >= alike.ENOUGH
    ]
    return sorted(kept, key=lambda it: (-it.likeness, it.distance, it.first, it.second))
