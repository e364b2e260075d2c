"""loss.png: how training and validation went, by step."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Row = dict[str, Any]
# scores between 0 and 1, those that say most first
SHOWN = ("finding_f1", "exact_match", "exact_match_closed", "exact_match_open", "bleu_4", "rouge_l")
COLORS = ("#2e7d32", "#1565c0", "#6a3d8a", "#8e6c1f", "#555555", "#00838f")


def draw_loss(rows: list[Row], path: pathlib.Path) -> None:
    """loss.png: training loss (each step, and smoothed), validation loss and scores by step."""
    scores = [name for name in SHOWN if any(f"val_{name}" in row for row in rows)]
    figure = Figure(figsize=(10 if scores else 6, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, 2 if scores else 1))
    steps = [row["step"] for row in rows]
    losses = [row["loss"] for row in rows]
    axes[0].plot(steps, losses, color="#9db8d2", linewidth=0.8, label="training, each step")
    axes[0].plot(steps, smooth(losses), color="#1f4e79", label="training, smoothed")
    _points(axes[0], rows, "val_loss", "validation", "#c0392b")
    axes[0].set(xlabel="step", ylabel="loss (nats a target token)", ylim=(0, None))
    for name in scores:
        _points(axes[1], rows, f"val_{name}", name, COLORS[SHOWN.index(name)])
    if scores:
        axes[1].set(xlabel="step", ylabel="score on validation cases", ylim=(0, 1.02))
        axes[1].set_xlim(axes[0].get_xlim())
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    part = path.with_name(f".{path.stem}.part.png")
    figure.savefig(part)
    part.replace(path)


def _points(axis: Any, rows: list[Row], key: str, label: str, color: str) -> None:
    points = [(row["step"], row[key]) for row in rows if key in row]
    if points:
        axis.plot(*zip(*points, strict=True), "o-", color=color, markersize=4, label=label)


def smooth(values: list[float], span: int = 20) -> np.ndarray:
    """Mean over the last `span` values; shorter at the start."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - span)
    return (sums[ends] - sums[starts]) / (ends - starts)
