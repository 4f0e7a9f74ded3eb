"""The figures of a report, as SVG and PNG: PyTorch beside Keras, ratio by workload, share of the machine's limit, growth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from rnn_benchmarks.contenders import BUILTIN, OURS
from rnn_benchmarks.report import Report, Row
from rnn_benchmarks.tables import rows_of
from rnn_benchmarks.words import figure as in_words
from rnn_benchmarks.words import threads
from rnn_benchmarks.workloads import of_size
from rnn_common.reports.figures import save

NAMES = ("frameworks", "ratios", "limit", "growth")


class Style(NamedTuple):
    """How a contender is drawn in every figure: told apart by its mark and its hatch where colours are not seen."""

    colour: str
    mark: str
    hatch: str
    line: str


# A framework's own layers are grey; PyTorch's others are red, TensorFlow's blue. Those alike in colour are unlike in shade.
STYLES = {
    "torch.nn": Style("#3a3a3a", "o", "", "-"),
    "torch.nn, compiled": Style("#8c8c8c", "o", "////", "--"),
    "rnn_torch": Style("#d1495b", "s", "", "-"),
    "rnn_torch, compiled": Style("#efb0b9", "s", "////", "--"),
    "rnn_torch reference": Style("#f6d5da", "v", "....", ":"),
    "rnn_torch fused": Style("#e0653a", "^", "\\\\\\\\", "--"),
    "rnn_torch native": Style("#7a0c2e", "D", "xxxx", "-."),
    "rnn_torch vendor": Style("#f2a65a", "P", "++++", ":"),
    "keras.layers": Style("#666666", "X", "----", "--"),
    "keras.layers, XLA": Style("#c0c0c0", "X", "||||", "--"),
    "rnn_tf": Style("#00798c", "s", "..", "--"),
    "rnn_tf, XLA": Style("#7fcad6", "s", "////", "--"),
    "rnn_tf reference": Style("#d3eef2", "v", "....", ":"),
    "rnn_tf fused": Style("#3f88c5", "^", "\\\\\\\\", "--"),
    "rnn_tf native": Style("#0b3954", "D", "xxxx", "-."),
    "rnn_tf vendor": Style("#9ab8e0", "P", "++++", ":"),
    "BlockLSTMV2": Style("#6a4c93", "*", "oo", "-."),
    "ONNX Runtime": Style("#66a182", "d", "OO", "-."),
}
# For whoever is not among them.
OTHERS = [Style(colour, mark, hatch, ":") for colour, mark, hatch in zip(
    ("#edae49", "#2e7d32", "#8e24aa", "#5d4037", "#c2185b"), "hp<>8", ("**", "/o", "\\o", "-.", "x."), strict=True
)]  # fmt: skip


def styles(report: Report) -> dict[str, Style]:
    """The style of each contender that took part."""
    unknown = [name for name in report.contenders if name not in STYLES]
    return STYLES | {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(unknown)}


def draw(report: Report, folder: Path) -> list[Path]:
    """Write every figure of a report for which it has something, as SVG and PNG; those of a report before it are removed.

    Returns:
        The files, whole: each is written under a temporary name and renamed.
    """
    figures = {"ratios": ratios(report), "limit": limit(report)}
    if report.between:
        figures["frameworks"] = frameworks(report)
    if report.growth:
        figures["growth"] = growth(report)
    for name in set(NAMES) - set(figures):
        for form in ("svg", "png"):
            (folder / f"{name}.{form}").unlink(missing_ok=True)
    return [path for name, figure in figures.items() for path in save(figure, name, folder)]


# What figures have in common


def ticks(low: float, high: float) -> list[float]:
    """At least three round numbers in a range above 0, for a logarithmic axis; fewer where there is no room for them."""
    for parts in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        found = [part * 10.0**decade for decade in decades for part in parts]
        found = [float(f"{each:.3g}") for each in found if low <= each <= high]
        if len(found) >= 3:
            return found[:: -(-len(found) // 8)]
    return [float(each) for each in MaxNLocator(5).tick_values(low, high) if low <= each <= high and each > 0]


def _logarithmic(axis: Any) -> None:
    """A logarithmic axis of values with ticks in any range, a narrow one too."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(FixedLocator(ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _panels(
    report: Report, width: float, height: float = 3.0
) -> tuple[Figure, Any, list[tuple[int, int, str, str, int]]]:
    """A panel for each number of threads and measure, below one another, and each cell, beside one another.

    Returns:
        The figure, its axes, and of each panel row, column, measure, cell, number of threads.
    """
    chosen = report.settings
    lines = list(product(chosen.threads, chosen.measures))
    figure = Figure(figsize=(width * len(chosen.cells), height * len(lines) + 1), layout="constrained")
    axes = figure.subplots(len(lines), len(chosen.cells), squeeze=False, sharey="row")
    places = []
    for (i, (count, measure)), (j, cell) in product(enumerate(lines), enumerate(chosen.cells)):
        axes[i, j].set_title(f"{measure}, {cell}, {threads([count])}", fontsize=10)
        axes[i, j].tick_params(labelsize=8)
        axes[i, j].grid(axis="y", alpha=0.3)
        places.append((i, j, measure, cell, count))
    figure.suptitle(heading(report), fontsize=9)
    return figure, axes, places


