"""A run of training, but for the arithmetic: order of the data, learning rate, curves, validation, stopping, checkpoints.

A twin takes the batches that a `Run` hands out, updates its weights, and reports to the `Run`; so both do the same, and
either goes on where the other stopped.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnn_common import networks
from rnn_common.data.batches import Batch, batches
from rnn_common.data.sequences import Sequences
from rnn_common.networks import Array, Model, Weights
from rnn_common.tasks import metrics
from rnn_common.training import checkpoint as checkpoints
from rnn_common.training.checkpoint import Checkpoint, Position
from rnn_common.training.recipe import Recipe

EVALUATION_BATCH = 128


class Snapshot(NamedTuple):
    """What a twin holds at a moment; see `Checkpoint` for the fields."""

    weights: Weights
    moments: Mapping[str, Weights]
    random: Mapping[str, Array]


class Figures(NamedTuple):
    """How good outputs are: means over all targets.

    Attributes:
        loss: cross-entropy in nats, or squared error.
        metric: the share of targets that score highest, or the root of the squared error.
    """

    loss: float
    metric: float


class Diverged(ArithmeticError):
    """The loss is no longer a finite number."""


def digest(*data: Sequences) -> str:
    """A digest of sequences and targets, to tell whether they are the ones that a run began with."""
    found = hashlib.sha256()
    for one in data:
        for array in (*one.sequences, *(one.targets if isinstance(one.targets, tuple) else (one.targets,))):
            found.update(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def figures(model: Model, batch: Batch, outputs: Array) -> tuple[Figures, int]:
    """The figures of a batch's outputs, and over how many targets they are; steps whose target is −1 do not count."""
    if model.head == "forecast":
        squared = float(np.mean((np.asarray(outputs, np.float64) - batch.targets) ** 2))
        return Figures(squared, math.sqrt(squared)), len(batch)
    targets = batch.targets.reshape(-1)
    scores = np.asarray(outputs).reshape(len(targets), -1)[targets >= 0]
    targets = targets[targets >= 0]
    if not len(targets):
        return Figures(0.0, 0.0), 0
    return Figures(metrics.cross_entropy(scores, targets), metrics.accuracy(targets, scores)), len(targets)


def evaluate(model: Model, predict: Callable[[Batch], Array], data: Sequences) -> Figures:
    """The figures of a data set.

    Args:
        model: what is evaluated.
        predict: a batch's outputs.
        data: the sequences.

    Raises:
        ValueError: all targets are −1.
    """
    loss = metric = 0.0
    count = 0
    forecast = model.head == "forecast"
    for batch in batches(data, EVALUATION_BATCH, bucket=True):
        found, targets = figures(model, batch, predict(batch))
        loss += found.loss * targets
        metric += found.metric * targets
        count += targets
    if not count:
        raise ValueError("data should have targets, got none but −1")
    return Figures(loss / count, math.sqrt(loss / count) if forecast else metric / count)


