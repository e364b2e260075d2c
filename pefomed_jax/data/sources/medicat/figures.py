"""The figures of MedICaT: which are wanted, which split they are in, what is kept of a line."""

import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import captions, files, tables

VAL, TEST = 0.90, 0.95  # where these splits begin among the papers' hashes, from 0 to 1


def split_of(paper: str) -> str:
    """The split of a paper, from the first 8 bytes of the SHA-256 of its pdf_hash."""
    share = int.from_bytes(hashlib.sha256(paper.encode()).digest()[:8], "big") / 2**64
    return "train" if share < VAL else "val" if share < TEST else "test"


def case(images: captions.Images, row: Any, number: int, split: str) -> Case:
    """A figure with its caption, in the split of its paper."""
    paper, name = key(row)
    files.value(row, "radiology")
    blank = _is_blank(row.get("s2_caption"))
    caption = files.text(row, "s2orc_caption" if blank else "s2_caption")
    image = images.find(f"{paper}_{name}", "fig_uri")
    return captions.case(split_of(paper), f"{paper}_{name}", image, caption, **fields(row))


def _is_blank(found: Any) -> bool:
    return found is None or found != found or (isinstance(found, str) and not found.strip())


def key(row: Any) -> tuple[str, str]:
    """The paper of a figure, and its name there."""
    return files.text(row, "pdf_hash"), files.text(row, "fig_uri")


def fields(row: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a figure's line."""
    flags = {name: row[name] for name in ("radiology", "scope") if name in row}
    source = row.get("oa_info")
    doi = source.get("doi") if isinstance(source, dict) else None
    return {"study_id": row["pdf_hash"], **flags, "doi": doi}


class Wanted:
    """Says whether a figure is wanted, and counts those that are not."""

    def __init__(self, listed: Callable[[], pathlib.Path], radiology_only: bool):
        """`listed` gives the list of all figures, which is read for lines without the flag."""
        self.listed, self.radiology_only = listed, radiology_only
        self.seen = self.left = 0

    def __call__(self, row: Any) -> bool:
        if not self.radiology_only or not isinstance(row, dict):
            return True
        if not row.keys() & {"radiology", "subfigures"}:
            return True  # a figure without the flag, which `case` refuses
        self.seen += 1
        marked = row["radiology"] if "radiology" in row else self._marked.get(_of(row))
        self.left += not marked
        return bool(marked)

    @functools.cached_property
    def _marked(self) -> dict[tuple[str, str], Any]:
        """The flag by figure."""
        rows = tables.read_jsonl(self.listed())
        return {_of(row): row.get("radiology") for row in rows if isinstance(row, dict)}

    def say(self) -> None:
        """Prints how many were left out."""
        if self.left:
            print(
                f"medicat: {self.left} of {self.seen} figures are not marked radiology and left "
                "out (data.medicat.radiology_only)"
            )


def _of(row: dict[str, Any]) -> tuple[str, str]:
    return str(row.get("pdf_hash")), str(row.get("fig_uri"))
