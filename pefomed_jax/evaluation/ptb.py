"""Words as the Penn Treebank cuts them, lower case, without punctuation: what report scores count.

Follows what the COCO caption evaluation feeds its scorers: the output of the Stanford tokeniser
(3.4.1, lower case) without the marks of `DROPPED`. Brackets stay, as -lrb- and -rrb-: the COCO list
has them in upper case only. Pure Python; rare forms (ASCII faces, some abbreviations) differ.
"""

import re

DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_BRACKETS = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
}
_MARKS = str.maketrans({"“": '"', "”": '"', "‘": "`", "’": "'", "–": "--", "—": "--", "…": "..."})
_MARKS |= str.maketrans({"¼": "1/4", "½": "1/2", "¾": "3/4", "\N{REPLACEMENT CHARACTER}": " "})

# Words that keep their full stop, in either case; states among them, so that "CT." is one.
_ABBREVIATIONS = (
    "adj|adm|adv|assoc|asst|bldg|brig|capt|cmdr|col|comdr|cpl|dr|drs|gen|gov|hon|lt|maj"
    "|messrs|mr|mrs|ms|mt|prof|rep|rev|sen|sgt|st|bros|co|corp|cos|dept|est|etc|al|fig|figs"
    "|ft|inc|jr|ltd|mfg|ph.d|seq|sr|univ|vs|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec"
    "|mon|tue|tues|wed|thu|thurs|fri|ave|blvd|rd|sq|ala|ariz|ark|calif|colo|conn|ct|dak|fla"
    "|ga|ind|kans|ky|la|md|mich|minn|miss|mo|mont|neb|nev|okla|ore|penn|tenn|tex|va|vt|wash"
    "|wis|wisc|wyo|ca|cf"
).replace(".", r"\.")
_CAPITALISED = "Mass|Ill|Del|Pa|PA"  # abbreviations only so
# Before these a single letter with a full stop ends its sentence: "type B. There is".
_STARTERS = "A|An|As|At|But|He|If|In|It|She|So|Some|That|The|Then|There|These|They|This|We|When"

# The first alternative that matches at a place is the token.
_TOKEN = re.compile(
    rf"""
    https?://[^\s<>"]+[^\s<>".,;:!?)']
  | [\w.+-]+@\w[\w-]*(?:\.\w+)+
  | (?<![\w-])(?:{_ABBREVIATIONS}|(?-i:{_CAPITALISED}))\.(?![\w.])
  | (?<![\w-])no\.(?=\s*\d)
  | (?<!\w)(?:[a-z]\.){{2,}}(?!\w)                             # e.g.  p.m.  u.s.
  | (?<![\w.'-])[a-z]\.(?![\w.)])(?!\s+(?-i:{_STARTERS})\b)    # m. allen
  | (?<!\w)can(?=not(?!\w)) | (?<=can)not(?!\w)
  | (?<!\w)gon(?=na(?!\w)) | (?<!\w)wan(?=na(?!\w)) | (?<!\w)got(?=ta(?!\w))
  | (?<!\w)[^\W\d_]+(?=n't(?!\w)) | n't(?!\w)                  # does n't
  | '(?:s|m|d|re|ve|ll)(?!\w)                                  # patient 's
  | (?<!\w)[od]'[^\W\d_]+                                      # o'clock
  | [^\W_](?:[^\W_]|[.,](?=[^\W_]))*(?:[-‐][^\W_]+)+           # well-defined  3.5-year-old
  | (?<![\w.])[-+]?\d+(?:[.,:]\d+)+(?!\w)                      # 1.2  1,000  10:30
  | \d+(?:[.,]\d+)+ | \.\d+(?![^\W\d_]{{3}})                   # 3.5 x3 .5
  | (?<![\w.])[-+]\d\w*
  | [^\W_]+(?:(?:[/_]|(?<=[^\W\d_])\.(?=[^\W\d_]))[^\W_]+)*    # l4/l5  and/or
  | _+ | \*+ | [?!]+ | \.\.\. | --+ | '' | `` | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def tokenise(text: str) -> list[str]:
    """The words of a text, lower case, without punctuation.

    >>> tokenise("No effusion (left); the heart's size is 1.2 times normal.")[:8]
    ['no', 'effusion', '-lrb-', 'left', '-rrb-', 'the', 'heart', "'s"]
    """
    words = (word.lower() for word in _TOKEN.findall(text.translate(_MARKS)))
    return [_BRACKETS.get(word, word) for word in words if word not in DROPPED and word != '"']
