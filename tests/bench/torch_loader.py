"""The same work as launch/bench_data.py over a PyTorch DataLoader with PIL and pydicom.

    python tests/bench/torch_loader.py serve --dir FOLDER --workers 1

Each row: decoded, made RGB, resized (bicubic) to `--size`, uint8; the report tokenised; a batch
padded to its longest row. On the CPU a batch is where the step wants it.
"""

import argparse
import itertools
import json
import pathlib
import resource
import sys
import time

import numpy as np
import pydicom
import torch
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerFast

TOKENIZER = pathlib.Path(__file__).parents[2] / "pefomed_jax" / "assets" / "tiny"
PROMPT = "[INST] <Img>", "</Img> [report] Write the radiology report of this image. [/INST]"


class Films(Dataset):
    """Rows of train.json: (uint8 [3, S, S], token ids)."""

    def __init__(self, folder: pathlib.Path, size: int):
        self.rows = json.loads((folder / "train.json").read_text())
        self.folder = folder / "images"
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(TOKENIZER)
        self.size = size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, list[int]]:
        path = self.folder / self.rows[i]["image_path"]
        picture = dicom(path) if path.suffix == ".dcm" else Image.open(path)
        pieces = [*PROMPT, self.rows[i]["report"]]
        ids = self.tokenizer(pieces, add_special_tokens=False)["input_ids"]
        return self.transform(picture.convert("RGB")), [1, *itertools.chain(*ids), 2]

    def transform(self, picture: Image.Image) -> torch.Tensor:
        """torchvision's Resize (bicubic) and PILToTensor, which do this to a picture."""
        square = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def dicom(path: pathlib.Path) -> Image.Image:
    """The window that the file asks for, in eight bits."""
    data = pydicom.dcmread(path)
    values = apply_voi_lut(apply_modality_lut(data.pixel_array, data), data).astype(np.float32)
    low, high = values.min(), values.max()
    return Image.fromarray(((values - low) / (high - low) * 255).astype(np.uint8))


def collate(rows: list[tuple[torch.Tensor, list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    images, ids = zip(*rows, strict=True)
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(i) for i in ids], batch_first=True)
    return torch.stack(images), padded


class Endless(Sampler):
    """One permutation after the other, so that no epoch's end empties the buffers."""

    def __init__(self, n: int):
        self.n = n

    def __iter__(self):
        while True:
            yield from torch.randperm(self.n).tolist()


def batches(args: argparse.Namespace):
    films = Films(args.dir, args.size)
    loader = DataLoader(
        films,
        args.batch,
        sampler=Endless(len(films)),
        num_workers=args.workers,
        collate_fn=collate,
        drop_last=True,
        persistent_workers=args.workers > 0,
        prefetch_factor=4 if args.workers else None,
    )
    return iter(loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("serve",))
    parser.add_argument("--dir", required=True, type=pathlib.Path)
    for name, default in {"size": 448, "batch": 8, "batches": 24, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    made = batches(args)

    def unit() -> float:
        start = time.perf_counter()
        for _ in itertools.islice(made, args.batches):
            pass
        return time.perf_counter() - start

    print(json.dumps({"ready": True, "tokens": args.batch * args.batches, "first_call_s": unit()}))
    sys.stdout.flush()
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"s": unit(), "peak_rss_mb": rss}), flush=True)


if __name__ == "__main__":
    main()
