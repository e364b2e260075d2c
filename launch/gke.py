"""A run on GKE: the node pool it needs, the JobSet, its logs, and its end.

python launch/gke.py pool --accelerator=v5e:4x4 --cluster=CLUSTER --location=ZONE [--spot]
python launch/gke.py run  --accelerator=v5e:4x4 --image=IMAGE --bucket=BUCKET -- python \\
    launch/train.py --config=configs/mrg.py:7b --workdir=/bucket/runs/mrg --join_timeout=1800
python launch/gke.py logs|status|stop

--accelerator=KIND  v5e:4x4, v5p:2x2x2, v6e:4x4 (a TPU and its topology); h100, h200, a100, l4
                    (nodes of eight GPUs, one process each)
--nodes=N           of GPUs (2); a TPU's topology says how many
--slices=N          of a TPU, joined by the data centre's network (1)
--name=NAME         of the JobSet and of the node pool (pefomed)
--image=IMAGE       has the package, its checkout as working folder (docs/pods.md)
--bucket=BUCKET     of Cloud Storage, which every pod sees as /bucket; /cache is each node's own
--service_account   of Kubernetes, which may use the bucket (pefomed)
--restarts=N        on 75, 76 or a lost node (20); never on 1 or 2
--spot              spot nodes
--cluster, --location, --zone   for `pool`: the cluster, where it is, and where its nodes are to be
--dry_run           print the manifest and the command, run nothing

The JobSet is launch/jobset.yaml with these filled in.
"""

import argparse
import math
import pathlib
import shlex
import shutil
import subprocess
import sys
from typing import Any

import yaml

from pefomed_jax.errors import UserError, nearest

