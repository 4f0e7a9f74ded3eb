"""Figures, as SVG and PNG: training curves, drift between the frameworks, gradient flow."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files only, no window

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from rnn_common.files import write_bytes

CELL_COLOURS = {"SimpleRNN": "#d1495b", "LSTM": "#00798c", "GRU": "#edae49"}
FRAMEWORK_STYLES = {"torch": "-", "tf": "--"}
Described = Mapping[str, Any]


def save(figure: Figure, name: str, folder: Path) -> list[Path]:
    """Write a figure as SVG and PNG, and close it.

    Returns:
        The files.
    """
    written = []
    for form in ("svg", "png"):
        content = io.BytesIO()
        # Without a date and with fixed identifiers the same report gives the same file.
        with matplotlib.rc_context({"svg.hashsalt": "rnn-parity", "svg.fonttype": "none"}):
            figure.savefig(content, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
        written.append(write_bytes(content.getvalue(), folder / f"{name}.{form}"))
    pyplot.close(figure)
    return written


def panels(rows: int, columns: int, width: float = 4.2, height: float = 3.0, **options: Any) -> tuple[Figure, Any]:
    """A grid of axes with thin horizontal lines."""
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained", **options
    )
    for axis in axes.flat:
        axis.tick_params(labelsize=8)
        axis.grid(axis="y", alpha=0.3)
    return figure, axes


def training_curves(report: Described) -> Figure:
    """The loss of every network against its updates: a panel a problem, a colour a cell, dashes for the second framework."""
    figure, axes = panels(1, len(report["problems"]), sharey=True)
    for axis, problem in zip(axes[0], report["problems"], strict=True):
        axis.set_title(problem["name"], fontsize=10)
        axis.set_xlabel("update", fontsize=9)
        axis.set_yscale("log")
        for outcome in problem["outcomes"]:
            curve, cell, framework = outcome["curve"], outcome["cell"], outcome["framework"]
            label = f"{framework} {cell}" if outcome["seed"] == 0 else None
            style = {"color": CELL_COLOURS[cell], "linestyle": FRAMEWORK_STYLES[framework], "label": label}
            axis.plot(curve["update"], curve["loss"], linewidth=1, alpha=0.85, **style)
    axes[0, 0].set_ylabel("training loss", fontsize=9)
    axes[0, -1].legend(fontsize=7)
    return figure


def drift(report: Described) -> Figure:
    """How far apart the two frameworks' losses are at every update: a panel an optimiser, float64 below, float32 above."""
    optimizers = list(dict.fromkeys(row["optimizer"] for row in report["rows"]))
    figure, axes = panels(1, len(optimizers), sharey=True)
    for axis, optimizer in zip(axes[0], optimizers, strict=True):
        axis.set_title(f"{optimizer}, α = {report['rates'][optimizer]:g}", fontsize=10)
        axis.set_xlabel("update", fontsize=9)
        axis.set_yscale("log")
        for row in (row for row in report["rows"] if row["optimizer"] == optimizer):
            largest = np.maximum.accumulate(np.maximum(row["deviations"], 1e-17))
            style = "-" if row["dtype"] == "float64" else ":"
            label = f"{row['cell']}, {row['dtype']}"
            axis.plot(largest, color=CELL_COLOURS[row["cell"]], linestyle=style, linewidth=1.2, label=label)
        axis.plot([0, 200, 200, len(largest)], [1e-9, 1e-9, 1e-6, 1e-6], color="#777777", linewidth=0.8)
        axis.text(5, 1.6e-9, "bound in float64", fontsize=7, color="#777777")
    axes[0, 0].set_ylabel("largest relative difference so far", fontsize=9)
    axes[0, -1].legend(fontsize=7)
    return figure


HIGHEST = 1e12  # that is drawn of a loss that grows beyond all bounds
SCALE_COLOURS = ("#00798c", "#777777", "#d1495b")
MARKERS = {"torch": "o", "tf": "x"}


def gradient_flow(report: Described) -> Figure:
    """Gradients and Jacobians against the lag, a column a cell; below, training with clipping and without."""
    cells = list(dict.fromkeys(row["cell"] for row in report["rows"]))
    parts = (("gradients", "‖∂L/∂h(t−k)‖"), ("jacobians", "spectral norm of the Jacobian"))
    figure, axes = panels(5, len(cells), height=2.5, sharex="row")
    for row in axes[:4]:
        for axis in row[1:]:
            axis.sharey(row[0])
    for column, cell in enumerate(cells):
        for part_index, (part, label) in enumerate(parts):
            for when_index, when in enumerate(("at initialisation", "after training")):
                axis = axes[2 * part_index + when_index, column]
                axis.set_title(f"{cell}, {when}", fontsize=9)
                if part == "gradients":
                    axis.set_yscale("log")
                else:
                    axis.axhline(1, color="#777777", linewidth=0.6)
                if column == 0:
                    axis.set_ylabel(label, fontsize=8)
                own = [row for row in report["rows"] if (row["cell"], row["when"]) == (cell, when)]
                _flows(axis, own, part)
        axes[3, column].set_xlabel("lag k", fontsize=9)
    _clipping(axes[4], report["clipping"])
    axes[4, 2].legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="upper left",
        ncols=2,
        fontsize=7,
        title="above: recurrent weights ×, measured by",
        title_fontsize=7,
    )
    return figure


def _flows(axis: Any, rows: Sequence[Described], part: str) -> None:
    for colour, scale in zip(SCALE_COLOURS, sorted({row["scale"] for row in rows}), strict=False):
        for row in (row for row in rows if row["scale"] == scale):
            if row["by"] == "oracle":
                axis.plot(row["lags"], row[part], color=colour, linewidth=1, label=f"{scale:g}, oracle")
            else:
                marker = MARKERS[row["by"]]
                size = 4 if marker == "x" else 6
                axis.plot(
                    row["lags"],
                    row[part],
                    marker,
                    color=colour,
                    markersize=size,
                    fillstyle="none",
                    label=f"{scale:g}, {row['by']}",
                )


def _clipping(axes: Any, runs: Sequence[Described]) -> None:
    """Loss and gradient norm of the run that explodes, with clipping and without; the last column says so in words."""
    for axis, part, label in ((axes[0], "losses", "training loss"), (axes[1], "norms", "‖gradient‖ before clipping")):
        axis.set_yscale("log")
        axis.set_xlabel("update", fontsize=9)
        axis.set_ylabel(label, fontsize=8)
        axis.set_title("SimpleRNN, SGD", fontsize=9)
        for run, colour in zip(runs, SCALE_COLOURS[::2], strict=True):
            name = f"clipped at {run['clip_norm']:g}" if run["clip_norm"] else "not clipped"
            axis.plot(np.minimum(run[part], HIGHEST), color=colour, linewidth=0.8, label=name)
    axes[0].legend(fontsize=7)
    axes[2].axis("off")
    axes[2].text(0, 0.2, "\n".join(run["said"].replace(", ", ",\n", 2) for run in runs), fontsize=7, va="center")
