"""Checkpoints that either framework writes and either reads: arrays in safetensors, the rest in JSON beside them.

    checkpoint-00000200.safetensors     weights/…, first moments/…, best/…, loss, …
    checkpoint-00000200.json            model, recipe, position, what wrote it; digests of both files

The JSON is written last, by renaming, so a checkpoint is there when it is whole and not before; the one before it stays until
then. Nothing in either file is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common import models
from common.files import write_bytes, write_json
from common.models import Array, Model, Weights
from common.recipe import Recipe

FORMAT = "rnn-parity checkpoint 2"


class BadCheckpoint(ValueError):
    """A file is no checkpoint, not whole, or not what was written."""


@dataclass(frozen=True)
class Position:
    """How far a run has come.

    Args:
        epoch: passes over the data that are done.
        batch: batches of the present pass that are done.
        update: updates of the weights that are done.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run at a moment.

    Args:
        model, recipe: what is trained, and how.
        framework: which twin wrote it: `"torch"` or `"tf"`.
        position: how far it has come.
        weights: by name, see `common.models`.
        moments: what the optimiser remembers, arrays by the weights' names: Adam's `"m"` and `"v"`; of SGD `"velocity"`,
            or `"sum"` = −velocity / α, whichever the framework keeps, so that nothing is rounded.
        random: the state of the framework's own random numbers, which dropout draws from; of no meaning to the other.
        best: the weights of the lowest validation loss, where the recipe has `patience`; else empty.
        losses, norms: of each update: the loss, and the norm of the gradients before they were clipped.
        epochs: of each pass: the figures of the validation data.
        seconds: that the run has taken so far, in whatever processes.
        data: a digest of the data that the run depends on.
        about: whatever else belongs to the run, as plain data.
    """

    model: Model
    recipe: Recipe
    framework: str
    position: Position
    weights: Weights
    moments: Mapping[str, Weights] = field(default_factory=dict)
    random: Mapping[str, Array] = field(default_factory=dict)
    best: Weights = field(default_factory=dict)
    losses: Array = field(default_factory=lambda: np.zeros(0))
    norms: Array = field(default_factory=lambda: np.zeros(0))
    epochs: tuple[Mapping[str, float], ...] = ()
    seconds: float = 0.0
    data: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


def save(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write a checkpoint; of those before it in the folder the last one is kept.

    Returns:
        The JSON file's path, which `load` takes.
    """
    from safetensors.numpy import save as tensors

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint-{checkpoint.position.update:08d}.json"
    content = tensors({name: np.ascontiguousarray(array) for name, array in _arrays(checkpoint).items()})
    described = {
        "format": FORMAT,
        "framework": checkpoint.framework,
        "position": vars(checkpoint.position),
        "model": models.to_dict(checkpoint.model),
        "recipe": checkpoint.recipe.as_dict(),
        "epochs": [dict(epoch) for epoch in checkpoint.epochs],
        "seconds": checkpoint.seconds,
        "data": checkpoint.data,
        "about": dict(checkpoint.about),
        "sha256 of the arrays": hashlib.sha256(content).hexdigest(),
    }
    # Arrays of another moment that bear the same name would not fit the JSON that is still there, so that one goes first.
    path.unlink(missing_ok=True)
    write_bytes(content, path.with_suffix(".safetensors"))
    write_json({**described, "sha256 of the rest": _digest(described)}, path)
    for old in _older(path)[:-1]:
        old.unlink(missing_ok=True)
        old.with_suffix(".safetensors").unlink(missing_ok=True)
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: its JSON file, or the folder, of whose checkpoints the newest is read.

    Raises:
        FileNotFoundError: there is none.
        BadCheckpoint: it is not whole, not a checkpoint, or altered; the message names an older one, if there is one.
    """
    if path.is_dir():
        found = _found(path)
        if not found:
            raise FileNotFoundError(f"checkpoint should be in {path}, but there is none")
        path = found[-1]
    try:
        return _read(path)
    except BadCheckpoint as error:
        older = _older(path)
        advice = f"; the one before it is {older[-1]}" if older else ""
        raise BadCheckpoint(f"checkpoint {path} is refused: {error}{advice}") from None


def _read(path: Path) -> Checkpoint:
    described = _described(path)
    arrays_path = path.with_suffix(".safetensors")
    if not arrays_path.is_file():
        raise BadCheckpoint(f"its arrays, {arrays_path.name}, are not there")
    content = arrays_path.read_bytes()
    if hashlib.sha256(content).hexdigest() != described.get("sha256 of the arrays"):
        raise BadCheckpoint(f"{arrays_path.name} is not the file that was written: truncated, altered or another run's")
    groups = _groups(content)
    try:
        checkpoint = Checkpoint(
            model=models.from_dict(described["model"]),
            recipe=Recipe.from_dict(described["recipe"]),
            framework=described["framework"],
            position=Position(**described["position"]),
            weights=groups["weights"],
            moments={name[len("moments ") :]: group for name, group in groups.items() if name.startswith("moments ")},
            random=groups.get("random", {}),
            best=groups.get("best", {}),
            losses=groups["curves"]["losses"],
            norms=groups["curves"]["norms"],
            epochs=tuple({name: epoch[name] for name in ("update", "loss", "metric")} for epoch in described["epochs"]),
            seconds=float(described["seconds"]),
            data=described["data"],
            about=described["about"],
        )
        _check(checkpoint)
        return checkpoint
    except (KeyError, TypeError, ValueError) as error:
        raise BadCheckpoint(f"its contents do not fit together: {error}") from None


def _check(checkpoint: Checkpoint) -> None:
    """Whether a run can go on from it.

    Raises:
        ValueError: arrays that are not the model's, or not as many as the updates.
    """
    model, recipe, update = checkpoint.model, checkpoint.recipe, checkpoint.position.update
    arrays = {"weights": checkpoint.weights, "best": checkpoint.best, **checkpoint.moments}
    for name, group in arrays.items():
        if group or name != "best":
            models.check_weights(model, group)
        if any(array.dtype != recipe.dtype for array in group.values()):
            raise ValueError(
                f"{name} should be of {recipe.dtype}, got {sorted({str(a.dtype) for a in group.values()})}"
            )
    expected = [["m", "v"]] if recipe.optimizer == "adam" else [["sum"], ["velocity"]] if recipe.momentum else [[]]
    if sorted(checkpoint.moments) not in (expected if update else [*expected, []]):
        raise ValueError(f"moments should be {' or '.join(map(str, expected))}, got {sorted(checkpoint.moments)}")
    for name, curve in (("losses", checkpoint.losses), ("norms", checkpoint.norms)):
        if curve.shape != (update,):
            raise ValueError(f"{name} should be of {update} updates, got shape {curve.shape}")


def _described(path: Path) -> dict[str, Any]:
    """The JSON, if it is what was written."""
    try:
        described = json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"checkpoint should be a file or a folder, got {path}, which is not there") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadCheckpoint(f"it is not JSON, or truncated: {error}") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise BadCheckpoint(f"its format should be {FORMAT!r}")
    if described.pop("sha256 of the rest", None) != _digest(described):
        raise BadCheckpoint("it was altered after it was written")
    return described


def _digest(described: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _arrays(checkpoint: Checkpoint) -> dict[str, Array]:
    """Every array by the name of its group and its own."""
    groups: dict[str, Mapping[str, Array]] = {"weights": checkpoint.weights, "best": checkpoint.best}
    groups |= {f"moments {name}": moment for name, moment in checkpoint.moments.items()}
    groups |= {"random": checkpoint.random, "curves": {"losses": checkpoint.losses, "norms": checkpoint.norms}}
    return {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}


def _groups(content: bytes) -> dict[str, Weights]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as tensors

    try:
        arrays = tensors(content)
    except SafetensorError as error:
        raise BadCheckpoint(f"its arrays are not safetensors: {error}") from None
    groups: dict[str, Weights] = {}
    for name, array in arrays.items():
        group, _, own = name.partition("/")
        groups.setdefault(group, {})[own] = array
    return groups


def _older(path: Path) -> list[Path]:
    """The checkpoints beside one that have fewer updates, oldest first."""
    return [each for each in _found(path.parent) if each.name < path.name]


def _found(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(each for each in folder.glob("checkpoint-*.json") if re.fullmatch(r"checkpoint-\d{8}", each.stem))
