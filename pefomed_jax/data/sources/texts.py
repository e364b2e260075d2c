"""What can be written as UTF-8 and shown in a line; half a surrogate pair or a bad byte cannot."""

from typing import Any

LONGEST = 1000  # characters of what is shown
END = 200  # of these, the last ones
DEEPEST = 20  # containers within one another, of a field


def is_text(words: str) -> bool:
    """Whether UTF-8 has all of its characters; bad bytes of a list were escaped as it was read."""
    if words.isascii():
        return True
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(words: str) -> str:
    """The same in one line that prints everywhere, its middle left out where it is too long."""
    if not words.isprintable():
        words = "".join(c if c.isprintable() else repr(c)[1:-1] for c in words)
    if len(words) <= LONGEST:
        return words
    return f"{words[: LONGEST - END - 1]}…{words[-END:]}"


def unfit(value: Any, depth: int = 0) -> str:
    """What keeps a value out of a file of JSON, '' for nothing."""
    if isinstance(value, str):
        return "" if is_text(value) else "is not UTF-8 text"
    if not isinstance(value, dict | list | tuple):
        return ""
    if depth == DEEPEST:
        return f"lists and objects more than {DEEPEST} deep"
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    return next(filter(None, (unfit(part, depth + 1) for part in parts)), "")
