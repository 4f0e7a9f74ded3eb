"""The command `rnn-parity bench`, and `list` and `compare` below it.

What it runs is `rnn_benchmarks`, which needs more packages than the other commands do; it is imported when it is asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rnn_benchmarks.contenders import CONTENDERS
from rnn_benchmarks.workloads import DEFAULT, SWEEPS, WORKLOADS
from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.cli import terminal
from rnn_common.cli.options import ANY_CELL, Device, Names, named
from rnn_common.cli.terminal import bad_input, deliver, printing, progress_bar, progress_console
from rnn_common.files import check_folder, write_json, write_text
from rnn_common.packages import optional

if TYPE_CHECKING:
    from rnn_benchmarks.comparing import Change
    from rnn_benchmarks.runs import Report, Settings

FIGURES = [f"{name}.{form}" for name in ("ratios", "limit", "growth") for form in ("svg", "png")]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MEASURES = sorted({measure for contender in CONTENDERS for measure in contender.measures})
app = typer.Typer(pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
@terminal.command
def bench(
    context: typer.Context,
    workload: Annotated[
        Names, named(WORKLOADS, help="May be repeated; `list` names them.", show_default="a set")
    ] = None,
    cell: Annotated[Names, named(CELLS, help=ANY_CELL, show_default=", ".join(IN_BOTH))] = None,
    measure: Annotated[
        Names, named(MEASURES, help="inference or training; may be repeated.", show_default="both")
    ] = None,
    contender: Annotated[
        Names,
        named([each.name for each in CONTENDERS], help="May be repeated; `list` names them.", show_default="most"),
    ] = None,
    sweep: Annotated[
        Names,
        named([*SWEEPS, "none"], help="time, width, batch or none; may be repeated.", show_default="all"),
    ] = None,
    dtype: Annotated[str, named(("float32", "float64", "bfloat16"), help="float32, float64 or bfloat16.")] = "float32",
    device: Device = "cpu",
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
    _packages()
    from rnn_benchmarks import runs, tables

    names = {"workloads": workload, "cells": cell, "measures": measure, "contenders": contender, "sweeps": sweep}
    with bad_input():
        settings = _settings(names, dtype=dtype, device=device, threads=threads, seconds=seconds, seed=seed)
        check_folder(output, "benchmarks.json", "benchmarks.md", *FIGURES)
    with progress_bar(progress_console()) as progress:
        with bad_input():
            prepared = runs.prepare(settings, progress)
        report = runs.run(settings, progress, prepared)
    deliver(lambda: write(report, output), lambda console: tables.show(report, console))
    raise typer.Exit(0 if report.passed else 1)


@app.command(name="list")
@terminal.command
def list_command() -> None:
    """Name the workloads and the contenders."""
    workloads = Table("workload", "sizes", "source", box=box.SIMPLE_HEAD, pad_edge=False)
    for each in WORKLOADS.values():
        workloads.add_row(f"{each.name}{' *' if each.name in DEFAULT else ''}", each.sizes, each.source)
    contenders = Table("contender", "cells", "measures", box=box.SIMPLE_HEAD, pad_edge=False)
    for who in CONTENDERS:
        cells = "any" if who.any_cell else ", ".join(who.cells)
        contenders.add_row(f"{who.name}{' *' if who.by_default else ''}", cells, ", ".join(who.measures))
    with printing() as console:
        console.print(workloads, contenders, "* by default", highlight=False)


@app.command()
@terminal.command
def compare(old: Path, new: Path) -> None:
    """Show which ratios changed from one report to another by more than noise.

    Exit status: 0; 2 for bad input; 3 for a fault of ours.
    """
    _packages()
    from rnn_benchmarks import comparing

    with bad_input():
        before, after = comparing.load(old), comparing.load(new)
    changes = list(comparing.changes(before, after))
    with printing() as console:
        for what, was, is_now in comparing.circumstances(before, after):
            console.print(f"{what}: {was} → {is_now}", highlight=False, markup=False)
        _show_changes(changes, console)


def _packages() -> None:
    """Ask for the packages that the benchmarks need, before they are imported.

    Raises:
        MissingPackage: one is not installed.
    """
    for package in ("matplotlib", "scipy"):
        optional(package, "the benchmarks need", extra="bench")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _settings(names: dict[str, Names], **others: Any) -> Settings:
    """Each name once; what is not asked for is as `Settings` has it.

    Raises:
        ValueError: see `Settings`.
    """
    from rnn_benchmarks.runs import Settings

    chosen: dict[str, Any] = {what: tuple(dict.fromkeys(values)) for what, values in names.items() if values}
    chosen.setdefault("measures", tuple(MEASURES))
    chosen["measures"] = tuple(sorted(chosen["measures"]))
    if chosen.get("sweeps") == ("none",):
        chosen["sweeps"] = ()
    return Settings(**chosen, **others)


def write(report: Report, folder: Path) -> list[Path]:
    """Write a report as JSON and Markdown, and its figures."""
    from rnn_benchmarks import comparing, plots, tables

    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_json({"format": comparing.FORMAT, **report.as_dict()}, folder / "benchmarks.json"),
        write_text(tables.markdown(report), folder / "benchmarks.md"),
        *plots.draw(report, folder),
    ]


def _show_changes(changes: list[Change], console: Console) -> None:
    """A table of those beyond noise, the slower first, and how many they are."""
    from rnn_benchmarks import tables

    table = Table("", "old", "new", "new / old", box=box.SIMPLE_HEAD, pad_edge=False)
    beyond = sorted((change for change in changes if change.beyond_noise), key=lambda change: change.factor)
    for change in beyond:
        colour = "green" if change.factor > 1 else "red"
        name = escape(f"{change.contender}, {change.cell} {change.measure}, {change.workload}")
        table.add_row(name, tables.ratio(change.old), tables.ratio(change.new), f"[{colour}]{change.factor:.2f}[/]")
    if beyond:
        console.print(table)
    console.print(f"{len(beyond)} of {len(changes)} ratios changed beyond noise.", highlight=False)
