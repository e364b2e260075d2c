"""launch/gke.py: what it would give kubectl and gcloud, and that JobSet takes it."""

import os
import subprocess
import sys

import jsonschema
import pytest
import yaml
from schemas import JOBSET
from standins import ROOT

PROGRAM = ("--", "python", "launch/train.py", "--workdir=/bucket/runs/a b")


def gke(*words, **environment):
    return subprocess.run(
        [sys.executable, "launch/gke.py", *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def manifest(*words):
    """The JobSet of `run --dry_run`, which passes the schema."""
    done = gke("run", "--dry_run", "--image=r/i:1", "--bucket=films", *words, *PROGRAM)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "# kubectl create --filename=-"
    made = yaml.safe_load(done.stdout)
    jsonschema.validate(made, JOBSET)
    return made


def pod(made):
    return made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


def test_the_template_is_complete_and_passes_the_schema():
    made = yaml.safe_load((ROOT / "launch/jobset.yaml").read_text())
    jsonschema.validate(made, JOBSET)
    run = pod(made)["containers"][0]
    mounted = {volume["name"] for volume in pod(made)["volumes"]}
    assert {mount["name"] for mount in run["volumeMounts"]} == mounted
    (options,) = [
        v["csi"]["volumeAttributes"]["mountOptions"] for v in pod(made)["volumes"] if "csi" in v
    ]
    assert {"metadata-cache:ttl-secs:0", "metadata-cache:negative-ttl-secs:0"} < {
        *options.split(",")
    }


@pytest.mark.parametrize(
    "path",
    [
        ("spec", "failurePolicy", "maxRestart"),
        ("spec", "replicatedJobs", 0, "template", "spec", "backofLimit"),
        ("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "nodeSelectors"),
    ],
)
def test_the_schema_refuses_what_is_misspelt(path):
    made = inner = yaml.safe_load((ROOT / "launch/jobset.yaml").read_text())
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = 1
    with pytest.raises(jsonschema.ValidationError, match=path[-1]):
        jsonschema.validate(made, JOBSET)


@pytest.mark.parametrize(
    ("accelerator", "label", "topology", "nodes"),
    [
        ("v5e:4x4", "tpu-v5-lite-podslice", "4x4", 4),
        ("v5e:2x2", "tpu-v5-lite-podslice", "2x2", 1),
        ("v5e:16x16", "tpu-v5-lite-podslice", "16x16", 64),
        ("v5p:2x2x2", "tpu-v5p-slice", "2x2x2", 2),
        ("v6e:4x4", "tpu-v6e-slice", "4x4", 4),
    ],
)
def test_a_slice_has_a_pod_for_every_four_chips(accelerator, label, topology, nodes):
    made = manifest(f"--accelerator={accelerator}", "--name=mrg", "--slices=3", "--spot")
    job = made["spec"]["replicatedJobs"][0]
    assert made["metadata"]["name"] == "mrg"
    assert job["replicas"] == 3
    assert job["template"]["spec"]["parallelism"] == nodes
    assert job["template"]["spec"]["completions"] == nodes
    assert pod(made)["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": label,
        "cloud.google.com/gke-tpu-topology": topology,
        "cloud.google.com/gke-spot": "true",
    }
    run = pod(made)["containers"][0]
    assert run["resources"] == {"limits": {"google.com/tpu": 4}}
    assert run["command"] == list(PROGRAM[1:])
    assert "env" not in run  # GKE tells the pods of a slice of each other
    assert pod(made)["volumes"][0]["csi"]["volumeAttributes"]["bucketName"] == "films"


def test_pods_with_gpus_are_told_of_each_other():
    made = manifest("--accelerator=h100", "--nodes=3", "--name=mrg")
    run = pod(made)["containers"][0]
    env = {entry["name"]: entry.get("value") for entry in run["env"]}
    # <jobSet>-<replicatedJob>-<job>-<pod>.<subdomain, which is the JobSet's name>
    name = made["spec"]["replicatedJobs"][0]["name"]
    assert env["JAX_COORDINATOR_ADDRESS"] == f"mrg-{name}-0-0.mrg:8476"
    assert env["JAX_NUM_PROCESSES"] == "3"
    assert "job-completion-index" in str(run["env"][2]["valueFrom"])
    assert run["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    assert {"name": "shm", "mountPath": "/dev/shm"} in run["volumeMounts"]
    assert made["spec"]["replicatedJobs"][0]["template"]["spec"]["parallelism"] == 3
    assert "annotations" not in made["metadata"]


def test_exit_codes_say_what_starts_again():
    """1 and 2 fail the job for a reason that ends the JobSet; all else restarts it as a whole."""
    made = manifest("--accelerator=v5e:4x4", "--restarts=7")
    policy = made["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 7
    assert [(r["action"], r["onJobFailureReasons"]) for r in policy["rules"]] == [
        ("FailJobSet", ["PodFailurePolicy"])
    ]
    job = made["spec"]["replicatedJobs"][0]["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["values"] == [1, 2]
    assert rule["onExitCodes"]["containerName"] == pod(made)["containers"][0]["name"]
    # what a pod failure policy demands, and what keeps a pod from starting again alone
    assert pod(made)["restartPolicy"] == "Never"
    assert job["backoffLimit"] == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--accelerator=v5e:4x4", "--spot", "--zone=us-west4-a"],
            "$ gcloud container node-pools create mrg --cluster=c --location=us-west4 "
            "--node-locations=us-west4-a --machine-type=ct5lp-hightpu-4t --tpu-topology=4x4 "
            "--num-nodes=4 --spot",
        ),
        (
            ["--accelerator=a100"],
            "$ gcloud container node-pools create mrg --cluster=c --location=us-west4 "
            "--machine-type=a2-ultragpu-8g "
            "--accelerator=type=nvidia-a100-80gb,count=8,gpu-driver-version=latest --num-nodes=2",
        ),
    ],
)
def test_node_pools(words, line):
    done = gke("pool", "--dry_run", "--name=mrg", "--cluster=c", "--location=us-west4", *words)
    assert done.stdout == line + "\n"


def test_the_manifest_reaches_kubectl(tmp_path):
    (tmp_path / "kubectl").write_text(f'#!/bin/sh\necho "$@"; cat > {tmp_path}/given; exit 3\n')
    (tmp_path / "kubectl").chmod(0o755)
    here = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = ["--accelerator=v5e:4x4", "--image=i", "--bucket=b"]
    assert gke("run", *words, *PROGRAM, **here).returncode == 3
    jsonschema.validate(yaml.safe_load((tmp_path / "given").read_text()), JOBSET)
    said = {name: gke(name, "--name=mrg", **here).stdout for name in ("logs", "status", "stop")}
    assert "logs --selector=jobset.sigs.k8s.io/jobset-name=mrg --container=run" in said["logs"]
    assert "get jobsets/mrg" in said["status"]
    assert "delete jobsets/mrg" in said["stop"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--accelerator=v5e:4x3x2"], 1, "the topology of a v5e is like 4x4"),
        (["--accelerator=v5p:4x4"], 1, "the topology of a v5p is like 2x2x2"),
        (["--accelerator=v5e:1x1"], 1, "of whole nodes of 4 chips"),
        (["--accelerator=v5:4x4"], 1, "--accelerator=v5:4x4 is unknown (did you mean v5"),
        ([], 2, "run needs --accelerator"),
    ],
)
def test_wrong_command_lines(words, code, said):
    done = gke("run", "--dry_run", "--image=i", "--bucket=b", *words, *PROGRAM)
    assert done.returncode == code
    assert said in done.stderr.splitlines()[-1]
