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
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rnn_common import networks, reader, tasks
from rnn_common.checks import whole
from rnn_common.files import write_bytes, write_json
from rnn_common.networks import Array, Model, Weights
from rnn_common.reader import shown
from rnn_common.training.recipe import Recipe

FORMAT = "rnn-parity checkpoint 3"
BEFORE = "rnn-parity checkpoint 2"  # which is read, too
GROUPS = re.compile("weights|best|random|curves|moments (m|v|sum|velocity)")
_NAME = re.compile(r"checkpoint-\d{8}")
LONGEST = 10_000_000_000  # seconds; three hundred years
OTHER_BYTES = 2**20  # for the state of random numbers and the file's own header
MOST_BYTES = 2**32  # whatever model is claimed


class BadCheckpoint(ValueError):
    """A file is no checkpoint, not whole, or not what was written."""


@dataclass(frozen=True)
class Position:
    """How far a run has come.

    Args:
        epoch: passes over the data that are done.
        batch: batches of the present pass that are done.
        update: updates of the weights that are done.

    Raises:
        ValueError: one is no whole number from 0.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            whole(name, value, 0)


@dataclass(frozen=True)
class Epoch:
    """The figures of the validation data after a pass, and after how many updates that was."""

    update: int
    loss: float
    metric: float


@dataclass(frozen=True)
class Described:
    """What the JSON of a checkpoint holds besides its digests; see `Checkpoint`."""

    format: Literal["rnn-parity checkpoint 3", "rnn-parity checkpoint 2"]
    framework: Literal["torch", "tf"]
    position: Position
    model: dict
    recipe: Recipe
    epochs: list[Epoch]
    seconds: float
    data: str
    about: dict


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run at a moment.

    Args:
        model, recipe: what is trained, and how.
        framework: which twin wrote it: `"torch"` or `"tf"`.
        position: how far it has come.
        weights: by name, see `rnn_common.networks`.
        moments: what the optimiser remembers, arrays by the weights' names: Adam's `"m"` and `"v"`; SGD's
            `"velocity"` v, where w ← w + v; in the format before, of PyTorch, `"sum"` = −v / α.
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
        "model": networks.to_dict(checkpoint.model),
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


def remove(folder: Path) -> None:
    """Remove the checkpoints in a folder, and nothing else; the JSON first, so that none is there without its arrays."""
    for suffix in ("json", "safetensors"):
        for path in folder.glob(f"checkpoint-*.{suffix}"):
            if _NAME.fullmatch(path.stem):
                path.unlink()


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: its JSON file, or the folder, of whose checkpoints the newest is read.

    Raises:
        FileNotFoundError: there is none.
        BadCheckpoint: it is not whole, not a checkpoint, or altered; the message names an older one, if there is one.
    """
    if path.is_dir():
        path = newest(path)
    try:
        return _read(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"checkpoint should be a file or a folder, got {path}, which is not there") from None
    except ValueError as error:
        older = _older(path)
        advice = f"; the one before it is {older[-1]}" if older else ""
        raise BadCheckpoint(f"checkpoint {path} is refused: {error}{advice}") from None


