"""Times one training step or one greedy answer on a fixed batch of random images and tokens.

    python launch/bench.py train --preset small --batch 2
    python launch/bench.py generate --preset 7b --batch 1 --new 128
    python launch/bench.py serve --preset small --unit train --batch 2     # for interleaved timing

`train` and `generate` print one JSON object. `serve` prints {"ready": true, "tokens": n, ...}, then
for each line it reads does one unit of work and prints {"s": seconds, "peak_rss_mb": m}, until the
line is `quit`: programs that speak so can be timed in turns, A B A B, in one run.

A row is BOS and 7 tokens, one image, and the rest of `--text` tokens, the last `--answer` of them
targets. With `--branches n` it is n questions of `--question` tokens about the image instead.
Weights are random; LoRA (q and v, rank 64, alpha 16, no dropout) and the connector train, by AdamW.
"""

import argparse
import functools
import json
import os
import resource
import statistics
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from pefomed_jax import cli
from pefomed_jax import config as config_lib
from pefomed_jax.batch import Batch
from pefomed_jax.decoding import merge
from pefomed_jax.decoding.generate import make_generate
from pefomed_jax.decoding.options import Options
from pefomed_jax.models import mllm
from pefomed_jax.parallel import join, paths, share, together
from pefomed_jax.training import flops, setup

PREFIX = 8  # BOS and the tokens in front of the image
DTYPES = {"f32": "float32", "bf16": "bfloat16"}
MEDIUM = {
    "vision": dict(width=768, heads=12, mlp_dim=3072),
    "llm": dict(width=1024, depth=16, heads=16, kv_heads=16, mlp_dim=2752),
}


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("command", choices=("train", "generate", "serve"))
    add("--unit", choices=("train", "generate"), default="train", help="what `serve` does")
    add("--preset", choices=("tiny", "small", "medium", "7b"), default="small")
    add("--batch", type=int, default=2, help="rows")
    add("--text", type=int, default=128, help="tokens of a row, image apart")
    add("--answer", type=int, help="targets of a question (default: 64, with --branches 10)")
    add("--new", type=int, default=64, help="tokens to generate")
    add("--branches", type=int, default=0, help="questions a row; 0: --text tokens, one question")
    add("--question", type=int, default=42, help="tokens of a question, with --branches")
    add("--dtype", choices=DTYPES, help="default: the preset's")
    add("--attention", choices=("auto", "plain", "xla", "cudnn"), default="auto")
    add("--remat", choices=("none", "dots", "full"), help="default: the preset's")
    add("--scan", action=argparse.BooleanOptionalAction, help="default: the preset's")
    add("--steps", type=int, default=10, help="timed units")
    add("--warmup", type=int, default=2, help="units before that, the first one compiles")
    add("--seed", type=int, default=0)
    add("--coordinator", default="", help="of several processes: HOST:PORT of process 0, with")
    add("--num_processes", type=int, help="how many, and")
    add("--process_id", type=int, help="which one; all times are then those of process 0")
    args = parser.parse_args(argv)
    if args.answer is None:
        args.answer = 10 if args.branches else 64
    if args.branches:
        args.text = PREFIX + args.branches * args.question
    if args.command != "serve":
        args.unit = args.command
    return args


def make_config(args: argparse.Namespace) -> ConfigDict:
    """The preset with what the command line says, on random weights."""
    config = config_lib.make("vqa", "small" if args.preset == "medium" else args.preset)
    if args.preset == "medium":
        config.model.vision.update(MEDIUM["vision"])
        config.model.llm.update(MEDIUM["llm"])
    if args.dtype:
        config.model.update(dtype=DTYPES[args.dtype], base_dtype=DTYPES[args.dtype])
    config.model.update(attention=args.attention, remat=args.remat or config.model.remat)
    config.model.scan = config.model.scan if args.scan is None else args.scan
    config.seed, config.weights.base = args.seed, "random"
    config.lora.update(rank=64, alpha=16.0, dropout=0.0)
    config.optimizer.update(lr=1e-4, min_lr=1e-4, warmup_lr=1e-4, warmup_steps=0, clip=0.0)
    config.optimizer.update(schedule="step", weight_decay=0.05)
    config.train.batch_size = config.eval.batch_size = args.batch
    config.data.branches = max(1, args.branches)
    return config


