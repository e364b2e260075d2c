"""Words as the Penn Treebank cuts them, lower case, without punctuation: what report scores count.

What the COCO caption evaluation feeds its scorers: the output of the Stanford tokeniser (3.4.1,
lower case, a line a text) without the marks of `DROPPED`. Brackets stay, as -lrb- and -rrb-: the
COCO list has them in upper case only. Written from what that tokeniser puts out, in pure Python.

At each place the longest form wins, and of two as long the first of `ptb_forms`; what must follow a
form counts for its length and is read again. Known to differ: letters that Unicode got after 2012,
which Stanford drops; vowel signs of other scripts than Latin, Greek and Cyrillic, which cut a word
here; swear words with stars; and the breaks \\r \\v \\f U+0085 U+2028 U+2029, which are blanks here
and tear a text into two there, so that pycocoevalcap scores all later cases against others.
"""

import re
from collections.abc import Iterator, Sequence

from pefomed_jax.evaluation.text import ptb_forms

DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_LONGEST = 1000  # characters of a word; a longer one is cut
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SIGNS = {"–": "--", "—": "--", "―": "--", "\x96": "--", "\x97": "--", "…": "...", "----": "--"}
_SIGNS |= {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "---": "--"}
_SIGNS |= {"€": "$", "¤": "$", "₠": "$", "\x80": "$", "£": "#", "¢": "cents"}
_SIGNS |= {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&MD;": "--"}
_SIGNS |= {"&mdash;": "--", "&ndash;": "--"}
_QUOTES = str.maketrans(
    {**dict.fromkeys("’\x92›", "'"), **dict.fromkeys("‘‛\x91‹", "`")}
    | {**dict.fromkeys("”\x94»", "''"), **dict.fromkeys("“\x93«", "``")}
)
_BREAKS = str.maketrans(dict.fromkeys("\n\r\v\f\x85\u2028\u2029", " "))
# where these are cut in two
_IN_TWO = dict.fromkeys(("cannot", "gonna", "gotta", "lemme", "gimme", "wanna"), 3)
_IN_TWO |= {"'tis": 2, "'twas": 2}
_BLANKS = re.compile(" *")


def tokenise(text: str, following: str | None = "") -> list[str]:
    """The words of a text, lower case, without punctuation.

    `following` is what the next line of the same file holds; None: there is none.

    >>> tokenise("No effusion (left); the heart's size is 1.2 times normal.")[:8]
    ['no', 'effusion', '-lrb-', 'left', '-rrb-', 'the', 'heart', "'s"]
    """
    line = text.translate(_BREAKS)
    after = "" if following is None else f"\n{following[:_LONGEST].translate(_BREAKS)}\n"
    words = (word.lower() for word in _cut(line + after, len(line)))
    return [word for word in words if word and word not in DROPPED]


def tokenise_lines(texts: Sequence[str]) -> list[list[str]]:
    """The words of texts that are the lines of one file, as the COCO evaluation hands them over.

    The end of a line can depend on how the next one begins: "no." is a word before a number only,
    and a letter before "The" loses its full stop.
    """
    following = [*texts[1:], None]
    return [tokenise(text, after) for text, after in zip(texts, following, strict=False)]


def _cut(text: str, end: int) -> Iterator[str]:
    """The words that begin before `end`, marks included."""
    place = _after_blanks(text, 0)
    while place < end:
        if plain := ptb_forms.PLAIN.match(text, place):
            word, place = plain[1], plain.end()
        else:
            word, place = _longest(text, place)
        size = _IN_TWO.get(word.lower())
        yield from (word,) if size is None else (word[:size], word[size:])
        place = _after_blanks(text, place)


def _after_blanks(text: str, place: int) -> int:
    found = _BLANKS.match(text, place)
    return found.end() if found else place


def _longest(text: str, place: int) -> tuple[str, int]:
    """(the word at `place`, where it ends); '' for a character that is dropped."""
    best, end, stop = None, place, place + _LONGEST
    for form in ptb_forms.beginning_with(text[place]):
        if form.needs and text.find(form.needs, place, stop) < 0:
            continue
        found = form.pattern.match(text, place, stop)
        if found and found.end() > end:
            best, end, quotes = found, found.end(), form.quotes
    if best is None:
        return "", place + 1
    return _written(best[1].translate(_QUOTES) if quotes else best[1]), best.end(1)


def _written(word: str) -> str:
    """A word as it is put out: no soft hyphens, its blanks no-break ones, brackets by name."""
    if word.isalnum() and word.isascii():
        return word
    if len(word) > 2 and not word.strip("."):
        return "..."
    word = word.replace("\xad", "").replace(" ", "\xa0")
    if len(word) > 1 and ("(" in word or ")" in word):
        return word.replace("(", "-lrb-").replace(")", "-rrb-")
    return _SIGNS.get(word, _BRACKETS.get(word, word))
