"""The commands of `rnn-parity` that train: `train`, `resume`, `predict`, `lockstep`, `gradients`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rnn_common import twins
from rnn_common.cells import CELLS
from rnn_common.checks import one_of, whole
from rnn_common.cli import terminal
from rnn_common.cli.terminal import bad_input, deliver, printing, progress_bar, progress_console, stoppable
from rnn_common.files import check_folder, write_json, write_text
from rnn_common.machine import check_memory
from rnn_common.packages import MissingPackage, optional
from rnn_common.reports import tables
from rnn_common.tasks import problems
from rnn_common.training import checkpoint as checkpoints
from rnn_common.training import experiments
from rnn_common.training.experiments import Outcome
from rnn_common.training.run import Run
from rnn_common.twins import Framework

PROGRAM = "rnn-parity"
Names = list[str] | None
Output = Annotated[Path, typer.Option(parser=terminal.path, help="The folder for JSON and figures.")]
Twins = Annotated[Names, typer.Option(help="torch or tf; may be repeated.", show_default="those installed")]


def _twin(name: str, choice: bool = True) -> Framework:
    """A twin by name.

    Args:
        name: `"torch"` or `"tf"`.
        choice: whether the other would do as well. Default True.

    Raises:
        ValueError: an unknown name.
        MissingPackage: its framework is not installed; says how to install it, or which one is there.
    """
    one_of("framework", name, list(twins.TWINS))
    installed = twins.installed()
    if name not in installed:
        instead = "".join(f", or ask for --framework {other}" for other in installed if choice)
        raise MissingPackage(f"framework {name} is not installed: pip install '.[{name}]'{instead}")
    return twins.get(name)


def _twins(names: Names) -> list[Framework]:
    found = [_twin(name) for name in dict.fromkeys(names or twins.installed())]
    if not found:
        raise MissingPackage(
            "framework should be installed, got neither torch nor tensorflow with keras: pip install '.[torch]' or '.[tf]'"
        )
    return found


def said(run: Run) -> str:
    """Loss, metric and gradient norm of a run, as they stand."""
    text = f"loss {run.losses[-1]:.3f}, ‖gradient‖ {run.norms[-1]:.2f}" if run.losses else ""
    if run.epochs:
        data = "training" if run.validation is run.train else "validation"
        metric = "error" if run.model.head == "forecast" else "accuracy"
        text += f", {data} loss {run.epochs[-1]['loss']:.3f}, {metric} {run.epochs[-1]['metric']:.3f}"
    return text


def train(
    task: Annotated[str, typer.Argument(help="speech, text, names, translation, series, adding or copying.")],
    cell: Annotated[
        Names, typer.Option(help="SimpleRNN, LSTM or GRU; may be repeated.", show_default="all three")
    ] = None,
    framework: Twins = None,
    setting: Annotated[str, typer.Option(help="quick, full (more time, or a GPU) or tiny.")] = "quick",
    seeds: Annotated[int | None, typer.Option(help="Trainings of each network.", show_default="the task's")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64.", show_default="the task's")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the checkpoints in the output folder.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(parser=terminal.path, help="The folder for all files.", show_default="training-results/TASK"),
    ] = None,
) -> None:
    """Train a task's networks in both frameworks, and score them beside the baseline.

    Exit status: 0; 1 if a training failed; 2 for bad input or what cannot be written; 3 for a fault of ours; 130 after Ctrl-C.
    """
    with bad_input(PROGRAM):
        cells = [one_of("cell", name, list(CELLS)) for name in dict.fromkeys(cell or CELLS)]
        if dtype is not None:
            one_of("dtype", dtype, ["float32", "float64"])
        if seeds is not None:
            whole("seeds", seeds, 1)
            check_memory("seeds", seeds, seeds * len(cells) * JOB_BYTES)
        folder = output or Path("training-results") / task
        check_folder(folder, *FILES)
        _figures()
        optional("safetensors", "checkpoints need")
        if not resume:
            experiments.check_no_checkpoints(folder, "go on with them by --resume, or name another folder")
        twins = {twin.name: twin for twin in _twins(framework)}
        ready = problems(task, setting)  # type: ignore[arg-type]
        jobs = experiments.jobs(ready, list(twins), cells, seeds, folder if resume else None)
        twins |= {name: _twin(name) for _, name, _, _ in jobs if name not in twins}
        for twin in twins.values():
            one_of("device", device, twin.devices())
        places = [experiments.run_folder(folder, *job) for job in jobs]
        for place in places:
            check_folder(place)

    def prepare(index: int, watch: experiments.Watch | None = None) -> Run:
        problem, name, kind, seed = jobs[index]
        return experiments.make_run(
            problem,
            kind,
            seed,
            task=task,
            setting=setting,  # type: ignore[arg-type]
            dtype=dtype,
            folder=places[index],
            resume=experiments.begun(places[index], name) if resume else None,
            watch=watch,
        )

    def advice() -> str:
        if any(folder.glob("*/checkpoint-*.json")):
            return f"--resume goes on from the checkpoints in {folder}"
        return "no checkpoint was written yet, so the same command begins again"

    found: dict[str, list[Outcome]] = {problem.name: [] for problem in ready}
    with stoppable(PROGRAM, advice), progress_bar(progress_console()) as progress:
        with bad_input(PROGRAM):  # every checkpoint, so that a bad one is not found after other networks' training
            for index in range(len(jobs)) if resume else ():
                prepare(index)
        progress("baselines", 0)  # first, so that a missing package is not found after the work
        baselines = {problem.name: problem.baselines() for problem in ready}
        for index, (problem, name, kind, seed) in enumerate(jobs):
            what = f"{problem.name}: rnn_{name} {kind}, seed {seed}"

            def watch(run: Run, index: int = index, what: str = what) -> None:
                progress(f"{what}: {said(run)}", (index + run.position.update / run.total) / len(jobs))

            found[problem.name].append(experiments.train(twins[name], problem, prepare(index, watch), device=device))
    report = tables.report(
        task,
        setting,  # type: ignore[arg-type]
        list(twins.values()),
        [(problem, baselines[problem.name], found[problem.name]) for problem in ready],
    )
    deliver(PROGRAM, lambda: write(report, folder), lambda console: show(report, console))
    raise typer.Exit(1 if tables.failures(report) else 0)


FILES = ("results.json", "results.md", "curves.svg", "curves.png")
JOB_BYTES = 10_000  # that what comes of a training takes at the least: its curves alone are hundreds of numbers


def _figures() -> Any:
    """The room that draws; asked for before the work, so that a missing package is not found after it."""
    optional("matplotlib", "the figures need")
    return importlib.import_module("rnn_common.reports.figures")


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write a report of `train` as JSON and Markdown, and its curves."""
    figures = _figures()
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_json(report, folder / "results.json"),
        write_text(tables.markdown(report), folder / "results.md"),
        *figures.save(figures.training_curves(report), "curves", folder),
    ]


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report of `train`."""
    console.print(tables.conditions(report), highlight=False)
    for problem in report["problems"]:
        table = Table(title=problem["name"], box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=0)
        for index, name in enumerate(tables.columns(problem)):
            table.add_column(name, justify="right" if index else "left", overflow="fold")
        for row in tables.rows(problem):
            table.add_row(*map(escape, row))
        console.print(table)
    for line in tables.failures(report):
        console.print(f"[red]Failed:[/] {escape(line)}", highlight=False)


def resume(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's JSON file, or its folder.")],
    framework: Annotated[
        str | None, typer.Option(help="torch or tf.", show_default="the one that wrote the checkpoint")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    output: Annotated[
        Path | None,
        typer.Option(parser=terminal.path, help="The folder for further checkpoints.", show_default="the checkpoint's"),
    ] = None,
) -> None:
    """Go on with a run that was stopped, in the same framework or in the other.

    Exit status: 0; 1 if the training failed; 2 for bad input or what cannot be written; 3 for a fault of ours; 130 after Ctrl-C.
    """
    with bad_input(PROGRAM):
        optional("safetensors", "checkpoints need")
        problem, found = experiments.resume(checkpoint)
        twin = _twin(found.framework if framework is None else framework)
        one_of("device", device, twin.devices())
        own = checkpoint if checkpoint.is_dir() else checkpoint.parent
        folder = output or own
        check_folder(folder)
        elsewhere = folder.resolve() != own.resolve()
        if elsewhere:
            experiments.check_no_checkpoints(folder, "name another folder")
        about, begun = found.about, found.position.update
        run = experiments.make_run(
            problem,
            about["cell"],
            about["seed"],
            task=about["task"],
            setting=about["setting"],
            dtype=found.recipe.dtype,
            folder=folder,
            resume=found,
            watch=lambda run: progress(said(run), run.position.update / run.total),
        )

    def advice() -> str:
        if elsewhere and not any(folder.glob("checkpoint-*.json")):
            return f"no checkpoint was written yet, so rnn-parity resume {checkpoint} begins again"
        return f"rnn-parity resume {folder} goes on"

    with stoppable(PROGRAM, advice), progress_bar(progress_console()) as progress:
        outcome = experiments.train(twin, problem, run, device=device)
    with printing(PROGRAM) as console:
        console.print(
            f"{problem.name}, {about['cell']}: {begun:,} updates in rnn_{found.framework}, "
            f"{outcome.updates - begun:,} more in rnn_{twin.name}",
            highlight=False,
        )
        for name, score in outcome.scores.items():
            console.print(f"{name}: {tables.number(score)}", highlight=False)
        if outcome.failed:
            console.print(f"[red]Failed:[/] {escape(outcome.failed)}", highlight=False)
    raise typer.Exit(1 if outcome.failed else 0)


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's JSON file, or its folder.")],
    words: Annotated[list[str], typer.Argument(help="Words to pronounce, surnames, or a text to go on with.")],
    framework: Annotated[
        str | None, typer.Option(help="torch or tf.", show_default="the one that wrote the checkpoint")
    ] = None,
    length: Annotated[int, typer.Option(help="Characters to write (text).")] = 300,
    temperature: Annotated[
        float, typer.Option(help="Below 1 the likely becomes likelier; 0 takes the likeliest (text).")
    ] = 0.7,
    seed: Annotated[int, typer.Option(help="Of what is written (text).")] = 0,
) -> None:
    """Use a trained network: name these surnames' languages, pronounce these words, go on with this text.

    Exit status: 0; 2 for bad input; 3 for a fault of ours.
    """
    from rnn_common.tasks import prediction

    with bad_input(PROGRAM):
        optional("safetensors", "checkpoints need")
        options = prediction.Options(length, temperature, seed)
        found = checkpoints.load(checkpoint)
        prediction.check(found, words)
        twin = _twin(found.framework if framework is None else framework)
    lines = prediction.answer(twin, found, words, options)
    with printing(PROGRAM) as console:
        for line in lines:
            console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)


def lockstep(
    updates: Annotated[int, typer.Option(help="Of each run.")] = 1000,
    output: Output = Path("lockstep-results"),
) -> None:
    """Train the same networks in both frameworks from the same weights, and measure how far their losses drift apart.

    Exit status: 0 if the bounds hold in float64 (1e-9 over the first 200 updates, 1e-6 over 1,000), 1 if not, 2 for bad input or
    what cannot be written, 3 for a fault of ours.
    """
    from rnn_common.parity import lockstep as drift

    with bad_input(PROGRAM):
        whole("updates", updates, 1)
        check_memory("updates", updates, updates * drift.UPDATE_BYTES)
        check_folder(output, "lockstep.json", "lockstep.svg", "lockstep.png")
        figures = _figures()
        drift.recordings()  # so that a missing package is found before the work
        both = [_twin(name, choice=False) for name in twins.TWINS]
    with progress_bar(progress_console()) as progress:
        report = drift.measure(both, updates=updates, progress=progress)

    def write() -> list[Path]:
        output.mkdir(parents=True, exist_ok=True)
        return [
            write_json(report, output / "lockstep.json"),
            *figures.save(figures.drift(report), "lockstep", output),
        ]

    deliver(PROGRAM, write, lambda console: _show_drift(report, console))
    raise typer.Exit(1 if any(drift.holds(row) is False for row in report["rows"]) else 0)


def _show_drift(report: dict[str, Any], console: Console) -> None:
    from rnn_common.parity import lockstep as drift

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


def gradients(framework: Twins = None, output: Output = Path("gradient-results")) -> None:
    """Measure how a loss's gradient travels back through time in each cell, and how clipping changes training.

    Exit status: 0 if the oracle and the frameworks agree, 1 if they do not, 2 for bad input or what cannot be written, 3 for a
    fault of ours.
    """
    from rnn_common.parity import flow as measured

    with bad_input(PROGRAM):
        check_folder(output, "gradients.json", "gradients.svg", "gradients.png")
        figures = _figures()
        twins = _twins(framework)
    with progress_bar(progress_console()) as progress:
        report = measured.measure(twins, progress=progress)
    worst = max(report["rows"], key=lambda row: row["agreement"] / row["bound"])

    def write() -> list[Path]:
        output.mkdir(parents=True, exist_ok=True)
        return [
            write_json(report, output / "gradients.json"),
            *figures.save(figures.gradient_flow(report), "gradients", output),
        ]

    def show(console: Console) -> None:
        console.print(tables.conditions(report), highlight=False)
        _show_flows(report["rows"], console)
        for run in report["clipping"]:
            console.print(f"SimpleRNN, SGD, {run['said']}", highlight=False)
        found = f"{worst['agreement']:.1e} (bound {worst['bound']:.1e})"
        console.print(f"Oracle and frameworks differ by at most {found}", highlight=False)

    deliver(PROGRAM, write, show)
    raise typer.Exit(0 if worst["agreement"] <= worst["bound"] else 1)


def _show_flows(rows: Sequence[dict[str, Any]], console: Console) -> None:
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
    console.print(table)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (train, resume, predict, lockstep, gradients):
        app.command()(terminal.command(PROGRAM)(command))
