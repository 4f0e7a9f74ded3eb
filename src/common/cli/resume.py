"""The command `rnn-parity resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from rnn_common.cli import needs, terminal
from rnn_common.cli.options import Checkpoint, Device, EitherFramework
from rnn_common.cli.terminal import PROGRAM, bad_input, printing, progress_bar, progress_console, stoppable
from rnn_common.cli.train import state
from rnn_common.files import check_folder
from rnn_common.reports import tables
from rnn_common.tasks import Problem
from rnn_common.training import checkpoint as checkpoints
from rnn_common.training import experiments
from rnn_common.training.experiments import Outcome, Watch
from rnn_common.training.run import Run


@terminal.command
def resume(
    checkpoint: Checkpoint,
    framework: EitherFramework = None,
    device: Device = "cpu",
    output: Annotated[
        Path | None,
        typer.Option(parser=terminal.path, help="The folder for further checkpoints.", show_default="the checkpoint's"),
    ] = None,
) -> None:
    """Go on with a run that was stopped, in the same framework or in the other.

    Exit status: 0; 1 if the training failed; 2 for bad input or what cannot be written; 3 for a fault of ours; 130 after Ctrl-C.
    """
    with bad_input():
        needs.checkpoint(checkpoint)
        problem, begun = experiments.resume(checkpoint)
        name = needs.framework(begun.framework if framework is None else framework)
        folder = _folder(checkpoint, output)

    def advice() -> str:
        if folder == output and not any(folder.glob("checkpoint-*.json")):
            return f"no checkpoint was written yet, so {PROGRAM} resume {checkpoint} begins again"
        return f"{PROGRAM} resume {folder} goes on"

    with stoppable(advice), progress_bar(progress_console()) as progress:
        with bad_input():
            twin = needs.twins_on(device, [name], progress)[name]
            run = _run(problem, begun, folder, lambda run: progress(state(run), run.position.update / run.total))
        outcome = experiments.train(twin, problem, run, device=device)
    with printing() as console:
        _show(begun, outcome, console)
    raise typer.Exit(1 if outcome.failed else 0)


def _folder(checkpoint: Path, output: Path | None) -> Path:
    """Where further checkpoints go: beside the one that is gone on with, or to a folder that has none.

    Raises:
        OSError: it cannot be written, or has some.
    """
    place = checkpoint if checkpoint.is_dir() else checkpoint.parent
    folder = output or place
    check_folder(folder)
    if folder.resolve() != place.resolve():
        experiments.check_no_checkpoints(folder, "name another folder")
    return folder


def _run(problem: Problem, begun: checkpoints.Checkpoint, folder: Path, watch: Watch) -> Run:
    about = begun.about
    return experiments.make_run(
        problem,
        about["cell"],
        about["seed"],
        task=about["task"],
        setting=about["setting"],
        dtype=begun.recipe.dtype,
        folder=folder,
        resume=begun,
        watch=watch,
    )


def _show(begun: checkpoints.Checkpoint, outcome: Outcome, console: Console) -> None:
    before = begun.position.update
    console.print(
        f"{outcome.problem}, {outcome.cell}: {before:,} updates in rnn_{begun.framework}, "
        f"{outcome.updates - before:,} more in rnn_{outcome.framework}",
        highlight=False,
    )
    for name, score in outcome.scores.items():
        console.print(f"{name}: {tables.number(score)}", highlight=False)
    if outcome.failed:
        console.print(f"[red]Failed:[/] {escape(outcome.failed)}", highlight=False)
