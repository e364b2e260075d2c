"""The embedded data set: chest-radiograph phantoms with reports, captions and questions."""

import dataclasses
import functools
import io
import pathlib
from typing import Any

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data import cache
from pefomed_jax.data.sources.phantom import builder as builder_lib

LARGEST = 256  # pixels a side; the pipeline enlarges beyond


@dataclasses.dataclass
class Source:
    """Cases and pictures of prepared phantoms; task is 'mrg', 'vqa' or 'caption'.

    Travels to worker processes, which open the files anew.
    """

    task: str
    cache: str
    size: int
    counts: dict[str, int]
    name: str = "phantom"

    splits = tuple(builder_lib.SPLITS)

    def cases(self, split: str) -> list[Case]:
        """The cases of a split in order of id; [] for a split that there is not."""
        if split not in self.splits:
            return []
        records = (self._records(split)[i] for i in range(self.counts[split]))
        cases = [case for record in records for case in _cases(record, split, self.task)]
        return sorted(cases, key=lambda case: case.id)

    def image(self, case: Case, number: int = 0) -> UInt8[np.ndarray, "H W"]:
        """The grey picture of a case."""
        record = self._records(case.split)[self._places(case.split)[case.images[number]]]
        return np.asarray(Image.open(io.BytesIO(record["image"])))

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def _open(self) -> dict[str, Any]:
        return {}

    def _records(self, split: str) -> Any:
        """Random access to a split's records, pictures left as PNG."""
        if split not in self._open:
            built = builder_lib.prepared(pathlib.Path(self.cache), self.size, self.counts)
            raw = {"image": builder_lib.tfds.decode.SkipDecoding()}
            self._open[split] = built.as_data_source(builder_lib.SPLITS[split], decoders=raw)
        return self._open[split]

    def _places(self, split: str) -> dict[str, int]:
        """Where a picture is among the records, which TFDS shuffles by a hash of their key."""
        key = f"places of {split}"
        if key not in self._open:
            records = self._records(split)
            names = (records[i]["id"].decode() for i in range(self.counts[split]))
            self._open[key] = {name: i for i, name in enumerate(names)}
        return self._open[key]


def _cases(record: dict[str, Any], split: str, task: str) -> list[Case]:
    """The report, the caption, or one case a question."""
    name = record["id"].decode()
    fields = {"findings": [str(x, "utf-8") for x in record["findings"]]}
    if task != "vqa":
        answer = record["report" if task == "mrg" else "caption"].decode()
        return [Case(name, (name,), "", answer, split, fields)]
    asked = record["questions"]
    columns = ("question", "answer", "answer_type", "question_type")
    rows = zip(*([str(x, "utf-8") for x in asked[c]] for c in columns), strict=True)
    return [
        Case(
            f"{name}-q{n}",
            (name,),
            q,
            a,
            split,
            fields | {"answer_type": kind, "question_type": about},
        )
        for n, (q, a, kind, about) in enumerate(rows)
    ]


def load(config: ConfigDict) -> Source:
    """The phantoms for config.task at the model's image size, drawn now where they are not yet.

    They lie in config.data.cache, by default ~/.cache/pefomed_jax.
    """
    folder = pathlib.Path(config.data.cache or cache.DEFAULT).expanduser()
    size = min(config.model.vision.image_size, LARGEST)
    builder_lib.prepared(folder, size, builder_lib.COUNTS)
    return Source(config.task, str(folder), size, dict(builder_lib.COUNTS))
