"""Weak scaling as a picture: seconds of a step's sending and computing over the chips."""

import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import matplotlib

from pefomed_jax.errors import UserError

PEAK = "0.5"


def draw(plans: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
    """A line for each kind of plan and of device; plans without a step or a peak are left out, as
    are those of which nobody knows what they send.
    """
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = defaultdict(list)
    for plan in plans:
        if "collectives" in plan["programs"].get("step", {}) and plan["work"]["seconds"]:
            times = plan["work"]["travel"], plan["work"]["seconds"][PEAK]
            lines[plan["name"], plan["device"]].append((plan["devices"], *times))
    if not lines:
        raise UserError(f"--figure={path}: none of these plans has a step and a known peak")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (name, device), points in sorted(lines.items()):
        chips, travel, seconds = zip(*sorted(points), strict=True)
        (drawn,) = axes.plot(chips, travel, "o-", label=f"{name}, {device}: sending")
        axes.plot(chips, seconds, "s--", color=drawn.get_color(), label="computing at 50 %")
    axes.set(xscale="log", xlabel="chips", ylabel="seconds a step", ylim=(0, None))
    axes.set_xticks(sorted({p[0] for points in lines.values() for p in points}))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0f}")
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
