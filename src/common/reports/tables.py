"""What `rnn-parity train` found, as plain data, and as tables for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from rnn_common.machine import environment
from rnn_common.tasks import Problem, Scores, Setting
from rnn_common.training import experiments
from rnn_common.training.experiments import Outcome
from rnn_common.twins import Framework

FORMAT = "rnn-parity training 1"
CURVE_POINTS = 150
Described = Mapping[str, Any]


def report(
    task: str,
    setting: Setting,
    twins: Sequence[Framework],
    found: Sequence[tuple[Problem, Mapping[str, Scores], Sequence[Outcome]]],
) -> dict[str, Any]:
    """Every outcome, baseline and published figure of a task.

    Args:
        task, setting: which.
        twins: the frameworks.
        found: each problem, its baselines' scores, and what came of the networks.
    """
    return {
        "format": FORMAT,
        "task": task,
        "setting": setting,
        "environment": environment(twins),
        "problems": [
            {
                "name": problem.name,
                "sizes": {
                    "train": len(problem.train),
                    "validation": len(problem.validation) if problem.validation is not None else 0,
                    "test": len(problem.test),
                },
                "lower is better": dict(problem.lower_is_better),
                "rows": experiments.summary(problem, outcomes),
                "baselines": {name: dict(scores) for name, scores in baselines.items()},
                "published": {name: dict(scores) for name, scores in problem.published.items()},
                "outcomes": [_outcome(outcome) for outcome in outcomes],
            }
            for problem, baselines, outcomes in found
        ],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain data, its curves thinned to means over stretches of updates."""
    described = asdict(outcome)
    losses, norms = np.array(described.pop("losses")), np.array(described.pop("norms"))
    parts = np.array_split(np.arange(len(losses)), min(CURVE_POINTS, max(1, len(losses))))
    parts = [part for part in parts if len(part)]
    described["curve"] = {
        "update": [int(part[-1]) + 1 for part in parts],
        "loss": [float(losses[part].mean()) for part in parts],
        "norm": [float(norms[part].mean()) for part in parts],
    }
    return described


def columns(problem: Described) -> list[str]:
    """The head of a problem's table."""
    measures = [f"{name} {'↓' if lower else '↑'}" for name, lower in problem["lower is better"].items()]
    return ["", "weights", *measures, "updates", "seconds"]


def rows(problem: Described) -> list[list[str]]:
    """A row for each network, baseline and published figure."""
    measures = list(problem["lower is better"])
    found = []
    for row in problem["rows"]:
        failed = f", {len(row['failed'])} of {row['seeds']} failed" if row["failed"] else ""
        cells = [_spread(row["scores"].get(name), row["seeds"]) + failed for name in measures]
        name = f"rnn_{row['framework']} {row['cell']}"
        found.append([name, f"{row['parameters']:,}", *cells, f"{row['updates']:,}", f"{row['seconds']:,.0f}"])
    for kind in ("baselines", "published"):
        for name, scores in problem[kind].items():
            found.append([name, "", *(number(scores.get(measure)) for measure in measures), "", ""])
    return found


def number(value: float | None) -> str:
    """Three significant digits, more where they are before the point."""
    if value is None:
        return "–"
    return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:,.0f}"


def _spread(score: Described | None, seeds: int) -> str:
    if score is None:
        return "–"
    if seeds == 1:
        return number(score["mean"])
    return f"{number(score['mean'])} ({number(score['low'])} – {number(score['high'])})"


def conditions(found: Described) -> str:
    """Where and with what a report was made."""
    where = found["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    return f"{where['processor']}, {where['cores']} cores; {versions}"


def failures(found: Described) -> list[str]:
    """Which networks failed, and why."""
    return [
        f"{outcome['problem']}, {outcome['framework']} {outcome['cell']}, seed {outcome['seed']}: {outcome['failed']}"
        for problem in found["problems"]
        for outcome in problem["outcomes"]
        if outcome["failed"]
    ]


def markdown(found: Described) -> str:
    """A report's tables in Markdown: one of its only problem, or one a measure with a column for each problem."""
    problems = found["problems"]
    if len(problems) == 1:
        lines = _table(columns(problems[0]), rows(problems[0]))
    else:
        lines = []
        for measure in problems[0]["lower is better"]:
            lines += [*_table(*_by_problem(problems, measure)), ""]
        lines.pop()
    for problem in problems:
        sizes = (f"{problem['sizes'][split]:,} to {verb}" for split, verb in SPLITS.items() if problem["sizes"][split])
        lines += ["", f"{problem['name']}: sequences {', '.join(sizes)}. {_seconds(problem)}"]
    lines += ["", *(f"Failed: {line}" for line in failures(found))]
    return "\n".join([*lines, conditions(found)]) + "\n"


SPLITS = {"train": "train on", "validation": "validate", "test": "test"}


def _seconds(problem: Described) -> str:
    """How long each framework's trainings took in all."""
    total: dict[str, float] = {}
    for row in problem["rows"]:
        total[row["framework"]] = total.get(row["framework"], 0) + row["seconds"]
    return "Seconds of training: " + ", ".join(f"rnn_{name} {seconds:,.0f}" for name, seconds in total.items()) + "."


def _by_problem(problems: Sequence[Described], measure: str) -> tuple[list[str], list[list[str]]]:
    """One measure: a row for each network and baseline, a column for each problem."""
    lower = problems[0]["lower is better"][measure]
    place = [*problems[0]["lower is better"]].index(measure) + 2
    named: dict[str, dict[str, str]] = {}
    for problem in problems:
        for row in rows(problem):
            named.setdefault(row[0], {})[problem["name"]] = row[place]
    head = [f"{measure} {'↓' if lower else '↑'}", *(problem["name"] for problem in problems)]
    return head, [[name, *(cells.get(problem["name"], "–") for problem in problems)] for name, cells in named.items()]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return [_line(head), _line(["---", *["---:"] * (len(head) - 1)]), *map(_line, body)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
