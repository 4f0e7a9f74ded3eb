"""A report as a person reads it: in the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rnn_benchmarks.contenders import BUILTIN, CONTENDERS
from rnn_benchmarks.runs import SELF_TEST, Report, Row
from rnn_benchmarks.timing import Interval
from rnn_benchmarks.workloads import WORKLOADS

HOW = "how many times as fast as the framework's own layer, with the half width of the 95 % interval"


def ratio(interval: Interval | None) -> str:
    """A ratio and half the width of its interval: `1.21 ±0.03`."""
    if interval is None:
        return "–"
    return f"{interval.value:.2f} ±{(interval.high - interval.low) / 2:.2f}"


def seconds(value: float | None) -> str:
    """A time of a call in milliseconds."""
    return "–" if value is None else f"{1e3 * value:.3g}"


def mebibytes(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**20:.1f}"


def percent(interval: Interval | None) -> str:
    return "–" if interval is None else f"{100 * interval.value:.0f} %"


def show(report: Report, console: Console) -> None:
    """Print a report: a table for each measure, cell and framework, growth, what failed, the self-test."""
    for line in conditions(report):
        console.print(line, highlight=False)
    console.print(f"\nFirst line: {HOW}; of that layer itself, milliseconds. Second line: share of that rate.\n")
    for measure in report.settings.measures:
        for cell in report.settings.cells:
            for twin in report.limit:
                console.print(_table(report, measure, cell, twin))
        console.print(_costs_table(report, measure))
    if report.growth:
        console.print(_growth_table(report))
    for line in _failures(report):
        console.print(f"[yellow]Failed:[/] {escape(line)}", highlight=False)
    for name, why in report.left_out.items():
        console.print(escape(f"Left out: {name}: {why}"), highlight=False)
    verdict = "[green]passed[/]" if report.passed else "[red]failed[/]"
    found = ", ".join(f"{BUILTIN[name]} {ratio(interval)}" for name, interval in report.self_test.items())
    console.print(f"Self-test, a layer against itself, 1.00 ± {SELF_TEST:.2f}: {found}: {verdict}", highlight=False)


def _failures(report: Report) -> Iterator[str]:
    """Who failed at what, and why: a line for each contender, cell and measure."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in report.rows:
        if row.failed:
            found.setdefault((row.contender, row.cell, row.measure), []).append(row)
    for (contender, cell, measure), rows in found.items():
        names = ", ".join(row.workload for row in rows)
        yield f"{contender}, {cell} {measure}, on {names}: {rows[0].failed}"


def conditions(report: Report) -> Iterator[str]:
    """What ran where, in lines."""
    found = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    devices = ", ".join(dict.fromkeys(found["device"].values()))
    limits = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in report.limit.items())
    yield f"{found['processor']}, {found['cores']} cores, {found['threads']} threads, on {devices}, {report.settings.dtype}"
    yield f"{versions}; commit {found['commit']}, {found['time']}"
    yield f"Rate of a large matrix product, GFLOP/s: {limits}"


def _rows(report: Report, measure: str, cell: str) -> dict[str, dict[str, Row]]:
    """The rows of a measure and cell that have figures, by contender and workload."""
    found: dict[str, dict[str, Row]] = {}
    for row in report.rows:
        if (row.measure, row.cell) == (measure, cell) and row.failed is None:
            found.setdefault(row.contender, {})[row.workload] = row
    return found


def _table(report: Report, measure: str, cell: str, twin: str) -> Table:
    """A framework's contenders side by side, in 80 columns."""
    of = {contender.name: contender.framework for contender in CONTENDERS}
    found = {name: rows for name, rows in _rows(report, measure, cell).items() if of[name] == twin}
    table = Table(title=f"{measure}, {cell}", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1))
    table.add_column("", no_wrap=True)
    for name in found:
        table.add_column(name.replace(", ", "\n"), justify="right", no_wrap=True)
    for workload in report.settings.workloads:
        cells = []
        for name, rows in found.items():
            row = rows.get(workload)
            figure = "–" if row is None else seconds(row.median) + " ms" if _own(name) else ratio(row.ratio)
            cells.append(figure + (f"\n{percent(row.share)}" if row else ""))
        table.add_row(workload.replace("-", "\n", 1), *cells)
    means = {mean.contender: mean.ratio for mean in report.means if (mean.measure, mean.cell) == (measure, cell)}
    table.add_row("geometric\nmean", *("" if _own(name) else f"[bold]{ratio(means.get(name))}[/]" for name in found))
    return table


