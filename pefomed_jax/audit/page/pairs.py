"""Pictures that come twice, side by side, with what is asked about them in each split."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pefomed_jax.audit.gather import Gathered
from pefomed_jax.audit.leakage import Record, pairs_of
from pefomed_jax.audit.made import Made
from pefomed_jax.batch import Case
from pefomed_jax.evaluation.page.images import Thumbnail

MOST = 18  # pairs of each heading
TEXTS = 3  # of one side
CUT = 140  # characters of a text
Films = Mapping[str, Thumbnail]


class Side(NamedTuple):
    """One half of a card: an image, and cases that show it."""

    split: str
    image: str  # '': a case of text alone
    cases: list[Case]


class Card(NamedTuple):
    """Two sides, and what joins them."""

    kind: str
    note: str
    sides: tuple[Side, Side]


class Group(NamedTuple):
    """Cards under one heading, and how many there are in all."""

    heading: str
    cards: list[Card]
    total: int


def choose(made: Made) -> list[Group]:
    """What is shown: other files between splits first, then one file in both, then within one."""
    held = _Held(made.found)
    between = [it for it in made.shared if "images" in it]
    other = sorted(
        (it for it in between if it["kind"] != "same file"),
        key=lambda it: (it["kind"] != "near-duplicate", it["splits"] != ("train", "test")),
    )
    same = sorted(
        (it for it in between if it["kind"] == "same file"),
        key=lambda it: it["splits"] != ("train", "test"),
    )
    inside = [it for it in made.within if "images" in it]
    apart = [it for it in made.within if it["kind"] == "contradiction"]
    groups = (
        ("other files of one picture, in two splits", other, held.images),
        ("one image file in two splits", same, held.images),
        ("several files of one picture within a split", inside, held.images),
        ("one question, answered in two ways", apart, held.answers),
    )
    return [
        Group(heading, [card(it) for it in records[:MOST]], len(records))
        for heading, records, card in groups
        if records
    ]


class _Held:
    """Cases by id, and by split and image."""

    def __init__(self, found: Gathered):
        self._by_id = {(s, case.id): case for s, cases in found.parts.items() for case in cases}
        self._by_image: dict[tuple[str, str], list[Case]] = {}
        for split, cases in found.parts.items():
            for case in cases:
                for name in case.images:
                    self._by_image.setdefault((split, name), []).append(case)

    def images(self, record: Record) -> Card:
        """A card of a record of images: the first two that are not one file."""
        splits = [record["splits"][0], record["splits"][-1]]
        sides = record["images"] if len(record["images"]) > 1 else [record["images"][0]] * 2
        names = (sides[0][0], sides[1][0])
        if names[0] == names[1] and record["kind"] != "same file":
            names = pairs_of({"images": sides})[0]
        made = [
            Side(split, name, self._by_image[split, name])
            for split, name in zip(splits, names, strict=True)
        ]
        return Card(record["kind"], _measured(record), (made[0], made[1]))

    def answers(self, record: Record) -> Card:
        """A card of a contradiction: one case of either answer."""
        split = record["splits"][0]
        cases = [self._by_id[split, ids[0]] for ids in record["cases"][:2]]
        first, second = (Side(split, case.image, [case]) for case in cases)
        more = len(record["cases"]) - 2
        return Card(record["kind"], f"and {more} more ways" if more > 0 else "", (first, second))


def _measured(record: Record) -> str:
    if "distance" not in record:
        return ""
    return f"likeness {record['likeness']:.2f}, {record['distance']} of 256 bits apart"


def names(groups: Iterable[Group]) -> list[str]:
    """The images of the cards."""
    sides = (side for group in groups for card in group.cards for side in card.sides)
    return [side.image for side in sides if side.image]


def cards(groups: Sequence[Group], found: Gathered, films: Films) -> str:
    """The cards under their headings."""
    made = ""
    for group in groups:
        some = f" <span class=muted>({len(group.cards)} of {group.total:,} shown)</span>"
        more = some if group.total > len(group.cards) else ""
        items = "".join(_card(card, films) for card in group.cards)
        made += f'<h3 class="part">{group.heading}{more}</h3><ul class="pairs">{items}</ul>'
    return made


def _card(card: Card, films: Films) -> str:
    note = f'<span class="muted">{html.escape(card.note)}</span>' if card.note else ""
    one = card.sides[0].image if card.sides[0].image == card.sides[1].image else ""
    above = f'<div class="side one">{film(films[one])}</div>' if one else ""
    sides = "".join(_side(side, {} if one else films) for side in card.sides)
    head = f'<div class="top"><span class="badge plain">{card.kind}</span>{note}</div>'
    return f'<li class="pair">{head}{above}<div class="two">{sides}</div></li>'


def _side(side: Side, films: Films) -> str:
    texts = "".join(f"<li>{_text(case)}</li>" for case in side.cases[:TEXTS])
    if (more := len(side.cases) - TEXTS) > 0:
        texts += f'<li class="muted">and {more:,} more</li>'
    name = f"<b>{html.escape(side.split)}</b> {html.escape(side.image)}"
    picture = film(films[side.image]) if side.image in films else ""
    return f'<div class="side">{picture}<p class="name">{name}</p><ul>{texts}</ul></div>'


def film(thumbnail: Thumbnail) -> str:
    """An image of the page, or why there is none."""
    name = html.escape(thumbnail.name, quote=True)
    if not thumbnail.uri:
        return f'<div class="no-film">image {html.escape(thumbnail.why)}: {name}</div>'
    return f'<img src="{thumbnail.uri}" alt="image {name}" title="{name}">'


def _text(case: Case) -> str:
    answer = f"<b>{html.escape(_cut(case.answer))}</b>"
    return f"{html.escape(_cut(case.question))} {answer}" if case.question else answer


def _cut(text: str) -> str:
    return text if len(text) <= CUT else f"{text[:CUT]} …"
