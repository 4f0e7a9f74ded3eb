"""`rnn_common.networks` built from Keras's parts and our layers, and what one does with a network, in NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rnn_common import networks, packings
from rnn_common.cells import CELLS
from rnn_common.data.batches import Batch
from rnn_common.networks import Array, Model, Weights
from rnn_common.twins import NetworkState
from rnn_tf import layers
from rnn_tf.clock import on

Tensor = Any
State = list[tuple[Tensor, ...]]


class Stack(keras.layers.Layer):  # type: ignore[misc]
    """An embedding, where steps are symbols, and recurrent layers on one another."""

    def __init__(self, described: networks.Stack, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.described = described
        dtype = self.dtype_policy
        embedded = described.embedding
        self.embedding = keras.layers.Embedding(described.inputs, embedded, dtype=dtype) if embedded else None
        cell = CELLS[described.cell]
        self.layers = [
            getattr(layers, cell.layer_class)(
                described.hidden, return_sequences=True, return_state=True, dtype=dtype, **cell.options
            )
            for _ in range(described.layers)
        ]
        if described.bidirectional:
            self.layers = [keras.layers.Bidirectional(layer, dtype=dtype) for layer in self.layers]
        self.dropout = keras.layers.Dropout(described.dropout, seed=0, dtype=dtype)

    def build(self, x_shape: Any) -> None:
        if self.embedding is not None:
            self.embedding.build(x_shape)
        for index, layer in enumerate(self.layers):
            layer.build((None, None, self.described.input_size(index + 1)))

    def call(
        self, x: Tensor, lengths: Tensor | None = None, state: State | None = None, training: bool = False
    ) -> tuple[Tensor, State]:
        """Run the layers.

        Args:
            x: `(batch, time, features)`, or `(batch, time)` symbols.
            lengths: `(batch,)`. Default: every sequence fills the time axis.
            state: each layer's first state, `(h,)` or `(h, c)`, each `(batch, width)`; in one direction only. Default zeros.
            training: whether dropout applies. Default False.

        Returns:
            The outputs `(batch, time, width)` and each layer's final state, its directions side by side.
        """
        mask = None if lengths is None else tf.sequence_mask(lengths, tf.shape(x)[1])
        if self.embedding is not None:
            x = self.embedding(x)
        final = []
        for index, layer in enumerate(self.layers):
            x = x if index == 0 else self.dropout(x, training=training)
            x, h = _run(layer, x, mask, None if state is None else list(state[index]))
            final.append(h)
        return x, final


def _run(layer: Any, x: Tensor, mask: Tensor | None, state: list[Tensor] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer: its outputs, and its final state with the directions side by side."""
    outputs, *final = layer(x, mask=mask, initial_state=state)
    if isinstance(layer, keras.layers.Bidirectional):
        half = len(final) // 2
        final = [tf.concat(both, -1) for both in zip(final[:half], final[half:], strict=True)]
    return outputs, tuple(final)


def one_bias(variable: Any, described: networks.Stack) -> Tensor | None:
    """What a bias's gradient is multiplied by, so that of two that are added only the first is trained; None: nothing.

    The equations have one; the second is 0.
    """
    cell = CELLS[described.cell]
    if variable.name != "bias" or not cell.apart:
        return None
    apart = np.repeat([gate in cell.apart for gate in cell.orders["keras"]], described.hidden)
    return tf.constant(np.stack([np.ones_like(apart), apart]), variable.dtype)