TEMPLATE = pathlib.Path(__file__).with_name("jobset.yaml")
CHIPS, GPUS = 4, 8  # a node
PORT = 8476
TPU = {  # label of the nodes, machine of four chips, dimensions of a topology
    "v5e": ("tpu-v5-lite-podslice", "ct5lp-hightpu-4t", 2),
    "v5p": ("tpu-v5p-slice", "ct5p-hightpu-4t", 3),
    "v6e": ("tpu-v6e-slice", "ct6e-standard-4t", 2),
}
GPU = {  # label of the nodes, machine of eight GPUs
    "h100": ("nvidia-h100-80gb", "a3-highgpu-8g"),
    "h200": ("nvidia-h200-141gb", "a3-ultragpu-8g"),
    "a100": ("nvidia-a100-80gb", "a2-ultragpu-8g"),
    "l4": ("nvidia-l4", "g2-standard-96"),
}


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """(flags, program with its arguments)."""
    own, program = argv, []
    if "--" in argv:
        own, program = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    parser = argparse.ArgumentParser(
        usage="python launch/gke.py pool|run|logs|status|stop [flags] [-- PROGRAM [ARGUMENTS]]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=("pool", "run", "logs", "status", "stop"))
    for name in ("accelerator", "image", "bucket", "cluster", "location", "zone"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    for name in ("name", "service_account"):
        parser.add_argument(f"--{name}", default="pefomed", help=argparse.SUPPRESS)
    for name, default in {"nodes": 2, "slices": 1, "restarts": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=argparse.SUPPRESS)
    for name in ("spot", "dry_run"):
        parser.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(own)
    needed = {
        "pool": ("accelerator", "cluster", "location"),
        "run": ("accelerator", "image", "bucket"),
    }
    for name in needed.get(args.command, ()):
        if not getattr(args, name):
            parser.error(f"{args.command} needs --{name}")
    if args.command == "run" and not program:
        parser.error("no program: put it after --, as in -- python launch/train.py --config=…")
    return args, program


def topology(accelerator: str) -> tuple[str, str, int]:
    """(kind, topology, nodes) of a TPU such as v5e:4x4."""
    kind, _, shape = accelerator.partition(":")
    if kind not in TPU:
        known = [*TPU, *GPU]
        raise UserError(
            f"--accelerator={accelerator} is unknown{nearest(kind, known)}; one of v5e:4x4 (any "
            f"topology), v5p:…, v6e:…, {', '.join(GPU)}"
        )
    sizes = [int(size) if size.isdigit() else 0 for size in shape.split("x")]
    chips = math.prod(sizes)
    if len(sizes) != TPU[kind][2] or chips == 0 or chips % CHIPS:
        example = {2: "4x4", 3: "2x2x2"}[TPU[kind][2]]
        raise UserError(
            f"--accelerator={accelerator}: the topology of a {kind} is like {example}, of whole "
            f"nodes of {CHIPS} chips"
        )
    return kind, shape, chips // CHIPS


def pool(args: argparse.Namespace) -> list[str]:
    """The gcloud command that makes the nodes; they cost from then until they are deleted."""
    command = ["gcloud", "container", "node-pools", "create", args.name]
    command += [f"--cluster={args.cluster}", f"--location={args.location}"]
    if args.zone:
        command.append(f"--node-locations={args.zone}")
    if args.accelerator in GPU:
        label, machine = GPU[args.accelerator]
        count = args.nodes
        device = f"--accelerator=type={label},count={GPUS},gpu-driver-version=latest"
    else:
        kind, shape, count = topology(args.accelerator)
        machine, device = TPU[kind][1], f"--tpu-topology={shape}"
    command += [f"--machine-type={machine}", device, f"--num-nodes={count}"]
    return command + ["--spot"] * args.spot


def manifest(args: argparse.Namespace, program: list[str]) -> dict[str, Any]:
    """launch/jobset.yaml, filled in."""
    made = yaml.safe_load(TEMPLATE.read_text())
    made["metadata"]["name"] = args.name
    made["spec"]["failurePolicy"]["maxRestarts"] = args.restarts
    (replicated,) = made["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    container["image"], container["command"] = args.image, program
    del container["args"]
    pod["serviceAccountName"] = args.service_account
    pod["volumes"][0]["csi"]["volumeAttributes"]["bucketName"] = args.bucket
    if args.accelerator in GPU:
        count = args.nodes
        _gpus(args, made, pod, container)
    else:
        kind, shape, count = topology(args.accelerator)
        replicated["replicas"] = args.slices
        prefix = "cloud.google.com/gke-tpu"
        pod["nodeSelector"] = {f"{prefix}-accelerator": TPU[kind][0], f"{prefix}-topology": shape}
    job["parallelism"] = job["completions"] = count
    if args.spot:
        pod["nodeSelector"]["cloud.google.com/gke-spot"] = "true"
    return made


def _gpus(args: argparse.Namespace, made: Any, pod: Any, container: Any) -> None:
    """What TPU pods are told by GKE, others are told here: who begins, how many, and who one is."""
    del made["metadata"]["annotations"]  # one pool for all nodes
    pod["nodeSelector"] = {"cloud.google.com/gke-accelerator": GPU[args.accelerator][0]}
    container["resources"]["limits"] = {"nvidia.com/gpu": GPUS}
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    first = f"{args.name}-slice-0-0.{args.name}"  # its name in the JobSet's own network
    container["env"] = [
        {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{first}:{PORT}"},
        {"name": "JAX_NUM_PROCESSES", "value": str(args.nodes)},
        {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": index}}},
    ]
    # NCCL's processes share memory there; the default is 64 MB
    pod["volumes"].append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    container["volumeMounts"].append({"name": "shm", "mountPath": "/dev/shm"})


def command(args: argparse.Namespace) -> list[str]:
    """What `args.command` runs."""
    ours = f"--selector=jobset.sigs.k8s.io/jobset-name={args.name}"
    follow = ("--follow", "--prefix", "--tail=100", "--max-log-requests=256")
    return {
        "run": ["kubectl", "create", "--filename=-"],
        "logs": ["kubectl", "logs", ours, "--container=run", *follow],
        "status": ["kubectl", "get", f"jobsets/{args.name}", "--output=wide"],
        "stop": ["kubectl", "delete", f"jobsets/{args.name}"],
    }[args.command]


def main() -> int:
    args, program = parse(sys.argv[1:])
    words = pool(args) if args.command == "pool" else command(args)
    given = None
    if args.command == "run":
        given = yaml.safe_dump(manifest(args, program), sort_keys=False)
        print(given, end="")
    print("#" if given else "$", shlex.join(words), flush=True)
    if args.dry_run:
        return 0
    if shutil.which(words[0]) is None:
        raise UserError(f"{words[0]} is not installed; --dry_run prints what it would be given")
    return subprocess.run(words, input=given, text=True).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
