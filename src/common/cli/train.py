"""The command `rnn-parity train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.checks import one_of, whole
from rnn_common.cli import needs, terminal
from rnn_common.cli.options import Cells, Device, Frameworks, Setting, Task, named
from rnn_common.cli.terminal import Progress, bad_input, deliver, progress_bar, progress_console, stoppable
from rnn_common.files import check_folder, write_json, write_text
from rnn_common.machine import check_memory
from rnn_common.packages import optional
from rnn_common.reports import tables
from rnn_common.tasks import Problem, Scores, problems
from rnn_common.training import checkpoint as checkpoints
from rnn_common.training import experiments
from rnn_common.training.experiments import Outcome
from rnn_common.training.run import Run
from rnn_common.twins import Framework

FILES = ("results.json", "results.md", "curves.svg", "curves.png")
JOB_BYTES = 10_000  # that what comes of a training takes at the least: its curves alone are hundreds of numbers
DTYPES = ("float32", "float64")
GO_ON = "go on with them by --resume, start anew by --overwrite, or name another folder"


@terminal.command
def train(
    task: Task,
    cell: Cells = None,
    framework: Frameworks = None,
    setting: Setting = "quick",
    seeds: Annotated[int | None, typer.Option(help="Trainings of each network.", show_default="the task's")] = None,
    dtype: Annotated[str | None, named(DTYPES, help="float32 or float64.", show_default="the task's")] = None,
    device: Device = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the checkpoints in the output folder.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew, and remove these networks' checkpoints first.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(parser=terminal.path, help="The folder for all files.", show_default="training-results/TASK"),
    ] = None,
) -> None:
    """Train a task's networks in both frameworks, and score them beside the baseline.

    Exit status: 0; 1 if a training failed; 2 for bad input or what cannot be written; 3 for a fault of ours; 130 after Ctrl-C.
    """
    asked = Asked(task, setting, dtype, output or Path("training-results") / task, resume, overwrite)
    with bad_input():
        cells = _check(asked, cell, seeds)
        plan = _plan(asked, cells, needs.frameworks(framework), seeds)
    with progress_bar(progress_console()) as progress:
        with stoppable(asked.advice_before):
            with bad_input():
                twins = needs.twins_on(device, plan.frameworks, progress)
                plan.check_checkpoints()
            progress("baselines", 0)  # before the networks, so that a missing package is not found after the work
            baselines = {problem.name: problem.baselines() for problem in plan.problems}
        with stoppable(asked.advice):
            report = _train(plan, twins, baselines, device, progress)
    deliver(lambda: write(report, asked.folder), lambda console: show(report, console))
    raise typer.Exit(1 if tables.failures(report) else 0)


# What is asked for


@dataclass(frozen=True)
class Asked:
    """What every network's training has in common, as it was asked for."""

    task: str
    setting: Any  # of rnn_common.tasks.Setting, when it is checked
    dtype: str | None
    folder: Path
    resume: bool
    overwrite: bool

    def advice_before(self) -> str:
        """How to go on after what comes before the training was stopped: old checkpoints are still there."""
        return "nothing was removed yet, so the same command begins again" if self.overwrite else self.advice()

    def advice(self) -> str:
        """How to go on after the training was stopped."""
        if any(self.folder.glob("*/checkpoint-*.json")):
            return f"--resume goes on from the checkpoints in {self.folder}"
        return "no checkpoint was written yet, so the same command begins again"


@dataclass(frozen=True)
class Plan:
    """The networks that are to be trained, of which problems, by which frameworks; `places` are their folders."""

    asked: Asked
    problems: tuple[Problem, ...]
    jobs: list[experiments.Job]
    frameworks: list[str]

    @property
    def places(self) -> list[Path]:
        return [experiments.run_folder(self.asked.folder, *job) for job in self.jobs]

    def run(self, index: int, watch: experiments.Watch | None = None) -> Run:
        """The training of one of the networks, from where it is."""
        problem, framework, cell, seed = self.jobs[index]
        place = self.places[index]
        return experiments.make_run(
            problem,
            cell,
            seed,
            task=self.asked.task,
            setting=self.asked.setting,
            dtype=self.asked.dtype,
            folder=place,
            resume=experiments.begun(place, framework) if self.asked.resume else None,
            watch=watch,
        )

    def check_checkpoints(self) -> None:
        """Every one that is gone on with, so that a bad one is not found after other networks' training.

        Raises:
            ValueError: one is bad, or of another training.
        """
        for index in range(len(self.jobs)) if self.asked.resume else ():
            self.run(index)


