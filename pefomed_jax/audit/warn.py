"""What of an audit matters for the run and its scores, in plain words, the worst first."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

Audit = Mapping[str, Any]  # audit.json

OFFICIAL = {"vqa_rad": "the official split does this"}  # sets whose own splits share images
TRAINED = ("train/val", "train/test")
NAMES = {"train": "training", "val": "validation", "test": "test"}


def warnings(audit: Audit) -> list[str]:
    """Sentences; [] where nothing was found."""
    parts = (_usable, _bad, _leaks, _patients, _questions, _twice, _lengths, _images, _compared)
    return [line for part in parts for line in part(audit)]


def _usable(audit: Audit) -> Iterator[str]:
    n = {split: row["cases"] for split, row in audit["splits"].items()}
    for name, cases in (("training", n["train"]), ("test", n["test"] or n["val"])):
        if not cases:
            yield f"no {name} case is left: the run would stop"


def _bad(audit: Audit) -> Iterator[str]:
    bad = audit["bad"]
    if not bad["rows"]:
        return
    share = f"{bad['rows']:,} of {bad['total']:,} rows are bad ({percent(bad['share'])})"
    if bad["run_stops"]:
        enough = math.ceil(bad["share"] * 1e4) / 1e4
        yield (
            f"{share}: with data.max_bad_fraction={bad['allowed']:g} the run would stop; mend "
            f"them, or --config.data.max_bad_fraction={enough:g} skips them"
        )
    else:
        yield f"{share}: the run would skip them (data.max_bad_fraction={bad['allowed']:g})"


def _leaks(audit: Audit) -> Iterator[str]:
    for pair, (_, touched) in audit["leakage"]["images"].items():
        if not touched:
            continue
        first, second = pair.split("/")
        n = audit["splits"][second]["cases"]
        said = f"{touched:,} of {n:,} {NAMES[second]} cases ({percent(touched / n)}) are about "
        said += f"pictures that {NAMES[first]} cases show too"
        if pair == "train/test":
            known = OFFICIAL.get(audit["source"])
            said += f" ({known}; it is not changed)" if known else ""
            said += (
                ": test scores count what was memorised about these pictures; give scores of the "
                "other cases as well, and say so"
            )
        elif pair == "train/val":
            said += ": validation looks better than it is, and picks a checkpoint by it"
        yield said


def _patients(audit: Audit) -> Iterator[str]:
    for pair, counts in audit["leakage"]["counts"].items():
        first, second = pair.split("/")
        for kind, word in (("patient", "patients"), ("study", "studies")):
            if kind in counts:
                records, (_, touched) = counts[kind]
                yield (
                    f"{records:,} {word} are in {NAMES[first]} and in {NAMES[second]} ({touched:,} "
                    f"{NAMES[second]} cases): scores do not tell of new patients"
                )


def _questions(audit: Audit) -> Iterator[str]:
    for pair, counts in audit["leakage"]["counts"].items():
        if "question" in counts and pair in TRAINED:
            _, (_, touched) = counts["question"]
            second = NAMES[pair.split("/")[1]]
            yield (
                f"{second} cases whose question training asks about the same picture: {touched:,}; "
                "their answers were shown"
            )


def _twice(audit: Audit) -> Iterator[str]:
    said = {
        "contradiction": (
            "questions with different answers about the same picture"
            if audit["task"] == "vqa"
            else "pictures with several texts that differ"
        ),
        "duplicate row": "rows that come more than once, and weigh so much more",
    }
    for kind, words in said.items():
        found = [(s, c[kind][0]) for s, c in audit["within"].items() if kind in c]
        if found:
            where = ", ".join(f"{n:,} in {split}" for split, n in found)
            yield f"{words}: {where}"


def _lengths(audit: Audit) -> Iterator[str]:
    found = audit["lengths"]
    if "problem" in found:
        yield found["problem"]
    elif found["padding"] > 0.4:
        branches = " or data.branches" if audit["task"] == "vqa" else ""
        yield (
            f"{percent(found['padding'])} of all tokens are padding: more row lengths in "
            f"data.buckets{branches} would train faster"
        )


def _images(audit: Audit) -> Iterator[str]:
    found = audit["pictures"]
    yield from found["dicom"]
    if found["small"] > 0.2 * max(1, found["opened"]):
        yield (
            f"{found['small']:,} of {found['opened']:,} images are smaller than the model's "
            f"{found['model']} pixels and are enlarged"
        )


def _compared(audit: Audit) -> Iterator[str]:
    found = audit["twins"]
    if found["left"]:
        yield (
            f"{found['left']:,} more pairs of images look somewhat alike and were not compared "
            "pixel by pixel; the nearest pairs, of different splits first, were"
        )


def percent(share: float | int) -> str:
    """'93 %', and one digit more below 10."""
    digits = 0 if share >= 0.1 or share == 0 else 1
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"
