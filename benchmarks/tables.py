"""A report as a person reads it: in the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from benchmarks.contenders import BUILTIN
from benchmarks.runs import SELF_TEST, Report, Row
from benchmarks.timing import Interval
from benchmarks.workloads import WORKLOADS

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
    """Print a report: a table for each measure and cell, what failed, the self-test."""
    for line in conditions(report):
        console.print(line, highlight=False)
    for measure in report.settings.measures:
        for cell in report.settings.cells:
            console.print(_table(report, measure, cell))
    if report.growth:
        console.print(_growth_table(report))
    for row in report.rows:
        if row.failed:
            console.print(
                f"[yellow]Failed:[/] {escape(f'{row.contender}, {row.cell} {row.measure}, {row.workload}: {row.failed}')}",
                highlight=False,
            )
    for name, why in report.left_out.items():
        console.print(escape(f"Left out: {name}: {why}"), highlight=False)
    verdict = "[green]passed[/]" if report.passed else "[red]failed[/]"
    found = ", ".join(f"{BUILTIN[name]} {ratio(interval)}" for name, interval in report.self_test.items())
    console.print(f"Self-test, a layer against itself, 1.00 ± {SELF_TEST:.2f}: {found}: {verdict}", highlight=False)


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


def _table(report: Report, measure: str, cell: str) -> Table:
    table = Table(
        title=f"{measure}, {cell}: {HOW}; share of the machine's limit",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    table.add_column("")
    for name in report.settings.workloads:
        table.add_column(name.replace("-", " ", 1), justify="right")
    table.add_column("geometric mean", justify="right")
    means = {mean.contender: mean.ratio for mean in report.means if (mean.measure, mean.cell) == (measure, cell)}
    for name, rows in _rows(report, measure, cell).items():
        cells = []
        for workload in report.settings.workloads:
            row = rows.get(workload)
            figure = "–" if row is None else seconds(row.median) + " ms" if _own(name) else ratio(row.ratio)
            cells.append(figure + (f"\n{percent(row.share)}" if row else ""))
        table.add_row(name, *cells, ratio(means.get(name)))
    return table


def _own(contender: str) -> bool:
    """Whether it is a framework's own layer, whose ratio to itself says nothing."""
    return contender in BUILTIN.values()


def _growth_table(report: Report) -> Group:
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
    return Group(table)


def _growths(report: Report) -> dict[tuple[str, str, str], dict[str, Interval]]:
    found: dict[tuple[str, str, str], dict[str, Interval]] = {}
    for each in report.growth:
        found.setdefault((each.cell, each.measure, each.contender), {})[each.variable] = each.exponent
    return found


# Markdown


def markdown(report: Report) -> str:
    """The whole report in Markdown: our layers first, as the README shows them, then everybody."""
    return "\n".join([*_summary(report), "", *_everything(report)]) + "\n"


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