@dataclass(eq=False)
class Run:
    """One network's training, from the beginning or from a checkpoint.

    Args:
        model: what is trained.
        recipe: how.
        train: the data.
        weights: to begin with.
        validation: data that no update sees, evaluated after every epoch. Default none.
        folder: where checkpoints go. Default none: none are written.
        about: what a checkpoint should hold besides, as plain data.
        save_seconds: how often a checkpoint is written; there is one at the end too, unless the loss ceases to be finite.
            Default 15.
        resume: the checkpoint to go on from.
        watch: called after every update and epoch. Default none.
        updates: stop after so many updates in all. Default: after the recipe's epochs.

    Attributes:
        position: how far it has come.
        losses, norms: of every update so far.
        epochs: of every epoch so far, the validation data's figures.
        best: the weights of the lowest validation loss, where the recipe has `patience`.
        seconds: since it began, without the time between a checkpoint and going on from it.

    Raises:
        ValueError: a checkpoint of another model, recipe or data (with `patience` also validation data), or of a position
            that is not in the data; or `patience` without validation data.
    """

    model: Model
    recipe: Recipe
    train: Sequences
    weights: Weights
    validation: Sequences | None = None
    folder: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    save_seconds: float = 15.0
    resume: Checkpoint | None = None
    watch: Callable[[Run], None] | None = None
    updates: int | None = None

    position: Position = field(default_factory=Position)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    epochs: list[Mapping[str, float]] = field(default_factory=list)
    best: Weights = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.recipe.patience and self.validation is None:
            raise ValueError("validation should be given where the recipe has patience, got None")
        stopping = (self.validation,) if self.recipe.patience and self.validation is not None else ()
        self._data = digest(self.train, *stopping)
        self._saved = self._begun = time.monotonic()
        if self.resume is not None:
            own, theirs = (networks.to_dict(each.model) | each.recipe.as_dict() for each in (self, self.resume))
            for name, value in own.items():
                if theirs.get(name) != value:
                    raise ValueError(f"resume should be of a run with {name} {value}, got {theirs.get(name)}")
            if self.resume.data != self._data:
                raise ValueError("resume should have been trained on the same data, got a checkpoint of others")
            self._check_position(self.resume.position)
            self.position, self.weights, self.best = self.resume.position, self.resume.weights, dict(self.resume.best)
            self.losses, self.norms = self.resume.losses.tolist(), self.resume.norms.tolist()
            self.epochs = list(self.resume.epochs)

    def _check_position(self, at: Position) -> None:
        """Refuse a position that is not in the data."""
        every, epochs = self.batches_per_epoch, self.recipe.epochs
        if at.update != at.epoch * every + at.batch or at.batch >= every or at.update > epochs * every:
            raise ValueError(f"position should be in {epochs} epochs of {every} batches, got {at}")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun + (self.resume.seconds if self.resume is not None else 0.0)

    @property
    def batches_per_epoch(self) -> int:
        return -(-len(self.train) // self.recipe.batch_size)

    @property
    def total(self) -> int:
        """How many updates the whole run has."""
        whole = self.recipe.epochs * self.batches_per_epoch
        return whole if self.updates is None else min(whole, self.updates)

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return self._rate(self.position.update)

    @property
    def last_rate(self) -> float:
        """The learning rate of the update before."""
        return self._rate(max(0, self.position.update - 1))

    def _rate(self, update: int) -> float:
        return self.recipe.rate(update, self.recipe.epochs * self.batches_per_epoch)

    @property
    def finished(self) -> bool:
        """Whether all updates are done, or as many epochs as the recipe is patient brought no lower loss."""
        if self.position.update >= self.total:
            return True
        losses = [epoch["loss"] for epoch in self.epochs]
        patience = self.recipe.patience
        return bool(patience and len(losses) - 1 - int(np.argmin(losses or [0])) >= patience)

    @property
    def left(self) -> int:
        """How many batches of the present epoch are still to come."""
        return min(self.batches_per_epoch - self.position.batch, self.total - self.position.update)

    def remaining(self) -> Iterator[Batch]:
        """The batches of the present epoch that are still to come."""
        recipe, position = self.recipe, self.position
        left = self.left
        every = batches(
            self.train,
            recipe.batch_size,
            seed=recipe.seed,
            epoch=position.epoch,
            bucket=recipe.bucket,
            dtype=recipe.dtype,
        )
        for index, batch in enumerate(every):
            if position.batch <= index < position.batch + left:
                yield batch

    def record(self, loss: float, norm: float, snapshot: Callable[[], Snapshot], framework: str) -> None:
        """An update is done.

        Args:
            loss: before the update.
            norm: of the gradients before they were clipped.
            snapshot: what the twin holds now.
            framework: the twin's name.

        Raises:
            Diverged: the loss or the norm is not finite.
        """
        at = self.position
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise Diverged(
                f"loss and norm of the gradients should be finite, got {loss} and {norm} at update {at.update}"
            )
        self.losses.append(loss)
        self.norms.append(norm)
        self.position = Position(at.epoch, at.batch + 1, at.update + 1)
        # The end of an epoch is saved once its validation is done.
        whole = self.position.batch == self.batches_per_epoch or self.position.update == self.total
        if not whole and time.monotonic() - self._saved >= self.save_seconds:
            self.save(snapshot(), framework)
        if self.watch is not None:
            self.watch(self)

    def end_epoch(self, predict: Callable[[Batch], Array], snapshot: Callable[[], Snapshot], framework: str) -> None:
        """The batches of an epoch are done: evaluate, remember the best weights, save."""
        if self.validation is not None:
            found = evaluate(self.model, predict, self.validation)
            if not math.isfinite(found.loss):
                raise Diverged(
                    f"loss of the validation data should be finite, got {found.loss} at update {self.position.update}"
                )
            losses = [epoch["loss"] for epoch in self.epochs]
            self.epochs.append({"update": self.position.update, **found._asdict()})
            if self.recipe.patience and found.loss < min(losses, default=math.inf):
                self.best = snapshot().weights
        if self.position.batch == self.batches_per_epoch:
            self.position = Position(self.position.epoch + 1, 0, self.position.update)
        if self.finished or time.monotonic() - self._saved >= self.save_seconds:
            self.save(snapshot(), framework)
        if self.watch is not None:
            self.watch(self)

    def save(self, snapshot: Snapshot, framework: str) -> None:
        """Write a checkpoint, if there is a folder for it."""
        if self.folder is None:
            return
        checkpoints.save(
            Checkpoint(
                model=self.model,
                recipe=self.recipe,
                framework=framework,
                position=self.position,
                weights=snapshot.weights,
                moments=snapshot.moments,
                random=snapshot.random,
                best=self.best,
                losses=np.array(self.losses),
                norms=np.array(self.norms),
                epochs=tuple(self.epochs),
                seconds=self.seconds,
                data=self._data,
                about=self.about,
            ),
            self.folder,
        )
        self._saved = time.monotonic()

    @property
    def moments(self) -> Mapping[str, Mapping[str, Array]]:
        """What the optimiser remembers, in the checkpoint from which the run goes on: Adam's m and v, or SGD's velocity.

        Checkpoints of format 2 that PyTorch wrote have −velocity / α, the `sum`, instead.
        """
        moments = dict(self.resume.moments) if self.resume is not None else {}
        if "sum" in moments:
            moments["velocity"] = {name: array * -self.last_rate for name, array in moments.pop("sum").items()}
        return moments
