"""What a run reads: its cases, the order that they come in, and their batches."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from pefomed_jax import base as base_lib
from pefomed_jax.data import kept, pipeline, prepare, sources
from pefomed_jax.data.prepare import Splits
from pefomed_jax.parallel import hosts, share
from pefomed_jax.training import features, setup
from pefomed_jax.training.shares import Shares


@dataclasses.dataclass(frozen=True)
class Feed:
    """The prepared cases of a run, alike in all its processes."""

    pieces: setup.Setup
    tokenizer: Any
    source: sources.Source
    splits: Splits
    order: pipeline.Order
    shares: Shares
    digest: str  # of the training and validation cases

    @classmethod
    def of(cls, pieces: setup.Setup, listed: pathlib.Path | None) -> "Feed":
        """`listed`: the folder where what was left out is written, in one process.

        Raises UserError for data that cannot be used, or differ between processes.
        """
        config = pieces.config
        tokenizer, source = base_lib.tokenizer(config), sources.load(config)
        splits = prepare.prepare(source, tokenizer, config, listed)
        digest = prepare.digest(splits)
        hosts.check_same({"data": (digest, prepare.digest_of(splits.test))})
        order = pipeline.make_order(splits.train, tokenizer, config)
        return cls(pieces, tokenizer, source, splits, order, Shares.of(splits.train), digest)

    def keeping(self, frozen: Any) -> "Feed":
        """The same with what config.data asks to keep of the images of this run."""
        data = self.pieces.config.data
        cases = [*self.splits.train, *self.splits.val, *self.splits.test]
        loader = pipeline.Loader.of(self.source, self.tokenizer, self.pieces.config)
        if data.cache_features:
            source = features.kept(self.pieces, frozen, loader, cases)
        elif data.cache_pixels:
            made_by = loader.square, loader.preparation
            source = kept.squares(self.source, cases, *made_by, self.pieces.config)
        else:
            return self
        return dataclasses.replace(self, source=source)

    def batches(self, start: int) -> Iterator[Any]:
        """`pipeline.train_batches` from step `start` on: the rows of this process. Close it."""
        return pipeline.train_batches(
            self.source,
            self.splits.train,
            self.tokenizer,
            self.pieces.config,
            start=start,
            mine=share.mine(self.pieces.mesh, self.order.batch_size),
            order=self.order,
        )

    def lines(self, scored: int) -> Iterator[str]:
        """What there is, for the user; `scored` validation cases are."""
        config = self.pieces.config
        n = {name: len(getattr(self.splits, name)) for name in ("train", "val", "test")}
        part = f" ({scored} of them scored)" if scored < n["val"] else ""
        yield (
            f"{config.task} on {self.source.name}: {n['train']} training, {n['val']} validation"
            f"{part}, {n['test']} test cases; {self.order.steps_per_epoch:.1f} steps an epoch, "
            f"rows of (T, A, I) = {', '.join(map(str, self.order.buckets))}, "
            f"{self.order.waste():.0%} padding"
        )
        yield from self.shares.lines(self.order.quotas, config.data.ratios)
        if not scored:
            yield "no validation cases: the last checkpoint is the one that is tested"
