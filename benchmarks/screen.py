"""A report in the terminal, in 80 columns, one number under a heading."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rnn_benchmarks.contenders import BUILTIN
from rnn_benchmarks.report import SELF_TEST, Baseline, Report, Row
from rnn_benchmarks.tables import (
    conditions,
    failures,
    frameworks,
    growths,
    memory_ratios,
    refusals,
    rows_of,
    several_workloads,
)
from rnn_benchmarks.words import NONE, mebibytes, milliseconds, percent, ratio, threads

# Of more workloads every contender's figures are in the files alone.
FEW = 3


def show(report: Report, console: Console) -> None:
    """Print a report: PyTorch beside Keras, everybody (of a few workloads), means, costs, growth, failures, self-test."""
    for line in conditions(report):
        colour = "[bold yellow]" if line.startswith("PARTIAL") else ""
        console.print(colour + escape(line), highlight=False)
    console.print()
    for title, table in _tables(report):
        if table.row_count:
            console.print(f"[italic]{escape(title)}[/]", highlight=False)
            console.print(table)
    for line in refusals(report):
        console.print(f"Refused: {escape(line)}", highlight=False)
    for line in failures(report):
        console.print(f"[yellow]Failed:[/] {escape(line)}", highlight=False)
    for name, why in report.left_out.items():
        console.print(escape(f"Left out: {name}: {why}"), highlight=False)
    if report.baselines:
        verdict = "[green]passed[/]" if report.passed else "[red]failed[/]"
        found = ", ".join(_self_test(each) for each in report.baselines)
        console.print(f"Self-test, a layer against itself, 1.00 ± {SELF_TEST:.2f}: {found}: {verdict}", highlight=False)


def _self_test(baseline: Baseline) -> str:
    return f"{BUILTIN[baseline.framework]} {ratio(baseline.self_test)} ({threads([baseline.threads])})"


def _tables(report: Report) -> Iterator[tuple[str, Table]]:
    """Each table with its title."""
    settings = report.settings
    where = [(measure, count) for count in settings.threads for measure in settings.measures]
    each = [(measure, cell, count) for measure, count in where for cell in settings.cells]
    for measure, cell, count in each:
        yield (
            f"PyTorch beside Keras (times as fast: PyTorch's): {_where(measure, count, cell)}",
            _frameworks(report, measure, cell, count),
        )
    if len(settings.all_workloads) <= FEW:
        for measure, cell, count in each:
            yield f"Everybody: {_where(measure, count, cell)}", _everybody(report, measure, cell, count)
    over = several_workloads(report) or " over the workloads"
    for measure, count in where:
        yield f"Ratio, geometric mean{over}: {_where(measure, count)}", _means(report, measure, count)
    for measure, count in where:
        title = f"First call beyond a later one, s, median over workloads: {_where(measure, count)}"
        yield title, _first_calls(report, measure, count)
        title = f"Peak memory / the built-in layer's, worst workload: {_where(measure, count)}"
        yield title, _memory(report, measure, count)
    yield "How cost grows: p in seconds ∝ size^p, with its 95 % interval", _growth(report)


def _where(measure: str, count: int, cell: str = "") -> str:
    return ", ".join(part for part in (measure, cell, threads([count])) if part)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column(columns[0], no_wrap=columns[0] == "", overflow="fold")
    for name in columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _frameworks(report: Report, measure: str, cell: str, count: int) -> Table:
    """How many times as fast PyTorch's layer is as TensorFlow's, the built-in one and ours."""
    fast = "times\nas fast"
    table = _table("", "torch.\nnn\nms", "keras.\nlayers\nms", fast, "rnn_\ntorch\nms", "rnn_\ntf\nms", fast)
    for workload, cells in frameworks(report, measure, cell, count):
        table.add_row(workload.replace("-", "\n", 1), *cells)
    return table


def _everybody(report: Report, measure: str, cell: str, count: int) -> Table:
    table = _table("", "ms", "times as fast\nas the built-in", "% of a large\nproduct's rate", "peak memory,\nMiB")
    several = len(report.settings.all_workloads) > 1
    for workload in report.settings.all_workloads:
        if several:
            table.add_row(f"[bold]{escape(workload.name)}[/]")
        for row in report.rows:
            if (row.workload, row.measure, row.cell, row.threads) == (workload.name, measure, cell, count):
                table.add_row(escape(row.contender), *_figures(row))
    return table


def _figures(row: Row) -> list[str]:
    if row.refused is not None:
        return ["refused"]
    if row.failed is not None:
        return ["failed"]
    return [milliseconds(row.median), ratio(row.ratio), percent(row.share), mebibytes(row.memory)]


def _means(report: Report, measure: str, count: int) -> Table:
    table = _table("times as fast as the built-in", *report.settings.cells)
    found = {(m.contender, m.cell): m.ratio for m in report.means if (m.measure, m.threads) == (measure, count)}
    for name in dict.fromkeys(name for name, _ in found):
        table.add_row(escape(name), *(ratio(found.get((name, cell))) for cell in report.settings.cells))
    return table


def _first_calls(report: Report, measure: str, count: int) -> Table:
    table = _table("", *report.settings.cells)
    by_cell = {cell: rows_of(report, measure, cell, count) for cell in report.settings.cells}
    for name in report.contenders:
        cells = []
        for found in by_cell.values():
            first = [row.first_call for row in found.get(name, {}).values() if row.first_call is not None]
            cells.append(f"{np.median(first):.2f}" if first else NONE)
        if set(cells) != {NONE}:
            table.add_row(escape(name), *cells)
    return table


def _memory(report: Report, measure: str, count: int) -> Table:
    table = _table("", *report.settings.cells)
    by_cell = {cell: rows_of(report, measure, cell, count) for cell in report.settings.cells}
    for name, framework in report.contenders.items():
        worst = [max(memory_ratios(found, name, BUILTIN.get(framework)), default=None) for found in by_cell.values()]
        if name not in BUILTIN.values() and any(each is not None for each in worst):
            table.add_row(escape(name), *(NONE if each is None else f"{each:,.2f}" for each in worst))
    return table


def _growth(report: Report) -> Table:
    table = _table("through batch×time×input×hidden", "time", "width", "batch")
    for (around, cell, measure, contender, count), found in growths(report).items():
        name = f"{contender}, {_where(measure, count, cell)}, {around.replace('x', '×')}"
        table.add_row(escape(name), *(ratio(found.get(variable)) for variable in ("time", "width", "batch")))
    return table
