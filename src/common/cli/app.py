"""The command `rnn-parity`: its commands, each in a module of its name."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

try:
    import rich  # noqa: F401
    import typer
except ModuleNotFoundError as missing:  # the base install is NumPy alone
    print(f"rnn-parity needs the package {missing.name}, which is not installed: pip install '.[cli]'", file=sys.stderr)
    raise SystemExit(2) from None

from rnn_common import __version__
from rnn_common.cli import bench, terminal
from rnn_common.cli.compare import compare
from rnn_common.cli.convert import convert
from rnn_common.cli.doctor import doctor
from rnn_common.cli.engines import engines
from rnn_common.cli.gradients import gradients
from rnn_common.cli.inspect import inspect
from rnn_common.cli.lockstep import lockstep
from rnn_common.cli.predict import predict
from rnn_common.cli.resume import resume
from rnn_common.cli.terminal import PROGRAM, printing
from rnn_common.cli.train import train

FRAMEWORKS = ("torch", "tensorflow", "keras")
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for command in (compare, inspect, convert, doctor, train, resume, predict, lockstep, gradients, engines):
    app.command()(command)
app.add_typer(bench.app, name="bench")


def versions() -> str:
    """Ours, and beside it those of the frameworks that are installed, by what their packages say: none is imported."""
    distributions = metadata.packages_distributions()  # TensorFlow is installed under several names
    installed = [f"{name} {metadata.version(distributions[name][0])}" for name in FRAMEWORKS if name in distributions]
    return f"{PROGRAM} {__version__}" + (f" ({', '.join(installed)})" if installed else "")


def _show_versions(wanted: bool) -> None:
    if wanted:
        with printing() as console:
            console.print(versions(), highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit


@app.callback()
def _parity(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_versions, is_eager=True, help="Show versions, and end.")
    ] = False,
) -> None:
    """SimpleRNN, LSTM and GRU in PyTorch and TensorFlow, side by side."""


def main() -> None:
    terminal.main(app)


if __name__ == "__main__":
    main()
