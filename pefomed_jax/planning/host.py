"""Memory of this machine as a process may use it."""

import pathlib

MEMINFO = pathlib.Path("/proc/meminfo")
GROUPS = pathlib.Path("/sys/fs/cgroup")
OWN = pathlib.Path("/proc/self/cgroup")


def available() -> float:
    """Bytes free for this process: what the system calls available, less where a cgroup is tighter.

    Infinite where neither can be read (a system that is not Linux).
    """
    return min(_system(), *_groups())


def _system() -> float:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return float("inf")
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024.0 if found else float("inf")


def _groups() -> list[float]:
    """What is left in each cgroup (version 2, else 1) from this process's own upwards."""
    left = [float("inf")]
    try:
        paths = [line.split(":")[2] for line in OWN.read_text().splitlines()]
    except (OSError, IndexError):
        return left
    for own in {path.strip("/") for path in paths} | {""}:
        for part in (pathlib.Path(own), *pathlib.Path(own).parents):
            left.append(_left(GROUPS / part, "memory.max", "memory.current"))
            old = GROUPS / "memory" / part
            left.append(_left(old, "memory.limit_in_bytes", "memory.usage_in_bytes"))
    return left


def _left(folder: pathlib.Path, limit: str, used: str) -> float:
    try:
        most, now = (folder / limit).read_text().strip(), (folder / used).read_text().strip()
        cached = _cached(folder)
        return float("inf") if most == "max" else max(0.0, float(int(most) - int(now) + cached))
    except (OSError, ValueError):
        return float("inf")


def _cached(folder: pathlib.Path) -> int:
    """Bytes of files in memory that can be dropped: counted as used, yet free to take."""
    lines = (folder / "memory.stat").read_text().splitlines()
    kinds = dict(line.split() for line in lines if len(line.split()) == 2)
    return int(kinds.get("inactive_file", kinds.get("total_inactive_file", 0)))