class Network(keras.Model):  # type: ignore[misc]
    """A stack and y_t = W_hy h_t + b_y."""

    def __init__(self, described: networks.Network, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.described = described
        self.stack = Stack(described.stack, dtype=self.dtype_policy)
        self.output_layer = keras.layers.Dense(described.outputs, dtype=self.dtype_policy)

    def build(self, x_shape: Any = None) -> None:
        self.stack.build(x_shape)
        self.output_layer.build((None, self.described.output_width))

    def call(
        self, x: Tensor, lengths: Tensor | None = None, targets: Tensor | None = None, training: bool = False
    ) -> Tensor:
        """Scores or numbers `(batch, outputs)`, or at every step `(batch, time, outputs)`."""
        outputs, final = self.stack(x, lengths, training=training)
        h = outputs if self.described.head == "steps" else final[-1][0]
        return self.output_layer(self.stack.dropout(h, training=training))


class EncoderDecoder(keras.Model):  # type: ignore[misc]
    """An encoder, and a decoder that starts from its final state."""

    def __init__(self, described: networks.EncoderDecoder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.described = described
        self.encoder = Stack(described.encoder, dtype=self.dtype_policy)
        self.decoder = Stack(described.decoder, dtype=self.dtype_policy)
        self.output_layer = keras.layers.Dense(described.outputs, dtype=self.dtype_policy)

    def build(self, x_shape: Any = None) -> None:
        self.encoder.build(x_shape)
        self.decoder.build(x_shape)
        self.output_layer.build((None, self.described.output_width))

    def call(
        self, x: Tensor, lengths: Tensor | None = None, targets: Tensor | None = None, training: bool = False
    ) -> Tensor:
        """Scores of each target symbol `(batch, target time, outputs)`, the decoder reading the one before."""
        if targets is None:
            raise ValueError("targets should be given to an encoder-decoder, got None")
        _, state = self.encoder(x, lengths, training=training)
        before = tf.pad(tf.maximum(targets, 0)[:, :-1], [[0, 0], [1, 0]])
        outputs, _ = self.decoder(before, None, state, training=training)
        return self.output_layer(self.decoder.dropout(outputs, training=training))


def build(model: Model, weights: Mapping[str, Array], *, dtype: str = "float32", device: str = "cpu") -> Any:
    with on(device):
        network = (
            Network(model, dtype=dtype) if isinstance(model, networks.Network) else EncoderDecoder(model, dtype=dtype)
        )
        network.build((None, None))
        network.built = True
        fill(network, weights)
    return network


def fill(network: Any, weights: Mapping[str, Array]) -> None:
    networks.check_weights(network.described, weights)
    for variable, array in zip(variables(network), packed(network, weights), strict=True):
        variable.assign(array)


def weights(network: Any) -> Weights:
    return named(network, [variable.numpy() for variable in variables(network)])


def stacks(network: Any) -> Iterator[tuple[str, Stack]]:
    """Each stack, and the prefix of its weights' names."""
    for prefix in network.described.stacks():
        yield prefix, getattr(network, prefix.removesuffix("/") or "stack")


def _parts(network: Any) -> Iterator[tuple[str, Any, networks.Stack | None]]:
    """Every layer that holds weights: the prefix of their names, the layer, and the stack it is a recurrent layer of."""
    for prefix, stack in stacks(network):
        if stack.embedding is not None:
            yield prefix, stack.embedding, None
        recurrent = iter(stack.described.recurrent())
        for layer in stack.layers:
            both = isinstance(layer, keras.layers.Bidirectional)
            for direction in (layer.forward_layer, layer.backward_layer) if both else (layer,):
                yield prefix + next(recurrent)[0], direction, stack.described
    yield "", network.output_layer, None


def variables(network: Any) -> list[Any]:
    """The variables in the order of the weights' names, layer by layer."""
    return [variable for _, layer, _ in _parts(network) for variable in layer.trainable_variables]


def bias_masks(network: Any) -> list[Tensor | None]:
    """What each variable's gradient is multiplied by, see `one_bias`."""
    return [
        None if described is None else one_bias(variable, described)
        for _, layer, described in _parts(network)
        for variable in layer.trainable_variables
    ]


def named(network: Any, arrays: Sequence[Array]) -> Weights:
    """Arrays arranged as `variables`, under the document's names."""
    found: Weights = {}
    remaining = iter(arrays)
    for prefix, layer, described in _parts(network):
        own = [next(remaining) for _ in layer.trainable_variables]
        if described is not None:
            read = packings.from_keras(described.cell, own)
            found |= {prefix + weight: np.ascontiguousarray(array) for weight, array in read.items()}
        elif isinstance(layer, keras.layers.Embedding):
            found[f"{prefix}E"] = own[0]
        else:
            found |= {"W_hy": np.ascontiguousarray(own[0].T), "b_y": own[1]}
    return found


def packed(network: Any, weights: Mapping[str, Array]) -> list[Array]:
    """Arrays under the document's names, arranged as `variables`."""
    arrays: list[Array] = []
    for prefix, layer, described in _parts(network):
        if described is not None:
            arrays += packings.to_keras(networks.recurrent_parameters(described, weights, prefix))
        elif isinstance(layer, keras.layers.Embedding):
            arrays.append(weights[f"{prefix}E"])
        else:
            arrays += [weights["W_hy"].T, weights["b_y"]]
    return arrays


def inputs(network: Any, batch: Batch) -> dict[str, Array]:
    """A batch's x, lengths and targets, of the network's dtype."""
    arrays = {"x": batch.x, "lengths": batch.lengths, "targets": batch.targets}
    return {name: a.astype(network.dtype) if a.dtype.kind == "f" else a for name, a in arrays.items()}


def signature(network: Any, batch: Batch) -> dict[str, tf.TensorSpec]:
    """The types of `inputs`, with the sizes of batch and time left open."""
    arrays = inputs(network, batch)
    shapes = {name: [None, *array.shape[1:]] for name, array in arrays.items()}
    shapes["x"][1] = None
    if batch.target_lengths is not None:
        shapes["targets"][1] = None
    return {name: tf.TensorSpec(shapes[name], array.dtype) for name, array in arrays.items()}


def _call(network: Any, name: str, function: Any, specs: Any, *arguments: Any) -> Any:
    """What a function of the network returns: a graph, traced once, that runs where the network is."""
    graphs = network.__dict__.setdefault("_graphs", {})
    if name not in graphs:
        graphs[name] = tf.function(function, input_signature=specs, autograph=False)
    with tf.device(network.output_layer.kernel.value.device):
        return graphs[name](*arguments)


def predict(network: Any, batch: Batch) -> Array:
    specs = [signature(network, batch)]
    return np.asarray(_call(network, "predict", lambda data: network(**data), specs, inputs(network, batch)))


def encode(network: Any, batch: Batch) -> NetworkState:
    specs = [signature(network, batch)[name] for name in ("x", "lengths")]
    arguments = (batch.x, batch.lengths)
    state = _call(network, "encode", lambda x, lengths: network.encoder(x, lengths)[1], specs, *arguments)
    return [tuple(np.asarray(h) for h in layer) for layer in state]


def step(network: Any, symbols: Array, state: NetworkState | None) -> tuple[Array, NetworkState]:
    stack = network.stack if isinstance(network, Network) else network.decoder
    described = stack.described
    if state is None:
        zeros = np.zeros((len(symbols), described.hidden), network.dtype)
        state = [tuple(zeros for _ in CELLS[described.cell].states) for _ in range(described.layers)]

    def one_step(symbols: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, after = stack(symbols[:, None], None, state)
        return network.output_layer(outputs[:, 0]), after

    h = tf.TensorSpec((None, described.hidden), network.dtype)
    specs = [tf.TensorSpec((None,), tf.int64), [tuple(h for _ in layer) for layer in state]]
    scores, after = _call(network, "step", one_step, specs, symbols, state)
    return np.asarray(scores), [tuple(np.asarray(h) for h in layer) for layer in after]
