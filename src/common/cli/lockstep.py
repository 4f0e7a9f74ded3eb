"""The command `rnn-parity lockstep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from rnn_common.checks import whole
from rnn_common.cli import needs, terminal
from rnn_common.cli.options import Output
from rnn_common.cli.terminal import bad_input, deliver, progress_bar, progress_console
from rnn_common.files import check_folder, write_json
from rnn_common.machine import check_memory
from rnn_common.parity import lockstep as drift
from rnn_common.reports import tables
from rnn_common.twins import TWINS, get_each


@terminal.command
def lockstep(
    updates: Annotated[int, typer.Option(help="Of each run.")] = 1000,
    output: Output = Path("lockstep-results"),
) -> None:
    """Train the same networks in both frameworks from the same weights, and measure how far their losses drift apart.

    Exit status: 0 if the bounds hold in float64 (1e-9 over the first 200 updates, 1e-6 over 1,000), 1 if not, 2 for bad input or
    what cannot be written, 3 for a fault of ours.
    """
    with bad_input():
        whole("updates", updates, 1)
        check_memory("updates", updates, updates * drift.UPDATE_BYTES)
        check_folder(output, "lockstep.json", "lockstep.svg", "lockstep.png")
        needs.figures()
        drift.recordings()  # so that a missing package is found before the work
        names = [needs.framework(name, choice=False) for name in TWINS]
    with progress_bar(progress_console()) as progress:
        both = list(get_each(names, progress).values())
        report = drift.measure(both, updates=updates, progress=progress)
    deliver(lambda: write(report, output), lambda console: show(report, console))
    raise typer.Exit(1 if any(drift.holds(row) is False for row in report["rows"]) else 0)


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write a report as JSON, and its figure."""
    figures = needs.figures()
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_json(report, folder / "lockstep.json"),
        *figures.save(figures.drift(report), "lockstep", folder),
    ]


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report."""
    console.print(tables.conditions(report), highlight=False)
    table = Table(
        "", title="Largest relative difference of the losses", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    within = drift.bounds(report["updates"])
    for n in within:
        table.add_column(f"first {n:,}", justify="right")
    table.add_column("bounds")
    for row in report["rows"]:
        verdict = {True: "[green]hold[/]", False: "[red]BEYOND[/]", None: "–"}[drift.holds(row)]
        worst = (f"{row['worst'][str(n)]:.1e}" for n in within)
        table.add_row(f"{row['cell']}, {row['optimizer']}, {row['dtype']}", *worst, verdict)
    console.print(table)
