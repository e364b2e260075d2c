"""PathVQA (He et al., arXiv:2003.10286): questions about pictures from pathology books.

Three releases are told apart, in config.data.dir or in one folder inside it:

    original   images/SPLIT/SPLIT_0001.jpg and qas/SPLIT/SPLIT_qa.pkl (or qas/SPLIT_vqa.pkl) for
               train, val and test; the pickles are read as plain data only, see `pickles`
    parquet    Hugging Face's data/{train,validation,test}-*.parquet, or default/SPLIT/*.parquet of
               its converted branch, images inside (pip install pyarrow)
    JSON       train.json, test.json, perhaps validation.json, of {image_path, question, answer},
               paths with backslashes as they may be

PeFoMed's JSON lists are read as well. answer_type is CLOSED for yes and no, OPEN for all else.
Known defects: a JSON re-release begins its test.json with the 6259 validation questions, under the
file names of other pictures (the counter of names starts over where the test questions begin).
Such rows are bad rows. The parquet files hold a picture once for each of its questions.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax.data.sources import files, folders, pefomed
from pefomed_jax.data.sources.pathvqa import exported, original, shards
from pefomed_jax.errors import UserError


def load(config: ConfigDict) -> files.ListSource:
    """The source. Errors: none of the releases is there, one is not whole or cannot be read."""
    root = files.folder_of(config, "pathvqa")
    if pefomed.holds(root):
        return pefomed.read("pathvqa", root, config)
    for release in (original, shards, exported):
        if folder := folders.inner(root, functools.partial(_has_training, release.lists)):
            return release.read(folder)
    raise UserError(
        f"data.dir: {root} holds no PathVQA; looked for qas/train/train_qa.pkl,"
        " data/train-*.parquet and train.json; set --config.data.dir to the folder of one"
    )


def _has_training(lists: Callable[[pathlib.Path], dict[str, Any]], root: pathlib.Path) -> bool:
    return bool(lists(root)["train"])
