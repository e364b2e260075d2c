"""A source over records: the cases of the folder that they were written from."""

import bisect
import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict
from PIL import Image

from pefomed_jax.batch import Case
from pefomed_jax.data import reading, records
from pefomed_jax.data.sources.files import ListSource
from pefomed_jax.errors import UserError

AT_ONCE = 1024  # records of cases read together


@dataclasses.dataclass
class RecordSource(ListSource):
    """Cases in memory, images by random access; worker processes open the files anew.

    `places` holds the number of the record of each image, by its name.
    """

    places: dict[str, int] = dataclasses.field(default_factory=dict)

    def path(self, case: Case, number: int = 0) -> pathlib.Path:
        """The file of records that an image is in."""
        splits = self._builder.info.splits[builder().IMAGES]
        ends = [*itertools.accumulate(splits.shard_lengths)]
        place = self.places[case.images[number]]
        return pathlib.Path(splits.filepaths[bisect.bisect_right(ends, place)])

    def image(self, case: Case, number: int = 0) -> Image.Image:
        """An image of a case, as the folder that the records are from gives it."""
        name = case.images[number].replace("#", " ")  # a row of a table; "#" would name a frame
        return reading.from_bytes(self.content(case, number), name, self.window)

    def content(self, case: Case, number: int = 0) -> bytes:
        """The bytes of an image, as they were published."""
        return self._images[self.places[case.images[number]]]["file"]

    def read(self, split: str, count: int) -> None:
        """Reads the cases of a split."""
        cases = self._cases.setdefault(split, [])
        for record in self._records(split, count):
            names = tuple(str(name, "utf-8") for name in record["images"])
            self.places.update(zip(names, map(int, record["places"]), strict=True))
            texts = [str(record[key], "utf-8") for key in ("id", "question", "answer", "fields")]
            fields = json.loads(texts.pop())
            cases.append(Case(texts[0], names, *texts[1:], split, fields))
            self.where[texts[0]] = (str(record["file"], "utf-8"), int(record["row"]))

    def _records(self, split: str, count: int) -> Iterator[dict[str, Any]]:
        if not count:
            return
        made = builder().opened(pathlib.Path(self.root), self.name, "cases")
        found = made.as_data_source(builder().SPLITS[split])
        for start in range(0, count, AT_ONCE):
            yield from found.__getitems__(range(start, min(start + AT_ONCE, count)))

    @functools.cached_property
    def _builder(self) -> Any:
        return builder().opened(pathlib.Path(self.root), self.name, "images")

    @functools.cached_property
    def _images(self) -> Any:
        return self._builder.as_data_source(builder().IMAGES)

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in vars(self).items() if name not in ("_builder", "_images")}


def load(name: str, folder: pathlib.Path, config: ConfigDict) -> RecordSource:
    """The source. Errors: UserError where they are unfinished, or others than config asks."""
    found = records.read_manifest(folder)
    records.check(found, folder, config, name)
    if "counts" not in found:
        raise UserError(f"{folder}: the records are unfinished; run launch/records.py again")
    source = RecordSource(name, found["task"], str(folder))
    for split, count in found["counts"].items():
        source.read(split, count)
    return source


def builder() -> Any:
    """The module that brings TFDS along."""
    from pefomed_jax.data.records import builder

    return builder
