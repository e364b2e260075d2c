"""Reads findings back from a report by rules: terms, their side, and whether they are denied."""

import dataclasses
import re

_TERMS = {
    "enlarged heart": r"cardiomegaly|enlarged heart|(?:heart|silhouette)\b.*\benlarged",
    "effusion": r"effusions?",
    "pneumothorax": r"pneumothora(?:x|ces)",
    "nodule": r"nodules?",
    "consolidation": r"consolidations?",
    "line": r"central (?:venous )?(?:line|catheter)",
}
_TERM = re.compile(
    r"\b(?:" + "|".join(f"(?P<t{n}>{p})" for n, p in enumerate(_TERMS.values())) + r")\b"
)
_SIDED = ("effusion", "pneumothorax", "nodule", "consolidation")
_NO = re.compile(r"\b(?:no|not|without|free of|negative for)\b")
_ABSENT = re.compile(r"\s*(?:is|are|was|were|has|have)?\s*(?:not|absent|no longer|resolved)\b")
_NORMAL = re.compile(r"\b(?:normal|clear|unremarkable|no (?:acute )?(?:abnormality|disease))\b")
_SIDES = re.compile(r"\b(left|right|bilateral|both)\b")


@dataclasses.dataclass(frozen=True)
class Parsed:
    """findings: names as in `scene.FINDINGS`; unparsed: sentences no rule could read."""

    findings: frozenset[str]
    unparsed: tuple[str, ...]


def findings_in(report: str) -> frozenset[str]:
    """The findings that the FINDINGS part of a report affirms, named as in `scene.FINDINGS`."""
    return parse(report).findings


def parse(report: str) -> Parsed:
    """Reads the FINDINGS part, or all of a text without headings.

    A sentence is unparsed when it holds no known term and no word of normality, or names a finding
    of a lung without a side.
    """
    found, unparsed = set(), []
    for sentence in _sentences(report):
        names = _sentence(sentence)
        if names is None:
            unparsed.append(sentence)
        else:
            found |= names
    return Parsed(frozenset(found), tuple(unparsed))


def _sentences(report: str) -> list[str]:
    text = re.split(r"\bIMPRESSION\s*:", report, flags=re.IGNORECASE)[0]
    text = re.split(r"\bFINDINGS\s*:", text, flags=re.IGNORECASE)[-1]
    parts = re.split(r"[.;\n]+", text)
    return [part.strip() for part in parts if part.strip()]


def _sentence(sentence: str) -> set[str] | None:
    """The findings affirmed in one sentence; None where no rule applies."""
    text = re.sub(r"\b(?:left and right|right and left)\b", "bilateral", sentence.lower())
    found, known = set(), bool(_NORMAL.search(text))
    for part in re.split(r"\b(?:but|however|although)\b", text):
        for match in _TERM.finditer(part):
            known = True
            # a denial reaches across "and", "or" and commas to the end of its part
            if _NO.search(part, 0, match.end()) or _ABSENT.match(part, match.end()):
                continue
            names = _named(match, part)
            if not names:
                return None
            found |= names
    return found if known else None


def _named(match: re.Match, part: str) -> set[str]:
    """The finding of a term with its sides; empty where a side is wanted and none is near."""
    name = list(_TERMS)[int(match.lastgroup[1:])]
    if name not in _SIDED:
        return {name}
    # the side belongs to the same phrase: between the commas and "and"s around the term
    breaks = [0, *(m.end() for m in re.finditer(r",|\band\b", part)), len(part)]
    start = max(b for b in breaks if b <= match.start())
    end = min(b for b in breaks if b >= match.end())
    near = [
        (min(abs(m.start() - match.end()), abs(match.start() - m.end())), m[1])
        for m in _SIDES.finditer(part, start, end)
    ]
    if not near:
        return set()
    side = min(near)[1]
    return {
        f"{s} {name}" for s in (("left", "right") if side in ("bilateral", "both") else (side,))
    }
