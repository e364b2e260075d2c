"""The page of an evaluation, report.html, and its tables for spreadsheets.

The page is one file that loads nothing: its policy forbids it, styles and program are let in by
their hashes, and images are small JPEGs inside it.
"""

import base64
import hashlib
import html
import string
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from pefomed_jax.evaluation.page import case_list, charts, sheets, tables
from pefomed_jax.evaluation.page.images import OVER, Images, summary, thumbnails

Case = Mapping[str, Any]  # a line of cases.jsonl
Results = Mapping[str, Any]  # results.json

BUDGET = 19_000_000  # bytes of the page
POLICY = "default-src 'none'; img-src data:"
TITLES = {"vqa": "Answers to questions", "report": "Reports"}


def files(
    results: Results, cases: Sequence[Case], names: Sequence[str], images: Images | None = None
) -> dict[str, str]:
    """{file name: text} of report.html, scores.csv and cases.csv.

    `names` are the scores that the cases hold; `images` is the folder of their images, or opens
    one by its name. Absolute paths are found without it.
    """
    return {
        "report.html": page(results, cases, names, images),
        "scores.csv": sheets.scores(results),
        "cases.csv": sheets.cases(cases),
    }


def page(
    results: Results,
    cases: Sequence[Case],
    names: Sequence[str],
    images: Images | None,
    budget: int = BUDGET,
) -> str:
    """The whole page; as many thumbnails as fit in `budget` bytes, those of the worst cases first.

    What does not fit is counted on the page.
    """
    style, program = asset("style.css"), asset("page.js") + asset("card.js")
    listed = case_list.listed(results, cases, names)
    text = {
        "title": html.escape(_title(results)),
        "header": tables.header(results, TITLES.get(results["task"], results["task"])),
        **_sections(results, cases, names),
        **case_list.controls(listed),
        "signature": html.escape(results["signature"]),
        "data": _inline(listed.data),
        "style": style,
        "program": program,
        "policy": f"{POLICY}; style-src {hash_of(style)}; script-src {hash_of(program)}",
    }
    without = case_list.dumps([[name, "", OVER] for name in listed.images])
    left = budget - sum(len(part.encode()) for part in (*text.values(), without))
    found = thumbnails(listed.images, images, left)
    text["images"] = _inline(case_list.dumps(found))
    text["shown"] = case_list.note(summary(found))
    return string.Template(asset("page.html")).substitute(text)


def _title(results: Results) -> str:
    split = f"split {results['split']}, " if results["split"] else ""
    n = results["counts"]["test"]["n_cases"]
    return f"protocol {results['protocol']}, {split}{charts.n_cases(n)}"


def _sections(results: Results, cases: Sequence[Case], names: Sequence[str]) -> dict[str, str]:
    """The sections above the cases, and links to all that there are."""
    made = {
        "Scores": tables.scores(results),
        "Comparison": tables.comparison(results),
        "Groups": tables.groups(results),
        "Distributions": charts.distributions(cases, names),
    }
    made = {name: part for name, part in made.items() if part}
    links = [f'<a href="#{name.lower()}">{name}</a>' for name in (*made, "Cases", "Signature")]
    parts = [
        f'<section id="{name.lower()}"><h2>{name}</h2>\n{part}</section>'
        for name, part in made.items()
    ]
    return {"links": "\n".join(links), "sections": "\n".join(parts)}


def asset(name: str, package: str = "pefomed_jax.evaluation.page") -> str:
    """The text of a file beside the code of a page."""
    return (resources.files(package) / name).read_text(encoding="utf-8")


def _inline(json_text: str) -> str:
    """JSON that no text in it can end or turn into something else inside a script element."""
    return json_text.replace("<", "\\u003c").replace(">", "\\u003e")


def hash_of(text: str) -> str:
    """What lets a style or a program of this text in through the page's policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
