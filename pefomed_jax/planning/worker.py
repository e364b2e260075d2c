"""One plan in a process of its own, whose environment is that of its topology.

`ask` starts it; `python -m pefomed_jax.planning.worker IN OUT` is what it starts.
"""

import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from pefomed_jax.errors import UserError
from pefomed_jax.planning.topology import Topology, parse

LINES = 15  # of what a failed compiler said


def ask(
    config: ConfigDict,
    topology: Topology,
    programs: Sequence[str],
    row: Any = None,
    advise: bool = False,
) -> dict:
    """`report.make` in a process of its own. Raises UserError with its one line."""
    with tempfile.TemporaryDirectory() as folder:
        into, out, noise = (pathlib.Path(folder, name) for name in ("in", "out", "noise"))
        into.write_bytes(pickle.dumps((config, topology.name, tuple(programs), row, advise)))
        command = [sys.executable, "-m", "pefomed_jax.planning.worker", str(into), str(out)]
        env = os.environ | topology.environment()
        with noise.open("w") as errors:  # compilers of TPUs write pages there
            code = subprocess.run(command, env=env, stderr=errors).returncode
        if not out.exists():
            said = "\n".join(noise.read_text().splitlines()[-LINES:])
            raise RuntimeError(f"planning {topology.name} ended with {code}:\n{said}")
        answer = json.loads(out.read_text())
    if "error" in answer:
        raise UserError(answer["error"])
    return answer


def main(into: str, out: str) -> None:
    """Writes the plan, or {'error': the line for the user}."""
    from pefomed_jax.planning import report

    config, name, *rest = pickle.loads(pathlib.Path(into).read_bytes())
    try:
        answer = report.make(config, parse(name), *rest)
    except UserError as error:
        answer = {"error": str(error)}
    pathlib.Path(out).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
