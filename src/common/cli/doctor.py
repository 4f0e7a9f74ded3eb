"""The command `rnn-parity doctor`."""

from __future__ import annotations

import re
import zipfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from rnn_common import exchange, twins
from rnn_common.cli import terminal
from rnn_common.cli.terminal import bad_input, deliver
from rnn_common.doctor.diagnosis import Diagnosis, prepare
from rnn_common.doctor.report import Report, lines
from rnn_common.doctor.training import Trained, diagnose_training
from rnn_common.files import check_writable, run_file, write_json

MODEL = f"A file ({', '.join(exchange.SUFFIXES)}), or a layer, model or function of your own, path/to/file.py:NAME"
LARGEST = 2**28  # bytes of an input


@terminal.command
def doctor(
    a: Annotated[str, typer.Argument(help=f"{MODEL}: the one that is right, or thought to be.")],
    b: Annotated[str, typer.Argument(help="Likewise: the one that is held against it.")],
    input: Annotated[
        Path | None,
        typer.Option(
            parser=terminal.path, help="x.npy: (batch, time, features), or symbols.", show_default="one that shows most"
        ),
    ] = None,
    lengths: Annotated[
        Path | None,
        typer.Option(parser=terminal.path, help="n.npy: (batch,), steps of each sequence.", show_default="two lengths"),
    ] = None,
    layer_a: Annotated[str, typer.Option(help="What the names of A's wanted layers begin with.")] = "",
    layer_b: Annotated[str, typer.Option(help="What the names of B's wanted layers begin with.")] = "",
    training: Annotated[
        bool,
        typer.Option(
            "--training", help="Loss, gradients, a step: A and B are what rnn_torch.trained, rnn_tf.trained give."
        ),
    ] = False,
    json: Annotated[Path | None, typer.Option(parser=terminal.path, help="Write what is found there, too.")] = None,
) -> None:
    """Say whether two recurrent models that should be equal are, and if not, where they differ, who is wrong, and what mends it.

    A model's file is neither unpickled nor executed; a Python file of your own is run, as an import would.

    Exit status: 0 if they are equal to rounding; 1 if they differ and it is known why; 3 if it is not; 2 for bad input.
    """
    if json is not None:
        check_writable(json)
    with bad_input():
        arrays = {name: _array(name, path) for name, path in (("input", input), ("lengths", lengths))}
        models = [_model(each) for each in (a, b)]
        if training:
            work = partial(diagnose_training, _trained("a", models[0]), _trained("b", models[1]), arrays["input"])
        else:
            prepared = prepare(*models, x=arrays["input"], lengths=arrays["lengths"], layer_a=layer_a, layer_b=layer_b)
            work = partial(Diagnosis.report, prepared)
    report = work()
    deliver(
        lambda: [] if json is None else [write_json(report.as_dict(), json)],
        lambda console: show(report, a, b, console),
    )
    raise typer.Exit(report.status)


def _model(given: str) -> Any:
    """A file's path, or what a Python file of the user's own calls so.

    Raises:
        ValueError: it calls nothing so.
    """
    path, colon, name = given.rpartition(":")
    if not colon or not path.endswith(".py"):
        return given
    _quietly_started(Path(path))
    module = run_file("model", Path(path))
    if not hasattr(module, name):
        raise ValueError(f"model should be a name in {path}, got {name}")
    return getattr(module, name)


def _trained(argument: str, given: Any) -> Trained:
    """One of two that are trained.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(given, Trained):
        raise ValueError(
            f"{argument} should be what rnn_torch.trained.trained or rnn_tf.trained.trained gives, got {type(given).__name__}"
        )
    return given


def _quietly_started(path: Path) -> None:
    """Import TensorFlow before a file that does, without what it writes at its start."""
    if path.is_file() and re.search(rb"\b(tensorflow|keras|rnn_tf)\b", path.read_bytes()) and "tf" in twins.installed():
        twins.get("tf")


def _array(argument: str, path: Path | None) -> Any:
    """The array in a `.npy` file.

    Raises:
        ValueError: it holds none, or a large one.
    """
    if path is None:
        return None
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{argument} should be at most {LARGEST} bytes, got {path.stat().st_size} in {path}")
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{argument} should be an array of numpy.save, got {path}: {error}") from None
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{argument} should be one array of numpy.save, got several in {path}")
    return found


def show(report: Report, a: str, b: str, console: Console) -> None:
    """Print a diagnosis."""
    console.print(f"a is {a}, b is {b}.", highlight=False, markup=False)
    for line in lines(report):
        console.print(line, highlight=False, markup=False)
