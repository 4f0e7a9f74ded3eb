"""Models out of what is in a file of either framework: built of our layers, filled, run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rnn_common import exchange, packings
from rnn_common.cells import Cell
from rnn_common.doctor import live
from rnn_common.exchange import Dense, Embedding, Found, Layer, Optimiser, Recurrent, optimisers
from rnn_common.exchange import fill as filling
from rnn_common.exchange.proof import Proof
from rnn_tf import layers, private
from rnn_tf.activations import function_of
from rnn_tf.own import layer_of


def load(path: Path | str, dtype: str = "float32", cells: Sequence[Cell | str] = ()) -> Any:
    """The model in a file of PyTorch's, Keras's, ONNX's or NumPy's, or in a checkpoint of ours; see `rnn_common.exchange.read`.

    Args:
        path: of the file, or of a folder of checkpoints.
        dtype: of the weights. Default float32.
        cells: of the user's own, that the file may have layers of; see `rnn_common.exchange.read`. Default none.

    Returns:
        A `keras.Sequential` where the file says that its layers are one; else a dictionary of those that we have, by name.

    Raises:
        NotUnderstood, OSError: see `read`.
        ValueError: there is no recurrent layer in it, or one that no layer of ours computes; says which.
    """
    return model(exchange.read(path, cells), dtype)


def save(model: Any, path: Path | str) -> list[Proof]:
    """Write a live layer or network into a file of either framework, and prove that it computes the same.

    Args:
        model: ours or the framework's own: recurrent layers, embeddings and dense layers.
        path: ends with one of `rnn_common.exchange.convert.TARGETS`. Into `.keras`, `.weights.h5` and `.onnx` goes a network of
            layers that each read what the one before it gives, which is seen by running it; into the others weights by name.

    Returns:
        How far what was written is from the equations, and how far it may be; see `rnn_common.exchange.proof.Proof`.

    Raises:
        TypeError, ValueError: it holds no recurrent layer, or the file cannot hold it; says what.
        ProofFailed: what was written does not compute the same; nothing is left.
        OSError: the file cannot be written.
    """
    return live.save(model, path)


def fill(
    model: Any,
    found_or_path: Found | Path | str,
    match: Mapping[str, str] | None = None,
    cells: Sequence[Cell | str] = (),
) -> list[Proof]:
    """Give the layers of a live network the weights of those in a file of either framework, and prove that they compute the same.

    Recurrent layers, ours and Keras's own, embeddings and dense layers are filled; what else there is stays as it is: engines,
    dropout, what is returned, which steps a recurrent layer skips. Layers without weights are built.
    Nothing is written before all is checked. Then each layer is run by itself on random numbers up to 3, beside the equations.

    Args:
        model: a network, or a single layer.
        found_or_path: of the file its path, see `rnn_common.exchange.read`, or what was found in it.
        match: by the name of each layer that is to be filled that of the layer in the file, which `rnn-parity inspect` says;
            in a layer of several cells they are called `"rnn, layer 2"`. Default: all, those of one kind (recurrent,
            embedding, dense) in their order.
        cells: of the user's own, that the file may have layers of; see `rnn_common.exchange.read`. Default none.

    Returns:
        How far each is from the equations, and its bound: in a dtype coarser than float32 rounding may be as much coarser.

    Raises:
        NotUnderstood, OSError: see `read`.
        TypeError: model is none of Keras's.
        ValueError: a layer would compute something else, for it differs in cell, form, activations, directions or how they become
            one, sizes or biases; or its weights are shared or computed from others; or there are not as many as in the file.
        ProofFailed: a layer does not compute what was found; all have their old weights again.

    Warns:
        MergedBiasesWarning: see `copy_weights`.
    """
    return filling.fill("tf", model, found_or_path, match, cells)


def load_optimiser(path: Path | str, model: Any, cells: Sequence[Cell | str] = ()) -> Any:
    """The optimiser with which the model in a file was trained, Adam or SGD, with all that it remembers.

    Args:
        path: of the file, from which `load` made the model, or its layers.
        model: whose weights it is to train, or a dictionary of layers.
        cells: of the user's own, that the file may have layers of; see `rnn_common.exchange.read`. Default none.

    Raises:
        NotUnderstood, OSError: see `read`.
        ValueError: there is none in it, or none that can be taken along; says why.
    """
    return optimiser(exchange.read(path, cells), model)


def model(found: Found, dtype: str = "float32", package: Any = layers) -> Any:
    """The same of what was found already.

    Args:
        found: from `rnn_common.exchange.read`.
        dtype: of the weights. Default float32.
        package: where the recurrent layers' classes are: ours (default) or `keras.layers`.
    """
    if not found.recurrent:
        names = ", ".join(each.name for each in found.layers) or "none"
        raise ValueError(f"{found.path} should hold a recurrent layer, got {names}")
    made = {name: built(layer, dtype, package, name) for name, layer in found.by_name("/").items()}
    if found.is_network:
        return keras.Sequential([_input(found.ours[0], dtype), *made.values()])
    return made


def optimiser(found: Found, model: Any) -> Any:
    """The same of what was found already."""
    about = optimisers.fitted(found, "tf")
    made = model if isinstance(model, dict) else {layer.name: layer for layer in model.layers}
    trained = {name: layer.trainable_variables for name, layer in made.items() if layer.trainable_variables}
    arrays = {
        moment: {name: _packed(layer) for name, layer in replace(found, layers=layers).by_name("/").items()}
        for moment, layers in about.moments.items()
    }
    return _remembering(about, trained, arrays)


def _input(first: Layer, dtype: str) -> Any:
    """Symbols `(batch, time)`, or features `(batch, time, input)`."""
    if isinstance(first, Embedding):
        return keras.Input((None,), dtype="int32")
    width = first.input_size if isinstance(first, Recurrent) else first.W.shape[1]  # type: ignore[union-attr]
    return keras.Input((None, width), dtype=dtype)


def built(layer: Layer, dtype: str = "float32", package: Any = layers, name: str | None = None) -> Any:
    """A Keras layer with a found layer's weights."""
    if isinstance(layer, Embedding):
        table = keras.layers.Embedding(*layer.E.shape, mask_zero=bool(layer.masks), dtype=dtype, name=name)
        return _filled(table, (None, None), [*arrays(layer).values()])
    if isinstance(layer, Dense):
        outputs, inputs = layer.W.shape
        dense = keras.layers.Dense(
            outputs, _function(layer, layer.activation), layer.b is not None, dtype=dtype, name=name
        )
        return _filled(dense, (None, inputs), [*arrays(layer).values()])
    assert isinstance(layer, Recurrent)
    return _recurrent(layer, dtype, package, name)


