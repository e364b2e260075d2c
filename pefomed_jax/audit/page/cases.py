"""Sample cases of every split, with the very text that the model sees."""

import html
import itertools
from collections.abc import Sequence

from pefomed_jax.audit.gather import SPLITS, Gathered
from pefomed_jax.audit.page.pairs import Films, film
from pefomed_jax.batch import Case
from pefomed_jax.data import prompts as prompts_lib
from pefomed_jax.data.prompts import Prompts, Text
from pefomed_jax.models import mllm

SHOWN = {"train": 6, "val": 3, "test": 6}
CUT = 3000  # characters of a text
VIEWS = 4  # images of a case


def choose(found: Gathered) -> list[Case]:
    """Cases at even distances in each split."""
    return [case for split in SPLITS for case in _even(found.parts[split], SHOWN[split])]


def _even(cases: Sequence[Case], n: int) -> list[Case]:
    n = min(n, len(cases))
    return [cases[i * len(cases) // n] for i in range(n)]


def names(cases: Sequence[Case]) -> list[str]:
    """The images of the cards."""
    return [name for case in cases for name in case.images[:VIEWS]]


def cards(cases: Sequence[Case], found: Gathered, films: Films) -> str:
    """One card a case."""
    prompts = prompts_lib.make(found.config)
    bos = getattr(found.tokenizer, "bos_token", None) or "<s>"
    eos = getattr(found.tokenizer, "eos_token", None) or "</s>"
    n_visual = mllm.visual_tokens(found.config.model)
    items = "".join(_card(case, prompts, (bos, eos), n_visual, films) for case in cases)
    key = (
        "Below each case stands what the decoder reads: a training case as one epoch words it, the "
        "others as they are evaluated. What is marked is learnt, or compared with the answer given."
    )
    return f'<p class="note">{key}</p><ul id="list">{items}</ul>'


def _card(case: Case, prompts: Prompts, ends: tuple[str, str], n_visual: int, films: Films) -> str:
    shown = "".join(film(films[name]) for name in case.images[:VIEWS])
    if (more := len(case.images) - VIEWS) > 0:
        shown += f'<div class="no-film">and {more} more images</div>'
    fields = "".join(_field(name, held) for name, held in case.fields.items())
    badge = f'<span class="badge plain">{case.split}</span>'
    head = f'<div class="top"><h3>{html.escape(case.id)}</h3>{badge}</div>'
    question = f'<p class="text prompt">{html.escape(case.question)}</p>' if case.question else ""
    answer = f'<p class="text answer">{html.escape(_cut(case.answer))}</p>'
    text = prompts.train(case, 0) if case.split == "train" else prompts.evaluate(case)
    sequence = f'<code class="sequence">{_sequence(text, ends, n_visual)}</code>'
    films_of = f'<div class="films">{shown}</div>' if shown else ""
    bare = "" if shown else " bare"
    values = f'<div class="values">{fields}</div>' if fields else ""
    body = f"<div>{question}{answer}{values}</div>"
    return f'<li class="case{bare}">{films_of}{head}{body}{sequence}</li>'


def _field(name: str, held: object) -> str:
    text = ", ".join(map(str, held)) if isinstance(held, list | tuple) else str(held)
    return f'<span class="field">{html.escape(name)}: {html.escape(_cut(text)[:300])}</span>'


def _sequence(text: Text, ends: tuple[str, str], n_visual: int) -> str:
    """The pieces of a prompt in order, with the places of visual tokens."""
    slots = f'<span class="slots">{n_visual} visual tokens</span>'
    between = html.escape(text.between)
    seen = list(itertools.repeat(slots, text.images))
    begin, end = (f'<span class="special">{html.escape(it)}</span>' for it in ends)
    middle = between.join(seen)
    target = f'<span class="target">{html.escape(_cut(text.answer))}</span>'
    after = html.escape(_cut(text.after))
    return f"{begin}{html.escape(text.before)}{middle}{after} {target}{end}"


def _cut(text: str) -> str:
    return text if len(text) <= CUT else f"{text[:CUT]} … ({len(text):,} characters)"
