"""Devices by name, here or only described: cpu:8, v5e:4x4, v5p:2x2x2, h200:8, …"""

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from importlib import util
from typing import Any

import jax

from pefomed_jax.errors import UserError, nearest
from pefomed_jax.planning import host
from pefomed_jax.planning.chips import CHIPS, RESERVED, Chip, target

FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"


@dataclasses.dataclass(frozen=True)
class Topology:
    """A number of devices of one kind; `shape` is a TPU's torus."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Chips; a v5p has two cores that JAX shows as one device or two, by version."""
        return math.prod(self.shape)

    @property
    def limit(self) -> float:
        """Bytes on one device that a program may use."""
        if self.chip.platform == "cpu":
            return host.available() / self.count
        if self.chip.platform == "gpu":
            return self.chip.memory * float(os.environ.get(FRACTION, RESERVED))
        return float(self.chip.memory)

    def devices(self) -> Sequence[Any]:
        """The devices, described where they are not here: no array can be put on those.

        Raises UserError where the compiler for them is not installed or knows no such shape.
        """
        if self.chip.platform == "cpu":
            return self._here()
        package = "libtpu" if self.chip.platform == "tpu" else "jax_cuda13_plugin"
        extra = "plan-tpu" if self.chip.platform == "tpu" else "plan-cuda"
        if util.find_spec(package) is None:
            raise UserError(
                f"--topology={self.name}: its compiler is not installed; "
                f"pip install 'pefomed_jax[{extra}]'"
            )
        from jax.experimental import topologies

        try:
            if self.chip.platform == "tpu":
                return topologies.get_topology_desc(self.name, "tpu").devices
            options = dict(target_config=target(self.chip), topology=f"1x1x{self.count}")
            return topologies.get_topology_desc(platform="cuda", **options).devices
        except Exception as error:  # whatever a plug-in raises
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"--topology={self.name}: its compiler says: {reason}") from error

    def _here(self) -> Sequence[Any]:
        devices = jax.devices("cpu")
        if len(devices) < self.count:
            raise UserError(
                f"--topology={self.name}: this process has {len(devices)} CPU devices; set "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={self.count}"
            )
        return devices[: self.count]

    def environment(self) -> dict[str, str]:
        """What a process that compiles for these devices needs in its environment."""
        made = {"JAX_PLATFORMS": "cpu", "TPU_MIN_LOG_LEVEL": "4", "TF_CPP_MIN_LOG_LEVEL": "3"}
        if self.chip.platform == "cpu":
            count = f"--xla_force_host_platform_device_count={self.count}"
            made["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
        if self.chip.platform == "tpu":
            made |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
        if self.chip.platform == "gpu":
            made["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
        return made


def parse(name: str) -> Topology:
    """The topology of a name. Raises UserError, one line, for a name or a shape that is none."""
    kind, _, rest = name.strip().lower().partition(":")
    if kind not in CHIPS:
        near = nearest(kind, [k for k in CHIPS if k.startswith(kind)] or CHIPS)
        raise UserError(f"--topology={name}: '{kind}' is not one of {', '.join(CHIPS)}{near}")
    chip = CHIPS[kind]
    if not chip.dims:
        if not re.fullmatch(r"|[1-9]\d*", rest):
            raise UserError(f"--topology={name}: after the colon comes a number, such as {kind}:8")
        return Topology(name, chip, (int(rest or 1),))
    example = f"{kind}:" + "x".join(["2"] * chip.dims)
    if not re.fullmatch(r"[1-9]\d*" + r"x[1-9]\d*" * (chip.dims - 1), rest):
        raise UserError(
            f"--topology={name}: a {kind} slice has {chip.dims} sides, such as {example}"
        )
    return Topology(name, chip, tuple(int(side) for side in rest.split("x")))
