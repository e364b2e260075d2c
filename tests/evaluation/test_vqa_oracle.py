"""PeFoMed's normalisation against an oracle from its description, character by character."""

import json
import pathlib
import random

import numpy as np

from pefomed_jax.evaluation import vqa

SPECIAL = [";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+"]
SPECIAL += ["\\", "_", "-", ">", "<", "@", "`", ",", "?", "!"]
WORDS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4"}
WORDS |= {"five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}
TABLE = json.loads((pathlib.Path(vqa.__file__).parent / "vqa_contractions.json").read_text("utf-8"))


def oracle(text):
    """Steps 1 to 4 of the description."""
    at = dict(enumerate(text))
    grouped = any(
        char == "," and at.get(i - 1, "").isdecimal() and at.get(i + 1, "").isdecimal()
        for i, char in at.items()
    )
    beside_space = {
        char for i, char in at.items() if " " in (at.get(i - 1), at.get(i + 1)) and char in SPECIAL
    }
    first = []
    for char in text:
        if char not in SPECIAL:
            first.append(char)
        elif not grouped and char not in beside_space:
            first.append(" ")
    second, removed = [], 0
    for i, char in enumerate(first):
        digit_follows = i + 1 < len(first) and first[i + 1].isdecimal()
        if char == "." and not digit_follows and removed < 32:
            removed += 1
        else:
            second.append(char)
    words, word = [], ""
    for char in "".join(second).lower() + " ":
        if not char.isspace():
            word += char
        elif word:
            words.append(word)
            word = ""
    third = [
        TABLE.get(w, w) for w in (WORDS.get(w, w) for w in words) if w not in ("a", "an", "the")
    ]
    joined = "".join(char for char in " ".join(third) if char != ",")
    pieces = joined.split("x ray")
    return "".join(" " if char in "\n\t" else char for char in "xray".join(pieces))


PIECES = [
    *(f"{mark}" for mark in SPECIAL),
    *(f" {mark}" for mark in SPECIAL),
    *(f"{mark} " for mark in SPECIAL),
    *("1,000", "3,4", "٣,٤", "2.5", ".5", "1.", "..", "." * 20, "." * 33, ".٣", "T2.", ","),
    *WORDS,
    *("A", "an", "The", "the", "None", "TEN", "x ray", "X-ray", "x\tray", "chest x", "ray"),
    *("dont", "isn't", "Whats", "couldnt've", "Im", "Id've", "yall'll", "o'clock", "'"),
    *("yes", "No", "left", "right lung", "effusion", ":", "*", "#", "~", "%", "&"),
    *("\t", "\n", "\r\n", "\x0b", "\u00a0", "\u2003", "\u2028", "\x1c", "\u200b", "  "),
    *("é", "e\u0301", "ß", "İ", "ΣΑΣ", "肺", "😀", "１，０", "x．", "–", "½", "²"),
]


def fuzzed(rng):
    count = rng.choice((0, 1, 1, 2, 3, 4, 6, 9, 14))
    return "".join(rng.choice(PIECES) + rng.choice(("", "", " ", " ")) for _ in range(count))


def varied(text, rng):
    """Another spelling that often, and not always, is the same answer."""
    changes = [
        (str.upper, 3),
        (lambda t: t.replace(" ", "  "), 2),
        (lambda t: t.replace("-", " - "), 2),
        (lambda t: f"the {t}.", 3),
        (lambda t: t.replace(".", ""), 2),
        (lambda t: t.replace("1", "one").replace("two", "2"), 2),
        (lambda t: t.replace(rng.choice(SPECIAL), rng.choice(("", " "))), 4),
        (lambda t: t[: rng.randrange(len(t) + 1)], 1),
    ]
    for change in rng.choices(*zip(*changes, strict=True), k=rng.randrange(3)):
        text = change(text)
    return text


def test_pefomed_agrees_with_an_oracle():
    rng = random.Random(20260)
    pairs = []
    for _ in range(10_000):
        answer = fuzzed(rng)
        pairs.append((answer, varied(answer, rng) if rng.random() < 0.7 else fuzzed(rng)))
    for text in {text for pair in pairs for text in pair}:
        assert vqa.normalise(text) == oracle(text), repr(text)
    rows = [{"prediction": answer, "reference": reference} for answer, reference in pairs]
    own = vqa.measures(rows, "pefomed")[0].cases["exact_match"]
    expected = [oracle(answer) == oracle(reference) for answer, reference in pairs]
    np.testing.assert_array_equal(own, expected)
    # the pairs tell the two verdicts, and each rule of the normalisation from its absence
    plain = [answer.strip().lower() == reference.strip().lower() for answer, reference in pairs]
    assert sum(expected) > 2_000
    assert len(pairs) - sum(expected) > 2_000
    assert sum(e and not p for e, p in zip(expected, plain, strict=True)) > 1_000