def _check(asked: Asked, cell: list[str] | None, seeds: int | None) -> list[str]:
    """Refuse what cannot be before the data are made, which takes time; the cells that are to be trained."""
    cells = [one_of("cell", name, list(CELLS)) for name in dict.fromkeys(cell or IN_BOTH)]
    if asked.resume and asked.overwrite:
        raise ValueError("resume and overwrite should not both be asked for: the one goes on, the other starts anew")
    if asked.dtype is not None:
        one_of("dtype", asked.dtype, DTYPES)
    if seeds is not None:
        whole("seeds", seeds, 1)
        check_memory("seeds", seeds, seeds * len(cells) * JOB_BYTES)
    check_folder(asked.folder, *FILES)
    needs.figures()
    optional("safetensors", "checkpoints need")
    if not asked.resume and not asked.overwrite:
        experiments.check_no_checkpoints(asked.folder, GO_ON)
    return cells


def _plan(asked: Asked, cells: list[str], frameworks: list[str], seeds: int | None) -> Plan:
    """The networks asked for and, of a training that is gone on with, those that it has besides."""
    ready = problems(asked.task, asked.setting)
    jobs = experiments.jobs(ready, frameworks, cells, seeds, asked.folder if asked.resume else None)
    names = [needs.framework(name) for name in dict.fromkeys([*frameworks, *(name for _, name, _, _ in jobs)])]
    plan = Plan(asked, ready, jobs, names)
    for place in plan.places:
        check_folder(place)
    return plan


# The work


def _train(
    plan: Plan,
    twins: Mapping[str, Framework],
    baselines: Mapping[str, Mapping[str, Scores]],
    device: str,
    progress: Progress,
) -> dict[str, Any]:
    """Train every network, one after another; old checkpoints that are to go have gone before the first."""
    if plan.asked.overwrite:
        for place in plan.places:
            checkpoints.remove(place)
    outcomes: dict[str, list[Outcome]] = {problem.name: [] for problem in plan.problems}
    for index, (problem, name, _, _) in enumerate(plan.jobs):
        run = plan.run(index, _watch(plan, index, progress))
        outcomes[problem.name].append(experiments.train(twins[name], problem, run, device=device))
    return tables.report(
        plan.asked.task,
        plan.asked.setting,
        list(twins.values()),
        [(problem, baselines[problem.name], outcomes[problem.name]) for problem in plan.problems],
    )


def _watch(plan: Plan, index: int, progress: Progress) -> experiments.Watch:
    """Says how one of the networks is doing, and which share of all the work is done."""
    problem, framework, cell, seed = plan.jobs[index]

    def watch(run: Run) -> None:
        share = (index + run.position.update / run.total) / len(plan.jobs)
        progress(f"{problem.name}: rnn_{framework} {cell}, seed {seed}: {state(run)}", share)

    return watch


def state(run: Run) -> str:
    """Loss, metric and gradient norm of a run, as they stand."""
    text = f"loss {run.losses[-1]:.3f}, ‖gradient‖ {run.norms[-1]:.2f}" if run.losses else ""
    if run.epochs:
        data = "training" if run.validation is run.train else "validation"
        metric = "error" if run.model.head == "forecast" else "accuracy"
        text += f", {data} loss {run.epochs[-1]['loss']:.3f}, {metric} {run.epochs[-1]['metric']:.3f}"
    return text


# What comes of it


def write(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write a report as JSON and Markdown, and its curves."""
    figures = needs.figures()
    folder.mkdir(parents=True, exist_ok=True)
    return [
        write_json(report, folder / "results.json"),
        write_text(tables.markdown(report), folder / "results.md"),
        *figures.save(figures.training_curves(report), "curves", folder),
    ]


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report."""
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
