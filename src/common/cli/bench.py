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

from rnn_benchmarks.contenders import CONTENDERS, everybody
from rnn_benchmarks.workloads import DEFAULT, SWEEPS, WORKLOADS
from rnn_common import twins
from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.cli import terminal
from rnn_common.cli.options import ANY_CELL, Device, Names, named
from rnn_common.cli.terminal import STOPPED, bad_input, deliver, printing, progress_bar, progress_console
from rnn_common.files import check_folder, write_json, write_text
from rnn_common.packages import optional

if TYPE_CHECKING:
    from rnn_benchmarks.comparing import Change
    from rnn_benchmarks.report import Report
    from rnn_benchmarks.settings import Settings

FIGURES = [f"{name}.{form}" for name in ("frameworks", "ratios", "limit", "growth") for form in ("svg", "png")]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MEASURES = sorted({measure for contender in CONTENDERS for measure in contender.measures})
THREADS = ",".join(map(str, sorted({1, min(2, CORES)})))
OWN = "Or a file of your own, FILE.py or FILE.py:FUNCTION, which is run because you name it; see docs/benchmarks.md."
app = typer.Typer(pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
@terminal.command
def bench(
    context: typer.Context,
    workload: Annotated[
        Names, named(WORKLOADS, help="May be repeated; `list` names them.", show_default="a set, or none with --size")
    ] = None,
    size: Annotated[
        Names,
        typer.Option(
            metavar="BATCHxTIMExINPUTxHIDDEN",
            help="A workload of your own, through which the sweeps pass, as 64x100x123x320; may be repeated.",
        ),
    ] = None,
    cell: Annotated[Names, named(CELLS, help=ANY_CELL, show_default=", ".join(IN_BOTH))] = None,
    measure: Annotated[
        Names, named(MEASURES, help="inference or training; may be repeated.", show_default="both")
    ] = None,
    contender: Annotated[
        Names,
        named(
            [each.name for each in CONTENDERS], help=f"May be repeated; `list` names them. {OWN}", show_default="most"
        ),
    ] = None,
    sweep: Annotated[
        Names,
        named([*SWEEPS, "none"], help="time, width, batch or none; may be repeated.", show_default="all"),
    ] = None,
    dtype: Annotated[str, named(("float32", "float64", "bfloat16"), help="float32, float64 or bfloat16.")] = "float32",
    device: Device = "cpu",
    threads: Annotated[
        str, typer.Option(help="That an operation may use, in every framework; with each of several all is run.")
    ] = THREADS,
    seconds: Annotated[float, typer.Option(help="How long a comparison goes on.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of weights, inputs and intervals.")] = 0,
    output: Annotated[Path, typer.Option(parser=terminal.path, help="The folder for JSON, Markdown and plots.")] = Path(
        "benchmark-results"
    ),
) -> None:
    """Time every contender on every workload and cell, in turn, PyTorch beside Keras, and how cost grows.

    Ctrl-C ends it with what was measured until then.

    Exit status: 0; 1 if the self-test does not pass or a contender fails; 2 for bad input or what cannot be written; 3 for a
    fault of ours; 130 if it is stopped.
    """
    if context.invoked_subcommand:
        return
    _packages()
    from rnn_benchmarks import runs, screen
    from rnn_benchmarks.settings import threads_of

    names = {"workloads": workload, "cells": cell, "measures": measure, "contenders": contender, "sweeps": sweep}
    with bad_input():
        others: dict[str, Any] = {"dtype": dtype, "device": device, "seconds": seconds, "seed": seed}
        settings = _settings(names | {"sizes": size}, threads=threads_of(threads), **others)
        check_folder(output, "benchmarks.json", "benchmarks.md", *FIGURES)
    with progress_bar(progress_console()) as progress:
        with bad_input():
            prepared = runs.prepare(settings, progress)
        report = runs.run(settings, progress, prepared)
    deliver(lambda: write(report, output), lambda console: screen.show(report, console))
    if report.interrupted:
        raise typer.Exit(STOPPED)
    raise typer.Exit(0 if report.passed and report.stopped is None and not report.failures else 1)


@app.command(name="list")
@terminal.command
def list_command() -> None:
    """Name the workloads and the contenders. Both frameworks are imported, which know their engines."""
    with progress_bar(progress_console()) as progress:
        known = everybody(twins.get_each(twins.installed(), progress).values())
    workloads = Table("workload", "sizes", "source", box=box.SIMPLE_HEAD, pad_edge=False)
    for each in WORKLOADS.values():
        workloads.add_row(f"{each.name}{' *' if each.name in DEFAULT else ''}", each.sizes, each.source)
    contenders = Table("contender", "cells", "measures", box=box.SIMPLE_HEAD, pad_edge=False)
    for who in known:
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
    from rnn_benchmarks.settings import Settings

    chosen: dict[str, Any] = {what: tuple(dict.fromkeys(values)) for what, values in names.items() if values}
    if "sizes" in chosen:
        chosen.setdefault("workloads", ())
    chosen.setdefault("measures", tuple(MEASURES))
    chosen["measures"] = tuple(sorted(chosen["measures"]))
    if chosen.get("sweeps") == ("none",):
        chosen["sweeps"] = ()
    return Settings(**chosen, **others)


def write(report: Report, folder: Path) -> list[Path]:
    """Write a report as JSON and Markdown, and its figures."""
    from rnn_benchmarks import plots, tables

    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_json(report.as_dict(), folder / "benchmarks.json"),
        write_text(tables.markdown(report), folder / "benchmarks.md"),
        *plots.draw(report, folder),
    ]


def _show_changes(changes: list[Change], console: Console) -> None:
    """A table of those beyond noise, the slower first, and how many they are."""
    from rnn_benchmarks.words import ratio, threads

    table = Table("", "old", "new", "new / old", box=box.SIMPLE_HEAD, pad_edge=False)
    beyond = sorted((change for change in changes if change.beyond_noise), key=lambda change: change.factor)
    for change in beyond:
        colour = "green" if change.factor > 1 else "red"
        name = escape(
            f"{change.contender}, {change.cell} {change.measure}, {change.workload}, {threads([change.threads])}"
        )
        table.add_row(name, ratio(change.old), ratio(change.new), f"[{colour}]{change.factor:.2f}[/]")
    if beyond:
        console.print(table)
    console.print(f"{len(beyond)} of {len(changes)} ratios changed beyond noise.", highlight=False)