def _filled(layer: Any, shape: tuple[int | None, ...], weights: list[Any]) -> Any:
    layer.build(shape)
    layer.set_weights(weights)
    return layer


def arrays(layer: Embedding | Dense) -> dict[str, exchange.Array]:
    """The weights of a found layer that is not recurrent, by the names of a layer's variables."""
    if isinstance(layer, Embedding):
        return {"embeddings": layer.E}
    return {"kernel": layer.W.T} | ({} if layer.b is None else {"bias": layer.b})


def _recurrent(layer: Recurrent, dtype: str, package: Any, name: str | None) -> Any:
    """A layer with the weights of a found one; two biases of a gate that are added become one.

    Raises:
        ValueError: its outputs run backwards and stand in the order of the input, in which no single layer of Keras's has them.
    """
    sequences = layer.returns_sequences is not False
    if layer.backwards and sequences and not layer.flipped:
        raise ValueError(
            f"{layer.name} should hand on its outputs in the order in which it runs, as go_backwards does in Keras, or the last "
            "alone; got one that runs backwards with outputs in the order of the input: make it both ways, or flip it yourself"
        )

    kind: Any = getattr(package, layer.cell.layer_class) if layer.cell.in_table else layer_of(layer.cell)

    def made(direction: exchange.Direction, backwards: bool, **names: str | None) -> Any:
        functions = [_function(layer, each) for each in direction.activations]
        options = dict(zip(("activation", "recurrent_activation"), functions, strict=False))
        return kind(
            layer.hidden_size,
            use_bias=layer.bias,
            return_sequences=sequences,
            go_backwards=backwards,
            dtype=dtype,
            **layer.cell.options,
            **options,
            **names,
        )

    weights = [array for n in range(len(layer.directions)) for array in packings.to_keras(layer.parameters(n))]
    if len(layer.directions) == 1:
        return _filled(made(layer.directions[0], layer.backwards, name=name), (None, None, layer.input_size), weights)
    forward, backward = (made(each, n == 1) for n, each in enumerate(layer.directions))
    both = keras.layers.Bidirectional(forward, layer.merge, backward_layer=backward, dtype=dtype, name=name)
    return _filled(both, (None, None, layer.input_size), weights)


