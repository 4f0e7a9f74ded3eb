"""The command `rnn-parity engines`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer
from rich import box
from rich.table import Table

from rnn_common import twins
from rnn_common.cells import IN_BOTH
from rnn_common.cli import needs, terminal
from rnn_common.cli.terminal import bad_input, printing, progress_bar, progress_console
from rnn_common.parity.case import make_case
from rnn_common.twins import Framework
from rnn_common.weights import initialise


@terminal.command
def engines(
    framework: Annotated[list[str] | None, typer.Option(help="torch or tf; may be given twice. Default: both.")] = None,
) -> None:
    """Which engine runs a plain layer of each cell on this machine's CPU, and why not the others.

    What has to be compiled for that is compiled now, once.

    Exit status: 0; 2 for bad input.
    """
    with bad_input():
        names = needs.frameworks(framework)
    with progress_bar(progress_console()) as progress:
        chosen = twins.get_each(names, progress)
        rows = []
        for twin in chosen.values():
            progress("compiling what is missing", 0.5)
            rows += [row for cell in IN_BOTH for row in choices(twin, cell)]
    table = Table("layer", "engine", "", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    with printing() as console:
        console.print(table)


def choices(twin: Framework, cell: str) -> list[tuple[str, str, str]]:
    """Of each engine of a twin: the layer, the engine's name, and whether it is the default, can be asked for, or why not."""
    case = make_case(initialise(cell, 4, 8, dtype=np.float32), np.zeros((2, 3, 4), np.float32))
    default, _ = twin.explain(twin.make(case.parameters), case)
    rows = []
    for name in twin.engines():
        _, refused = twin.explain(twin.make(case.parameters, engine=name), case)
        said = "the default" if name == default else refused.get(name, "can be asked for")
        rows.append((f"{twin.package}.{cell}", name, said))
    return rows
