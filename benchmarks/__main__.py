"""`python -m rnn_benchmarks`: time every cell in every framework; `python -m benchmarks compare OLD NEW`: what changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

try:
    import matplotlib  # noqa: F401
    import scipy  # noqa: F401
    import typer
    from rich import box
    from rich.markup import escape
    from rich.table import Table
except ModuleNotFoundError as missing:
    print(
        f"the benchmarks need the package {missing.name}, which is not installed: pip install '.[bench]'",
        file=sys.stderr,
    )
    raise SystemExit(2) from None

from rnn_benchmarks import comparing, plots, tables
from rnn_benchmarks.contenders import CONTENDERS
from rnn_benchmarks.runs import MEASURES, Report, Settings, prepare, run
from rnn_benchmarks.workloads import DEFAULT, SWEEPS, WORKLOADS
from rnn_common.cli import terminal
from rnn_common.cli.terminal import bad_input, deliver, printing, progress_bar, progress_console
from rnn_common.files import check_folder, write_json, write_text

PROGRAM = "benchmarks"
FIGURES = [f"{name}.{form}" for name in ("ratios", "limit", "growth") for form in ("svg", "png")]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Names = list[str] | None
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@app.callback(invoke_without_command=True)
@terminal.command(PROGRAM)
def bench(
    context: typer.Context,
    workload: Annotated[Names, typer.Option(help="May be repeated; `list` names them.", show_default="a set")] = None,
    cell: Annotated[Names, typer.Option(help="SimpleRNN, LSTM or GRU; may be repeated.", show_default="all")] = None,
    measure: Annotated[Names, typer.Option(help="inference or training; may be repeated.", show_default="both")] = None,
    contender: Annotated[Names, typer.Option(help="May be repeated; `list` names them.", show_default="most")] = None,
    sweep: Annotated[
        Names, typer.Option(help="time, width, batch or none; may be repeated.", show_default="all")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, float64 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="That an operation may use, in every framework.")] = CORES,
    seconds: Annotated[float, typer.Option(help="How long a comparison goes on.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of weights, inputs and intervals.")] = 0,
    output: Annotated[Path, typer.Option(parser=terminal.path, help="The folder for JSON, Markdown and plots.")] = Path(
        "benchmark-results"
    ),
) -> None:
    """Time every contender on every workload and cell, in turn, and how cost grows.

    Exit status: 0 if the self-test passes, 1 if it does not, 2 for bad input or what cannot be written, 3 for a fault of ours.
    """
    if context.invoked_subcommand:
        return
    with bad_input(PROGRAM):
        settings = Settings(
            workloads=tuple(dict.fromkeys(workload or DEFAULT)),
            cells=tuple(dict.fromkeys(cell or Settings.cells)),
            measures=tuple(sorted(dict.fromkeys(measure or MEASURES))),
            contenders=tuple(dict.fromkeys(contender or Settings.contenders)),
            sweeps=() if sweep == ["none"] else tuple(dict.fromkeys(sweep or SWEEPS)),
            dtype=dtype,
            device=device,
            threads=threads,
            seconds=seconds,
            seed=seed,
        )
        check_folder(output, "benchmarks.json", "benchmarks.md", *FIGURES)
    with progress_bar(progress_console()) as progress:
        progress("importing", 0.0)
        with bad_input(PROGRAM):
            prepared = prepare(settings)
        report = run(settings, progress, prepared)
    deliver(PROGRAM, lambda: write(report, output), lambda console: tables.show(report, console))
    raise typer.Exit(0 if report.passed else 1)


def write(report: Report, folder: Path) -> list[Path]:
    """Write a report as JSON and Markdown, and its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_json({"format": comparing.FORMAT, **report.as_dict()}, folder / "benchmarks.json"),
        write_text(tables.markdown(report), folder / "benchmarks.md"),
        *plots.draw(report, folder),
    ]


@app.command(name="list")
@terminal.command(PROGRAM)
def list_command() -> None:
    """Name the workloads and the contenders."""
    workloads = Table("workload", "sizes", "source", box=box.SIMPLE_HEAD, pad_edge=False)
    for each in WORKLOADS.values():
        workloads.add_row(f"{each.name}{' *' if each.name in DEFAULT else ''}", each.sizes, each.source)
    contenders = Table("contender", "cells", "measures", box=box.SIMPLE_HEAD, pad_edge=False)
    for who in CONTENDERS:
        contenders.add_row(f"{who.name}{' *' if who.by_default else ''}", ", ".join(who.cells), ", ".join(who.measures))
    with printing(PROGRAM) as console:
        console.print(workloads, contenders, "* by default", highlight=False)


@app.command()
@terminal.command(PROGRAM)
def compare(old: Path, new: Path) -> None:
    """Show which ratios changed from one report to another by more than noise.

    Exit status: 0; 2 for bad input; 3 for a fault of ours.
    """
    with bad_input(PROGRAM):
        before, after = comparing.load(old), comparing.load(new)
    found = list(comparing.changes(before, after))
    table = Table("", "old", "new", "new / old", box=box.SIMPLE_HEAD, pad_edge=False)
    beyond = sorted((change for change in found if change.beyond_noise), key=lambda change: change.factor)
    for change in beyond:
        colour = "green" if change.factor > 1 else "red"
        name = escape(f"{change.contender}, {change.cell} {change.measure}, {change.workload}")
        table.add_row(name, tables.ratio(change.old), tables.ratio(change.new), f"[{colour}]{change.factor:.2f}[/]")
    with printing(PROGRAM) as console:
        for what, was, is_now in comparing.circumstances(before, after):
            console.print(f"{what}: {was} → {is_now}", highlight=False, markup=False)
        if beyond:
            console.print(table)
        console.print(f"{len(beyond)} of {len(found)} ratios changed beyond noise.", highlight=False)


if __name__ == "__main__":
    terminal.main(app)
