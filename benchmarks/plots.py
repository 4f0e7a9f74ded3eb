"""The figures of a report: ratio by workload, share of the machine's limit, growth; as SVG and PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator

from rnn_benchmarks.contenders import BUILTIN, CONTENDERS
from rnn_benchmarks.runs import Report, Row
from rnn_common.reports.figures import save

# One colour a contender in every figure; a framework's own layers are grey.
COLOURS = {
    "torch.nn": "#777777",
    "torch.nn, compiled": "#aaaaaa",
    "rnn_torch": "#d1495b",
    "rnn_torch, compiled": "#e8919d",
    "rnn_torch reference": "#f3c6cc",
    "keras.layers": "#4d4d4d",
    "keras.layers, XLA": "#c4c4c4",
    "rnn_tf": "#00798c",
    "rnn_tf, XLA": "#5cb8c4",
    "rnn_tf reference": "#bfe3e8",
    "BlockLSTMV2": "#edae49",
    "ONNX Runtime": "#66a182",
}


def draw(report: Report, folder: Path) -> list[Path]:
    """Write every figure of a report as SVG and PNG.

    Returns:
        The files, whole: each is written under a temporary name and renamed.
    """
    figures = {"ratios": ratios(report), "limit": limit(report)}
    if report.growth:
        figures["growth"] = growth(report)
    return [path for name, figure in figures.items() for path in save(figure, name, folder)]


def _panels(report: Report, width: float, height: float) -> tuple[Figure, Any]:
    """A panel for each measure, below one another, and each cell, beside one another."""
    rows, columns = len(report.settings.measures), len(report.settings.cells)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, sharey="row", layout="constrained"
    )
    for i, measure in enumerate(report.settings.measures):
        for j, cell in enumerate(report.settings.cells):
            axes[i, j].set_title(f"{measure}, {cell}", fontsize=10)
            axes[i, j].tick_params(labelsize=8)
            axes[i, j].grid(axis="y", alpha=0.3)
    return figure, axes


def _found(report: Report, measure: str, cell: str) -> dict[str, dict[str, Row]]:
    """Rows with figures, by contender, in the order of `CONTENDERS`, and workload."""
    rows = [row for row in report.rows if (row.measure, row.cell) == (measure, cell) and row.failed is None]
    return {
        contender.name: {row.workload: row for row in rows if row.contender == contender.name}
        for contender in CONTENDERS
        if any(row.contender == contender.name for row in rows)
    }


def _labels(report: Report) -> list[str]:
    return [name.replace("-", "\n", 1) for name in report.settings.workloads]


def ratios(report: Report) -> Figure:
    """How many times as fast as the framework's own layer each contender is, by workload, with intervals."""
    figure, axes = _panels(report, 4.2, 3.0)
    places = np.arange(len(report.settings.workloads))
    for i, measure in enumerate(report.settings.measures):
        for j, cell in enumerate(report.settings.cells):
            shown = {k: v for k, v in _found(report, measure, cell).items() if k not in BUILTIN.values()}
            axes[i, j].axhline(1, color="black", linewidth=0.8)
            for k, (name, rows) in enumerate(shown.items()):
                at = places + (k - (len(shown) - 1) / 2) * 0.09
                points = {
                    x: row.ratio for x, w in zip(at, report.settings.workloads, strict=True) if (row := rows.get(w))
                }
                known = {x: ratio for x, ratio in points.items() if ratio is not None}
                axes[i, j].errorbar(
                    list(known),
                    [ratio.value for ratio in known.values()],
                    np.transpose([(r.value - r.low, r.high - r.value) for r in known.values()]) if known else None,
                    fmt="o",
                    markersize=4,
                    capsize=2,
                    color=COLOURS[name],
                    label=name,
                )
            axes[i, j].set_yscale("log", base=2)
            axes[i, j].yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes[i, j].set_xticks(places, _labels(report), fontsize=6)
        axes[i, 0].set_ylabel("times as fast as the built-in layer", fontsize=8)
    _legend(figure, axes)
    return figure


def limit(report: Report) -> Figure:
    """The rate of each contender's products as a share of that of a large matrix product."""
    figure, axes = _panels(report, 4.2, 3.0)
    places = np.arange(len(report.settings.workloads))
    for i, measure in enumerate(report.settings.measures):
        for j, cell in enumerate(report.settings.cells):
            shown = _found(report, measure, cell)
            width = 0.8 / max(1, len(shown))
            for k, (name, rows) in enumerate(shown.items()):
                shares = [row.share if (row := rows.get(w)) else None for w in report.settings.workloads]
                axes[i, j].bar(
                    places + (k - (len(shown) - 1) / 2) * width,
                    [100 * share.value if share else 0 for share in shares],
                    width,
                    color=COLOURS[name],
                    label=name,
                )
            axes[i, j].set_xticks(places, _labels(report), fontsize=6)
        axes[i, 0].set_ylabel("% of a large matrix product's rate", fontsize=8)
    _legend(figure, axes)
    return figure


def growth(report: Report) -> Figure:
    """Time against each size that was swept, on logarithmic axes, with the slope."""
    cells = list(dict.fromkeys(each.cell for each in report.growth))
    variables = list(dict.fromkeys(each.variable for each in report.growth))
    figure, axes = pyplot.subplots(
        len(cells),
        len(variables),
        figsize=(4.2 * len(variables), 3.4 * len(cells)),
        squeeze=False,
        layout="constrained",
    )
    for i, cell in enumerate(cells):
        for j, variable in enumerate(variables):
            for each in report.growth:
                if (each.cell, each.variable) != (cell, variable):
                    continue
                axes[i, j].loglog(
                    each.sizes,
                    [1e3 * value for value in each.seconds],
                    "o-",
                    markersize=4,
                    color=COLOURS[each.contender],
                    label=f"{each.contender}: {each.exponent.value:.2f}",
                )
                axes[i, j].set_title(f"{each.measure}, {cell}", fontsize=10)
                axes[i, j].set_xticks(each.sizes, map(str, each.sizes), fontsize=8, minor=False)
            axes[i, j].minorticks_off()
            axes[i, j].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes[i, j].yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes[i, j].set_xlabel(variable, fontsize=8)
            axes[i, j].tick_params(labelsize=8)
            axes[i, j].grid(alpha=0.3)
            axes[i, j].legend(fontsize=7, title="slope", title_fontsize=7)
        axes[i, 0].set_ylabel("ms", fontsize=8)
    return figure


def _legend(figure: Figure, axes: Any) -> None:
    """One legend for all panels, of every contender in any of them."""
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = [contender.name for contender in CONTENDERS if contender.name in handles]
    figure.legend(
        [handles[name] for name in order], order, loc="outside lower center", ncols=min(len(order), 5), fontsize=8
    )
