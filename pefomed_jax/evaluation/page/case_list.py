"""What the page's list of cases is made of: its data as JSON, and its controls.

    task                      'vqa' or 'report'
    scores, fields, filters   names; a filter has {"name", "values"}
    before, after, prompts    what all prompts have around their own part; the distinct own parts
    cases                     [id, match, images, prompt, references, prediction, scores, fields,
                              filters]: images and prompt are places in their lists, fields texts or
                              null, filters the places of the case's values

A text that was cut is [text, characters of the whole].
"""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pefomed_jax.evaluation import groups, protocols
from pefomed_jax.evaluation.about import image_names
from pefomed_jax.evaluation.notes import texts

Case = Mapping[str, Any]

MOST = 50_000  # cases on the page
CUTS = (4000, 2000, 1000, 500, 200)  # characters of a text on the page, the first that fits
FIELD_CUT = 300
BYTES = 10_000_000  # of all texts on the page
OWN = ("id", "match", "image", "images", "prompt", "reference", "prediction")
_HEAD = re.compile(r".*[\]>]\s*", re.DOTALL)
_TAIL = re.compile(r"\s*[\[<].*", re.DOTALL)


class Listed(NamedTuple):
    """The list as JSON, and what the page says about it."""

    data: str
    images: list[str]  # distinct, those of the worst cases first
    scores: list[str]  # main one first
    filters: list[dict[str, Any]]
    n_left_out: int
    cut: int  # characters of a text


def listed(results: Mapping[str, Any], cases: Sequence[Case], names: Sequence[str]) -> Listed:
    """The cases in the order of their file; of more than MOST the best are left out."""
    main = [name for name in protocols.get(results["protocol"]).main if name in names]
    scores = list(dict.fromkeys([*main, *names]))
    order = _worst_first(cases, scores)
    for most, cut in _attempts(len(cases)):
        kept = [cases[i] for i in sorted(order[:most])]
        images = list(dict.fromkeys(name for i in order[:most] for name in image_names(cases[i])))
        filters = _filters(results, kept)
        data = dumps({"task": results["task"]} | _data(kept, scores, filters, images, cut))
        if len(data.encode()) <= BYTES:
            break
    return Listed(data, images, scores, filters, len(cases) - len(kept), cut)


def _attempts(n_cases: int) -> Iterator[tuple[int, int]]:
    """(cases, characters of a text): shorter texts first, then fewer cases."""
    most = min(n_cases, MOST)
    yield from ((most, cut) for cut in CUTS)
    while most > 1:
        most //= 2
        yield most, CUTS[-1]


def _worst_first(cases: Sequence[Case], scores: Sequence[str]) -> list[int]:
    """By the first score (not counted: last), then by those that every case has."""
    if not cases:
        return []
    first, *others = scores
    others = [name for name in others if all(case[name] is not None for case in cases)]

    def place(i: int) -> tuple[Any, ...]:
        value = cases[i][first]
        return value is None, value or 0.0, *(cases[i][name] for name in others), i

    return sorted(range(len(cases)), key=place)


