"""The tables of docs/plan.md are what launch/plan.py prints of the plans beside it."""

import itertools
import json
import pathlib

from pefomed_jax.planning import table

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_tables_are_those_of_the_command():
    page = (DOCS / "plan.md").read_text()
    plans = {path.stem: json.loads(path.read_text()) for path in (DOCS / "plans").glob("*.json")}
    for each in plans.values():
        assert table.table(each) in page
    assert table.scaling(plans["tpu"]) in page


def test_the_sizes_that_the_page_speaks_of():
    plans = json.loads((DOCS / "plans" / "tpu.json").read_text())
    table_of_positions = ["frozen/vision/pos_embed", 1025 * 1408 * 4]
    for plan in plans:
        step = plan["programs"].get("step", {"unread": ""})
        if "unread" not in step:
            assert step["largest_gather"] == {
                "in_loop": 4096 * 11008 * 2,
                "outside": 4096 * 32000 * 2,
            }
        assert table_of_positions in plan["replicated"]
        # 256 divides no side of the tower
        assert (len(plan["replicated"]) == 1) == (plan["mesh"]["fsdp"] < 256)
    steps = [p for p in plans if "step" in p["programs"] and p["device"] == "TPU v5 lite"]
    for name in ("vqa:7b", "mrg:7b"):
        rows = [p for p in steps if p["name"] == name and p["batch"] == 4 * p["devices"]]
        sizes = [p["programs"]["step"]["memory"]["temporaries"] for p in rows]
        assert len(sizes) == 4
        assert all(b < 1.01 * a for a, b in itertools.pairwise(sizes))  # nor with more chips