def heading(report: Report) -> str:
    """What is the same for all of a figure."""
    devices = ", ".join(dict.fromkeys(report.environment["device"].values()))
    chosen = report.settings
    text = f"{report.environment['processor']}, on {devices}, {chosen.dtype}, {threads(chosen.threads)}"
    return text if report.stopped is None else f"PARTIAL: {report.stopped}\n{text}"


def _workloads(report: Report, axis: Any) -> None:
    """The ticks of an axis of workloads, with their sizes."""
    workloads = report.settings.all_workloads
    own = {each.name for each in report.settings.own}
    labels = [
        each.shape if each.name in own else f"{each.name}\n{each.shape}".replace(", ", "\n") for each in workloads
    ]
    axis.set_xticks(range(len(labels)), labels, fontsize=6, rotation=30, ha="right", rotation_mode="anchor")
    axis.set_xlabel("batch × time × input × hidden", fontsize=7)


def _width(report: Report, marks: int) -> float:
    """Inches of a panel that has so many marks for each workload."""
    return float(np.clip(0.11 * len(report.settings.all_workloads) * marks, 4.2, 9.0))


def _bars(axis: Any, report: Report, values: dict[str, dict[str, float]]) -> None:
    """Bars for each workload, by contender and workload."""
    style, width = styles(report), 0.84 / max(1, len(values))
    names = [workload.name for workload in report.settings.all_workloads]
    for k, (name, found) in enumerate(values.items()):
        at = np.arange(len(names)) + (k - (len(values) - 1) / 2) * width
        axis.bar(
            at,
            [found.get(workload, np.nan) for workload in names],
            width,
            color=style[name].colour,
            hatch=style[name].hatch,
            edgecolor="white",
            linewidth=0.4,
            label=name,
        )


def _legend(figure: Figure, axes: Any, report: Report) -> None:
    """One legend for all panels, of every contender in any of them."""
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = [name for name in report.contenders if name in handles]
    if order:
        figure.legend(
            [handles[name] for name in order],
            order,
            loc="outside lower center",
            ncols=max(1, min(len(order), int(figure.get_figwidth() / 1.9))),
            fontsize=8,
            handlelength=3,
        )


# The figures


def frameworks(report: Report) -> Figure:
    """Milliseconds of the built-in layers and ours in either framework, by workload, with PyTorch's advantage above each."""
    figure, axes, places = _panels(report, _width(report, 4))
    wanted = [name for pair in ("torch", "tf") for name in (BUILTIN[pair], OURS[pair]) if name in report.contenders]
    for i, j, measure, cell, count in places:
        axis, rows = axes[i, j], rows_of(report, measure, cell, count)
        values = {
            name: {workload: 1e3 * (row.median or np.nan) for workload, row in rows[name].items()}
            for name in wanted
            if name in rows
        }
        _bars(axis, report, values)
        axis.set_yscale("log")
        _workloads(report, axis)
        for where, ratio in _advantages(report, measure, cell, count):
            highest = max((found.get(where[1], 0) for found in values.values()), default=0)
            if highest:
                axis.annotate(f"{in_words(ratio)}×", (where[0], highest), (0, 2), textcoords="offset points",
                              ha="center", fontsize=6)  # fmt: skip
        axes[i, 0].set_ylabel("ms of a call", fontsize=8)
    for i in range(len(axes)):
        axes[i, 0].margins(y=0.15)
        _logarithmic(axes[i, 0].yaxis)
    above = "above the bars: how many times as fast torch.nn is as keras.layers"
    figure.suptitle(f"{heading(report)}\n{above}", fontsize=9)
    _legend(figure, axes, report)
    return figure


def _advantages(report: Report, measure: str, cell: str, count: int) -> Iterator[tuple[tuple[int, str], float]]:
    names = [workload.name for workload in report.settings.all_workloads]
    for each in report.between:
        if (each.measure, each.cell, each.threads) == (measure, cell, count) and each.builtin is not None:
            yield (names.index(each.workload), each.workload), each.builtin.value


