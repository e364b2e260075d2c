"""What each source of a mixture has in an epoch and in a step, for the log."""

import collections
import dataclasses
import functools
from collections.abc import Sequence

from pefomed_jax.batch import Case
from pefomed_jax.data.order import Order


@dataclasses.dataclass(frozen=True)
class Shares:
    """The source of every training case; of a single source there is nothing to tell."""

    sources: tuple[str, ...]

    @classmethod
    def of(cls, cases: Sequence[Case]) -> "Shares":
        return cls(tuple(case.source for case in cases))

    @functools.cached_property
    def names(self) -> list[str]:
        return sorted(set(self.sources))

    def counts(self, order: Order, k: int) -> dict[str, int]:
        """How many cases of each source are in global batch k."""
        if len(self.names) < 2:
            return {}
        found = collections.Counter(self.sources[i] for i in order.cases(k))
        return {f"cases/{name}": found[name] for name in self.names}

    def lines(self, quotas: Sequence[int], ratios: Sequence[tuple[str, float | int]]) -> list[str]:
        """A line for each source: its cases, and its share of an epoch.

        `quotas` are the draws of an epoch in the order of `ratios`; (): each case once.
        """
        if len(self.names) < 2:
            return []
        own = collections.Counter(self.sources)
        drawn = dict(zip([name for name, _ in ratios], quotas, strict=True)) if quotas else own
        total = sum(drawn.values())
        return [
            f"  {name}: {own[name]:,} cases, {n:,} of the {total:,} in an epoch ({n / total:.1%})"
            for name, n in sorted(drawn.items())
        ]