def newest(folder: Path) -> Path:
    """The JSON file of a folder's newest checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    found = _found(folder)
    if not found:
        raise FileNotFoundError(f"checkpoint should be in {folder}, but there is none")
    return found[-1]


def _read(path: Path) -> Checkpoint:
    described, digest = _described(path)
    model = networks.from_dict(described.model)
    _check_described(described, model)
    arrays_path = path.with_suffix(".safetensors")
    try:
        content = reader.read(arrays_path, _largest(described, model))
    except FileNotFoundError:
        raise ValueError(f"its arrays, {arrays_path.name}, are not there") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{arrays_path.name} is not the file that was written: truncated, altered or another run's")
    groups = _groups(content)
    curves = groups.pop("curves", {})
    checkpoint = Checkpoint(
        model=model,
        recipe=described.recipe,
        framework=described.framework,
        position=described.position,
        weights=groups.pop("weights", {}),
        random=groups.pop("random", {}),
        best=groups.pop("best", {}),
        moments={name.removeprefix("moments "): group for name, group in groups.items()},
        losses=curves.get("losses", np.zeros(0)),
        norms=curves.get("norms", np.zeros(0)),
        epochs=tuple(asdict(epoch) for epoch in described.epochs),
        seconds=described.seconds,
        data=described.data,
        about=described.about,
    )
    _check_arrays(checkpoint)
    return checkpoint


def _described(path: Path) -> tuple[Described, str]:
    """The JSON, if it is what was written, and the digest of the arrays."""
    found = reader.mapping(reader.read(path))
    if found.get("format") not in (FORMAT, BEFORE):
        raise ValueError(f"its format should be {FORMAT!r}, got {shown(found.get('format'))}")
    if found.pop("sha256 of the rest", None) != _digest(found):
        raise ValueError("it was altered after it was written")
    if found["format"] == BEFORE:
        _name_the_forms(found.get("model"))
    arrays = reader.checked("sha256 of the arrays", found.pop("sha256 of the arrays", None), str)
    return reader.record(Described, found, "checkpoint"), arrays


def _name_the_forms(model: Any) -> None:
    """In format 2 a stack of GRUs says by `reset_after` which of the two cells it is of."""
    for stack in model.values() if isinstance(model, dict) else ():
        if isinstance(stack, dict) and stack.pop("reset_after", True) is False and stack.get("cell") == "GRU":
            stack["cell"] = "GRU v3"


def _check_described(described: Described, model: Model) -> None:
    """Whether the fields of the JSON fit each other.

    Raises:
        ValueError: they do not; names one that does not.
    """
    recipe, at, epochs = described.recipe, described.position, described.epochs
    every = (
        (at.update - at.batch) // at.epoch if at.epoch else at.batch + 1
    )  # batches an epoch, or as few as there can be
    if at.update != at.epoch * every + at.batch or at.batch >= every:
        raise ValueError(f"position should be of whole epochs and a part of one, got {at}")
    if at.epoch + (at.batch > 0) > recipe.epochs:
        raise ValueError(f"position.epoch should be within the recipe's {recipe.epochs}, got {at}")
    updates = [0, *(epoch.update for epoch in epochs), at.update + 1]
    if not all(before < after for before, after in pairwise(updates)):
        raise ValueError(f"epochs should be of growing updates up to {at.update}, got {shown(updates[1:-1])}")
    if recipe.patience and len(epochs) < at.epoch:
        raise ValueError(f"epochs should number {at.epoch} where the recipe has patience, got {len(epochs)}")
    if not 0 <= described.seconds <= LONGEST:
        raise ValueError(f"seconds should be from 0 to {LONGEST:,}, got {described.seconds}")
    if "task" in described.about:
        tasks.check_about(described.about, model, recipe)


def _largest(described: Described, model: Model) -> int:
    """How many bytes the arrays can have: weights, two moments and the best weights; curves; random states; names."""
    groups = 4 * sum(8 * prod(shape) + 256 for shape in networks.shapes(model).values())
    return min(groups + 16 * described.position.update + OTHER_BYTES, MOST_BYTES)


def _check_arrays(checkpoint: Checkpoint) -> None:
    """Whether a run can go on from these arrays.

    Raises:
        ValueError: they are not the model's, or not as many as the updates, or not finite; names the array.
    """
    model, recipe, update = checkpoint.model, checkpoint.recipe, checkpoint.position.update
    expected = [["m", "v"]] if recipe.optimizer == "adam" else [["sum"], ["velocity"]] if recipe.momentum else [[]]
    if sorted(checkpoint.moments) not in (expected if update else [*expected, []]):
        raise ValueError(
            f"moments should be {' or '.join(map(str, expected))}, got {shown(sorted(checkpoint.moments))}"
        )
    if bool(checkpoint.best) != bool(recipe.patience and checkpoint.epochs):
        raise ValueError("best should be there where the recipe has patience and an epoch is done, and only there")
    groups = {"weights": checkpoint.weights, "best": checkpoint.best or checkpoint.weights}
    groups |= {f"moments {name}": moment for name, moment in checkpoint.moments.items()}
    for name, group in groups.items():
        try:
            networks.check_weights(model, group)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if any(array.dtype != recipe.dtype for array in group.values()):
            raise ValueError(
                f"{name} should be of {recipe.dtype}, got {sorted({str(a.dtype) for a in group.values()})}"
            )
    if any((array < 0).any() for array in checkpoint.moments.get("v", {}).values()):
        raise ValueError("moments v should be at least 0, for they are means of squares")
    for name, curve in (("losses", checkpoint.losses), ("norms", checkpoint.norms)):
        if curve.shape != (update,):
            raise ValueError(f"{name} should be of {update} updates, got shape {curve.shape}")
        if curve.dtype != np.float64 or not np.isfinite(curve).all():
            raise ValueError(f"{name} should be finite and of float64")
    for name, state in checkpoint.random.items():
        if not name.startswith(checkpoint.framework) or not np.issubdtype(state.dtype, np.integer) or state.ndim != 1:
            raise ValueError(
                f"random should be {checkpoint.framework}'s whole numbers, got {shown(name)} {state.dtype}"
            )


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
    except (SafetensorError, KeyError, TypeError, ValueError) as error:  # KeyError: a type that NumPy has not
        raise ValueError(f"its arrays are not safetensors: {shown(str(error))}") from None
    groups: dict[str, Weights] = {}
    for name, array in arrays.items():
        group, _, own = name.partition("/")
        if not GROUPS.fullmatch(group) or (group == "curves" and own not in ("losses", "norms")):
            raise ValueError(f"its arrays should be of a checkpoint, got {shown(name)}")
        groups.setdefault(group, {})[own] = array
    return groups


def _older(path: Path) -> list[Path]:
    """The checkpoints beside one that have fewer updates, oldest first."""
    return [each for each in _found(path.parent) if each.name < path.name]


def _found(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(each for each in folder.glob("checkpoint-*.json") if _NAME.fullmatch(each.stem))
