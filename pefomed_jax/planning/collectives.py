"""What travels between the devices in one run of a compiled program: kinds, counts, bytes.

Bytes are those that one device sends, by the ring algorithms over a group of n devices (Thakur et
al., 2005): an all-gather of a result of S bytes S·(n-1)/n, a reduce-scatter of an operand of S
bytes the same, an all-reduce twice that, an all-to-all S·(n-1)/n, a permutation S. A loop counts as
often as it turns.
"""

import dataclasses
import math
import re
from collections import defaultdict

from pefomed_jax.planning import hlo

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction of the program, with how often it runs."""

    kind: str
    size: float  # bytes of the whole: an all-gather's result, a reduction's operand
    group: int  # devices
    times: int
    loops: int  # it is inside so many
    where: str

    @property
    def sent(self) -> float:
        """Bytes that one device sends each time."""
        if self.kind == "collective-permute":
            return self.size
        share = self.size * (self.group - 1) / self.group
        return 2 * share if self.kind == "all-reduce" else share


@dataclasses.dataclass(frozen=True)
class Total:
    """All of one kind."""

    count: int
    bytes: float  # sent by one device


def of(program: hlo.Program, devices: int, unknown: int = 1) -> list[Collective]:
    """The collectives of a program for so many devices; those within one device left out."""
    found = []
    for computation, op, times, loops in program.walk(unknown):
        kind = op.code.removesuffix("-start")
        if kind not in KINDS or _continues(program, computation):
            continue
        group = _group(op, devices)
        if group > 1:
            found.append(_collective(computation, kind, op, group, times, loops))
    return found


def _continues(program: hlo.Program, computation: str) -> bool:
    """Whether what stands here was counted at its start.

    A TPU computes along while it gathers, in fusions that all name the collective they carry on,
    even across a loop.
    """
    targets = [op.rest for op in program.computations[computation] if op.code == "custom-call"]
    done = any('"AsyncCollectiveDone"' in rest for rest in targets)
    return done or computation.startswith("async_collective_fusion")


def _collective(
    computation: str, kind: str, op: hlo.Op, group: int, times: int, loops: int
) -> Collective:
    parts = hlo.elements(op.result)
    if op.code in ("all-gather-start", "collective-permute-start") and len(parts) > 1:
        size = hlo.size(parts[1])  # (operand, result, …)
    else:
        size = hlo.size(op.result)
    if kind == "reduce-scatter":
        size *= group
    elif kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # how a TPU writes it
    return Collective(kind, size, group, times, loops, op.where)


def _group(op: hlo.Op, devices: int) -> int:
    """Devices in one group; a permutation counts where any device sends to another one."""
    if "source_target_pairs=" in op.rest:
        pairs = re.findall(r"\{(\d+),(\d+)\}", op.rest)
        return 2 if any(a != b for a, b in pairs) else 1
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", op.rest):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']+)'", named[2]))
    if counted := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", op.rest):
        return int(counted[2])
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", op.rest)
    return len(listed[1].split(",")) if listed else devices


def totals(collectives: list[Collective]) -> dict[str, Total]:
    """By kind, the most bytes first."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for each in collectives:
        sums[each.kind][0] += each.times
        sums[each.kind][1] += each.times * each.sent
    ordered = sorted(sums.items(), key=lambda item: -item[1][1])
    return {kind: Total(int(count), sent) for kind, (count, sent) in ordered}
