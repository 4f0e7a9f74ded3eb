"""What every command shows while it works. Needs the packages of the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_SECONDS = 60.0


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, float], None]]:
    """A bar with the time passed and the time left, gone at the end; a line a minute where the console is no terminal.

    Args:
        console: where it is drawn.

    Yields:
        A function to call with what is being done, and which share of the whole is.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        BarColumn(20),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


def _lines(console: Console) -> Callable[[str, float], None]:
    """A function that writes what it is told, once in `LINE_SECONDS`."""
    begun = written = time.monotonic()

    def show(what: str, share: float) -> None:
        nonlocal written
        now = time.monotonic()
        if now - written >= LINE_SECONDS and share > 0:
            written = now
            left = (now - begun) * (1 - share) / share
            console.print(
                f"{share:.0%}, {left / 60:.0f} min left: {what}", markup=False, highlight=False, soft_wrap=True
            )

    return show
