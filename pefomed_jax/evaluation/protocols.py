"""What is scored, and after which preparation of the texts: protocols by name.

Scores of the same texts differ by half or more between protocols, so a table always names its own.
docs/evaluation.md says what each one does, to the letter.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pefomed_jax.errors import UserError, nearest
from pefomed_jax.evaluation import vqa
from pefomed_jax.evaluation.measure import Measure, Skipped, mean
from pefomed_jax.evaluation.notes import texts
from pefomed_jax.evaluation.text import meteor, meteor_nltk, ptb, r2gen, raw13a, report

Row = Mapping[str, Any]
Found = Measure | Skipped
Family = Callable[[Sequence[Row]], list[Found]]

VQA_MAIN = ("exact_match",)
REPORT_MAIN = ("finding_f1", "cider")


class Protocol(NamedTuple):
    """A name for all that decides about a score besides the texts."""

    name: str
    task: str  # 'vqa' or 'report'
    tokeniser: str
    families: tuple[Family, ...]
    main: tuple[str, ...]  # scores that stand for all, the first there is
    truncation: str = "none"  # of the references
    matches: Callable[[Sequence[Row]], list[bool]] | None = None  # None: where exact_match is 1
    slow: Mapping[str, Family] = {}  # by score; left out inside training, as METEOR starts Java
    cuts: Callable[[str], bool] | None = None  # whether a reference loses words
    slow_versions: Callable[[], dict[str, str]] = dict  # of what others wrote and `slow` calls

    def measures(self, rows: Sequence[Row], slow: bool = True) -> list[Found]:
        """All scores of the rows, in the order of the table."""
        families = (*self.families, *(self.slow.values() if slow else ()))
        return [found for family in families for found in family(rows)]

    def notes(self, rows: Sequence[Row]) -> list[str]:
        """Warnings about what the protocol does to these rows."""
        return [note for note in (self._misplaced(rows), self._cut(rows)) if note]

    def _misplaced(self, rows: Sequence[Row]) -> str:
        answers = sum(map(_is_answer, rows))
        if self.task == "vqa" or answers <= len(rows) / 2:
            return ""
        own = ", ".join(p.name for p in PROTOCOLS.values() if p.task == "vqa")
        return f"{answers} of {len(rows)} cases are answers to questions, which {own} are for"

    def _cut(self, rows: Sequence[Row]) -> str:
        cuts = self.cuts
        n = 0 if cuts is None else sum(any(map(cuts, texts(row, "reference"))) for row in rows)
        if not n:
            return ""
        return (
            f"the references of {n} of {len(rows)} cases were CUT ({self.truncation}): what they "
            "say beyond is not asked for; no score of whole references can be compared"
        )

    def versions(self, slow: bool = True) -> dict[str, str]:
        """Versions of what others wrote and this protocol calls."""
        return self.slow_versions() if slow and self.slow else {}


def get(name: str) -> Protocol:
    """The protocol of a name. Raises UserError for a name that is none."""
    if name not in PROTOCOLS:
        raise UserError(
            f"protocol '{name}' is not one of {', '.join(PROTOCOLS)}{nearest(name, PROTOCOLS)}"
        )
    return PROTOCOLS[name]


def of_task(task: str) -> str:
    """The name of a task's own protocol: those of PeFoMed."""
    return "pefomed" if task == "vqa" else "coco"


def drawn(rows: Sequence[Row]) -> list[Row]:
    """The reports whose rows hold the names of the `findings` in their image."""
    return [row for row in rows if _is_findings(row.get("findings")) and not _is_answer(row)]


def _is_answer(row: Row) -> bool:
    """To a question, which names one finding at most."""
    return row.get("answer_type") is not None


def _is_findings(held: object) -> bool:
    # a text under this name is a section of a report
    return isinstance(held, list | tuple) and all(isinstance(name, str) for name in held)


def found(rows: Sequence[Row]) -> list[Found]:
    """finding_f1 where reports hold `findings`."""
    if not (reports := drawn(rows)):
        return []
    from pefomed_jax.evaluation import findings  # its reader of reports brings data sets along

    counted = set(map(id, reports))
    kept = [row if id(row) in counted else {**row, "findings": None} for row in rows]
    return [findings.measure(kept)]


