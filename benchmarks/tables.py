"""A report in Markdown, and what both it and the terminal say in lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rnn_benchmarks.contenders import BUILTIN, OURS
from rnn_benchmarks.report import Report, Row
from rnn_benchmarks.rounds import BETWEEN, REST
from rnn_benchmarks.timing import Interval
from rnn_benchmarks.words import mebibytes, milliseconds, percent, ratio, threads

RATIO = "how many times as fast as the framework's own layer, with the half width of the 95 % interval"
FRAMEWORKS = (
    "ms of a call, and how many times as fast PyTorch's is as TensorFlow's, with the half width of the 95 % interval"
)
METHOD = f"""\
Every contender has the same weights and inputs, and its outputs or gradients are held against the oracle before it is timed,
but for one from a file of the user's own, which has its own weights. The contenders of a framework have a turn each in every
round, in random order, and with them a large matrix product. Before every call there is a {BETWEEN}×{BETWEEN} matrix product of
the framework, which is not timed, so that its threads are awake as between the layers of a program; on a GPU there is none. A
ratio is taken in each round; what is quoted is the median over rounds. PyTorch's and TensorFlow's built-in layers, and ours, have
rounds with each other, too, in the same process, with {{rest}} ms before each turn in which the other's threads go to sleep: the
ratios between frameworks come from these, and the milliseconds from the rounds within a framework, so that a ratio is not
exactly their quotient. Each number of threads has a process of its own. PyTorch runs eagerly and TensorFlow in a graph, as users
call them. Sequences of several lengths are a PackedSequence in PyTorch, and padded with a mask in Keras."""


def method() -> str:
    """How it was measured, in one paragraph."""
    return METHOD.format(rest=f"{1e3 * REST:.0f}")


def conditions(report: Report) -> Iterator[str]:
    """What ran where, in lines; first, if it is a part of what was asked for, that it is."""
    if report.stopped is not None:
        yield f"PARTIAL: {report.stopped}"
    found = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    devices = ", ".join(dict.fromkeys(found["device"].values()))
    limits = ", ".join(f"{b.framework} {b.limit / 1e9:.0f}" + _at(report, b.threads) for b in report.baselines)
    how_many = threads(report.settings.threads)
    yield f"{found['processor']}, {found['cores']} cores, {how_many}, on {devices}, {report.settings.dtype}"
    yield f"{versions}; commit {found['commit']}, {found['time']}"
    yield f"Rate of a large matrix product, GFLOP/s: {limits}"


def _at(report: Report, count: int) -> str:
    """Which number of threads, where there are several."""
    return f" ({threads([count])})" if len(report.settings.threads) > 1 else ""


def failures(report: Report) -> Iterator[str]:
    """Who failed at what, and why: a line for each contender, cell, measure and reason."""
    return _reasons((row, row.failed) for row in report.rows)


def refusals(report: Report) -> Iterator[str]:
    """Who does not take what, and why."""
    return _reasons((row, row.refused) for row in report.rows)


def _reasons(rows: Iterable[tuple[Row, str | None]]) -> Iterator[str]:
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for row, why in rows:
        if why is not None:
            found.setdefault((row.contender, row.cell, row.measure, why), []).append(row.workload)
    for (contender, cell, measure, why), names in found.items():
        yield f"{contender}, {cell} {measure}, on {', '.join(dict.fromkeys(names))}: {why}"


def rows_of(report: Report, measure: str, cell: str, count: int) -> dict[str, dict[str, Row]]:
    """The rows of a measure, cell and number of threads that have figures, by contender, in order, and workload."""
    found: dict[str, dict[str, Row]] = {name: {} for name in report.contenders}
    for row in report.rows:
        if (row.measure, row.cell, row.threads) == (measure, cell, count) and row.timed:
            found.setdefault(row.contender, {})[row.workload] = row
    return {name: rows for name, rows in found.items() if rows}


def memory_ratios(found: dict[str, dict[str, Row]], contender: str, builtin: str | None) -> list[float]:
    """On each workload, a contender's peak memory over that of the framework's own layer, where both can be seen."""
    ratios = []
    for workload, row in found.get(contender, {}).items():
        own = found.get(builtin or "", {}).get(workload)
        if row.memory is not None and own is not None and own.memory:
            ratios.append(row.memory / own.memory)
    return ratios


def growths(report: Report) -> dict[tuple[str, str, str, str, int], dict[str, Interval]]:
    """Exponents by variable, of each workload that sweeps pass through, cell, measure, contender and number of threads."""
    found: dict[tuple[str, str, str, str, int], dict[str, Interval]] = {}
    for each in report.growth:
        key = (each.around, each.cell, each.measure, each.contender, each.threads)
        found.setdefault(key, {})[each.variable] = each.exponent
    return found


# PyTorch or Keras


HEAD = (
    *("torch.nn, ms", "keras.layers, ms", "times as fast, torch.nn"),
    *("rnn_torch, ms", "rnn_tf, ms", "times as fast, rnn_torch"),
)


def frameworks(report: Report, measure: str, cell: str, count: int) -> list[tuple[str, list[str]]]:
    """Of each workload that both frameworks have run: ms of the built-in layers and the ratio, then of ours."""
    found = rows_of(report, measure, cell, count)
    between = {
        each.workload: each
        for each in report.between
        if (each.measure, each.cell, each.threads) == (measure, cell, count)
    }

    def cells(names: dict[str, str], workload: str, of: Interval | None) -> list[str]:
        rows = [found.get(names[framework], {}).get(workload) for framework in ("torch", "tf")]
        return [*(milliseconds(None if row is None else row.median) for row in rows), ratio(of)]

    return [
        (workload, [*cells(BUILTIN, workload, each.builtin), *cells(OURS, workload, each.ours)])
        for workload, each in between.items()
    ]


# Markdown


def markdown(report: Report) -> str:
    """The whole report in Markdown: our layers first, then everybody."""
    return summary(report) + "\n" + "\n".join(_everything(report)) + "\n"


def summary(report: Report) -> str:
    """Our layers in Markdown, as docs/benchmarks.md shows them, and PyTorch beside Keras."""
    return "\n".join(_summary(report)) + "\n"


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| --- |" + " ---: |" * (len(head) - 1)
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"


def _summary(report: Report) -> Iterator[str]:
    """Ours beside the framework's own: by workload, with the geometric mean."""
    first, *others = conditions(report)
    yield f"**{first}**  " if report.stopped is not None else f"{first}  "
    yield from (f"{line}  " for line in others)
    ours = [name for name in OURS.values() if name in report.contenders]
    columns = [(name, cell) for name in ours for cell in report.settings.cells]
    for count in report.settings.threads:
        for measure in report.settings.measures:
            yield from ("", f"**{measure.capitalize()}, {threads([count])}**: {RATIO}.", "")
            by_cell = {cell: rows_of(report, measure, cell, count) for cell in report.settings.cells}
            means = {(m.contender, m.cell): m.ratio for m in report.means if (m.measure, m.threads) == (measure, count)}
            rows = [
                [
                    f"{workload.name}<br>{workload.sizes}",
                    *(ratio(_ratio_of(by_cell[cell].get(name, {}).get(workload.name))) for name, cell in columns),
                ]
                for workload in report.settings.all_workloads
            ]
            over = several_workloads(report)
            rows.append([f"**geometric mean**{over}", *(f"**{ratio(means.get(column))}**" for column in columns)])
            yield from _markdown_table(["", *(f"{name} {cell}" for name, cell in columns)], rows)
    if report.between:
        yield from _between(report)


