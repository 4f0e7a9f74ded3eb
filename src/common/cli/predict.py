"""The command `rnn-parity predict`."""

from __future__ import annotations

from typing import Annotated

import typer

from rnn_common.cli import needs, terminal
from rnn_common.cli.options import Checkpoint, EitherFramework
from rnn_common.cli.terminal import bad_input, printing, progress_bar, progress_console
from rnn_common.tasks import prediction
from rnn_common.training import checkpoint as checkpoints
from rnn_common.twins import get_each


@terminal.command
def predict(
    checkpoint: Checkpoint,
    words: Annotated[list[str], typer.Argument(help="Words to pronounce, surnames, or a text to go on with.")],
    framework: EitherFramework = None,
    length: Annotated[int, typer.Option(help="Characters to write (text).")] = 300,
    temperature: Annotated[
        float, typer.Option(help="Below 1 the likely becomes likelier; 0 takes the likeliest (text).")
    ] = 0.7,
    seed: Annotated[int, typer.Option(help="Of what is written (text).")] = 0,
) -> None:
    """Use a trained network: name these surnames' languages, pronounce these words, go on with this text.

    Exit status: 0; 2 for bad input; 3 for a fault of ours.
    """
    with bad_input():
        needs.checkpoint(checkpoint)
        options = prediction.Options(length, temperature, seed)
        trained = checkpoints.load(checkpoint)
        prediction.check(trained, words)
        name = needs.framework(trained.framework if framework is None else framework)
    with progress_bar(progress_console()) as progress:
        twin = get_each([name], progress)[name]
    lines = prediction.answer(twin, trained, words, options)
    with printing() as console:
        for line in lines:
            console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)
