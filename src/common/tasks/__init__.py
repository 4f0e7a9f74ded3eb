"""Real problems, each described without a framework, on data that come inside packages."""

from __future__ import annotations

import importlib

from common.parameters import one_of
from common.tasks.problem import SETTINGS, Problem, Scores, Setting

TASKS = {
    "speech": "common.tasks.speech",
    "text": "common.tasks.text",
    "names": "common.tasks.names",
    "translation": "common.tasks.translation",
    "series": "common.tasks.series",
    "adding": "common.tasks.adding",
    "copying": "common.tasks.copying",
}


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
    module = importlib.import_module(TASKS[one_of("task", task, list(TASKS))])
    found: tuple[Problem, ...] = module.problems(one_of("setting", setting, SETTINGS))
    return found


__all__ = ["SETTINGS", "TASKS", "Problem", "Scores", "Setting", "problems"]
