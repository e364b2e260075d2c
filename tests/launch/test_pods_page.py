"""docs/pods.md and the README: what they say to type exists, with the flags that they give."""

import re
import shlex
import shutil
import subprocess

import pytest
from schemas import GCLOUD, unknown_of_gcloud
from standins import ROOT

OURS = ("launch/tpu_vm.sh", "python launch/local.py", "python launch/gke.py", "bash launch/")


def typed():
    """Every command of the pages' blocks, its continuations joined, without its comment."""
    for page in ("docs/pods.md", "README.md"):
        for block in re.findall(r"^```\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S):
            for line in re.sub(r" *\\\n *", " ", block).splitlines():
                yield from (part.strip() for part in re.split(r"; |\s+# ", line))


COMMANDS = sorted(set(typed()))


@pytest.mark.parametrize("line", [x for x in COMMANDS if x.startswith("gcloud ")])
def test_gcloud_knows_what_is_typed(line):
    # a program after -- is a command of its own
    assert unknown_of_gcloud(shlex.split(line.split(" -- ")[0])) == []


@pytest.mark.parametrize("line", [x for x in COMMANDS if x.startswith(OURS)])
def test_our_scripts_know_what_is_typed(line):
    own, dashes, program = line.replace("$IMAGE", "IMAGE").partition(" -- ")
    dry = own if "--dry_run" in own else f"{own} --dry_run"
    line = f"{dry}{dashes}{program}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_pages_are_read():
    assert sum(x.startswith("gcloud ") for x in COMMANDS) > 15
    assert sum(x.startswith(OURS) for x in COMMANDS) > 12


@pytest.mark.parametrize("verb", ["create", "wait", "setup", "start", "stop", "status", "delete"])
def test_gcloud_knows_what_tpu_vm_asks(verb):
    flags = "--zone=z --project=p --spot --bucket=b --service_account=a --valid=1h --slices=2"
    line = f"launch/tpu_vm.sh {verb} {flags} --dry_run -- python x.py"
    done = subprocess.run(shlex.split(line), cwd=ROOT, capture_output=True, text=True, check=True)
    asked = [x for x in done.stdout.splitlines() if x.startswith("gcloud ")]
    assert asked
    for words in asked:
        # the script for the workers has flags of its own
        plain = re.sub(
            r" (\$'--command=.*?[^\\]'|--command=\S*) (?=--zone)", " --command=x ", words
        )
        assert unknown_of_gcloud(plain.split()) == []


def sources():
    """What our programs and launchers may say; what is filled in stands as …"""
    room = (ROOT / "pefomed_jax/parallel").glob("*.py")
    launchers = [path for path in (ROOT / "launch").iterdir() if path.is_file()]
    text = "".join(path.read_text() for path in [*room, *launchers])
    text = re.sub(r'"\s*\n\s*f?"', "", text)  # literals that follow each other are one
    return re.sub(r"\{[^{}]*\}|\$\w+|\$…", "…", text)


def test_errors_on_the_page_are_those_that_are_said():
    table = (ROOT / "docs/pods.md").read_text().partition("## What errors look like")[2]
    shown = re.findall(r"^\| `(?:\w+: )?(.*?)`", table, re.M)
    assert len(shown) > 8
    said = sources()
    for message in shown:
        # numbers, names and states are filled in
        parts = re.split(r"…|[:;] |\d+(?: of \d+)?|by flags|[A-Z_]{6,}", message)
        parts = [part.strip(" ()") for part in parts]
        absent = [part for part in parts if len(part) > 5 and part not in said]
        assert not absent, message


def test_what_is_misspelt_is_found():
    assert unknown_of_gcloud(["gcloud", "storage", "rsync", "a", "b", "--recursiv"]) == ["recursiv"]
    assert unknown_of_gcloud(["gcloud", "compute", "tpus", "queued-resource", "list"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
@pytest.mark.parametrize("command", GCLOUD)
def test_gcloud_itself_agrees(command, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    line = ["gcloud", *command.split(), "--help"]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert [
        flag for flag in GCLOUD[command].split() if not re.search(rf"--(\[no-\])?{flag}\b", said)
    ] == []
