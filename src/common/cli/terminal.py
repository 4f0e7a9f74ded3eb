"""How every command speaks, and how it ends. Needs the packages of the command line.

A command has four ways to end besides well: what was asked for cannot be done, or the machine refuses (one line, status 2); it
is stopped (130); a bound does not hold (1, the command's own); or it is itself at fault (a traceback, 3).
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

import rich.progress
import typer
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from rnn_common.packages import MissingPackage

PROGRAM = "rnn-parity"
BAD_INPUT, FAULT, STOPPED = 2, 3, 130
LINE_SECONDS = 60.0
# What the commands print beyond ASCII, for a terminal or file that takes ASCII only.
ASCII = {"−": "-", "–": "-", "×": "x", "·": ".", "±": "+-", "…": ".", "→": "->", "∂": "d", "‖": "|", "∝": "~", "α": "a"}
ASCII |= {"↑": "^", "↓": "v", "₂": "2", "�": "?"}

P = ParamSpec("P")
T = TypeVar("T")


class Progress(Protocol):
    """Told what is being done, which share of the whole is done, and the seconds that are left, if anybody knows."""

    def __call__(self, what: str, share: float, left: float | None = None) -> None: ...


# How it ends


def fail(error: BaseException | str, status: int = BAD_INPUT) -> NoReturn:
    """Say what is wrong in one line, if anybody hears it, and end."""
    _tell(f"{PROGRAM}: {' '.join(str(error).split())}")
    raise typer.Exit(status) from None


@contextmanager
def bad_input() -> Iterator[None]:
    """A ValueError in here is of what the user asked for: nothing but checks belongs here, never the work."""
    try:
        yield
    except ValueError as error:
        fail(error)


@contextmanager
def stoppable(advice: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Ctrl-C, and what the machine refuses at any moment (a full disk, no memory, a missing package), end in one line.

    Args:
        advice: how to go on. Default nothing.
    """
    try:
        yield
    except KeyboardInterrupt:
        fail("stopped; " + advice() if advice() else "stopped", STOPPED)
    except (OSError, MissingPackage) as error:
        fail(f"{error}; {advice()}" if advice() else error)
    except MemoryError as error:
        fail(f"the memory does not suffice: {error}")


def path(text: str) -> Path:
    """What an option names, which is not nothing: `--output "$UNSET"` does not mean the folder that one is in."""
    if not text:
        raise typer.BadParameter("should be a path, got ''")
    return Path(text)