def fixed_batch(config: ConfigDict, args: argparse.Namespace, answer: int) -> Batch:
    """Rows of equal length on random tokens and standard normal images, each without padding."""
    rng, rows, n = np.random.default_rng(args.seed), args.batch, max(1, args.branches)
    side, visual = config.model.vision.image_size, mllm.visual_tokens(config.model)
    images = rng.standard_normal((rows, 3, side, side), dtype=np.float32)
    text = rng.integers(3, config.model.llm.vocab_size, (rows, args.text))
    text[:, 0] = 1
    prefix = min(PREFIX, args.text - answer)
    start, length = prefix + visual, (args.text - prefix) // n
    if prefix < 1 or answer > length:
        raise SystemExit(f"error: {answer} targets in questions of {length} tokens: raise --text")
    slots = np.r_[np.full(prefix, -1), np.arange(visual), np.full(n * length, -1)]
    positions = np.r_[np.arange(start), np.tile(start + np.arange(length), n)]
    branch = np.r_[np.zeros(start), np.repeat(np.arange(1, n + 1), length)]
    ends = start + length * np.arange(1, n + 1)
    target_pos = (ends[:, None] + np.arange(-answer - 1, -1)).reshape(-1)
    tokens = np.zeros((rows, start + n * length), np.int32)
    tokens[:, :prefix], tokens[:, start:] = text[:, :prefix], text[:, prefix : prefix + n * length]

    def every_row(x: np.ndarray) -> np.ndarray:
        return np.tile(x.astype(np.int32), (rows, 1))

    return Batch(
        tokens=tokens,
        positions=every_row(positions),
        branch=every_row(branch),
        image_slot=every_row(slots),
        target_pos=every_row(target_pos),
        targets=tokens[:, target_pos + 1],
        weights=np.ones((rows, len(target_pos)), np.float32),
        images=images.transpose(0, 2, 3, 1)[:, None],
    ).validate()


def random_weights(abstract: Any, seed: int) -> Any:
    """Scales of 1 and normal(0.02) elsewhere, leaf by leaf, in the shapes and shards of `abstract`.

    Drawn on the device: `base.load` draws on the host, which takes minutes at 7b.
    """
    key = jax.random.key(seed)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = paths.name(path)
        if name.endswith("scale"):
            return jax.device_put(np.ones(leaf.shape, leaf.dtype), leaf.sharding)
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        return _normal(leaf.shape, leaf.dtype, leaf.sharding)(own)

    return jax.block_until_ready(jax.tree_util.tree_map_with_path(draw, abstract))


@functools.cache
def _normal(shape: tuple[int, ...], dtype: Any, sharding: Any) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda key: 0.02 * jax.random.normal(key, shape, dtype), out_shardings=sharding)


class Train:
    """One optimizer step a call; returns the loss."""

    def __init__(self, config: ConfigDict, args: argparse.Namespace):
        pieces = setup.assemble(config)
        host = fixed_batch(config, args, args.answer)
        weights = random_weights(pieces.base, args.seed)
        self.state, self.frozen = pieces.first_state(weights), pieces.frozen(weights)
        self.step = pieces.jit_step()
        self.batch = share.place(share.cut(host, pieces.mesh), pieces.mesh)
        self.tokens = host.tokens.size
        self.implementation = pieces.model.compute.implementation
        self.flops = flops.cost(pieces.params, pieces.labels, config.model).step(host)
        peak = flops.peak(jax.devices()[0].device_kind, config.model.dtype)
        self.peak = peak and peak * pieces.mesh.size

    def __call__(self) -> float:
        self.state, metrics = self.step(self.state, self.frozen, self.batch)
        return float(metrics["loss"])

    def figures(self, seconds: float) -> dict[str, Any]:
        """Useful TFLOP a step, and the share of the device's peak where that is known."""
        mfu = self.flops / seconds / self.peak if self.peak else None
        return {"useful_tflop": self.flops / 1e12, "mfu": mfu}


