"""Entities and relations of each report, by package radgraph 0.1.18 (with transformers 4).

The package's archives name their BERT on the hub; here they are laid out anew with the local one.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile

from worker_io import Unfit, device, serve, versions

KEYS = (
    ("dataset_reader", "token_indexers", "bert"),
    ("model", "embedder", "token_embedders", "bert"),
)


def load(settings):
    """(score, versions) of a folder with an archive, or its content, and `encoder`."""
    old_transformers()
    where = tempfile.mkdtemp(prefix="radgraph-")
    model = settings["model"]
    lay_out(settings["weights"], model, os.path.join(where, model))
    cuda = 0 if device(settings["device"]) == "cuda" else -1
    from radgraph import RadGraph

    try:
        graph = RadGraph(model_type=model, model_cache_dir=where, cuda=cuda)
    except (OSError, RuntimeError, KeyError) as error:  # no tokenizer; a tensor of another shape
        raise Unfit(f"{model} and its encoder do not go together: {str(error)[:300]}") from None
    shutil.rmtree(where)  # all is in memory, and an archive may be a gigabyte

    def score(texts):
        for text in texts:
            found = graph([text]).get("0")
            if found is None:
                raise RuntimeError(f"radgraph could not annotate {text[:80]!r}")
            yield found["entities"]

    return score, versions("radgraph", "transformers", "torch")


def old_transformers():
    """Raises Unfit where the package would fail, at its first text, with another message."""
    from transformers import __version__

    if int(__version__.split(".")[0]) > 4:
        raise Unfit(
            f"radgraph 0.1.18 calls what transformers {__version__} no longer has; "
            'pip install "transformers<5" in its own environment'
        )


def lay_out(weights, model, folder):
    """The model's files in `folder`, its config naming the encoder beside it."""
    os.makedirs(folder)
    source = os.path.join(weights, model)
    if os.path.isdir(source):
        for name in os.listdir(source):
            if name != "config.json":
                os.symlink(os.path.abspath(os.path.join(source, name)), os.path.join(folder, name))
        config = os.path.join(source, "config.json")
    else:
        with tarfile.open(source + ".tar.gz") as archive:
            extract(archive, folder)
        config = os.path.join(folder, "config.json")
        if not os.path.isfile(config):
            raise Unfit(f"{source}.tar.gz has no config.json at its top")
    with open(config, encoding="utf-8") as file:
        held = json.load(file)
    name_encoder(held, os.path.abspath(os.path.join(weights, "encoder")), config)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(held, file)


def extract(archive, folder):
    """Plain files below `folder` only; older Pythons have no filter of their own."""
    for member in archive:
        where = os.path.normpath(os.path.join(folder, member.name))
        inside = where == folder or where.startswith(folder + os.sep)
        if not inside or not (member.isfile() or member.isdir()):
            raise Unfit(f"the archive holds '{member.name}', which is no file of a model")
        archive.extract(member, folder)


def name_encoder(config, encoder, path):
    """Puts the local folder where the config names a model of the hub."""
    for keys in KEYS:
        part = config
        for key in keys:
            if key not in part:
                raise Unfit(f"{path} has no '{'.'.join(keys)}': it is not RadGraph's")
            part = part[key]
        part["model_name"] = encoder


if __name__ == "__main__":
    serve(load)
