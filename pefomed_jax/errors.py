"""What a person can put right: shown as one line, without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """One line that names the file, row or field, and the way out."""


def nearest(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the known name closest to `name`; '' when none is close."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]}?)" if match else ""


class ImageError(UserError):
    """ImageError(name, reason): an image that does not open. The reason tells of no patient."""

    @property
    def reason(self) -> str:
        return self.args[1]

    def __str__(self) -> str:
        return f"{self.args[0]} does not open ({self.reason})"
