"""How an answer is chosen: greedy, sampling, or beam search, with the limits of all three.

Names and meanings are those of the generation settings of transformers, whose tokens the loops
reproduce.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from pefomed_jax.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Options:
    """Greedy by default; `sample` draws instead, `beams` > 1 searches. Errors: UserError."""

    max_new_tokens: int
    eos: tuple[int, ...] = ()  # each of these tokens ends an answer
    min_new_tokens: int = 0  # no end before
    beams: int = 1
    length_penalty: float = 1.0  # scores of finished beams are divided by length ** this
    early_stopping: bool | str = False  # True: at the first `beams` finished ones; or 'never'
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    repetition_penalty: float = 1.0  # on tokens of the prompt and of the answer so far

    def __post_init__(self) -> None:
        self._at_least("max_new_tokens", 1)
        self._at_least("beams", 1)
        for name in ("min_new_tokens", "top_k"):
            self._at_least(name, 0)
        for name in ("temperature", "repetition_penalty"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise UserError(f"{name}={value} must be a number above 0")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p} must be above 0 and at most 1")
        if not math.isfinite(self.length_penalty):
            raise UserError(f"length_penalty={self.length_penalty} must be a number")
        if self.early_stopping not in (True, False, "never"):
            raise UserError(f"early_stopping='{self.early_stopping}' is not True, False or never")
        if self.min_new_tokens > self.max_new_tokens:
            raise UserError(
                f"min_new_tokens={self.min_new_tokens} is above "
                f"max_new_tokens={self.max_new_tokens}"
            )
        self._agree()

    def _at_least(self, name: str, least: int) -> None:
        if getattr(self, name) < least:
            raise UserError(f"{name}={getattr(self, name)} is too small: at least {least}")

    def _agree(self) -> None:
        """No setting without an effect."""
        if self.sample and self.beams > 1:
            raise UserError("beams draw nothing: set sample or beams, not both")
        drawing = (self.temperature, self.top_k, self.top_p) != (1.0, 0, 1.0)
        if drawing and not self.sample:
            raise UserError("temperature, top_k and top_p need sample=True")
        searching = (self.length_penalty, self.early_stopping) != (1.0, False)
        if searching and self.beams == 1:
            raise UserError("length_penalty and early_stopping need beams above 1")

    @property
    def fill(self) -> int:
        """The token after the end of an answer."""
        return self.eos[0] if self.eos else 0


def make(max_new_tokens: int, eos: tuple[int, ...], settings: Mapping[str, Any]) -> Options:
    """Options with these settings; those of `eos` are added to the tokens that end an answer.

    Errors: UserError for an unknown name or a wrong value.
    """
    known = [f.name for f in dataclasses.fields(Options) if f.name != "max_new_tokens"]
    settings = dict(settings)
    more = settings.pop("eos", ())
    if not (isinstance(more, tuple | list) and all(type(i) is int and i >= 0 for i in more)):
        raise UserError(f"eos={more!r} is no list of token ids")
    for name, value in settings.items():
        if name not in known:
            raise UserError(f"decoding has no setting '{name}'{nearest(name, known)}")
        named = name == "early_stopping" and isinstance(value, str)
        if not (named or isinstance(value, int | float)):
            raise UserError(f"{name}={value!r} is no {type(getattr(Options, name)).__name__}")
    return Options(max_new_tokens, tuple(dict.fromkeys([*eos, *more])), **settings)
