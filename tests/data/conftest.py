"""A character tokenizer in the manner of Llama's, a small config, and data sets on disk."""

import json
import pathlib

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from pefomed_jax import config as config_lib


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a printable ASCII character, bytes for the rest; a blank is put at the front."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁"]
    pieces += [chr(i) for i in range(33, 127)]
    model = models.BPE(
        {p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True
    )
    core = Tokenizer(model)
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture
def config(tmp_path: pathlib.Path) -> ConfigDict:
    """VQA with 16 × 16 images, 4 visual tokens, 4 rows a batch, 12 steps."""
    c = config_lib.make("vqa", "tiny")
    c.model.vision.update(image_size=16, patch_size=4)
    c.data.update(source="pefomed", dir=str(tmp_path / "set"), cache=str(tmp_path / "cache"))
    c.train.update(batch_size=4, steps=12)
    c.eval.batch_size = 4
    return c


def write_image(path: pathlib.Path, seed: int = 0, size: tuple[int, int] = (20, 24)) -> None:
    """A PNG of random grey values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    Image.fromarray(pixels).save(path)


def write_vqa(root: pathlib.Path, n_images: int = 7, per_image: int = 3) -> list[dict]:
    """A VQA set in PeFoMed's layout: train.json, val.json, test.json with the same rows."""
    rows = []
    for i in range(n_images):
        write_image(root / "images" / f"i{i}.png", seed=i)
        for j in range(1 + (i * per_image) % (per_image + 2)):
            row = dict(qid=len(rows), image_name=f"i{i}.png", answer_type="OPEN ")
            rows.append(row | dict(question=f"what is {i} and {'so ' * j}{j}?", answer=f"a{i}{j}"))
    for name in ("train", "val", "test"):
        (root / f"{name}.json").write_text(json.dumps(rows))
    return rows


@pytest.fixture
def vqa_rows(config: ConfigDict) -> list[dict]:
    """The rows of a small VQA set written to config.data.dir."""
    return write_vqa(pathlib.Path(config.data.dir))
