"""The official code's text habits, each behind a named switch; all off by default.

The switches are `config.QUIRKS`; `config.quirks.official` turns all of them on. What the names
mean is said there; here are the functions that do it.
"""

import dataclasses
import re

from ml_collections import ConfigDict

MAX_WORDS = 50
_REMOVED = re.compile(r"[.!\"()*#:;~]")
_RUNS = re.compile(r"\s{2,}")


@dataclasses.dataclass(frozen=True)
class Quirks:
    """One boolean for each name of `config.QUIRKS`."""

    prompt_case: bool = False
    double_bos: bool = False
    tag_mismatch: bool = False
    random_instruction: bool = False
    random_crop_flip: bool = False
    plain_convert: bool = False
    ignore_ratios: bool = False
    strip_text: bool = False
    fifty_words: bool = False


def resolve(switches: ConfigDict) -> Quirks:
    """The quirks of `config.quirks`; `official` stands for all of them."""
    names = [field.name for field in dataclasses.fields(Quirks)]
    return Quirks(**{name: bool(switches["official"] or switches[name]) for name in names})


def strip_text(text: str) -> str:
    """Lower case, with . ! " ( ) * # : ; ~ as spaces and runs of white space joined."""
    return _RUNS.sub(" ", _REMOVED.sub(" ", text.lower())).rstrip("\n").strip(" ")


def cut_words(text: str, limit: int = MAX_WORDS) -> str:
    """The first `limit` words; words are what single spaces part."""
    return " ".join(text.split(" ")[:limit])


def process(text: str, quirks: Quirks, limit: int = MAX_WORDS) -> str:
    """Questions, instructions and targets as the official text processor leaves them."""
    if quirks.strip_text:
        text = strip_text(text)
    return cut_words(text, limit) if quirks.fifty_words else text


def tag(task: str, layout: str, training: bool, quirks: Quirks) -> str:
    """The tag before the instruction: the task, but for two data sets under `tag_mismatch`.

    IU-Xray is evaluated under [caption]; MIMIC-CXR is trained and evaluated under it.
    """
    mismatched = layout == "mimiccxr" or (layout == "iuxray" and not training)
    return "caption" if quirks.tag_mismatch and mismatched else task
