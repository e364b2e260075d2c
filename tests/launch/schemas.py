"""What JobSet v1alpha2, Kubernetes and SkyPilot take, as far as our files could use it.

Field names, types and values after the CRD of jobset.x-k8s.io/v1alpha2 (JobSet 0.8), batch/v1 and
core/v1 (Kubernetes 1.32), and the schema of SkyPilot 0.14; every other field is an error, so that
a misspelt one is too.
"""

TEXT, NUMBER, TRUTH = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
MAP = {"type": "object", "additionalProperties": TEXT}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}


def record(required=(), **fields):
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def several(item, **more):
    return {"type": "array", "items": item} | more


def one_of(*values):
    return {"enum": list(values)}


META = record(name=NAME, namespace=NAME, labels=MAP, annotations=MAP)
CONTAINER = record(
    ("name", "image"),
    name=NAME,
    image=TEXT,
    command=several(TEXT),
    args=several(TEXT),
    workingDir=TEXT,
    env=several(
        record(
            ("name",),
            name=TEXT,
            value=TEXT,
            valueFrom=record(fieldRef=record(("fieldPath",), apiVersion=TEXT, fieldPath=TEXT)),
        )
    ),
    ports=several(record(("containerPort",), name=NAME, containerPort=NUMBER, protocol=TEXT)),
    resources=record(
        **{
            name: {"type": "object", "additionalProperties": {"type": ["integer", "string"]}}
            for name in ("limits", "requests")
        }
    ),
    volumeMounts=several(
        record(("name", "mountPath"), name=NAME, mountPath=TEXT, readOnly=TRUTH, subPath=TEXT)
    ),
    imagePullPolicy=one_of("Always", "Never", "IfNotPresent"),
)
POD = record(
    ("containers",),
    containers=several(CONTAINER, minItems=1),
    initContainers=several(CONTAINER),
    restartPolicy=one_of("Always", "OnFailure", "Never"),
    terminationGracePeriodSeconds=NUMBER,
    serviceAccountName=NAME,
    nodeSelector=MAP,
    hostNetwork=TRUTH,
    dnsPolicy=one_of("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    volumes=several(
        record(
            ("name",),
            name=NAME,
            emptyDir=record(medium=one_of("", "Memory"), sizeLimit=TEXT),
            csi=record(("driver",), driver=TEXT, readOnly=TRUTH, volumeAttributes=MAP),
        )
    ),
)
JOB = record(
    ("template",),
    template=record(("spec",), metadata=META, spec=POD),
    completionMode=one_of("Indexed", "NonIndexed"),
    parallelism=NUMBER,
    completions=NUMBER,
    backoffLimit=NUMBER,
    activeDeadlineSeconds=NUMBER,
    ttlSecondsAfterFinished=NUMBER,
    podFailurePolicy=record(
        ("rules",),
        rules=several(
            record(
                ("action",),
                action=one_of("FailJob", "FailIndex", "Ignore", "Count"),
                onExitCodes=record(
                    ("operator", "values"),
                    containerName=NAME,
                    operator=one_of("In", "NotIn"),
                    values=several({"type": "integer"}, minItems=1, maxItems=255, uniqueItems=True),
                ),
                onPodConditions=several(record(("type",), type=TEXT, status=TEXT)),
            ),
            maxItems=20,
        ),
    ),
)
REASONS = one_of(
    *("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes"),
    *("MaxFailedIndexesExceeded", "PodFailurePolicy"),
)
JOBSET = record(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion=one_of("jobset.x-k8s.io/v1alpha2"),
    kind=one_of("JobSet"),
    metadata=META,
    spec=record(
        suspend=TRUTH,
        ttlSecondsAfterFinished=NUMBER,
        network=record(enableDNSHostnames=TRUTH, subdomain=NAME, publishNotReadyAddresses=TRUTH),
        successPolicy=record(
            ("operator",), operator=one_of("All", "Any"), targetReplicatedJobs=several(TEXT)
        ),
        failurePolicy=record(
            maxRestarts=NUMBER,
            restartStrategy=one_of("Recreate", "BlockingRecreate"),
            rules=several(
                record(
                    ("name", "action"),
                    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                    action=one_of(
                        "FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"
                    ),
                    onJobFailureReasons=several(REASONS),
                    targetReplicatedJobs=several(TEXT),
                )
            ),
        ),
        replicatedJobs=several(
            record(
                ("name", "template"),
                name=NAME,
                replicas=NUMBER,
                groupName=NAME,
                template=record(("spec",), metadata=META, spec=JOB),
            ),
            minItems=1,
        ),
    ),
)

