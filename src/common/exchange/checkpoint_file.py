"""The checkpoints that `rnn-parity train` writes, as networks: their weights bear the document's names already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rnn_common.cells import cell_of
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import (
    Dense,
    Direction,
    Embedding,
    Found,
    Layer,
    Optimiser,
    Recurrent,
    default_activations,
)
from rnn_common.exchange.optimisers import LEFT_OUT, LeftOut, made
from rnn_common.networks import EncoderDecoder, Model, Stack
from rnn_common.packages import optional
from rnn_common.training import checkpoint
from rnn_common.training.checkpoint import Checkpoint

FRAMEWORKS = {"torch": "PyTorch", "tf": "TensorFlow"}


def read(path: Path) -> Found:
    """The network in a checkpoint: that of the lowest validation loss where the recipe has `patience`, else the last one.

    Args:
        path: of its JSON file, of the arrays beside it, or of the folder, of whose checkpoints the newest is read.

    Raises:
        OSError: it is not there, or cannot be read.
        BadCheckpoint: see `rnn_common.training.checkpoint.load`.
        MissingPackage: the package safetensors is not installed.
    """
    optional("safetensors", "checkpoints are read with", extra="exchange")
    path = checkpoint.newest(path) if path.is_dir() else path.with_suffix(".json")
    found = checkpoint.load(path)
    group = "best" if found.best else "weights"
    layers = tuple(_layers(found.model, found.best or found.weights, group))
    said = f"rnn-parity checkpoint, trained with {FRAMEWORKS[found.framework]}, {found.position.update:,} updates"
    chain, notes = not isinstance(found.model, EncoderDecoder), tuple(_notes(found))
    try:
        return Found(path, said, layers, chain, notes, _optimiser(found))
    except LeftOut as error:
        return Found(path, said, layers, chain, (*notes, f"{LEFT_OUT}{error}"))


def _layers(model: Model, weights: Mapping[str, Array], group: str) -> Iterator[Layer]:
    """A model's layers with these weights, or with moments in their place.

    Args:
        model: whose.
        weights: by the names of `rnn_common.networks`.
        group: what stands before them in the file.
    """
    for prefix, stack in model.stacks().items():
        if stack.embedding:
            yield Embedding(f"{prefix}embedding", weights[f"{prefix}E"], arrays=(f"{group}/{prefix}E",))
        for number in range(1, stack.layers + 1):
            yield _recurrent(model, stack, f"{prefix}layer{number}", weights, group)
    yield Dense("output", weights["W_hy"], weights["b_y"], arrays=(f"{group}/W_hy", f"{group}/b_y"))


def _recurrent(model: Model, stack: Stack, name: str, weights: Mapping[str, Array], group: str) -> Recurrent:
    cell = cell_of(stack.cell)
    places = [f"{name}/{direction}/" for direction in stack.directions]
    directions = (
        Direction({weight: weights[place + weight] for weight in cell.roles}, default_activations(cell))
        for place in places
    )
    return Recurrent(
        name,
        cell,
        tuple(directions),
        "single gates",
        returns_sequences=model.head == "steps" or not name.endswith(f"layer{stack.layers}"),
        arrays=tuple(f"{group}/{place}{weight}" for place in places for weight in cell.roles),
    )


def _optimiser(found: Checkpoint) -> Optimiser:
    """The recipe's, whose moments bear the document's names, too.

    Raises:
        LeftOut: it is not of the weights that are read, or in the form of a format before.
    """
    recipe = found.recipe
    if found.best:
        raise LeftOut("it is of the last update, not of the lowest validation loss")
    if "sum" in found.moments:
        raise LeftOut("it is in the form of a format before: rnn-parity resume goes on with it")
    names = ("beta_1", "beta_2", "epsilon") if recipe.optimizer == "adam" else ("momentum",)
    settings = {name: getattr(recipe, name) for name in ("learning_rate", *names)}
    if recipe.optimizer == "sgd":
        settings["nesterov"] = False
    moments = {
        name: _layers(found.model, moment, f"moments {name}") for name, moment in found.moments.items() if moment
    }
    notes = []
    if recipe.warm_up or recipe.schedule != "constant":
        notes.append("the learning rate is the recipe's, which has a schedule")
    if recipe.clip_norm:
        notes.append(f"clip_norm {recipe.clip_norm} is left out")
    return made(recipe.optimizer, settings, found.position.update, moments, notes)


def _notes(found: Checkpoint) -> Iterator[str]:
    model = found.model
    if isinstance(model, EncoderDecoder):
        yield "the encoder's final state is the decoder's first, which no chain of layers says"
    if any(stack.dropout for stack in model.stacks().values()):
        yield "dropout between the layers, in training, is left out"
    if model.head != "forecast":
        yield "the output is scores: their softmax is probabilities"
    if found.best:
        yield "the weights are those of the lowest validation loss"
