"""What a reader of the scores should know: warnings, each one line with its counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

FEW = 50  # cases; intervals of fewer are wide and rough
LENGTHS = (0.5, 2.0)  # mean words of the answers over those of the references
REPEATED = 0.3  # of an answer's 4-grams that were there before
RUN = 4  # words that count as repeated
HUGE = 100_000  # characters of an answer
CONSTANT = 0.5  # of the answers are the same, and twice as many as of the references; or 95 %


def notes(rows: Sequence[Row]) -> list[str]:
    """Warnings about the answers to one set of cases."""
    found = (
        _few(rows),
        _empty(rows, "prediction", "answers are empty and score as such"),
        _empty(rows, "reference", "references are empty: nothing can match them"),
        _cut(rows),
        _length(rows),
        _repeats(rows),
        _constant(rows),
        _huge(rows),
    )
    return [note for note in found if note]


def _few(rows: Sequence[Row]) -> str:
    if len(rows) >= FEW:
        return ""
    return f"only {_cases(len(rows))}: the intervals are wide, and rough themselves"


def _empty(rows: Sequence[Row], name: str, what: str) -> str:
    bare = [row["id"] for row in rows if not any(text.strip() for text in texts(row, name))]
    return f"{len(bare)} of {len(rows)} {what} ({_some(bare)})" if bare else ""


def _cut(rows: Sequence[Row]) -> str:
    cut = [row["id"] for row in rows if row.get("cut")]
    where = f"{len(cut)} of {len(rows)} answers ended at the limit of tokens, not by themselves"
    return f"{where} ({_some(cut)}); raise eval.max_new_tokens" if cut else ""


def _length(rows: Sequence[Row]) -> str:
    own = sum(len(row["prediction"].split()) for row in rows)
    refs = sum(_nearest_length(row) for row in rows)
    ratio = own / refs if refs else float("nan")
    if not (ratio < LENGTHS[0] or ratio > LENGTHS[1]):
        return ""
    return (
        f"answers are {ratio:.2f} times as long as their references "
        f"({own / len(rows):.1f} and {refs / len(rows):.1f} words)"
    )


def _nearest_length(row: Row) -> int:
    own = len(row["prediction"].split())
    lengths = (len(text.split()) for text in texts(row, "reference"))
    return min(lengths, key=lambda n: (abs(n - own), n))


def repeated(text: str) -> float:
    """Which part of a text's 4-grams was there before, in 0..1; 0 below eight words."""
    words = text.lower().split()
    if len(words) < 2 * RUN:
        return 0.0
    grams = list(zip(*(words[i:] for i in range(RUN)), strict=False))
    return 1 - len(set(grams)) / len(grams)


def _repeats(rows: Sequence[Row]) -> str:
    loops = [
        row["id"]
        for row in rows
        if (rate := repeated(row["prediction"])) > REPEATED
        and rate > max(repeated(text) for text in texts(row, "reference"))
    ]
    if not loops:
        return ""
    return (
        f"{len(loops)} of {len(rows)} answers repeat themselves: over {REPEATED:.0%} of their runs "
        f"of {RUN} words were there before ({_some(loops)})"
    )


def _constant(rows: Sequence[Row]) -> str:
    answers = Counter(row["prediction"].strip().lower() for row in rows)
    references = Counter(texts(row, "reference")[0].strip().lower() for row in rows)
    (answer, count), (_, most) = answers.most_common(1)[0], references.most_common(1)[0]
    much = count >= CONSTANT * len(rows) and count >= 2 * most
    nearly_all = count >= 0.95 * len(rows) > most
    if len(rows) < 5 or not answer or not (much or nearly_all):
        return ""
    said = answer if len(answer) <= 40 else answer[:37] + "..."
    return f"{count} of {len(rows)} answers are the same ({said!r}); references are not"


def _huge(rows: Sequence[Row]) -> str:
    huge = [row["id"] for row in rows if len(row["prediction"]) > HUGE]
    what = f"have more than {HUGE:,} characters"
    return f"{len(huge)} of {len(rows)} answers {what} ({_some(huge)})" if huge else ""


def file_notes(name: str, n_blank: int, n_repeated: int) -> list[str]:
    """What was passed over in a file."""
    blank = f"{name}: {n_blank} blank lines passed over" if n_blank else ""
    repeats = f"{name}: {n_repeated} rows twice to the letter, counted once" if n_repeated else ""
    return [note for note in (blank, repeats) if note]


def texts(row: Row, name: str) -> list[str]:
    """The texts of a field that holds one or several."""
    held = row[name]
    return [str(text) for text in held] if isinstance(held, list | tuple) else [str(held)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")


def _cases(n: int) -> str:
    return "1 case" if n == 1 else f"{n} cases"