def _filters(results: Mapping[str, Any], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Every field that there are groups of, and answer_type, with the cases of each value."""
    names = dict.fromkeys(["answer_type", *results["groups"]])
    found = {name: groups.members_of(cases, name) for name in names}
    return [{"name": name, "members": each} for name, each in found.items() if len(each) > 1]


def _data(
    cases: Sequence[Case],
    scores: Sequence[str],
    filters: Sequence[Mapping[str, Any]],
    images: Sequence[str],
    cut: int,
) -> dict[str, Any]:
    fields = _fields(cases, scores)
    before, after = _around(prompts := [str(case.get("prompt") or "") for case in cases])
    prompts = [text[len(before) : len(text) - len(after)] for text in prompts]
    places = [{text: i for i, text in enumerate(dict.fromkeys(x))} for x in (images, prompts)]
    chosen = [_chosen(len(cases), found["members"]) for found in filters]
    rows = [
        [
            *(str(case["id"]), int(case["match"]), [places[0][n] for n in image_names(case)]),
            *(places[1][prompt], [_short(text, cut) for text in texts(case, "reference")]),
            *(_short(case["prediction"], cut), [_rounded(case[name]) for name in scores]),
            *([_field(case.get(name)) for name in fields], [picked[i] for picked in chosen]),
        ]
        for i, (case, prompt) in enumerate(zip(cases, prompts, strict=True))
    ]
    return {
        **{"scores": scores, "fields": fields, "before": before, "after": after},
        "filters": [{"name": f["name"], "values": list(f["members"])} for f in filters],
        **{"prompts": [_short(text, cut) for text in places[1]], "cases": rows},
    }


def _fields(cases: Sequence[Case], scores: Sequence[str]) -> list[str]:
    """Fields of the rows that tell cases apart; of one case all that hold something."""
    names = dict.fromkeys(name for case in cases for name in case if name not in (*OWN, *scores))
    held = {name: {dumps(_field(case.get(name))) for case in cases} for name in names}
    return [name for name in names if len(held[name]) > 1 or len(cases) == 1]


def _around(prompts: Sequence[str]) -> tuple[str, str]:
    """What all prompts begin and end with, up to a bracket; the whole where all are the same."""
    first, last = min(prompts, default=""), max(prompts, default="")
    if first == last:
        return (first, "") if len(prompts) > 1 else ("", "")
    head = _HEAD.match(_common(first, last))
    before = head[0] if head else ""
    rest = [text[len(before) :][::-1] for text in prompts]
    tail = _TAIL.search(_common(min(rest), max(rest))[::-1])
    return before, tail[0] if tail else ""


def _common(a: str, b: str) -> str:
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    return a[: min(len(a), len(b)) if n is None else n]


def _chosen(n_cases: int, members: Mapping[str, Sequence[int]]) -> list[list[int]]:
    made: list[list[int]] = [[] for _ in range(n_cases)]
    for value, rows in enumerate(members.values()):
        for row in rows:
            made[row].append(value)
    return made


def _short(text: str, cut: int) -> str | list[str | int]:
    return text if len(text) <= cut else [text[:cut], len(text)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _field(held: Any) -> str | list[str | int] | None:
    if held is None or held == "":
        return None
    if isinstance(held, list | tuple) and all(isinstance(part, str) for part in held):
        return _short(", ".join(held) or "(none)", FIELD_CUT)
    text = held if isinstance(held, str) else json.dumps(held, ensure_ascii=False)
    return _short(text, FIELD_CUT)


def dumps(value: Any) -> str:
    """JSON without blanks between its parts."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def controls(listed: Listed) -> dict[str, str]:
    """Selects of the filters and of the order, and what the list leaves out, as HTML."""
    filters = [
        _select(f"filter-{i}", found["name"], {"": "all"} | _values(found["members"]))
        for i, found in enumerate(listed.filters)
    ]
    sorts = {str(i): name for i, name in enumerate(listed.scores)}
    sorts |= {"words": "words of the answer", "id": "id", "file": "order of the file"}
    said = []
    if listed.n_left_out:
        said.append(f"the {listed.n_left_out} best cases are left out here; cases.csv has them")
    if listed.cut < CUTS[0]:
        said.append(f"texts are shown and searched up to {listed.cut} characters")
    sort = _select("sort", "sort by", sorts)
    return {"filters": "".join(filters), "sort": sort, "left_out": "".join(map(note, said))}


def note(said: str) -> str:
    """A remark above the list; '' for none."""
    return f'<p class="note">{html.escape(said)}.</p>' if said else ""


def _values(members: Mapping[str, Sequence[int]]) -> dict[str, str]:
    return {str(i): f"{name} ({len(rows)})" for i, (name, rows) in enumerate(members.items())}


def _select(name: str, label: str, options: Mapping[str, str]) -> str:
    shown = "".join(
        f'<option value="{key}">{html.escape(text)}</option>' for key, text in options.items()
    )
    return f'<label>{html.escape(label)}<select id="{name}">{shown}</select></label>'
