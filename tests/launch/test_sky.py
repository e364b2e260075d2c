"""launch/sky.yaml: SkyPilot takes it, and its commands do on a node what they say."""

import os
import subprocess
import sys

import jsonschema
import pytest
import yaml
from schemas import SKY
from standins import ROOT, wait_for

TASK = yaml.safe_load((ROOT / "launch/sky.yaml").read_text())
SHOW = "import os, sys; print(*[os.environ.get(f'JAX_{x}', '-') for x in "
SHOW += "('COORDINATOR_ADDRESS', 'NUM_PROCESSES', 'PROCESS_ID')], *sys.argv[1:])"


def test_it_passes_the_schema():
    jsonschema.validate(TASK, SKY)
    assert TASK["resources"]["job_recovery"]["recover_on_exit_codes"] == [75, 76]


@pytest.mark.parametrize("name", ["num_node", "filemounts", "command"])
def test_the_schema_refuses_what_is_misspelt(name):
    with pytest.raises(jsonschema.ValidationError, match=name):
        jsonschema.validate(TASK | {name: 1}, SKY)


def test_every_variable_is_given_or_sky_s_own():
    text = TASK["run"] + TASK["setup"] + str(TASK["file_mounts"])
    used = {name for name in TASK["envs"] if f"${name}" in text or f"${{{name}}}" in text}
    assert used == set(TASK["envs"])


@pytest.fixture
def node(tmp_path):
    """Runs the section `run` on a node: the environment as SkyPilot sets it, a home of its own."""
    tools = tmp_path / "pefomed-env/bin"
    tools.mkdir(parents=True)
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tools / "python").chmod(0o755)
    (tmp_path / "show.py").write_text(SHOW)

    def start(rank, *, nodes=2, **envs):
        here = {name: str(value) for name, value in TASK["envs"].items() if value is not None}
        here |= {"HOME": str(tmp_path), "SKYPILOT_NODE_RANK": str(rank)}
        here |= {"SKYPILOT_NODE_IPS": "\n".join(f"10.0.0.{i + 1}" for i in range(nodes))}
        here |= {"SKYPILOT_NUM_NODES": str(nodes), "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
        here |= {"COMMAND": f"python {tmp_path}/show.py --x=('a',1)", "CUDA_VISIBLE_DEVICES": "0"}
        clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
        # sky pauses for 45 s before a restart
        run = TASK["run"].replace("--pause=45", "--pause=0")
        assert run != TASK["run"]
        return subprocess.Popen(
            ["bash", "-c", run],
            cwd=ROOT,
            env=clean | here | envs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def ended(process):
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize("rank", [0, 1])
def test_nodes_with_gpus_are_told_of_each_other(node, rank):
    code, out, err = ended(node(rank))
    assert code == 0, err
    assert out == f"[0] 10.0.0.1:8476 2 {rank} --x=('a',1)\n"


@pytest.mark.parametrize(("nodes", "extra"), [(4, "tpu"), (1, "cuda13")])
def test_a_slice_and_a_single_node_find_themselves(node, nodes, extra):
    code, out, err = ended(node(0, nodes=nodes, EXTRA=extra))
    assert code == 0, err
    assert out == "[0] - - - --x=('a',1)\n"


def test_a_lost_process_starts_again_and_a_wrong_one_does_not(node, tmp_path):
    (tmp_path / "once.py").write_text(
        "import pathlib, sys\nm = pathlib.Path(sys.argv[1])\nn = m.exists()\nm.touch()\n"
        "sys.exit(0 if n else int(sys.argv[2]))"
    )
    command = f"python {tmp_path}/once.py {tmp_path}/mark"
    code, _, err = ended(node(0, COMMAND=f"{command} 76"))
    assert code == 0
    assert "all start again; 9 restarts left" in err
    (tmp_path / "mark").unlink()
    code, _, err = ended(node(0, COMMAND=f"{command} 1"))
    assert code == 1
    assert "start again" not in err


def test_a_cancelled_job_saves(node, tmp_path):
    (tmp_path / "saves.py").write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(75)))\n"
        "pathlib.Path(sys.argv[1]).touch()\ntime.sleep(100)"
    )
    process = node(0, COMMAND=f"python {tmp_path}/saves.py {tmp_path}/begun")
    wait_for((tmp_path / "begun").exists, "it did not begin")
    process.terminate()
    assert ended(process)[:2] == (75, "[0] saved\n")
