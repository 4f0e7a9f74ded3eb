"""Gate-named weights to and from the packings that Keras and TensorFlow have given up, and that old files still have.

| packing | arrays | LSTM | GRU | biases |
| --- | --- | --- | --- | --- |
| cudnn | kernel, recurrent kernel, bias | i f c̃ o | z r ñ | two in one row: `(2 · gates · hidden,)` |
| keras 1 | W, U and b of each gate in turn | i c̃ f o | z r ñ | one |
| tf1 | kernel and bias; of a GRU those of its gates, then the candidate's | i c̃ f o | r z, ñ | one |

The arrays of `CuDNNLSTM` have the shapes of an `LSTM`'s, but not its arrangement: a gate's block of the kernel is the matrix
`(hidden, input)` in rows, folded into `(input, hidden)` without being transposed, and a gate's block of the recurrent kernel
is not transposed either. A file that is read as if it were an `LSTM`'s gives other numbers and no error: only the bias tells.

The cells of TensorFlow 1 (`tf.nn.rnn_cell`) have one kernel for x_t with h_{t−1} behind it, and an LSTM's adds its `forget_bias`
to b_f when it runs: here it is in b_f. What Paddle has is PyTorch's packing, under PyTorch's names.

Of a GRU Keras 1 and TensorFlow 1 have the third form alone. With `consume_less="gpu"` Keras 1 has Keras 2's three arrays, and so
it has of SimpleRNN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_common.cells import Cell, cell_of
from rnn_common.packings import by_gate, merged, pack_keras, unpack_keras

Array = NDArray[Any]

CUDNN = ("LSTM", "GRU")
# The gates of each pair of kernel and bias.
TF_1 = {"SimpleRNN": (("h",),), "LSTM": (("i", "c", "f", "o"),), "GRU v3": (("r", "z"), ("n",))}
KERAS_1 = {"SimpleRNN": ("h",), "LSTM": ("i", "c", "f", "o"), "GRU v3": ("z", "r", "n")}


def unpack_cudnn(cell: Cell | str, arrays: Sequence[Any]) -> dict[str, Array]:
    """The arrays of `CuDNNLSTM` or `CuDNNGRU` by the document's names, both biases apart.

    Args:
        cell: `LSTM` or `GRU`.
        arrays: kernel `(input, gates · hidden)`, recurrent kernel `(hidden, gates · hidden)`, bias `(2 · gates · hidden,)`.

    Raises:
        ValueError: another cell, another number of arrays, or a misshapen one.
    """
    cell = _of(cell, CUDNN)
    kernel, recurrent, bias = _three(cell, arrays)
    gates = len(cell.gates)
    W = [block.reshape(block.shape[::-1]) for block in np.split(kernel, gates, axis=1)]
    R = np.split(recurrent, gates, axis=1)
    b, b_h = (np.split(half, gates) for half in np.split(bias, 2))
    recurrent_biases = {f"b_h{gate}": block for gate, block in zip(cell.orders["keras"], b_h, strict=True)}
    return by_gate("keras", cell, W, R, b, **recurrent_biases)


def pack_cudnn(cell: Cell | str, weights: Mapping[str, Array]) -> list[Array]:
    """Weights by the document's names as `CuDNNLSTM` or `CuDNNGRU` has them: see `unpack_cudnn`. Absent biases are 0.

    Raises:
        ValueError: another cell than `LSTM` and `GRU`.
    """
    cell = _of(cell, CUDNN)
    order = cell.orders["keras"]
    W = [np.ascontiguousarray(weights[cell.input_weight(gate)]) for gate in order]
    R = [weights[cell.recurrent_weight(gate)] for gate in order]
    zero = np.zeros(len(R[0]), R[0].dtype)
    biases = [weights.get(cell.bias(gate), zero) for gate in order]
    recurrent = [weights.get(f"b_h{gate}", zero) for gate in order]
    kernel = np.concatenate([matrix.reshape(matrix.shape[::-1]) for matrix in W], axis=1)
    return [kernel, np.concatenate(R, axis=1), np.concatenate([*biases, *recurrent])]


def unpack_keras_1(cell: Cell | str, arrays: Sequence[Any]) -> dict[str, Array]:
    """The arrays of a recurrent layer of Keras 1 by the document's names.

    Args:
        cell: `SimpleRNN`, `LSTM` or `GRU v3`.
        arrays: of each gate W `(input, hidden)`, U `(hidden, hidden)` and b `(hidden,)`, or Keras 2's three.

    Raises:
        ValueError: another cell, another number of arrays, or a misshapen one.
    """
    cell = _of(cell, tuple(KERAS_1))
    order = KERAS_1[cell.name]
    if len(arrays) == 3:
        return unpack_keras(cell, arrays)
    if len(arrays) != 3 * len(order):
        raise ValueError(f"arrays of {cell.name} should be 3 or {3 * len(order)}, got {len(arrays)}")
    found: dict[str, Array] = {}
    for gate, W, U, b in zip(order, arrays[::3], arrays[1::3], arrays[2::3], strict=True):
        found |= {cell.input_weight(gate): np.asarray(W).T, cell.recurrent_weight(gate): np.asarray(U).T}
        found[cell.bias(gate)] = np.asarray(b)
    _check(cell, found)
    return {name: found[name] for name in cell.roles}


def pack_keras_1(cell: Cell | str, weights: Mapping[str, Array]) -> list[Array]:
    """Weights by the document's names as Keras 1 has them: see `unpack_keras_1`.

    Absent biases are 0, and two that are added are added here.

    Raises:
        ValueError: another cell than `SimpleRNN`, `LSTM` and `GRU v3`.
    """
    cell = _of(cell, tuple(KERAS_1))
    weights = _with_one_bias(cell, weights)
    if len(cell.gates) == 1:
        return pack_keras(cell, weights)
    return [
        array
        for gate in KERAS_1[cell.name]
        for array in (
            np.ascontiguousarray(weights[cell.input_weight(gate)].T),
            np.ascontiguousarray(weights[cell.recurrent_weight(gate)].T),
            weights[cell.bias(gate)],
        )
    ]


def unpack_tf1(cell: Cell | str, arrays: Sequence[Any], forget_bias: float = 1.0) -> dict[str, Array]:
    """The arrays of `BasicRNNCell`, `BasicLSTMCell` or `LSTMCell`, or `GRUCell` of TensorFlow 1 by the document's names.

    Args:
        cell: `SimpleRNN`, `LSTM` or `GRU v3`.
        arrays: kernel `(input + hidden, gates · hidden)` and bias `(gates · hidden,)`; of `GRU v3` these of the gates r and z,
            then of the candidate.
        forget_bias: what the LSTM adds to b_f. Default 1, as in TensorFlow.

    Raises:
        ValueError: another cell, another number of arrays, or a misshapen one.
    """
    cell = _of(cell, tuple(TF_1))
    orders = TF_1[cell.name]
    if len(arrays) != 2 * len(orders):
        raise ValueError(f"arrays of {cell.name} should be {2 * len(orders)}, got {len(arrays)}")
    found: dict[str, Array] = {}
    for order, kernel, bias in zip(orders, map(np.asarray, arrays[::2]), map(np.asarray, arrays[1::2]), strict=True):
        hidden, gates = bias.size // len(order), len(order)
        if bias.shape != (gates * hidden,) or not hidden:
            raise ValueError(f"bias should have shape ({gates} · hidden,), got {bias.shape}")
        if kernel.ndim != 2 or kernel.shape[0] <= hidden or kernel.shape[1] != gates * hidden:
            raise ValueError(f"kernel should have shape (input + {hidden}, {gates * hidden}), got {kernel.shape}")
        for gate, block, b in zip(order, np.split(kernel, gates, axis=1), np.split(bias, gates), strict=True):
            W, R = block[:-hidden], block[-hidden:]
            found |= {cell.input_weight(gate): W.T, cell.recurrent_weight(gate): R.T, cell.bias(gate): b}
    _check(cell, found)
    if cell.name == "LSTM":
        found["b_f"] = found["b_f"] + forget_bias
    return {name: found[name] for name in cell.roles}


def pack_tf1(cell: Cell | str, weights: Mapping[str, Array], forget_bias: float = 1.0) -> list[Array]:
    """Weights by the document's names as the cells of TensorFlow 1 have them: see `unpack_tf1`.

    Absent biases are 0, and two that are added are added here.

    Raises:
        ValueError: another cell than `SimpleRNN`, `LSTM` and `GRU v3`.
    """
    cell = _of(cell, tuple(TF_1))
    weights = _with_one_bias(cell, weights)
    if cell.name == "LSTM":
        weights["b_f"] = weights["b_f"] - forget_bias
    arrays = []
    for order in TF_1[cell.name]:
        blocks = [np.hstack([weights[cell.input_weight(gate)], weights[cell.recurrent_weight(gate)]]) for gate in order]
        arrays += [np.ascontiguousarray(np.concatenate(blocks).T)]
        arrays += [np.concatenate([weights[cell.bias(gate)] for gate in order])]
    return arrays


def _with_one_bias(cell: Cell, weights: Mapping[str, Array]) -> dict[str, Array]:
    zero = np.zeros(len(weights[cell.input_matrices[0]]), weights[cell.input_matrices[0]].dtype)
    return merged(cell, dict.fromkeys(cell.biases, zero) | dict(weights))


def _of(cell: Cell | str, names: Sequence[str]) -> Cell:
    cell = cell_of(cell)
    if cell.name not in names:
        raise ValueError(f"cell should be one of {', '.join(names)} in this packing, got {cell.name}")
    return cell


def _three(cell: Cell, arrays: Sequence[Any]) -> list[Array]:
    if len(arrays) != 3:
        raise ValueError(f"arrays should be kernel, recurrent_kernel and bias, got {len(arrays)} arrays")
    found = [np.asarray(array) for array in arrays]
    kernel, recurrent, bias = (array.shape for array in found)
    gates, hidden = len(cell.gates), (recurrent[0] if recurrent else 0)
    if recurrent != (hidden, gates * hidden):
        raise ValueError(f"recurrent_kernel should have shape (hidden, {gates} · hidden), got {recurrent}")
    if len(kernel) != 2 or kernel[1] != gates * hidden:
        raise ValueError(f"kernel should have shape (input, {gates * hidden}), got {kernel}")
    if bias != (2 * gates * hidden,):
        raise ValueError(f"bias should have shape ({2 * gates * hidden},), got {bias}")
    return found


def _check(cell: Cell, weights: Mapping[str, Array]) -> None:
    first = weights[cell.input_matrices[0]].shape
    if len(first) != 2:
        raise ValueError(f"{cell.input_matrices[0]} should have shape (hidden, input), got {first}")
    for name, shape in cell.shapes(first[1], first[0]).items():
        if weights[name].shape != shape:
            raise ValueError(f"{name} should have shape {shape}, got {weights[name].shape}")