def command(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function a command that is stoppable from its first line to its last."""

    @wraps(function)
    def stoppable_command(*args: P.args, **kwargs: P.kwargs) -> T:
        with stoppable():
            return function(*args, **kwargs)

    return stoppable_command


def main(app: Callable[[], Any]) -> None:
    """Run the program's commands. A fault of its own is a traceback and `FAULT`, for 1 says that a bound does not hold."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        _plain_where_needed(stream)
    try:
        app()
    except OSError as error:  # where help cannot be printed; the commands see to their own
        _silence(sys.stdout)
        _tell(f"{PROGRAM}: {error}")
        raise SystemExit(BAD_INPUT) from None
    except Exception:
        _tell(traceback.format_exc().rstrip())
        raise SystemExit(FAULT) from None


def _tell(text: str) -> None:
    """A line on standard error; if that is full or gone, nobody can be told."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


# What it writes and prints


def deliver(write: Callable[[], Sequence[Path]], show: Callable[[Console], None]) -> None:
    """Write a report's files, then print it and their names: either is done whatever becomes of the other.

    Args:
        write: writes the files and names them.
        show: prints the report.
    """
    written: Sequence[Path] = ()
    failed: Exception | None = None
    try:
        written = write()
    except Exception as error:
        failed = error
    with printing() as console:
        show(console)
        for path in written:
            console.print(f"Written: {path}", highlight=False, markup=False, soft_wrap=True)
    if failed is not None:
        raise failed


@contextmanager
def printing() -> Iterator[Console]:
    """The console on standard output, for what is printed when all else is done.

    Where the reader of a pipe has had enough, the rest goes unsaid, and the status stays the command's own; where what
    is printed cannot be written, that is said.
    """
    try:
        yield _Console()
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        fail(f"standard output cannot be written: {error}")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the error travel, where rich would end the program with status 1."""
        raise


def _silence(stream: Any) -> None:
    """What is left in a stream's buffer, and what is still to come, goes nowhere."""
    with suppress(OSError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _open_closed_streams() -> None:
    """Standard streams that the caller has closed (`>&-`) go nowhere, so that no other file takes their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # the lowest number that is free is the one that is opened
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), "r" if number == 0 else "w"))  # noqa: SIM115


def _plain_where_needed(stream: Any) -> None:
    """Write characters that the encoding lacks in others, or as escapes: no report is lost to an accent."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="rnn-parity")


def _replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(ASCII.get(each) or each.encode("ascii", "backslashreplace").decode() for each in text), error.end


codecs.register_error("rnn-parity", _replacement)


# What it shows while it works


class _Heedless:
    """A stream whose failures end no work: what cannot be shown is not shown."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            _silence(self._stream)


def progress_console() -> Console:
    """The console on standard error, which is for what is shown while a command works."""
    return Console(file=_Heedless(sys.stderr))  # type: ignore[arg-type]


@contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """A bar with the time passed and the time left, gone at the end; a line a minute where the console is no terminal.

    Args:
        console: where it is drawn.

    Yields:
        A function to call with what is being done, and which share of the whole is.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    with rich.progress.Progress(*_columns(console.width), console=console, transient=True, expand=True) as bar:
        task = bar.add_task("", total=1.0)

        def show(what: str, share: float, left: float | None = None) -> None:
            end = None if left is None else console.get_time() + left
            # At the beginning at once, for while a framework is imported standard error goes nowhere: see rnn_common.twins.
            bar.update(task, description=what, completed=share, refresh=share == 0, end=end)

        yield show


class _TimeLeft(ProgressColumn):
    """The time until the end that was told, as it passes; else what the share that is done suggests."""

    def __init__(self) -> None:
        super().__init__()
        self._suggested = TimeRemainingColumn()

    def render(self, task: Task) -> Text:
        end = task.fields.get("end")
        if end is None or task.finished:
            return self._suggested.render(task)
        minutes, seconds = divmod(max(0, round(end - task.get_time())), 60)
        return Text(f"{minutes // 60}:{minutes % 60:02}:{seconds:02}", style="progress.remaining")


def _columns(width: int) -> list[ProgressColumn]:
    """What the line of progress has at a width of the terminal.

    The text is last and takes the room that is left, so that it is cut before anything else is. Where that is little, the
    bar is shorter and the time passed, which nobody waits for, is not shown.
    """
    numbers = [BarColumn(20 if width >= 80 else 10), TextColumn("{task.percentage:3.0f} %")]
    if width >= 100:
        numbers.append(TimeElapsedColumn())
    text = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return [
        *numbers,
        TextColumn("left:"),
        _TimeLeft(),
        TextColumn("{task.description}", markup=False, table_column=text),
    ]


def _lines(console: Console) -> Progress:
    """A function that writes what it is told, once in `LINE_SECONDS`, and at the beginning where the time left is known."""
    begun = written = time.monotonic()
    known = False

    def show(what: str, share: float, left: float | None = None) -> None:
        nonlocal written, known
        now = time.monotonic()
        first, known = left is not None and not known, known or left is not None
        if first or (now - written >= LINE_SECONDS and (share > 0 or left is not None)):
            written = now
            left = (now - begun) * (1 - share) / share if left is None else left
            console.print(
                f"{share:.0%}, {left / 60:.0f} min left: {what}", markup=False, highlight=False, soft_wrap=True
            )

    return show
