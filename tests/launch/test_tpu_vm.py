"""launch/tpu_vm.sh over a gcloud whose workers are folders of this machine."""

import shutil
import subprocess

import pytest
from cloud_here import Cloud
from standins import ROOT, gone, wait_for

# saves when it is told to; twice another process was lost
PROGRAM = """
import os, pathlib, signal, sys, time
home = pathlib.Path(os.environ["HOME"])
starts = len(list(home.glob("start*")))
(home / f"start{starts}").touch()
print("start", starts, *sys.argv[1:], flush=True)
if starts < 2:
    sys.exit(76)
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(75)))
time.sleep(100)
"""


@pytest.fixture
def checkout(tmp_path):
    """A small checkout: the launchers, what they import, and a program."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "launch", folder / "launch")
    (folder / "pefomed_jax/parallel").mkdir(parents=True)
    parts = ("__init__", "errors", "parallel/__init__", "parallel/children", "parallel/guard")
    for name in (f"{part}.py" for part in parts):
        shutil.copy(ROOT / "pefomed_jax" / name, folder / "pefomed_jax" / name)
    (folder / "program.py").write_text(PROGRAM)
    (folder / "ignored").write_text("large")
    (folder / ".gitignore").write_text("ignored\n")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    # restarts of seconds, not of a minute
    script = folder / "launch/tpu_vm.sh"
    script.write_text(script.read_text().replace("PAUSE=45", "PAUSE=0.1"))
    return folder


@pytest.fixture
def cloud(tmp_path):
    made = Cloud(tmp_path, "NONE")
    yield made
    made.close()


def pids(cloud):
    return [int((home / "pefomed.pid").read_text()) for home in cloud.homes]


def logs(cloud):
    return [(home / "pefomed.log").read_text() for home in cloud.homes]


def test_from_nothing_to_a_run_and_back(cloud, checkout):
    cloud.will_be("NONE", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    program = ("--", "python", "program.py", "--x=('a', 1)")
    up = cloud.run("up", "--spot", "--bucket=films", *program, checkout=checkout)
    assert up.returncode == 0, up.stderr
    assert [words[0] for words in cloud.asked()] == [
        *("describe", "create", "describe", "describe", "describe", "scp", "ssh", "ssh")
    ]
    assert "tpu_vm: mrg is PROVISIONING" in up.stderr
    wait_for(lambda: all("start 2" in log for log in logs(cloud)), "no third start")
    for home, log in zip(cloud.homes, logs(cloud), strict=True):
        assert (home / "pefomed/program.py").exists()
        assert not (home / "pefomed/ignored").exists()
        asked = (home / "asked").read_text()
        assert "gcsfuse --implicit-dirs --rename-dir-limit=200000 --metadata-cache-ttl" in asked
        assert "-secs=0 --metadata-cache-negative-ttl-secs=0 films /bucket" in asked
        assert f"--editable {home}/pefomed[tpu]" in asked
        assert "[0] start 2 --x=('a', 1)" in log
        assert log.count("ended with 76: another process of the run was lost") == 2
    assert not any(map(gone, pids(cloud)))
    again = cloud.run("start", "--", "python", "program.py", checkout=checkout)
    assert again.returncode == 1
    assert again.stderr == "a run is there already; stop it first\n" * 2
    said = cloud.run("status", checkout=checkout).stdout
    assert said.splitlines()[0] == "ACTIVE"
    assert said.count(": runs\n") == 2
    stopped = cloud.run("stop", checkout=checkout)
    assert stopped.returncode == 0
    assert stopped.stdout.count("ended with 75: interrupted and saved") == 2
    assert all(map(gone, pids(cloud)))
    assert cloud.run("status", checkout=checkout).stdout.count(": ended\n") == 2
    assert cloud.run("delete", checkout=checkout).returncode == 0
    assert cloud.asked()[-1] == ["delete", "mrg", "--force", "--quiet", "--zone=us-west4-a"]


def test_a_preempted_slice_is_asked_for_anew(cloud, checkout):
    cloud.will_be("SUSPENDED", "ACTIVE")
    done = cloud.run("up", "--type=v5p-32", "--", "true", checkout=checkout)
    assert done.returncode == 0, done.stderr
    verbs = [words[0] for words in cloud.asked()]
    assert verbs[:4] == ["describe", "delete", "create", "describe"]
    assert "--accelerator-type=v5p-32" in cloud.asked()[2]
    assert "--runtime-version=v2-alpha-tpuv5" in cloud.asked()[2]
    wait_for(lambda: all("ended with 0: done" in log for log in logs(cloud)), "it did not run")


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_waiting_ends_when_there_will_be_no_slice(cloud, checkout, state):
    cloud.will_be("WAITING_FOR_RESOURCES", state)
    done = cloud.run("wait", checkout=checkout)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: there will be no slice: mrg is {state}")


def test_logs_are_those_of_a_worker(cloud, checkout):
    for i, home in enumerate(cloud.homes):
        (home / "pefomed.log").write_text(f"of worker {i}\n")
        (home / "bin").mkdir()
    # tail -F does not end by itself
    (cloud.root / "bin/tail").write_text("#!/bin/sh\nexec cat ~/pefomed.log\n")
    (cloud.root / "bin/tail").chmod(0o755)
    assert cloud.run("logs", checkout=checkout).stdout == "of worker 0\n"
    assert cloud.run("logs", "--worker=1", checkout=checkout).stdout == "of worker 1\n"


def test_a_dry_run_prints_every_command_and_runs_none(cloud, checkout):
    done = cloud.run(
        *("up", "--dry_run", "--slices=2", "--project=p", "--valid=6h", "--bucket=films"),
        *("--service_account=a@b", "--", "python", "program.py"),
        checkout=checkout,
    )
    assert done.returncode == 0, done.stderr
    create, describe, tar, scp, remove, setup, start = done.stdout.splitlines()
    assert create == (
        "gcloud compute tpus queued-resources create mrg --node-count=2 --node-prefix=mrg "
        "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite "
        "--service-account=a@b --valid-until-duration=6h --zone=us-west4-a --project=p "
    )
    assert "describe mrg" in describe
    assert "git\\ ls-files" in tar
    assert "pefomed.tgz mrg: --node=all --worker=all --zone=us-west4-a" in scp
    assert remove.startswith("rm ")
    assert "gcsfuse --implicit-dirs" in setup
    assert "local.py --processes=1 --restarts=10 --pause=0.1 -- python program.py" in start
    assert cloud.asked() == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["up", "--zon=x"], 2, "--zon=x is no flag"),
        (["go"], 2, "go is no command"),
        (["create", "--type=v9-8"], 2, "--type=v9-8: its runtime is not known here"),
        (["start"], 2, "no program: put it after --"),
        (["create", "--zone="], 2, "--zone is needed"),
    ],
)
def test_wrong_command_lines(cloud, checkout, words, code, said):
    done = cloud.run(*words, checkout=checkout)
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {said}")
    assert cloud.asked() == []


def test_help_is_the_head_of_the_script():
    done = subprocess.run([ROOT / "launch/tpu_vm.sh", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--service_account=EMAIL" in done.stdout
    assert "set -euo" not in done.stdout
