"""The command `rnn-parity compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from rnn_common import twins
from rnn_common.cells import CELLS
from rnn_common.cli import terminal
from rnn_common.cli.options import ANY_CELL, Device, Frameworks, Names, named
from rnn_common.cli.terminal import bad_input, deliver, progress_bar, progress_console
from rnn_common.data import DATASETS
from rnn_common.files import check_writable, write_json
from rnn_common.parity import compare as comparison
from rnn_common.parity.compare import PairRow, Report, Settings, TimeRow, prepare
from rnn_common.parity.contract import Deviations


@terminal.command
def compare(
    cell: Annotated[Names, named(CELLS, help=ANY_CELL, show_default="all of them")] = None,
    framework: Frameworks = None,
    dtype: Annotated[str, named(("float64", "float32"), help="float64 or float32.")] = "float64",
    device: Device = "cpu",
    hidden: Annotated[int, typer.Option(help="Width of the hidden state.")] = 64,
    batch: Annotated[int, typer.Option(help="Sequences a batch.")] = 32,
    data: Annotated[str, named(DATASETS, help="vowels (real recordings), gaussian or adding.")] = "vowels",
    seed: Annotated[int, typer.Option(help="Of weights, states and synthetic data.")] = 0,
    output: Annotated[Path, typer.Option(parser=terminal.path, help="Where the JSON report goes.")] = Path(
        "comparison.json"
    ),
) -> None:
    """Compare every cell in both twins, the built-in layers and the oracle, on the same batches from the same weights.

    Exit status: 0 if every bound holds, 1 if one does not, 2 for bad input or what cannot be written, 3 for a fault of ours.
    """
    with bad_input():
        settings = Settings(
            cells=tuple(dict.fromkeys(cell or CELLS)),
            frameworks=tuple(dict.fromkeys(framework or twins.installed())),
            dtype=dtype,
            device=device,
            hidden=hidden,
            batch=batch,
            data=data,
            seed=seed,
        )
        check_writable(output)
    with progress_bar(progress_console()) as progress:
        with bad_input():
            prepared = prepare(settings, progress)
        report = comparison.compare(settings, progress, prepared)
    deliver(lambda: [write_json(report.as_dict(), output)], lambda console: show(report, console))
    raise typer.Exit(0 if report.holds else 1)


def show(report: Report, console: Console) -> None:
    """Print a report's two tables, and what was left out."""
    s = report.settings
    console.print(
        f"{s.data}, batches of {s.batch}, hidden width {s.hidden}, {s.dtype} on {s.device}, seed {s.seed}; "
        + ", ".join(f"{name} {version}" for name, version in report.environment["versions"].items()),
        highlight=False,
    )
    console.print(_pairs(report.pairs))
    if report.times:
        console.print(_times(report.times))
    for what, why in report.left_out.items():
        console.print(f"Left out: {what}: {why}", highlight=False)
    failed = sum(not row.holds for row in report.pairs)
    console.print(
        f"[green]All {len(report.pairs)} pairs are within their bounds.[/]"
        if not failed
        else f"[red]{failed} of {len(report.pairs)} pairs are beyond their bounds.[/]"
    )


def _pairs(rows: list[PairRow]) -> Table:
    """How far apart each pair is, under the name of its cell."""
    table = _table("Worst deviation, max|a − b| / max|b|", "pair", "outputs", "final", "gradients", "bounds", "verdict")
    for i, row in enumerate(rows):
        if i == 0 or rows[i - 1].cell != row.cell:
            table.add_row(f"[bold]{row.cell}[/]")
        last = i + 1 == len(rows) or rows[i + 1].cell != row.cell
        table.add_row(*_pair_cells(row), end_section=last)
    return table


def _times(rows: list[TimeRow]) -> Table:
    table = _table("Milliseconds a training step, in turn", "twin", "ours", "built-in", "built-in / ours", "quartiles")
    for t in rows:
        spread = f"{t.ratio_low:.2f} – {t.ratio_high:.2f}"
        table.add_row(f"{t.framework} {t.cell}", f"{t.ours_ms:.2f}", f"{t.builtin_ms:.2f}", f"{t.ratio:.2f}", spread)
    return table


def _table(title: str, first: str, *numbers: str) -> Table:
    """A table that fits 80 columns: a column of names, then columns of numbers."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=0)
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _pair_cells(row: PairRow) -> list[str]:
    verdict = "–" if row.bounds is None else "[green]holds[/]" if row.holds else "[red]BEYOND[/]"
    return [f"  {row.first} ~ {row.second}", *map(_number, row.deviations), _bounds(row.bounds), verdict]


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"


def _bounds(bounds: Deviations | None) -> str:
    return "–" if bounds is None else f"{_number(max(bounds.outputs, bounds.final))} / {_number(bounds.gradients)}"
