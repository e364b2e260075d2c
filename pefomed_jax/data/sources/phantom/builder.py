"""The TFDS builder: draws the phantoms once, keeps them with their text in array_record files."""

import contextlib
import fcntl
import io
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from pefomed_jax.data.sources.phantom import draw, questions, scene, text

COUNTS = {"train": 2000, "val": 200, "test": 300}
SPLITS = {"train": "train", "val": "validation", "test": "test"}  # our names to the builder's
PROGRESS = 250  # pictures between two progress lines


class Phantom(tfds.core.GeneratorBasedBuilder):
    """Schematic chest films with report, caption and questions; every split has its own seeds."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (the base class's form)

    code_path = None  # there are no checksums of downloads to look for beside this file

    def __init__(self, *, size: int, counts: dict[str, int], cache: pathlib.Path):
        self.size, self.counts, self.progress = size, counts, sys.stdout
        name = f"{size}px-" + "-".join(str(counts[split]) for split in SPLITS)
        super().__init__(data_dir=str(cache / name), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        words = tfds.features.Text()
        features = {
            "id": words,
            "image": tfds.features.Image(shape=(self.size, self.size, 1), encoding_format="png"),
            "report": words,
            "caption": words,
            "findings": tfds.features.Sequence(words),
            "questions": tfds.features.Sequence(
                dict.fromkeys(("question", "answer", "answer_type", "question_type"), words)
            ),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Chest-radiograph phantoms drawn from seeds.",
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict]]]:
        return {SPLITS[split]: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        count = self.counts[split]
        for number in range(count):
            content = scene.sample(scene.FIRST_SEED[split] + number)
            record = example(content, f"phantom-{split}-{number:05d}", self.size)
            yield record["id"], record
            if (number + 1) % PROGRESS == 0 or number + 1 == count:
                words = f"phantoms: {split} {number + 1} of {count} drawn"
                print(words, file=self.progress, flush=True)


def example(content: scene.Scene, name: str, size: int) -> dict[str, Any]:
    """One record: the picture as a PNG file, its findings and its text."""
    return {
        "id": name,
        "image": io.BytesIO(draw.png(draw.render(content, size)[0])),
        "report": text.report(content),
        "caption": text.caption(content),
        "findings": list(content.findings),
        "questions": [vars(q) for q in questions.ask(content)],
    }


def prepared(cache: pathlib.Path, size: int, counts: dict[str, int]) -> Phantom:
    """The builder with its files in place under `cache`, drawn now where they are not.

    A killed run leaves an unfinished folder, which the next one removes; a second process waits for
    the first one's lock, then finds the files.
    """
    cache.mkdir(parents=True, exist_ok=True)
    tfds.disable_progress_bar()
    with open(cache / "phantom.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        builder = Phantom(size=size, counts=counts, cache=cache)
        folder = pathlib.Path(builder.data_dir)
        if not (folder / "dataset_info.json").exists():
            for unfinished in folder.parent.glob("incomplete.*"):
                shutil.rmtree(unfinished)
            print(f"phantoms: drawing {sum(counts.values())} pictures into {folder}", flush=True)
            # its own words speak of a download
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
    return builder
