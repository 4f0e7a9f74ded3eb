"""The command `rnn-parity inspect`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rnn_common import exchange
from rnn_common.cli import options, terminal
from rnn_common.cli.terminal import bad_input, deliver, fail
from rnn_common.exchange import (
    Activation,
    Dense,
    Embedding,
    Found,
    Layer,
    NotUnderstood,
    Optimiser,
    Recurrent,
    own_cells,
)
from rnn_common.files import check_writable, write_json


@terminal.command
def inspect(
    file: options.Source,
    json: Annotated[Path | None, typer.Option(parser=terminal.path, help="Write what is found there, too.")] = None,
    cell: options.OwnCells = None,
) -> None:
    """Say which recurrent layers are in a file: cell, sizes, directions, activations, packing, and what was assumed.

    The file is neither unpickled nor executed, and no framework is imported.

    Exit status: 0; 2 for a file that cannot be read or is not understood.
    """
    if json is not None:
        check_writable(json)
    with bad_input():
        cells = own_cells.own(cell or ())
    try:
        found = exchange.read(file, cells)
    except NotUnderstood as error:
        fail(error)
    deliver(lambda: [] if json is None else [write_json(as_data(found), json)], lambda console: show(found, console))


def show(found: Found, console: Console) -> None:
    """Print what was found."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for layer in found.layers:
        table.add_row(*map(escape, described(layer)))
    console.print(f"[bold]{escape(found.path.name)}[/]   {escape(found.format)}", highlight=False)
    console.print(table)
    if found.optimiser is not None:
        console.print(f"Trained with {escape(str(found.optimiser))}", highlight=False)
    for note in (*found.notes, *notes(found), *(found.optimiser.notes if found.optimiser else ())):
        console.print(escape(note), highlight=False)


def notes(found: Found) -> list[str]:
    """What was assumed of recurrent layers, each sentence once, behind the names of those that it is of."""
    names: dict[str, list[str]] = {}
    for layer in found.recurrent:
        for note in layer.notes:
            names.setdefault(note, []).append(layer.name)
    return [f"{', '.join(each)}: {note}" for note, each in names.items()]


def described(layer: Layer) -> tuple[str, str, str]:
    """A layer in a line: its name, what it is, and how the file has it."""
    if isinstance(layer, Recurrent):
        return (
            layer.name,
            f"{layer.cell.name} {layer.input_size} → {layer.hidden_size}{_directions(layer)}",
            _packing(layer),
        )
    if isinstance(layer, Embedding):
        symbols, width = layer.E.shape
        return layer.name, f"embedding {symbols} × {width}", "symbol 0 is padding" if layer.masks else ""
    if isinstance(layer, Dense):
        outputs, inputs = layer.W.shape
        words = [str(layer.activation)] * (layer.activation.name != "linear") + ["no bias"] * (layer.b is None)
        return layer.name, f"dense {inputs} → {outputs}", ", ".join(words)
    return layer.name, layer.kind, "left out" if layer.changes else ""


def _directions(layer: Recurrent) -> str:
    if len(layer.directions) == 2:
        return " both ways" + (f", {layer.merge}" if layer.merge != "concat" else "")
    return " backwards" if layer.backwards else ""


def _packing(layer: Recurrent) -> str:
    activations = dict.fromkeys(_activations(direction.activations) for direction in layer.directions)
    words = (
        [f"packed {layer.packing}" if layer.packing == own_cells.BY_NAME else f"packed as {layer.packing}"]
        + list(filter(None, [" | ".join(activations)]))
        + ["no bias"] * (not layer.bias)
        + ["masked"] * bool(layer.masks)
    )
    return ", ".join(words)


def _activations(activations: tuple[Activation, ...]) -> str:
    return " ".join(map(str, activations))


def as_data(found: Found) -> dict[str, Any]:
    """What was found, without the numbers, as plain data for JSON."""
    return {
        "file": str(found.path),
        "format": found.format,
        "chain": found.chain,
        "layers": [_data(layer) for layer in found.layers],
        "optimiser": None if found.optimiser is None else _optimiser(found.optimiser),
        "notes": list(found.notes),
    }


def _optimiser(optimiser: Optimiser) -> dict[str, Any]:
    return {
        **{name: getattr(optimiser, name) for name in ("name", "settings", "updates")},
        "moments": list(optimiser.moments),
        "notes": list(optimiser.notes),
    }


def _data(layer: Layer) -> dict[str, Any]:
    data: dict[str, Any] = {"name": layer.name, "kind": type(layer).__name__, "arrays": list(layer.arrays)}
    if isinstance(layer, Recurrent):
        return data | {
            "cell": layer.cell.name,
            "input": layer.input_size,
            "hidden": layer.hidden_size,
            "directions": len(layer.directions),
            "activations": [list(map(asdict, each.activations)) for each in layer.directions],
            "bias": layer.bias,
            **{
                name: getattr(layer, name)
                for name in ("packing", "backwards", "flipped", "merge", "returns_sequences", "masks")
            },
            "notes": list(layer.notes),
        }
    if isinstance(layer, Embedding):
        return data | {"symbols": layer.E.shape[0], "width": layer.E.shape[1], "masks": layer.masks}
    if isinstance(layer, Dense):
        outputs, inputs = layer.W.shape
        return data | {
            "inputs": inputs,
            "outputs": outputs,
            "bias": layer.b is not None,
            "activation": asdict(layer.activation),
        }
    return data | {"is": layer.kind, "changes": layer.changes}
