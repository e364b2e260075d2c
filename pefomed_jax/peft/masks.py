"""The mask is the method: which parameters train, by one ordered list of (regex, group).

Trees are nested dicts of arrays or of `jax.ShapeDtypeStruct`; nothing here touches the values.
"""

import difflib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict, unflatten_dict

from pefomed_jax.errors import UserError
from pefomed_jax.parallel import paths

FROZEN = "frozen"
Tree = dict[str, Any]


def resolve(params: Tree, rules: Sequence[tuple[str, str]]) -> Tree:
    """The group of every leaf: a tree like `params` with strings for leaves.

    A rule is (regex, group), searched in 'a/b/c' paths; the first match wins and the group 'frozen'
    freezes. Raises UserError for a regex that is none, a rule that matches no leaf (the catch-all
    ('.*', 'frozen') may) and a leaf that no rule covers.
    """
    leaves = flatten_dict(params, sep="/")
    compiled = [(_compile(pattern), group) for pattern, group in rules]
    for regex, group in compiled:
        if not any(map(regex.search, leaves)) and (regex.pattern, group) != (".*", FROZEN):
            raise UserError(
                f"config.trainable: '{regex.pattern}' matches no parameter; "
                f"the nearest is '{_nearest(regex.pattern, leaves)}'"
            )
    return unflatten_dict({path: _group(path, compiled) for path in leaves}, sep="/")


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"config.trainable: '{pattern}' is not a regex: {error}") from None


def _group(path: str, rules: list[tuple[re.Pattern[str], str]]) -> str:
    for regex, group in rules:
        if regex.search(path):
            return group
    raise UserError(
        f"config.trainable: no rule covers '{path}'; end the list with ('.*', '{FROZEN}')"
    )


def _nearest(pattern: str, leaves: Iterable[str]) -> str:
    """The collapsed path one of whose ends looks most like the regex without its punctuation."""
    plain = re.sub(r"[\\^$.()\[\]{}|*+?]", "", pattern)

    def likeness(path: str) -> float:
        parts = path.split("/")
        ends = ("/".join(parts[i:]) for i in range(len(parts)))
        return max(difflib.SequenceMatcher(None, plain, end).ratio() for end in ends)

    return max(sorted({paths.collapse(path) for path in leaves}), key=likeness)


def partition(params: Tree, labels: Tree) -> tuple[Tree, Tree]:
    """(trainable, frozen): nested dicts that hold only their own leaves."""
    groups = flatten_dict(labels, sep="/")
    parts: tuple[Tree, Tree] = ({}, {})
    for path, leaf in flatten_dict(params, sep="/").items():
        parts[groups[path] == FROZEN][path] = leaf
    return unflatten_dict(parts[0], sep="/"), unflatten_dict(parts[1], sep="/")


def merge(trainable: Tree, frozen: Tree) -> Tree:
    """The whole tree again; a leaf present in both is an error."""
    first, second = flatten_dict(trainable, sep="/"), flatten_dict(frozen, sep="/")
    if both := first.keys() & second.keys():
        raise ValueError(f"'{min(both)}' is both trainable and frozen")
    return unflatten_dict(first | second, sep="/")


class Size(NamedTuple):
    """How much a part holds."""

    count: int  # parameters
    bytes: int


def counts(params: Tree, labels: Tree) -> dict[str, Size]:
    """Sizes by group; frozen leaves by top-level module, as 'frozen/vision' and so on."""
    groups = flatten_dict(labels, sep="/")
    sizes: dict[str, Size] = {}
    for path, leaf in flatten_dict(params, sep="/").items():
        group = groups[path]
        key = f"{FROZEN}/{path.split('/')[0]}" if group == FROZEN else group
        old, new = sizes.get(key, Size(0, 0)), _size(leaf)
        sizes[key] = Size(old.count + new.count, old.bytes + new.bytes)
    return sizes


def _size(leaf: Any) -> Size:
    count = math.prod(leaf.shape)
    return Size(count, count * leaf.dtype.itemsize)


def _is_frozen(group: str) -> bool:
    return group.startswith(f"{FROZEN}/")


def table(params: Tree, labels: Tree) -> str:
    """What trains, as a printable table: path, shape, tensors, parameters, MiB; then totals."""
    sizes = counts(params, labels)
    rows = [("trainable", "shape", "tensors", "parameters", "MiB")]
    for group in (g for g in sizes if not _is_frozen(g)):
        rows += [(group, "", "", *_amount(sizes[group]))]
        rows += [("  " + path, *rest) for path, *rest in _leaf_rows(params, labels, group)]
    trainable = _sum(size for group, size in sizes.items() if not _is_frozen(group))
    frozen = _sum(size for group, size in sizes.items() if _is_frozen(group))
    rows += [("total trainable", "", "", *_amount(trainable))]
    rows += [(FROZEN, "", "", *_amount(frozen))]
    rows += [
        ("  " + group.split("/")[1], "", "", *_amount(size))
        for group, size in sizes.items()
        if _is_frozen(group)
    ]
    share = 100 * trainable.count / max(1, trainable.count + frozen.count)
    return "\n".join([*_align(rows), f"{share:.2f} % of the parameters train"])


def _leaf_rows(params: Tree, labels: Tree, group: str) -> list[tuple[str, str, str, str, str]]:
    """One row for the same leaf of all layers."""
    groups = flatten_dict(labels, sep="/")
    alike: dict[tuple[str, str], list[Size]] = defaultdict(list)
    for path, leaf in flatten_dict(params, sep="/").items():
        if groups[path] == group:
            shape = f"{leaf.dtype.name}[{','.join(map(str, leaf.shape))}]"
            alike[paths.collapse(path), shape].append(_size(leaf))
    return [(path, shape, str(len(s)), *_amount(_sum(s))) for (path, shape), s in alike.items()]


def _sum(sizes: Iterable[Size]) -> Size:
    sizes = list(sizes)
    return Size(sum(s.count for s in sizes), sum(s.bytes for s in sizes))


def _amount(size: Size) -> tuple[str, str]:
    return f"{size.count:,}", f"{size.bytes / 2**20:,.2f}"


def _align(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
