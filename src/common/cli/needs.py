"""What commands need before they work; what is not there is named with its remedy."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rnn_common import twins
from rnn_common.checks import one_of
from rnn_common.cli.terminal import Progress
from rnn_common.packages import MissingPackage, optional
from rnn_common.twins import Framework


def framework(name: str, choice: bool = True) -> str:
    """The name of a twin whose framework is installed; it is not imported yet, for that takes seconds.

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
    return name


def frameworks(names: Iterable[str] | None) -> list[str]:
    """The names of the twins asked for, each once; of those installed, where none is asked for.

    Raises:
        ValueError, MissingPackage: see `framework`; or none is installed.
    """
    chosen = [framework(name) for name in dict.fromkeys(names or twins.installed())]
    if not chosen:
        raise MissingPackage(
            "framework should be installed, got neither torch nor tensorflow with keras: pip install '.[torch]' or '.[tf]'"
        )
    return chosen


def twins_on(device: str, names: Iterable[str], progress: Progress) -> dict[str, Framework]:
    """The twins of these names, imported.

    Raises:
        ValueError: one does not run on the device.
    """
    imported = twins.get_each(names, progress)
    for twin in imported.values():
        one_of("device", device, twin.devices())
    return imported


def figures() -> Any:
    """The room that draws; asked for before the work, so that a missing package is not found after it."""
    optional("matplotlib", "the figures need")
    return importlib.import_module("rnn_common.reports.figures")


def checkpoint(path: Path) -> None:
    """Refuse a folder of runs where one run is asked for, and say which there are.

    Raises:
        FileNotFoundError: it is a folder that holds no checkpoints, but folders that do, as `train` writes it.
        MissingPackage: of the package that reads checkpoints.
    """
    optional("safetensors", "checkpoints need")
    if any(path.glob("checkpoint-*.json")):
        return
    runs = sorted({str(each.parent) for each in path.glob("*/checkpoint-*.json")})
    if runs:
        raise FileNotFoundError(
            f"checkpoint should be in {path}, but there is none; name one of its runs: {', '.join(runs)}"
        )
