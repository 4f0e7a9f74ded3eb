"""The command `rnn-parity gradients`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from rnn_common.cli import needs, terminal
from rnn_common.cli.options import Frameworks, Output
from rnn_common.cli.terminal import bad_input, deliver, progress_bar, progress_console
from rnn_common.files import check_folder, write_json
from rnn_common.parity import flow
from rnn_common.reports import tables
from rnn_common.twins import get_each


@terminal.command
def gradients(framework: Frameworks = None, output: Output = Path("gradient-results")) -> None:
    """Measure how a loss's gradient travels back through time in each cell, and how clipping changes training.

    Exit status: 0 if the oracle and the frameworks agree, 1 if they do not, 2 for bad input or what cannot be written, 3 for a
    fault of ours.
    """
    with bad_input():
        check_folder(output, "gradients.json", "gradients.svg", "gradients.png")
        needs.figures()
        names = needs.frameworks(framework)
    with progress_bar(progress_console()) as progress:
        report = flow.measure(list(get_each(names, progress).values()), progress=progress)
    deliver(lambda: write(report, output), lambda console: show(report, console))
    worst = _worst(report)
    raise typer.Exit(0 if worst["agreement"] <= worst["bound"] else 1)


def _worst(report: dict[str, Any]) -> Any:
    """The row in which the oracle and a framework differ most for their bound."""
    return max(report["rows"], key=lambda row: row["agreement"] / row["bound"])


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write a report as JSON, and its figure."""
    figures = needs.figures()
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_json(report, folder / "gradients.json"),
        *figures.save(figures.gradient_flow(report), "gradients", folder),
    ]


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report."""
    console.print(tables.conditions(report), highlight=False)
    console.print(_flows(report["rows"]))
    for run in report["clipping"]:
        console.print(f"SimpleRNN, SGD, {run['said']}", highlight=False)
    worst = _worst(report)
    most = f"{worst['agreement']:.1e} (bound {worst['bound']:.1e})"
    console.print(f"Oracle and frameworks differ by at most {most}", highlight=False)


def _flows(rows: Sequence[dict[str, Any]]) -> Table:
    """What is left of a gradient after some steps back, by the oracle."""
    lags = [lag for lag in rows[0]["lags"] if lag in (1, 8, 20, 50)]
    table = Table(
        "", "recurrent weights", title="‖∂L/∂h(t−k)‖", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    for lag in lags:
        table.add_column(f"k = {lag}", justify="right")
    for row in rows:
        if row["by"] == "oracle":
            values = (f"{row['gradients'][row['lags'].index(lag)]:.1e}" for lag in lags)
            table.add_row(f"{row['cell']}, {row['when']}", f"× {row['scale']:g}", *values)
    return table
