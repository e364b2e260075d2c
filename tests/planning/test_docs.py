"""The tables of docs/plan.md are what launch/plan.py prints of the plans beside it."""

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
        gathered = plan["programs"]["step"]["largest_gather"]
        assert gathered["in_loop"] == 4096 * 11008 * 2
        assert gathered["outside"] == 4096 * 32000 * 2
        assert table_of_positions in plan["replicated"]
        # 256 divides no side of the tower
        assert (len(plan["replicated"]) == 1) == (plan["mesh"]["fsdp"] < 256)
    four_rows = [p for p in plans if p["name"] == "vqa:7b" and p["device"] == "TPU v5 lite"]
    sizes = [p["programs"]["step"]["memory"]["temporaries"] for p in four_rows]
    assert sizes == sorted(sizes, reverse=True)  # more chips, no more temporaries