def several_workloads(report: Report) -> str:
    """Over which workloads the mean is, where it is not over all."""
    quoted, everything = report.settings.quoted, report.settings.all_workloads
    return "" if len(quoted) == len(everything) else f" of the first {len(quoted)}"


def _between(report: Report) -> Iterator[str]:
    for count in report.settings.threads:
        for measure in report.settings.measures:
            yield from ("", f"**PyTorch or Keras: {measure}, {threads([count])}**: {FRAMEWORKS}.", "")
            rows = [
                [workload, cell, *cells]
                for cell in report.settings.cells
                for workload, cells in frameworks(report, measure, cell, count)
            ]
            yield from _markdown_table(["", "cell", *HEAD], rows)


def _ratio_of(row: Row | None) -> Interval | None:
    return None if row is None else row.ratio


def _row_cells(row: Row) -> list[str]:
    who = [row.contender + ("" if row.checked else " (own weights)"), row.workload]
    if row.refused is not None:
        return [*who, f"refused: {row.refused}", "", "", "", ""]
    if row.first_call is None:
        return [*who, f"failed: {row.failed}", "", "", "", ""]
    return [
        *who,
        milliseconds(row.median),
        ratio(row.ratio),
        percent(row.share),
        f"{row.first_call:.2f}",
        mebibytes(row.memory),
    ]


def _everything(report: Report) -> Iterator[str]:
    for count in report.settings.threads:
        for measure in report.settings.measures:
            for cell in report.settings.cells:
                yield from (f"### {measure.capitalize()}, {cell}, {threads([count])}", "")
                head = ["", "workload", "ms", "ratio", "share of the limit", "first call, s", "peak memory, MiB"]
                wanted = (measure, cell, count)
                rows = [_row_cells(row) for row in report.rows if (row.measure, row.cell, row.threads) == wanted]
                yield from _markdown_table(head, rows)
                yield ""
    if report.growth:
        yield from ("### How cost grows: p in seconds ∝ size^p", "")
        rows = [
            [
                f"{contender}, {cell}, {measure}, {threads([count])}, through {around.replace('x', '×')}",
                *(ratio(found.get(variable)) for variable in ("time", "width", "batch")),
            ]
            for (around, cell, measure, contender, count), found in growths(report).items()
        ]
        yield from _markdown_table(["", "time", "width", "batch"], rows)
        yield ""
    if report.left_out:
        yield from ("### Left out", "")
        yield from (f"- {name}: {why}" for name, why in report.left_out.items())
        yield ""
    yield from ("### How it is measured", "", method())