def _costs_table(report: Report, measure: str) -> Table:
    """First call and memory, in 80 columns."""
    title = f"{measure}: first call, s (median over workloads); peak memory / that of the framework's own layer (worst)"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1))
    table.add_column("", no_wrap=True)
    for cell in report.settings.cells:
        table.add_column(cell, justify="right", no_wrap=True)
    shown: dict[str, list[str]] = {}
    for cell in report.settings.cells:
        found = _rows(report, measure, cell)
        for name in report.settings.contenders:
            first = [row.first_call for row in found.get(name, {}).values() if row.first_call is not None]
            worst = max(memory_ratios(found, name), default=None)
            figures = f"{np.median(first):.2f}" if first else "–"
            shown.setdefault(name, []).append(figures + ("" if worst is None or _own(name) else f"   {worst:.2f}"))
    for name, cells in shown.items():
        table.add_row(name, *cells)
    return table


def memory_ratios(found: dict[str, dict[str, Row]], contender: str) -> list[float]:
    """On each workload, a contender's peak memory over that of the framework's own layer, where both can be seen."""
    of = {each.name: BUILTIN[each.framework] for each in CONTENDERS}
    ratios = []
    for workload, row in found.get(contender, {}).items():
        own = found.get(of[contender], {}).get(workload)
        if row.memory is not None and own is not None and own.memory:
            ratios.append(row.memory / own.memory)
    return ratios


def _own(contender: str) -> bool:
    """Whether it is a framework's own layer, whose ratio to itself says nothing."""
    return contender in BUILTIN.values()


def _growth_table(report: Report) -> Table:
    table = Table(
        title="How cost grows: p in seconds ∝ size^p, with its 95 % interval",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    for name in ("", "time", "width", "batch"):
        table.add_column(name, justify="right" if name else "left")
    for (cell, measure, contender), found in _growths(report).items():
        table.add_row(
            f"{contender}, {cell}, {measure}", *(ratio(found.get(variable)) for variable in ("time", "width", "batch"))
        )
    return table


def _growths(report: Report) -> dict[tuple[str, str, str], dict[str, Interval]]:
    found: dict[tuple[str, str, str], dict[str, Interval]] = {}
    for each in report.growth:
        found.setdefault((each.cell, each.measure, each.contender), {})[each.variable] = each.exponent
    return found


# Markdown


def markdown(report: Report) -> str:
    """The whole report in Markdown: our layers first, then everybody."""
    return summary(report) + "\n" + "\n".join(_everything(report)) + "\n"


def summary(report: Report) -> str:
    """Our layers in Markdown, as docs/benchmarks.md shows them."""
    return "\n".join(_summary(report)) + "\n"


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| --- |" + " ---: |" * (len(head) - 1)
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"


def _summary(report: Report) -> Iterator[str]:
    """Ours beside the framework's own: by workload, with the geometric mean."""
    yield from (f"{line}  " for line in conditions(report))
    ours = [name for name in ("rnn_torch", "rnn_tf") if name in report.settings.contenders]
    for measure in report.settings.measures:
        yield ""
        yield f"**{measure.capitalize()}**: {HOW}."
        yield ""
        columns = [(name, cell) for name in ours for cell in report.settings.cells]
        by_cell = {cell: _rows(report, measure, cell) for cell in report.settings.cells}
        means = {(mean.contender, mean.cell): mean.ratio for mean in report.means if mean.measure == measure}
        rows = [
            [
                f"{workload}<br>{WORKLOADS[workload].sizes}",
                *(ratio(_ratio_of(by_cell[cell].get(name, {}).get(workload))) for name, cell in columns),
            ]
            for workload in report.settings.workloads
        ]
        rows.append(["**geometric mean**", *(f"**{ratio(means.get(column))}**" for column in columns)])
        yield from _markdown_table(["", *(f"{name} {cell}" for name, cell in columns)], rows)


def _ratio_of(row: Row | None) -> Interval | None:
    return None if row is None else row.ratio


def _row_cells(row: Row) -> list[str]:
    if row.first_call is None:
        return [row.contender, row.workload, f"failed: {row.failed}", "", "", "", ""]
    figures = [
        seconds(row.median),
        ratio(row.ratio),
        percent(row.share),
        f"{row.first_call:.2f}",
        mebibytes(row.memory),
    ]
    return [row.contender, row.workload, *figures]


def _everything(report: Report) -> Iterator[str]:
    for measure in report.settings.measures:
        for cell in report.settings.cells:
            yield f"### {measure.capitalize()}, {cell}"
            yield ""
            head = ["", "workload", "ms", "ratio", "share of the limit", "first call, s", "peak memory, MiB"]
            rows = [_row_cells(row) for row in report.rows if (row.measure, row.cell) == (measure, cell)]
            yield from _markdown_table(head, rows)
            yield ""
    if report.growth:
        yield "### How cost grows: p in seconds ∝ size^p"
        yield ""
        rows = [
            [
                f"{contender}, {cell}, {measure}",
                *(ratio(found.get(variable)) for variable in ("time", "width", "batch")),
            ]
            for (cell, measure, contender), found in _growths(report).items()
        ]
        yield from _markdown_table(["", "time", "width", "batch"], rows)
