"""Times the way from image files to batches on the device.

    python launch/bench_data.py write --dir FOLDER --kind jpeg          # 256 films to read
    python launch/bench_data.py serve --dir FOLDER --workers 1          # for interleaved timing
    python launch/bench_data.py run --dir FOLDER --workers 1            # one JSON object

`write` draws chest films of `--side` pixels, as grey JPEG or as 12-bit DICOM, with short reports.
A unit is `--batches` batches of `--batch` rows: decoded, resized, tokenised, padded, on the device.
`serve` prints {"ready": true, …}, then for each line it reads {"s": seconds, …} of one more unit,
until the line is `quit`; tests/bench/torch_loader.py speaks the same over a PyTorch DataLoader.
"""

import argparse
import itertools
import json
import pathlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import app
from PIL import Image

from pefomed_jax import base
from pefomed_jax import config as config_lib
from pefomed_jax.data import pipeline, sources
from pefomed_jax.data.sources.phantom import draw, scene, text
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.parallel.share import place

DRAWN = 512  # pixels a side at which films are drawn; enlarged from there


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("command", choices=("write", "serve", "run"))
    add("--dir", required=True, type=pathlib.Path, help="folder of the films")
    add("--kind", choices=("jpeg", "dicom"), default="jpeg", help="what `write` writes")
    add("--count", type=int, default=256, help="films that `write` draws")
    add("--side", type=int, default=1024, help="their pixels a side")
    add("--size", type=int, default=448, help="pixels a side that the model sees")
    add("--batch", type=int, default=8, help="rows")
    add("--batches", type=int, default=24, help="batches in a unit")
    add("--workers", type=int, default=0, help="worker processes")
    add("--units", type=int, default=5, help="timed units of `run`")
    return parser.parse_args(argv[1:])


def write(args: argparse.Namespace) -> None:
    """Films and their train.json; the same for the same arguments."""
    (args.dir / "images").mkdir(parents=True)
    save, rows = {"jpeg": save_jpeg, "dicom": save_dicom}[args.kind], []
    for i in range(args.count):
        content = scene.sample(i)
        film = Image.fromarray(draw.render(content, DRAWN)[0])
        film = film.resize((args.side, args.side), Image.Resampling.BICUBIC)
        name = f"{i:05d}.{ {'jpeg': 'jpg', 'dicom': 'dcm'}[args.kind] }"
        save(film, args.dir / "images" / name)
        rows.append({"image_path": name, "report": text.report(content)})
    for split in ("train", "test"):
        (args.dir / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")


def save_jpeg(film: Image.Image, path: pathlib.Path) -> None:
    """Grey, quality 95, as MIMIC-CXR-JPG has it."""
    film.save(path, quality=95)


def save_dicom(film: Image.Image, path: pathlib.Path) -> None:
    """12 bits in 16, with a window, not compressed."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    values = np.asarray(film, np.uint16) * 16 + 8
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = "1.2.3.4"
    data.Rows, data.Columns = values.shape
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    data.WindowCenter, data.WindowWidth = 2048, 3600
    data.PixelData = values.tobytes()
    data.save_as(path, enforce_file_format=True)


def batches(args: argparse.Namespace) -> Iterator[Any]:
    """Batches on the device without end."""
    config = config_lib.make("mrg", "tiny,data=pefomed")
    config.data.update(dir=str(args.dir), workers=args.workers)
    config.model.vision.image_size = args.size
    config.train.update(batch_size=args.batch, steps=1_000_000)
    source, tokenizer = sources.load(config), base.tokenizer(config)
    mesh = mesh_lib.make(config.mesh)
    for _, batch, _ in pipeline.train_batches(source, source.cases("train"), tokenizer, config):
        yield jax.block_until_ready(place(batch, mesh))


def timed(unit: Callable[[], Any]) -> float:
    """Seconds of one unit."""
    start = time.perf_counter()
    unit()
    return time.perf_counter() - start


def say(**values: Any) -> None:
    """One JSON object on a line of its own."""
    print(json.dumps(values), flush=True)


def main(argv: list[str]) -> None:
    args = parse(argv)
    if args.command == "write":
        return write(args)
    made, rows = batches(args), args.batch * args.batches

    def unit() -> None:
        for _ in itertools.islice(made, args.batches):
            pass

    first = timed(unit)
    if args.command == "run":
        times = [timed(unit) for _ in range(args.units)]
        median = statistics.median(times)
        say(rows_per_s=rows / median, s=median, min_s=min(times), max_s=max(times), **said(args))
    else:
        say(ready=True, tokens=rows, first_call_s=first, **said(args))
        for line in sys.stdin:
            if line.strip() == "quit":
                break
            say(s=timed(unit), peak_rss_mb=peak())
    made.close()


def peak() -> float:
    """Peak memory of this process, without its workers, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def said(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments as they are printed."""
    return vars(args) | {"dir": str(args.dir)}


if __name__ == "__main__":
    # worker processes need absl's flags parsed; the arguments themselves are argparse's
    app.run(main, flags_parser=lambda argv: (app.flags.FLAGS(argv[:1]), argv)[1])
