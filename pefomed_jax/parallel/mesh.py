"""The device mesh: data × fsdp × tensor."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from pefomed_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")


def make(sizes: Mapping[str, int] | Any, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of `config.mesh` over all devices (or those given); one axis may be -1, the rest.

    Enter it with `jax.set_mesh`. Raises UserError when the product is not the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = resolve(tuple(sizes[axis] for axis in AXES), len(devices))
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def resolve(sizes: tuple[int, int, int], devices: int) -> tuple[int, int, int]:
    """(data, fsdp, tensor) with -1 filled in, for so many devices."""
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise UserError(
            f"config.mesh {_say(sizes)}: sizes are 1 or more, and at most one is -1 (the rest)"
        )
    known = math.prod(size for size in sizes if size != -1)
    filled = tuple(max(1, devices // known) if size == -1 else size for size in sizes)
    if math.prod(filled) != devices:
        raise UserError(
            f"config.mesh {_say(sizes)} does not fit {devices} device{'s' * (devices != 1)}; "
            f"the nearest that does is {_say(_nearest(filled, devices))}"
        )
    return filled


def _say(sizes: tuple[int, ...]) -> str:
    return ",".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))


def _nearest(sizes: tuple[int, ...], devices: int) -> tuple[int, int, int]:
    """The factorisation of `devices` with the smallest change of scale over the axes."""
    divisors = [n for n in range(1, devices + 1) if devices % n == 0]
    fits = [
        (devices // (f * t), f, t) for f in divisors for t in divisors if devices % (f * t) == 0
    ]
    return min(
        fits,
        key=lambda fit: sum(abs(math.log(a / b)) for a, b in zip(fit, sizes, strict=True)),
    )


def check_batch(batch_size: int, accumulate: int, mesh: Mesh) -> None:
    """Raises UserError unless every device gets whole rows of every micro-batch.

    Rows are split over data × fsdp; the nearest sizes that work are named.
    """
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    unit = shards * accumulate
    if batch_size < 1 or batch_size % unit:
        below = batch_size // unit * unit
        near = f"{below} or {below + unit}" if below > 0 else f"{unit}"
        raise UserError(
            f"config.train.batch_size={batch_size} is not divisible by data*fsdp*accumulate = "
            f"{mesh.shape['data']}*{mesh.shape['fsdp']}*{accumulate} = {unit}; nearest: {near}"
        )
