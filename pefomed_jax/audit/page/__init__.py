"""The page of an audit, audit.html: one file that loads nothing, in the style of report.html.

Its policy forbids to load anything and to run anything; images are small JPEGs inside it.
"""

import html
import string

from PIL import Image

from pefomed_jax.audit.made import Made
from pefomed_jax.audit.page import cases, figures, pairs, tables
from pefomed_jax.evaluation.page import POLICY, asset, hash_of
from pefomed_jax.evaluation.page.images import Picture, thumbnails

BUDGET = 8_000_000  # bytes of images


def page(made: Made) -> str:
    """The whole page."""
    shown, samples = pairs.choose(made), cases.choose(made.found)
    names = dict.fromkeys([*pairs.names(shown), *cases.names(samples)])

    def opened(name: str) -> Picture:
        picture = made.found.source.image(*made.found.where[name])
        if isinstance(picture, Image.Image):
            picture.load()  # a damaged file raises here, where it is caught
        return picture

    films = {film.name: film for film in thumbnails(list(names), opened, BUDGET)}
    sections = {
        "Splits": tables.splits(made.audit),
        "Answers": tables.answers(made.audit),
        "Lengths": figures.lengths(made.audit),
        "Images": figures.images(made.audit),
        "Bad rows": tables.bad(made.audit, made.found.bad),
        "Leakage": tables.shared(made.audit) + pairs.cards(shown, made.found, films),
        "Samples": cases.cards(samples, made.found, films),
    }
    style = asset("style.css") + asset("audit.css", __name__)
    return string.Template(asset("audit.html", __name__)).substitute(
        title=html.escape(f"data audit: {made.audit['source']}, {made.audit['task']}"),
        header=tables.header(made.audit),
        links="\n".join(f'<a href="#{_id(name)}">{name}</a>' for name in sections),
        sections="\n".join(
            f'<section id="{_id(name)}"><h2>{name}</h2>\n{part}</section>'
            for name, part in sections.items()
        ),
        style=style,
        policy=f"{POLICY}; style-src {hash_of(style)}",
    )


def _id(name: str) -> str:
    return name.lower().replace(" ", "-")