class Generate:
    """One greedy answer of exactly `new` tokens to every question a call; returns its last one."""

    def __init__(self, config: ConfigDict, args: argparse.Namespace):
        pieces = setup.assemble(config)
        host = fixed_batch(config, args, 1)
        self.batch = share.place(share.cut(host, pieces.mesh), pieces.mesh)
        weights = random_weights(pieces.params, args.seed)
        dtype = pieces.model.compute.dtype
        self.params = merge.prepare(weights, config.lora.alpha, dtype)
        self.model, self.new = pieces.model, args.new
        self.lanes = max(1, args.branches)
        self.answers = args.batch * self.lanes
        self.tokens = self.answers * args.new
        self.implementation = pieces.model.compute.implementation
        self.generate = make_generate(self.model, Options(self.new), self.lanes)

    def __call__(self) -> int:
        return int(share.whole(self.generate(self.params, self.batch).tokens)[0, -1])

    def figures(self, seconds: float) -> dict[str, Any]:
        """The time up to the first token, and new tokens a second after it."""
        first = make_generate(self.model, Options(1), self.lanes)
        once = lambda: share.whole(first(self.params, self.batch).tokens)[0, 0]  # noqa: E731
        times = [timed(once)[1] for _ in range(4)]
        prefill = statistics.median(times[1:])
        rest = max(seconds - prefill, 0.0)
        rate = self.answers * (self.new - 1) / rest if rest else None  # None: lost in the noise
        return {"prefill_s": prefill, "decode_tokens_per_s": rate}


def timed(unit: Callable[[], Any]) -> tuple[Any, float]:
    """What a unit returns, and how many seconds it took; units end with a value on the host."""
    start = time.perf_counter()
    result = unit()
    return result, time.perf_counter() - start


def memory() -> dict[str, float]:
    """Peak memory in MiB: of the process, and of the first device where it tells."""
    stats = jax.local_devices()[0].memory_stats() or {}
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = stats.get("peak_bytes_in_use")
    return {"peak_rss_mb": rss} | ({} if peak is None else {"peak_device_mb": peak / 2**20})


def say(**values: Any) -> None:
    """One JSON object on a line of its own."""
    print(json.dumps(values), flush=True)


def one_shot(unit: Train | Generate, args: argparse.Namespace, first: float) -> None:
    """Times the unit and prints everything about it."""
    last, times = None, []
    for _ in range(args.steps):
        last, seconds = timed(unit)
        times.append(seconds)
    median = statistics.median(times)
    device = jax.devices()[0]
    say(
        impl="pefomed_jax",
        **vars(args),
        device=f"{jax.device_count()} x {device.device_kind}",
        jax=jax.__version__,
        implementation=unit.implementation,
        step_s={"median": median, "min": min(times), "max": max(times), "n": len(times)},
        tokens_per_unit=unit.tokens,
        tokens_per_s=unit.tokens / median,
        questions_per_s=args.batch * max(1, args.branches) / median,
        first_call_s=first,
        **unit.figures(median),
        **memory(),
        last=last,
    )


def serve(unit: Train | Generate, args: argparse.Namespace, first: float) -> None:
    """One unit for each line of the input, until `quit`."""
    questions = args.batch * max(1, args.branches)
    say(ready=True, tokens=unit.tokens, questions=questions, first_call_s=first, text=args.text)
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        last, seconds = timed(unit)
        say(s=seconds, last=last, **memory())


def main(argv: list[str]) -> None:
    args = parse(argv)
    place = {name: vars(args).pop(name) for name in join.FLAGS}
    here = join.place(place, os.environ)
    together.run(here, lambda: measure(args), stops=False, said=cli.said)


def measure(args: argparse.Namespace) -> None:
    """Does what the command line asks for."""
    config = make_config(args)
    mesh = setup.assemble(config).mesh
    with jax.set_mesh(mesh):
        unit = (Train if args.unit == "train" else Generate)(config, args)
        _, first = timed(unit)
        for _ in range(args.warmup - 1):
            unit()
        (serve if args.command == "serve" else one_shot)(unit, args, first)


if __name__ == "__main__":
    main(sys.argv[1:])
