"""The command `rnn-parity convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from rnn_common.cli import needs, options, terminal
from rnn_common.cli.terminal import bad_input, fail, printing
from rnn_common.exchange import convert as conversion
from rnn_common.exchange.proof import Proof, ProofFailed


@terminal.command
def convert(
    source: options.Source,
    target: Annotated[
        Path, typer.Argument(parser=terminal.path, help=f"It ends with {', '.join(conversion.TARGETS)}.")
    ],
    only: Annotated[
        str, typer.Option(help="What the names of the wanted layers begin with; `inspect` names them.")
    ] = "",
    states: Annotated[
        bool, typer.Option("--states", help="Of .onnx: initial and final states as inputs and outputs, h_0 and h_n.")
    ] = False,
    lengths: Annotated[
        bool, typer.Option("--lengths", help="Of .onnx: how many steps each sequence has as an input, lengths.")
    ] = False,
    cell: options.OwnCells = None,
) -> None:
    """Write what is in one file into another of another kind, and prove that it computes the same.

    What was written is read again and run by whoever it is for, on random numbers up to 3, beside the equations. What Adam or SGD
    remembers goes with it from and to .pt and .keras, and from a checkpoint; whether it does is said.

    Exit status: 0 if it is proven; 1 if it does not compute the same, and then nothing is left; 2 for a file that is not
    understood, or what the target cannot hold.
    """
    with bad_input():
        if name := conversion.FRAMEWORKS.get(conversion.kind_of(target)):
            needs.framework(name, choice=False)
        try:
            proofs, notes = conversion.convert(source, target, only, cell or (), states=states, lengths=lengths)
        except ProofFailed as error:
            fail(error, 1)
    with printing() as console:
        for each in proofs:
            console.print(escape(said(each)), highlight=False)
        for note in notes:
            console.print(escape(note[:1].upper() + note[1:]), highlight=False)
        console.print(f"Written: {escape(str(target))}", highlight=False, soft_wrap=True)


def said(proof: Proof) -> str:
    """A proof that holds, in a line."""
    if not proof.run:
        unsaid = f"; what such a file does not say: {proof.unsaid}" * bool(proof.unsaid)
        return f"{proof.name}: its weights, read again, are bit for bit what was found: holds{unsaid}"
    return (
        f"{proof.name}, run by {proof.by}, is {proof.deviation:.1e} from the equations, bound {proof.bound:.1e}: holds"
    )