def type_name(answer_type: object) -> str:
    """An answer type as part of a score's name: 'CLOSED' → 'closed'."""
    return re.sub(r"\W+", "_", str(answer_type or "").strip().lower()).strip("_")


def _vqa_scores(rows: Sequence[Row], name: str) -> list[Found]:
    """The protocol's scores, and exact_match_<type> for every `answer_type` there is."""
    made = list(vqa.measures(rows, name))
    families = (found.cases for found in made if isinstance(found, Measure))
    hits = next(cases["exact_match"] for cases in families if "exact_match" in cases)
    types = np.array([type_name(row.get("answer_type")) for row in rows])
    split = {str(t): np.where(types == t, hits, np.nan) for t in np.unique(types) if t}
    by_type = mean({f"exact_match_{t}": values for t, values in split.items()}) if split else None
    return made if by_type is None else [made[0], by_type, *made[1:]]


def _vqa(name: str, tokeniser: str) -> Protocol:
    family = functools.partial(_vqa_scores, name=name)
    return Protocol(name, "vqa", tokeniser, (family,), VQA_MAIN)


class Cut(NamedTuple):
    """How a report protocol makes words of texts."""

    lines: Callable[[Sequence[str]], list[list[str]]]  # of many texts, each of one line
    most: int | None = None  # words of a reference that stay

    def of(self, rows: Sequence[Row]) -> tuple[list[list[str]], list[list[list[str]]]]:
        """(hypotheses, references) of the rows."""
        held = [texts(row, "reference") for row in rows]
        words = iter(self.lines([text for several in held for text in several]))
        references = [[next(words)[: self.most] for _ in several] for several in held]
        return self.lines([row["prediction"] for row in rows]), references


def _each(words: Callable[[str], list[str]]) -> Cut:
    return Cut(lambda lines: [words(line) for line in lines])


def _r2gen(style: str, most: int | None = None) -> Cut:
    return _each(functools.partial(r2gen.words, style=style))._replace(most=most)


Scorer = Callable[[Sequence[report.Words], Sequence[report.References]], list[Found]]


def _report(name: str, tokeniser: str, cut: Cut, scorer: Scorer, slow: str) -> Protocol:
    """A report protocol; `slow` is the METEOR that it has."""

    def scores(rows: Sequence[Row]) -> list[Found]:
        return scorer(*cut.of(rows))

    def matches(rows: Sequence[Row]) -> list[bool]:
        return [answer in references for answer, references in zip(*cut.of(rows), strict=True)]

    def cuts(text: str) -> bool:
        return cut.most is not None and len(cut.lines([text])[0]) > cut.most

    return Protocol(
        name,
        "report",
        tokeniser,
        (found, scores),
        REPORT_MAIN,
        "none" if cut.most is None else f"references to {cut.most} words",
        matches,
        {slow: lambda rows: [METEORS[slow](*cut.of(rows))]},
        None if cut.most is None else cuts,
        meteor.versions if slow == meteor.NAME else dict,
    )


def _coco(
    hypotheses: Sequence[report.Words], references: Sequence[report.References]
) -> list[Found]:
    return list(report.measures(hypotheses, references))


def _sacrebleu(
    hypotheses: Sequence[report.Words], references: Sequence[report.References]
) -> list[Found]:
    """BLEU as sacrebleu has it, the other scores of COCO over the same words."""
    _, others = report.measures(hypotheses, references)
    return [raw13a.bleu(hypotheses, references), others]


METEORS = {meteor.NAME: meteor.measure, meteor_nltk.NAME: meteor_nltk.measure}
_WORDS = _each(str.split)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        _vqa("pefomed", "vqa-eval"),
        _vqa("llava_med", "llava-med"),
        _vqa("strict", "whitespace"),
        _report("coco", "ptb", Cut(ptb.tokenise_lines), _coco, "meteor"),
        _report("r2gen", "r2gen-mimic", _r2gen("mimic"), _coco, "meteor"),
        _report("r2gen-iu", "r2gen-iu", _r2gen("iu", 60), _coco, "meteor"),
        _report("r2gen-mimic", "r2gen-mimic", _r2gen("mimic", 100), _coco, "meteor"),
        _report("raw", "whitespace", _WORDS, _coco, "meteor_nltk"),
        _report("raw13a", "13a", _each(raw13a.words), _sacrebleu, "meteor_nltk"),
    )
}
