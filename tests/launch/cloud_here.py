"""gcloud and the programs of a TPU VM on this machine: a worker is a home folder.

`ssh` runs its command in a shell with that home, on all workers at once; `scp` copies; `describe`
answers the states that were given, the last one for ever. What was asked is in `log`.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys

GCLOUD = f"""#!{sys.executable}
import json, os, pathlib, shutil, subprocess, sys
root = pathlib.Path(os.environ["CLOUD"])
verb, name, *rest = sys.argv[4:]
flags = dict(flag[2:].split("=", 1) for flag in rest if "=" in flag)
open(root / "log", "a").write(json.dumps(sys.argv[1:]) + "\\n")
states = json.loads((root / "states").read_text())
homes = sorted(root.glob("worker*"))
if verb == "describe":
    if states[0] != "NONE":
        print(states[0])
    (root / "states").write_text(json.dumps(states[1:] or states))
    sys.exit(states[0] == "NONE")
if verb == "scp":
    for home in homes:
        shutil.copy(name, home)
if verb == "ssh":
    worker = flags["worker"]
    homes = homes if worker == "all" else [homes[int(worker)]]
    run = [subprocess.Popen(["bash", "-c", flags["command"]], env=os.environ | {{"HOME": str(h)}})
           for h in homes]
    sys.exit(max(process.wait() for process in run))
"""
# `uv venv` makes a Python, `uv pip` has nothing to do
UV = f"""#!/bin/sh
echo uv "$@" >> "$HOME/asked"
[ "$1" = venv ] || exit 0
for path; do :; done
mkdir -p "$path/bin"
printf '#!/bin/sh\\nexec {sys.executable} "$@"\\n' > "$path/bin/python"
chmod +x "$path/bin/python"
"""
NOTED = '#!/bin/sh\necho {} "$@" >> "$HOME/asked"\n{}\n'


class Cloud:
    """Two workers, in `root`; `close` ends what still runs there."""

    def __init__(self, root, *states):
        self.root = root
        self.homes = [root / "worker0", root / "worker1"]
        for home in self.homes:
            home.mkdir()
        self.will_be(*states)
        tools = {"gcloud": GCLOUD, "uv": UV, "mountpoint": NOTED.format("mountpoint", "exit 1")}
        tools |= {name: NOTED.format(name, "") for name in ("sudo", "gcsfuse")}
        (root / "bin").mkdir()
        for name, text in tools.items():
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        path = f"{root / 'bin'}:{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "CLOUD": str(root), "POLL": "0.05"}

    def will_be(self, *states):
        (self.root / "states").write_text(json.dumps(states))

    def run(self, command, *words, checkout):
        """launch/tpu_vm.sh, to its end."""
        line = ["launch/tpu_vm.sh", command, "--name=mrg", "--zone=us-west4-a", *words]
        return subprocess.run(
            line, cwd=checkout, env=self.environment, capture_output=True, text=True, timeout=60
        )

    def asked(self):
        """[VERB, …] of every call of gcloud."""
        log = self.root / "log"
        return [json.loads(x)[3:] for x in log.read_text().splitlines()] if log.exists() else []

    def close(self):
        for home in self.homes:
            if (home / "pefomed.pid").exists():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int((home / "pefomed.pid").read_text()), signal.SIGKILL)
