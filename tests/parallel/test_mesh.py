"""The mesh: sizes, -1, errors that name what would fit."""

import jax
import pytest

from pefomed_jax.errors import UserError
from pefomed_jax.parallel import mesh


def sizes(data: int, fsdp: int, tensor: int) -> dict[str, int]:
    return dict(data=data, fsdp=fsdp, tensor=tensor)


def test_minus_one_is_the_rest():
    made = mesh.make(sizes(-1, 2, 2))
    assert dict(made.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert set(made.axis_types) == {jax.sharding.AxisType.Auto}
    one = mesh.make(sizes(-1, 1, 1), devices=jax.devices()[:1])
    assert one.size == 1


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        (sizes(3, 1, 1), "data=4,fsdp=1,tensor=1|data=2,fsdp=1,tensor=1"),
        (sizes(1, 4, 4), "data=1,fsdp=4,tensor=2|data=1,fsdp=2,tensor=4"),
        (sizes(-1, 3, 1), "data=2,fsdp=4,tensor=1"),
        (sizes(1, 16, -1), "data=1,fsdp=8,tensor=1"),
    ],
)
def test_misfit_names_the_nearest(asked, nearest):
    with pytest.raises(UserError, match="does not fit 8 devices; the nearest that does is") as e:
        mesh.make(asked)
    named = str(e.value).rsplit(" ", 1)[1]
    fits = mesh.make({k: int(v) for k, v in (p.split("=") for p in named.split(","))})
    assert fits.size == 8
    if asked["data"] != 3:
        assert named in nearest.split("|")


@pytest.mark.parametrize("asked", [sizes(-1, -1, 1), sizes(0, 8, 1), sizes(-2, 1, 1)])
def test_impossible_sizes(asked):
    with pytest.raises(UserError, match="at most one is -1"):
        mesh.make(asked)


def test_batch_must_divide():
    made = mesh.make(sizes(2, 2, 2))
    mesh.check_batch(16, 2, made)
    with pytest.raises(UserError, match=r"batch_size=18 .*= 8; nearest: 16 or 24"):
        mesh.check_batch(18, 2, made)
    with pytest.raises(UserError, match=r"nearest: 4$"):
        mesh.check_batch(3, 1, made)
