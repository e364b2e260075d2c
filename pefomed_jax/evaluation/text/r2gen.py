"""Texts as R2Gen prepares them before it scores: sentences without marks, each with a stop behind.

Its habits stay: a stop is a word, "1.2 cm" becomes "12 cm", signs of comparison go, "1. " goes
wherever it is, hyphens stay. Its vocabulary, which makes `<unk>` of rare words, needs its training
set and is left out.
"""

import re

# its class of marks holds a range from the colon to the bracket, which has < = > ? @ inside
_MARKS = re.compile(r"[.,?;*!%^&_+():<=>@\[\]{}\"/\\']")
_NUMBERED = tuple(f"{before} {n}. " for before in (".", "") for n in (2, 3, 4, 5))
# how often a doubled character is halved, which leaves some of long runs
_HALVINGS = {"iu": (("..", 3),), "mimic": (("__", 7), ("  ", 6), ("..", 8))}


def words(text: str, style: str = "mimic") -> list[str]:
    """The words of a text after the cleaning for IU X-Ray ('iu') or for MIMIC-CXR ('mimic').

    >>> words("The heart is normal. 2. No nodule of 1.2 cm (right > left).")
    ['the', 'heart', 'is', 'normal', '.', 'no', 'nodule', 'of', '12', 'cm', 'right', 'left', '.']
    """
    if style == "mimic":
        text = text.replace("\n", " ")
    for doubled, times in _HALVINGS[style]:
        for _ in range(times):
            text = text.replace(doubled, doubled[0])
    text = text.replace("1. ", "")
    for numbered in _NUMBERED:
        text = text.replace(numbered, ". ")
    sentences = text.strip().lower().split(". ")
    return (" . ".join(_MARKS.sub("", sentence) for sentence in sentences) + " .").split()
