"""Options that commands share. What names one of some choices is taken in any case, and completed by the shell."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from rnn_common import exchange
from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.cli import terminal
from rnn_common.tasks import SETTINGS, TASKS
from rnn_common.twins import TWINS

DEVICES = ("cpu", "cuda")


def in_any_case(name: str, choices: Collection[str]) -> str:
    """The choice that a name is but for its case and for hyphens; what is none stays as it is, for a check to refuse."""
    return next((choice for choice in choices if _folded(choice) == _folded(name)), name)


def _folded(name: str) -> str:
    return name.casefold().replace("-", " ")


def named(choices: Collection[str], *, argument: bool = False, **about: Any) -> Any:
    """An option, or an argument, whose values are names among some choices.

    Args:
        choices: the names.
        argument: whether it is an argument. Default False.
        about: what typer is told besides.
    """

    def in_the_choices_case(value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value and in_any_case(value, choices)
        return [in_any_case(each, choices) for each in value]

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    kind = typer.Argument if argument else typer.Option
    return kind(callback=in_the_choices_case, autocompletion=complete, **about)


Names = list[str] | None
Task = Annotated[str, named(TASKS, argument=True, help="speech, text, names, translation, series, adding or copying.")]
CELL_NAMES = f"{', '.join(list(CELLS)[:-1])} or {list(CELLS)[-1]}; may be repeated."
Cells = Annotated[Names, named(CELLS, help=CELL_NAMES, show_default=", ".join(IN_BOTH))]
OwnCells = Annotated[
    Names, typer.Option("--cell", help="A cell of your own, path/to/file.py:NAME; may be repeated.", show_default=False)
]
ANY_CELL = f"{CELL_NAMES} Or one of your own, path/to/file.py:NAME."
Frameworks = Annotated[Names, named(TWINS, help="torch or tf; may be repeated.", show_default="those installed")]
EitherFramework = Annotated[
    str | None, named(TWINS, help="torch or tf.", show_default="the one that wrote the checkpoint")
]
Setting = Annotated[str, named(SETTINGS, help="quick, full (more time, or a GPU) or tiny.")]
Device = Annotated[str, named(DEVICES, help="cpu or cuda.")]
Checkpoint = Annotated[Path, typer.Argument(help="A checkpoint's JSON file, or its folder.")]
Output = Annotated[Path, typer.Option(parser=terminal.path, help="The folder for JSON and figures.")]
SOURCES = f"It ends with {', '.join(exchange.SUFFIXES)}, or is a folder of checkpoints."
Source = Annotated[Path, typer.Argument(parser=terminal.path, help=SOURCES)]
