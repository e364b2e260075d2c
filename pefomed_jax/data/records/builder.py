"""The TFDS builders of records: image files as they are, and cases that name them."""

import contextlib
import io
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from pefomed_jax.batch import Case
from pefomed_jax.data.records.about import SMALL

RELEASE = "1.0.0"
IMAGES = "images"  # the only split of the images
SPLITS = {"train": "train", "val": "validation", "test": "test"}  # our names to the builder's
TEXT = tfds.features.Text()
FEATURES = {
    "images": {
        "name": TEXT,  # the first of the names that this file has in the set
        "file": tfds.features.Tensor(shape=(), dtype=np.object_),  # its bytes
    },
    "cases": {
        "id": TEXT,
        "images": tfds.features.Sequence(TEXT),  # names
        "places": tfds.features.Sequence(np.int64),  # numbers of their records
        "question": TEXT,
        "answer": TEXT,
        "fields": TEXT,  # JSON
        "file": TEXT,  # the list that the row is from, and which row it is
        "row": np.int64,
    },
}

Examples = Iterable[tuple[str, dict[str, Any]]]


class Records(tfds.core.GeneratorBasedBuilder):
    """One part of a set, "cases" or "images", in the order in which it is handed over."""

    VERSION = tfds.core.Version(RELEASE)
    RELEASE_NOTES = {RELEASE: "First release."}  # noqa: RUF012 (the base class's form)
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="cases", description="Questions with their answers."),
        tfds.core.BuilderConfig(name="images", description="Image files as they were published."),
    ]

    code_path = None  # there are no checksums of downloads to look for beside this file

    def __init__(self, name: str, part: str, examples: dict[str, Examples], folder: pathlib.Path):
        self.name, self.examples = name, examples
        super().__init__(data_dir=str(folder), config=part, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        about = SMALL[self.name]
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.name} as pefomed_jax reads it.",
            citation=about.citation,
            license=about.licence,
            features=tfds.features.FeaturesDict(FEATURES[self.builder_config.name]),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Examples]:
        return {split: iter(examples) for split, examples in self.examples.items()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        raise NotImplementedError("the splits are handed over")  # abstract in the base class

    def write(self) -> None:
        """Writes the files; a kill leaves an `incomplete.*` folder beside their place."""
        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(io.StringIO()):  # its own words speak of a download
            self.download_and_prepare()


def example(case: Case, places: list[int], where: tuple[str, int]) -> tuple[str, dict[str, Any]]:
    """The record of a case. `where`: the list that it is from, and its row there."""
    return case.id, {
        "id": case.id,
        "images": list(case.images),
        "places": places,
        "question": case.question,
        "answer": case.answer,
        "fields": json.dumps(case.fields),
        "file": where[0],
        "row": where[1],
    }


def opened(folder: pathlib.Path, name: str, part: str) -> Any:
    """The builder of what lies in a folder of records."""
    return tfds.builder_from_directory(str(folder / name / part / RELEASE))
