"""PathVQA as Hugging Face distributes it: parquet files with the images inside."""

import pathlib
from typing import Any

from pefomed_jax.batch import Case
from pefomed_jax.data.sources import parquet
from pefomed_jax.data.sources.pathvqa import rows
from pefomed_jax.errors import UserError


def lists(root: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The parquet files of each split, in order."""
    found: dict[str, list[pathlib.Path]] = {}
    for split, words in rows.LISTS.items():
        forms = [f"{place}{w}-*" for w in words for place in ("data/", "")]
        forms += [f"{place}{w}/*" for w in words for place in ("default/", "")]
        paths = (sorted(root.glob(f"{form}.parquet")) for form in forms)
        found[split] = next((some for some in paths if some), [])
    return found


def read(root: pathlib.Path) -> parquet.ParquetSource:
    """The source. Errors: UserError without pyarrow, where a split or a part is not there."""
    source = parquet.ParquetSource("pathvqa", "vqa", str(root))
    for split, paths in lists(root).items():
        if not paths:
            raise UserError(f"data.dir: {root} has no {rows.LISTS[split][-1]}-*.parquet; fetch it")
        source.add_files(split, paths, ("question", "answer"), _case)
    return source


def _case(row: Any, number: int, split: str) -> Case:
    return rows.case(split, f"row{number}", row, row["image"])
