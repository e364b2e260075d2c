"""The sections of a free-text report of MIMIC-CXR.

The rules are those of the official code (MIT-LCP/mimic-cxr, txt/section_parser.py): a section
begins with a line in capitals up to a colon; names are brought to few; a name that holds
"impression", "findings", "history", "comparison" or "addendum" is that; the name of a view
("CHEST, TWO VIEWS") heads findings; of several sections of a name the last with text counts.
Reports that these rules cannot part have their text told by hand (`exceptions`).

What differs: where a report has neither findings nor impression by these rules, headers also count
at the margin, in the first line and right below another one, and the usual ones in small letters;
blank lines may hold any blanks; and white space inside a section becomes single blanks.
"""

import re
from typing import NamedTuple

from pefomed_jax.data.sources.mimic_cxr import exceptions

HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")
ANY_CASE = re.compile(
    r"^[ \t]*((?i:findings?|impressions?|conclusions?|indication|(?:clinical )?history"
    r"|reason for exam(?:ination)?|comparisons?|technique|wet read|exam(?:ination)?)"
    r"|[A-Z][A-Z ()/,-]*)[ \t]*:(?!\S)",
    re.MULTILINE,
)
BLANK_LINE = re.compile(r"\n[ \t]*\n")

SAME = {  # names of a section, as reports write them
    "impression": "conclusion|findings and impression|findings/impression|findings/ impression"
    "|impresson|imprression|imoression|impressoin|imprssion|impresion|imperssion|mpression"
    "|impession|ndication",  # so in the official table
    "findings": "finding|findins|findindgs|findgings|findngs|findnings|finidngs"
    "|reference findings|chest, two views",
    "comparison": "comparisons|reference exam|comparison exam|comparison film|comparision"
    "|comparsion|comparrison|comparisions",
    "indication": "reason for examination|reason for exam|clinical indication|idication",
    "history": "clinical history|clinical information|patient history|pfi",
    "examination": "exam|type of examination",
    "recommendations": "recommendation(s)|recommendation",
    "wet read": "wetread",
}
NAMES = {alias: name for name, aliases in SAME.items() for alias in aliases.split("|")}
HELD = ("impression", "findings", "history", "comparison", "addendum")
VIEWS = re.compile(
    "chest|portable|pa and lat|lateral and (?:pa|ap)|ap and lateral|frontal and|two views|one view"
    "|(?:frontal|pa|ap|lateral) view|bone window|frontal (?:semi-)?upright|ribs"
)


class Sections(NamedTuple):
    """Texts in single blanks, '' where a report has none."""

    findings: str = ""
    impression: str = ""
    last_paragraph: str = ""  # of a report with neither, or what `exceptions` tell
    indication: str = ""  # the reason for the examination, else the history


def extract(report: str, study: str = "") -> Sections:
    """The sections of a report; `study`: its number, by which exceptions are known."""
    if study in exceptions.SPANS:
        start, end = exceptions.SPANS[study]
        return Sections(last_paragraph=_single(report[start:end]))
    parts = _parts(report, HEADER)
    if not _main(parts) and _main(by_any := _parts(report, ANY_CASE)):
        parts = by_any
    told = exceptions.NAMES.get(study, "last_paragraph")
    if _main(parts):
        found = _last(parts, "findings"), _last(parts, "impression")
    else:
        parts, found = _last_parted(parts), ("", "")
    why = _last(parts, "indication") or _last(parts, "history")
    if study in exceptions.NAMES:
        found = ("", "")
    return Sections(*found, _last(parts, told), why)


def _parts(report: str, header: re.Pattern[str]) -> list[tuple[str, str]]:
    """(name, text) of every section in order; text before the first header is 'preamble'."""
    found = header.search(report)
    if found is None:
        return [("full report", report)]
    parts = [("preamble", report[: found.start(1)])]
    while found:
        start = found.end()
        # the line of a header holds no other; -1: there is no further line
        following = header.search(report, max(report.find("\n", start), start))
        text = report[start : following.start() if following else None]
        parts.append((_name(found[1]), text))
        found = following
    return [part for part in parts if part[1].strip() or part[0] not in ("findings", "impression")]


def _name(header: str) -> str:
    name = header.strip().lower()
    if name in NAMES:
        return NAMES[name]
    held = next((main for main in HELD if main in name), "")
    return held or ("findings" if VIEWS.search(name) else name)


def _main(parts: list[tuple[str, str]]) -> bool:
    return any(name in ("findings", "impression") for name, _ in parts)


def _last(parts: list[tuple[str, str]], wanted: str) -> str:
    texts = [text for name, text in parts if name == wanted]
    return _single(texts[-1]) if texts else ""


def _last_parted(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The last section up to its first blank line, and the rest as 'last_paragraph'."""
    *before, (name, text) = parts
    blank = BLANK_LINE.search(text)
    if blank is None:
        return parts
    return [*before, (name, text[: blank.start()]), ("last_paragraph", text[blank.end() :])]


def _single(text: str) -> str:
    return " ".join(text.split())