def ratios(report: Report) -> Figure:
    """How many times as fast as the framework's own layer each contender is, by workload, with intervals."""
    style, names = styles(report), [workload.name for workload in report.settings.all_workloads]
    others = [name for name in report.contenders if name not in BUILTIN.values()]
    figure, axes, places = _panels(report, _width(report, len(others)))
    for i, j, measure, cell, count in places:
        axis = axes[i, j]
        shown = {k: v for k, v in rows_of(report, measure, cell, count).items() if k in others}
        axis.axhline(1, color="black", linewidth=0.8)
        for k, (name, rows) in enumerate(shown.items()):
            shift = (k - (len(shown) - 1) / 2) * 0.84 / max(1, len(shown))
            known = {names.index(w) + shift: row.ratio for w, row in rows.items() if row.ratio is not None}
            axis.errorbar(
                list(known),
                [ratio.value for ratio in known.values()],
                np.transpose([_reach(row) for row in rows.values() if row.ratio is not None]) if known else None,
                fmt=style[name].mark,
                markersize=4.5,
                markeredgecolor="black",
                markeredgewidth=0.4,
                capsize=2,
                elinewidth=1,
                color=style[name].colour,
                label=name,
            )
        axis.set_yscale("log")
        _workloads(report, axis)
        for between in range(1, len(names)):
            axis.axvline(between - 0.5, color="#dddddd", linewidth=0.6)
        axes[i, 0].set_ylabel("times as fast as the built-in layer", fontsize=8)
    for i in range(len(axes)):
        _logarithmic(axes[i, 0].yaxis)
    _legend(figure, axes, report)
    return figure


def _reach(row: Row) -> tuple[float, float]:
    """How far a ratio's interval goes below it and above it; nowhere where it has none."""
    assert row.ratio is not None
    value, low, high = row.ratio
    return (value - low, high - value) if np.isfinite(high - low) else (0.0, 0.0)


def limit(report: Report) -> Figure:
    """The rate of each contender's products as a share of that of a large matrix product."""
    figure, axes, places = _panels(report, _width(report, len(report.contenders)))
    for i, j, measure, cell, count in places:
        rows = rows_of(report, measure, cell, count)
        values = {
            name: {workload: 100 * row.share.value for workload, row in found.items() if row.share is not None}
            for name, found in rows.items()
        }
        _bars(axes[i, j], report, values)
        _workloads(report, axes[i, j])
        axes[i, 0].set_ylabel("% of a large matrix product's rate", fontsize=8)
    _legend(figure, axes, report)
    return figure


def growth(report: Report) -> Figure:
    """Time against each size that was swept, on logarithmic axes, with the slope; the other sizes above."""
    lines = list(dict.fromkeys((g.around, g.cell, g.measure, g.threads) for g in report.growth))
    variables = list(dict.fromkeys(each.variable for each in report.growth))
    figure = Figure(figsize=(4.2 * len(variables), 3.8 * len(lines) + 0.6), layout="constrained")
    axes = figure.subplots(len(lines), len(variables), squeeze=False)
    style = styles(report)
    for (i, line), (j, variable) in product(enumerate(lines), enumerate(variables)):
        axis, (around, cell, measure, count) = axes[i, j], line
        shown = [g for g in report.growth if (g.around, g.cell, g.measure, g.threads, g.variable) == (*line, variable)]
        for each in shown:
            axis.loglog(
                each.sizes,
                [1e3 * value for value in each.seconds],
                style[each.contender].line,
                marker=style[each.contender].mark,
                markersize=5,
                color=style[each.contender].colour,
                label=f"{each.contender}: {each.exponent.value:.2f}",
            )
        axis.set_title(f"{measure}, {cell}, {threads([count])}\n{fixed_sizes(around, variable)}", fontsize=9)
        _logarithmic(axis.yaxis)
        axis.minorticks_off()
        sizes: Sequence[int] = sorted({size for each in shown for size in each.sizes})
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8, minor=False)
        axis.set_xlabel("width (of hidden; input in proportion)" if variable == "width" else variable, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if shown:
            axis.legend(fontsize=7, title="slope", title_fontsize=7, handlelength=3)
        axes[i, 0].set_ylabel("ms of a call", fontsize=8)
    figure.suptitle(heading(report), fontsize=9)
    return figure


def fixed_sizes(around: str, variable: str) -> str:
    """The sizes that a sweep leaves as they are; of the width, the proportion."""
    workload = of_size(around)
    sizes = {name: getattr(workload, name) for name in ("batch", "time", "input", "hidden")}
    if variable == "width":
        del sizes["hidden"], sizes["input"]
        ratio = f", input {workload.input / workload.hidden:.3g} × hidden"
    else:
        del sizes[variable]
        ratio = ""
    return ", ".join(f"{name} {size:,}" for name, size in sizes.items()) + ratio
