"""launch/plan.py: plans in processes of their own, tables, and one line for what is wrong."""

import json

import pytest
import runs

from pefomed_jax.errors import UserError
from pefomed_jax.planning import command, table, worker


def asked(*topologies, **more):
    return command.Asked(topologies=topologies, **more)


def test_a_plan_of_two_devices(tmp_path, capfd):
    """One real process: it has two devices, and this one eight."""
    config = runs.config(tmp_path, mesh__data=1, mesh__fsdp=-1, model__scan=True)
    out = tmp_path / "plans.json"
    assert command.run(config, asked("cpu:2", row=("64", "8"), per_device=("2",)), str(out)) == 0
    (plan,) = json.loads(out.read_text())
    assert (plan["batch"], plan["mesh"]["fsdp"], plan["row"]) == (4, 2, [64, 8, 1])
    assert set(plan["programs"]) == {"step", "generation"}
    step = plan["programs"]["step"]
    parts = [step["memory"][kind] for kind in table.KINDS if kind != "total"]
    assert step["memory"]["total"] == sum(parts)
    assert step["collectives"]["all-gather"]["bytes"] > 0
    said = capfd.readouterr().out
    assert "1/1: cpu:2, batch 4, remat=none, float32: compiling step, generation" in said
    assert "fits: 0.0" in said
    assert "| cpu:2 | fsdp=2 | 4 | T=64 A=8 I=1 | none | f32 | step |" in said
    assert command.read([str(out)]) == 0
    assert "| cpu:2 | fsdp=2 | 4 |" in capfd.readouterr().out


def test_a_table_over_all_that_is_named(tmp_path, monkeypatch):
    seen = []

    def ask(config, topology, *_):
        size = config.train.batch_size
        seen.append((topology.name, size, config.model.remat, config.model.base_dtype))
        return plan(topology=topology.name)

    monkeypatch.setattr(worker, "ask", ask)
    several = asked("cpu", "cpu:2", batches=("8", "16"), remats=("none", "full"), dtypes=("bf16",))
    command.run(runs.config(tmp_path), several)
    assert len(seen) == 8
    assert ("cpu:2", 16, "full", "bfloat16") in seen


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (dict(remats=("ful",)), r"--remat=ful is not one of none, dots, full \(did you mean full"),
        (dict(dtypes=("f16",)), r"--dtype=f16 is not one of float32, bfloat16"),
        (dict(programs=("steps",)), r"--programs=steps is not one of step, generation"),
        (dict(batches=("0",)), r"--batch=0 is no number of rows"),
        (dict(batches=("8",), per_device=("1",)), r"--batch and --per_device both"),
        (dict(row=("x",)), r"--row=x is not T,A,I"),
    ],
)
def test_wrong_flags(tmp_path, more, said):
    with pytest.raises(UserError, match=said):
        command.run(runs.config(tmp_path), asked("cpu", **more))


def test_a_mesh_that_does_not_divide(tmp_path):
    with pytest.raises(UserError, match=r"data=3,fsdp=1,tensor=1 does not fit 2 devices; the near"):
        command.run(runs.config(tmp_path, mesh__data=3), asked("cpu:2"))


def plan(**changes):
    step = {
        "memory": dict.fromkeys(table.KINDS, 2**30) | {"total": 7 * 2**30},
        "fits": False,
        "collectives": {"all-gather": {"count": 64, "bytes": 9e9}},
    }
    facts = dict(name="vqa:7b", topology="v5e:2x2", device="TPU v5 lite", devices=4, batch=8)
    facts |= dict(mesh=dict(data=1, fsdp=4, tensor=1), row=[640, 80, 1], row_source="given")
    facts |= dict(remat="full", dtype="bfloat16", base_dtype="bfloat16", limit=4 * 2**30)
    facts |= dict(compiler="XLA", link=90e9, eval_batch=8, replicated=[["frozen/x", 2**21]])
    work = {"flops": 2e13, "seconds": {"0.3": 0.338, "0.5": 0.203}, "travel": 0.1}
    return facts | {"programs": {"step": step}, "fits": False, "work": work} | changes


def test_a_block_says_everything():
    said = table.block(plan(advice="it fits with --config.model.remat=full (3.00 GiB)"))
    assert "DOES NOT FIT: 7.00 of 4.00 GiB (175%)" in said
    assert "it fits with --config.model.remat=full" in said
    assert "whole on every device: frozen/x 2.0 MiB" in said
    layers = [[f"llm/layers/{i}/kernel", 2**20] for i in range(8)]
    assert "whole on every device: llm/layers/*/kernel 8 × 1.0 MiB\n" in table.block(
        plan(replicated=layers)
    )
    assert "all-gather 64 × 9 GB" in said
    assert "0.203 s a step at 50% of the bf16 peak" in said
    assert "0.1 s for what a step sends, at 90 GB/s" in said


def test_what_is_sent_may_be_unknown():
    made = plan()
    step = made["programs"]["step"]
    del step["collectives"]
    step["unread"] = "RET_CHECK failure"
    assert "what a step sends cannot be told: JAX cannot read its text" in table.block(made)
    assert table.table([made]).count("\n") == 2
    assert "v5e:2x2" not in table.scaling([made])


def test_the_scaling_of_several():
    lines = table.scaling([plan(), plan(devices=16)]).splitlines()
    assert len(lines) == 4
    assert lines[2].endswith("| 9 GB | 90 | 0.100 | 20.00 | 0.338 | 0.203 | 0.49 |")


def test_the_figure(tmp_path):
    from pefomed_jax.planning import figure

    figure.draw([plan(), plan(devices=16)], tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="none of these plans"):
        figure.draw([plan(programs={})], tmp_path / "none.png")
