"""Plans as text: one block for each, and one table of all in Markdown."""

from collections.abc import Sequence
from typing import Any

from pefomed_jax.parallel import paths

GIB = 2**30
KINDS = ("frozen", "trainable", "optimizer", "batch", "cache", "copy", "temporaries", "total")


def block(plan: dict[str, Any]) -> str:
    """Everything about one plan, for people."""
    return "\n".join([_title(plan), *_memory(plan), *_verdict(plan), *_traffic(plan), *_time(plan)])


def row_of(plan: dict[str, Any]) -> str:
    """'T=640 A=80 I=1'."""
    return " ".join(f"{k}={v}" for k, v in zip("TAI", plan["row"], strict=True))


def mesh_of(plan: dict[str, Any]) -> str:
    """'fsdp=16', the axes that are split."""
    split = [f"{axis}={n}" for axis, n in plan["mesh"].items() if n > 1]
    return " ".join(split) or "one device"


def _title(plan: dict[str, Any]) -> str:
    return (
        f"{plan['name']} on {plan['topology']} ({plan['devices']} × {plan['device']}), "
        f"{mesh_of(plan)}, batch {plan['batch']}, rows of {row_of(plan)} ({plan['row_source']}), "
        f"remat={plan['remat']}, {plan['dtype']} over {plan['base_dtype']}; {plan['compiler']}"
    )


def _memory(plan: dict[str, Any]) -> list[str]:
    programs = plan["programs"]
    lines = [f"  {'GiB on each device':<20}" + "".join(f"{name:>12}" for name in programs)]
    for kind in KINDS:
        sizes = [each["memory"][kind] for each in programs.values()]
        if any(sizes):
            lines.append(f"  {kind:<20}" + "".join(f"{size / GIB:12.2f}" for size in sizes))
    return lines


def _verdict(plan: dict[str, Any]) -> list[str]:
    programs, limit = plan["programs"], plan["limit"]
    used = max((each["memory"]["total"] for each in programs.values()), default=0)
    said = "fits" if plan["fits"] else "DOES NOT FIT"
    lines = [f"  {said}: {used / GIB:.2f} of {limit / GIB:.2f} GiB ({used / limit:.0%})"]
    if "advice" in plan:
        lines.append(f"  {plan['advice']}")
    return lines + _whole(plan["replicated"])


def _whole(replicated: Sequence[Sequence[Any]]) -> list[str]:
    """A line for each (path, bytes) that is not split, the same leaf of all layers together."""
    sizes: dict[str, list[int]] = {}
    for name, size in replicated:
        sizes.setdefault(paths.collapse(name), []).append(size)
    return [
        f"  whole on every device: {name} {f'{len(of)} × ' * (len(of) > 1)}{of[0] / 2**20:.1f} MiB"
        for name, of in sizes.items()
    ]


def _traffic(plan: dict[str, Any]) -> list[str]:
    lines = []
    for name, each in plan["programs"].items():
        if found := each.get("collectives"):
            parts = [f"{kind} {t['count']} × {amount(t['bytes'])}" for kind, t in found.items()]
            lines.append(f"  sent by each device in a {name}: {', '.join(parts)}")
        elif "unread" in each:
            lines.append(f"  what a {name} sends cannot be told: JAX cannot read its text")
    return lines


def _time(plan: dict[str, Any]) -> list[str]:
    work = plan["work"]
    lines = [f"  {work['flops'] / 1e12:.2f} TFLOP a step on each device (useful ones, by formula)"]
    for part, seconds in work["seconds"].items():
        lines.append(f"  {seconds:.3g} s a step at {float(part):.0%} of the bf16 peak")
    if work["travel"]:
        lines.append(
            f"  {work['travel']:.3g} s for what a step sends, at {plan['link'] / 1e9:.0f} GB/s"
        )
    return lines


def amount(size: float) -> str:
    """'13.8 GB', '42 kB', of all instructions together."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} B"


def table(plans: Sequence[dict[str, Any]]) -> str:
    """All plans as one Markdown table; sizes in GiB on each device."""
    head = ("plan", "devices", "mesh", "batch", "row", "remat", "dtype", "program")
    head += (*KINDS, "limit", "fits")
    lines = [head, ("---",) * len(head)]
    for plan in plans:
        lines += [_row(plan, name, each) for name, each in plan["programs"].items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(plan: dict[str, Any], name: str, each: dict[str, Any]) -> tuple[str, ...]:
    batch = plan["batch"] if name == "step" else plan["eval_batch"]
    dtype = {"bfloat16": "bf16", "float32": "f32"}.get(plan["dtype"], plan["dtype"])
    facts = (plan["name"], plan["topology"], mesh_of(plan), str(batch), row_of(plan))
    sizes = tuple(f"{each['memory'][kind] / GIB:.2f}" for kind in KINDS)
    end = (f"{plan['limit'] / GIB:.2f}", "yes" if each["fits"] else "**no**")
    return (*facts, plan["remat"], dtype, name, *sizes, *end)


def scaling(plans: Sequence[dict[str, Any]]) -> str:
    """Of the steps: what each device sends and computes, and the time of both."""
    head = ("plan", "devices", "chips", "batch", "sent by a chip", "links GB/s", "time of it, s")
    head += ("TFLOP a chip", "at 30 %, s", "at 50 %, s", "sending / computing at 50 %")
    lines = [head, ("---",) * len(head)]
    for plan in (p for p in plans if "collectives" in p["programs"].get("step", {})):
        work, found = plan["work"], plan["programs"]["step"]["collectives"]
        sent = sum(each["bytes"] for each in found.values())
        times = [work["seconds"].get(part) for part in ("0.3", "0.5")]
        share = f"{work['travel'] / times[1]:.2f}" if times[1] else ""
        facts = (plan["name"], plan["topology"], str(plan["devices"]), str(plan["batch"]))
        link = f"{plan['link'] / 1e9:.0f}" if plan["link"] else ""
        shown = [f"{seconds:.3f}" if seconds else "" for seconds in times]
        numbers = (amount(sent), link, f"{work['travel']:.3f}", f"{work['flops'] / 1e12:.2f}")
        lines.append((*facts, *numbers, *shown, share))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