COUNT = {"anyOf": [TEXT, NUMBER]}
CODES = several({"type": "integer", "minimum": 0, "maximum": 255}, uniqueItems=True)
SKY = record(
    name={"type": "string", "pattern": "^[a-zA-Z]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?$"},
    workdir=TEXT,
    num_nodes={"type": "integer", "minimum": 1},
    resources=record(
        infra=TEXT,
        accelerators=TEXT,
        accelerator_args=record(runtime_version=TEXT, tpu_vm=TRUTH, gcp_queued_resource=TRUTH),
        cpus=COUNT,
        memory=COUNT,
        instance_type=TEXT,
        use_spot=TRUTH,
        disk_size=COUNT,
        disk_tier=one_of("low", "medium", "high", "ultra", "best"),
        network_tier=one_of("standard", "best"),
        image_id=TEXT,
        ports=COUNT,
        labels=MAP,
        autostop=record(
            idle_minutes=NUMBER, down=TRUTH, wait_for=one_of("jobs_and_ssh", "jobs", "none")
        ),
        job_recovery=record(
            strategy=TEXT, max_restarts_on_errors=NUMBER, recover_on_exit_codes=CODES
        ),
    ),
    envs={"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}},
    secrets=MAP,
    file_mounts={
        "type": "object",
        "propertyNames": {"pattern": "^[~/]"},
        "additionalProperties": {
            "anyOf": [
                TEXT,
                record(
                    name=TEXT,
                    source=TEXT,
                    store=one_of("gcs", "s3", "azure", "r2", "ibm", "oci"),
                    persistent=TRUTH,
                    mode=one_of("MOUNT", "COPY", "MOUNT_CACHED"),
                ),
            ]
        },
    },
    setup=TEXT,
    run=TEXT,
)

# of gcloud (SDK 528), the commands and flags that our scripts and pages may use
_QR = "compute tpus queued-resources"
GCLOUD = {
    "auth login": "",
    "config set": "",
    "services enable": "",
    "compute tpus accelerator-types list": "zone filter",
    f"{_QR} create": "zone node-id node-count node-prefix accelerator-type runtime-version spot "
    "service-account valid-until-duration",
    f"{_QR} describe": "zone",
    f"{_QR} delete": "zone force",
    f"{_QR} list": "zone",
    f"{_QR} scp": "zone node worker",
    f"{_QR} ssh": "zone node worker command",
    "storage buckets create": "location uniform-bucket-level-access enable-hierarchical-namespace",
    "storage buckets add-iam-policy-binding": "member role",
    "storage rsync": "recursive",
    "storage cp": "recursive",
    "storage cat": "",
    "storage rm": "recursive",
    "artifacts repositories create": "repository-format location",
    "container clusters create": "location workload-pool addons machine-type num-nodes",
    "container clusters get-credentials": "location",
    "container clusters delete": "location",
    "container node-pools create": "cluster location node-locations machine-type tpu-topology "
    "accelerator num-nodes spot",
    "container node-pools delete": "cluster location",
}
GCLOUD_WIDE = {"project", "quiet", "format", "verbosity"}


def unknown_of_gcloud(words):
    """What gcloud would not know in a line of it: its command, or flags."""
    words = words[1:]
    for command, flags in GCLOUD.items():
        if words[: len(command.split())] == command.split():
            used = {word[2:].split("=")[0] for word in words if word.startswith("--")}
            return sorted(used - set(flags.split()) - GCLOUD_WIDE)
    return words
