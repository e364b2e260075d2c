"""The real compiler of TPUs: a size of the table in docs/plan.md, compiled again."""

import json
import pathlib
from importlib import util

import pytest

from pefomed_jax import config as config_lib
from pefomed_jax.planning import table, topology, worker

PLANS = pathlib.Path(__file__).parents[2] / "docs" / "plans" / "tpu.json"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        util.find_spec("libtpu") is None, reason="no libtpu: pip install -e '.[plan-tpu]'"
    ),
]


def test_a_step_of_seven_billion_on_four_chips():
    """The row of v5e:2x2 stands in the table, to 5 %; a later compiler may need less."""
    config = config_lib.make("mrg", "7b")
    config.mesh.data, config.mesh.fsdp, config.train.batch_size = 1, -1, 8
    found = worker.ask(config, topology.parse("v5e:2x2"), ["step"])
    wanted = {"name": "mrg:7b", "topology": "v5e:2x2", "batch": 8}
    (known,) = (p for p in json.loads(PLANS.read_text()) if wanted.items() <= p.items())
    new, old = (plan["programs"]["step"] for plan in (found, known))
    for kind in table.KINDS:
        assert new["memory"][kind] == pytest.approx(old["memory"][kind], rel=0.05), kind
    # weights twice (forwards and backwards), the tower once; gathered or handed round a ring
    sent = sum(each["bytes"] for each in new["collectives"].values())
    decoder = 32 * (4 * 4096**2 + 3 * 4096 * 11008) * 2
    tower = 39 * (4 * 1408**2 + 2 * 1408 * 6144) * 2
    assert 1 <= sent / (0.75 * (2 * decoder + tower)) < 1.25
    # the largest thing gathered is the head, once; in the loops a layer's largest matrix
    assert new["largest_gather"]["outside"] <= 4096 * 32000 * 2
    assert new["largest_gather"]["in_loop"] <= 4096 * 11008 * 2
    assert [path for path, _ in found["replicated"]] == ["frozen/vision/pos_embed"]


def test_a_shape_that_no_slice_has():
    config = config_lib.make("mrg", "tiny")
    with pytest.raises(Exception, match="--topology=v5e:3x5: its compiler says"):
        worker.ask(config, topology.parse("v5e:3x5"), ["step"])
