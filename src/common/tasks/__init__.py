"""Real problems, each described without a framework, on data that come inside packages."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, Literal

from rnn_common.checks import one_of
from rnn_common.networks import Model
from rnn_common.reader import record, shown
from rnn_common.tasks.problem import SETTINGS, About, Problem, Scores, Setting
from rnn_common.training.recipe import Recipe

TASKS = {
    "speech": "rnn_common.tasks.speech",
    "text": "rnn_common.tasks.text",
    "names": "rnn_common.tasks.names",
    "translation": "rnn_common.tasks.translation",
    "series": "rnn_common.tasks.series",
    "adding": "rnn_common.tasks.adding",
    "copying": "rnn_common.tasks.copying",
}


@dataclass(frozen=True)
class Origin:
    """Where a network belongs: which task in which setting, which of its problems, which cell, trained from which seed."""

    task: Literal["speech", "text", "names", "translation", "series", "adding", "copying"]
    setting: Setting
    problem: str
    cell: str
    seed: int


def _module(task: str) -> ModuleType:
    return importlib.import_module(TASKS[one_of("task", task, list(TASKS))])


def problems(task: str, setting: Setting = "quick") -> tuple[Problem, ...]:
    """A task made ready; one that comes in several sizes as several problems.

    Args:
        task: `"speech"`, `"text"`, `"names"`, `"translation"`, `"series"`, `"adding"` or `"copying"`.
        setting: `"quick"` (default) ends within 3 minutes a framework on two cores, all cells together; `"full"` is for more
            time, or a GPU; `"tiny"` is for tests.

    Raises:
        ValueError: an unknown task or setting.
        ModuleNotFoundError: the package that ships the data is not installed.
    """
    found: tuple[Problem, ...] = _module(task).problems(one_of("setting", setting, SETTINGS))
    return found


def recipe(task: str, setting: Setting, cell: str) -> Recipe:
    """How a task's network of a cell is trained, with seed 0; known without the data.

    Args:
        task, setting: see `problems`.
        cell: of the network.
    """
    module = _module(task)
    found: Recipe = module._recipe(module.SIZES[one_of("setting", setting, SETTINGS)], cell)
    return found


def check_about(about: Mapping[str, Any], model: Model, recipe: Recipe) -> Origin:
    """What a checkpoint says of the task that it belongs to, if that is all there and fits its network and recipe.

    Raises:
        ValueError: a field is missing, unknown, of another type, or does not fit; names the field.
    """
    names = [field.name for field in fields(Origin)]
    origin = record(Origin, about, "about", others=True)
    cells = {stack.cell for stack in model.stacks().values()}
    if cells != {origin.cell}:
        raise ValueError(f"about.cell should be that of the model, {', '.join(cells)}, got {origin.cell}")
    if origin.seed != recipe.seed:
        raise ValueError(f"about.seed should be that of the recipe, {recipe.seed}, got {origin.seed}")
    if not re.fullmatch(rf"{origin.task}( \d{{1,9}})?", origin.problem):
        raise ValueError(f"about.problem should be one of the task {origin.task}, got {shown(origin.problem)}")
    own = {name: value for name, value in about.items() if name not in names}
    record(getattr(_module(origin.task), "About", About), own, "about").check(model)
    return origin


__all__ = ["SETTINGS", "TASKS", "Origin", "Problem", "Scores", "Setting", "check_about", "problems", "recipe"]