def _packed(layer: Recurrent | Embedding | Dense) -> list[exchange.Array]:
    """A found layer's arrays, arranged as the variables of a layer of `built`, with both biases where Keras has two."""
    if not isinstance(layer, Recurrent):
        return [*arrays(layer).values()]
    return [array for each in layer.directions for array in packings.pack_keras(layer.cell, each.weights)]


def _remembering(
    about: Optimiser, trained: Mapping[str, list[Any]], arrays: Mapping[str, Mapping[str, list[exchange.Array]]]
) -> Any:
    """An optimiser of layers' variables, with the moments of each layer by its name.

    Raises:
        ValueError: a layer has none.
    """
    settings = about.settings
    if about.name == "adam":
        made = keras.optimizers.Adam(*(settings[name] for name in ("learning_rate", "beta_1", "beta_2", "epsilon")))
    else:
        made = keras.optimizers.SGD(
            settings["learning_rate"], float(settings["momentum"]), nesterov=bool(settings["nesterov"])
        )
    made.build([variable for variables in trained.values() for variable in variables])
    made.iterations.assign(about.updates or 0)
    if not arrays:
        return made
    memories = {"velocity": made.momentums} if about.name == "sgd" else {}
    if about.name == "adam":
        memories["m"], memories["v"] = private.moments(made)
    for moment, own in arrays.items():
        if others := [name for name in trained if name not in own]:
            raise ValueError(f"model should be of the layers in the file, got {others[0]} besides")
        given = [array for name in trained for array in own[name]]
        for variable, array in zip(memories[moment], given, strict=True):
            variable.assign(array)
    return made


def _function(layer: Dense | Recurrent, activation: exchange.Activation) -> Any:
    """What Keras takes for a layer's activation."""
    try:
        return function_of(activation)
    except ValueError as error:
        raise ValueError(f"{layer.name}: {error}") from None


def write(model: Any, path: Path) -> None:
    """Write a model as Keras does: whole, or of `.weights.h5` its weights."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)


def opened(path: Path, model: Any) -> Any:
    """What `write` wrote, as Keras opens it: of weights alone, into a model of the same layers."""
    if not path.name.endswith(".weights.h5"):
        return keras.saving.load_model(path)
    model.set_weights([np.zeros_like(each) for each in model.get_weights()])
    model.load_weights(path)
    return model


def run(model: Any, x: exchange.Array, lengths: exchange.Array | None = None) -> exchange.Array:
    """What a model of `model` gives, in NumPy and without dropout."""
    y = tf.convert_to_tensor(x)
    if lengths is None:
        return np.asarray(model(y, training=False))
    mask = tf.sequence_mask(lengths, x.shape[1])
    for layer in model.layers if isinstance(model, keras.Sequential) else [model]:
        # Each that skips steps is told: an embedding hands on no mask but its own.
        skips = isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional))
        y = layer(y, mask=mask, training=False) if skips else layer(y, training=False)
    return np.asarray(y)
