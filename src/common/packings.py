"""Gate-named weights to and from the packings of PyTorch, Keras and ONNX.

| packing | SimpleRNN | LSTM | GRU | matrices | biases |
| --- | --- | --- | --- | --- | --- |
| torch | h | i f c̃ o | r z ñ | `(gates · hidden, input)` | two, added; of a GRU `b_hn` is apart, of its third form added |
| keras | h | i f c̃ o | z r ñ | transposed: `(input, gates · hidden)` | one; of a GRU `(2, …)`, of its third form one |
| onnx | h | i o f c̃ | z r ñ | `(1, gates · hidden, input)` | one array, input biases then recurrent |

Where a packing holds two biases that are added, the container holds their sum. Reading such a packing and writing it
again gives the same function, with the whole sum in the input bias and zeros in the recurrent one: `from_torch` and
`from_onnx` warn with `MergedBiasesWarning` when that changes the arrays, because a gradient step moves two added biases
twice as far as one.

Those that Keras has given up, of old files, are in `rnn_common.old_packings`.

`unpack_torch`, `unpack_keras` and `unpack_onnx` read the same names with both biases apart: `b_i` and `b_hi`. `pack_torch`,
`pack_keras` and `pack_onnx` write them, and add the two only where the packing has no place for the second.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rnn_common.cells import Cell, Packing, cell_of
from rnn_common.weights import Parameters

Array = NDArray[Any]


class MergedBiasesWarning(UserWarning):
    """Two biases that a packing adds were merged into one: the function stays, the split between the two is lost."""


def by_gate(
    packing: Packing,
    cell: Cell,
    input_blocks: Sequence[Any],
    recurrent_blocks: Sequence[Any],
    bias_blocks: Sequence[Any] = (),
    **recurrent_bias: Any,
) -> dict[str, Any]:
    """Name the blocks of a packing, one a gate and in the packing's order, after their gates. Arrays of any framework.

    Args:
        packing: `"torch"`, `"keras"` or `"onnx"`.
        cell: the cell, or its name in `rnn_common.cells.CELLS`.
        input_blocks: the matrices that multiply the input.
        recurrent_blocks: the matrices that multiply the hidden state.
        bias_blocks: the biases, or none.
        recurrent_bias: `b_hn`, where there is one.
    """
    order = cell.orders[packing]
    named = {cell.input_weight(gate): block for gate, block in zip(order, input_blocks, strict=True)}
    named |= {cell.recurrent_weight(gate): block for gate, block in zip(order, recurrent_blocks, strict=True)}
    if bias_blocks:
        named |= {cell.bias(gate): block for gate, block in zip(order, bias_blocks, strict=True)}
    return named | recurrent_bias


def weights_by_gate(packing: Packing, cell: Cell, *blocks: Sequence[Any], **recurrent_bias: Any) -> Any:
    """`by_gate` as the named tuple that the equations are written in; absent biases are 0."""
    return cell.weights(**by_gate(packing, cell, *blocks, **recurrent_bias))


def _split(array: Array, gates: int, argument: str, axis: int = 0) -> list[Array]:
    if array.shape[axis] % gates:
        raise ValueError(f"{argument} should have a multiple of {gates} along axis {axis}, got shape {array.shape}")
    return np.split(array, gates, axis)


def _require(argument: str, array: Any, ndim: int) -> Array:
    array = np.asarray(array)
    if array.ndim != ndim:
        raise ValueError(f"{argument} should have {ndim} dimensions, got shape {array.shape}")
    return array


def _stack(
    packing: Packing, cell: Cell, weights: Mapping[str, Array]
) -> tuple[Array, Array, Array | None, Array | None]:
    """Input matrices, recurrent matrices, input biases and recurrent biases, stacked along the first axis.

    A gate without a recurrent bias has zeros there.
    """
    order = cell.orders[packing]
    W = np.concatenate([weights[cell.input_weight(gate)] for gate in order])
    R = np.concatenate([weights[cell.recurrent_weight(gate)] for gate in order])
    if cell.bias(order[0]) not in weights:
        return W, R, None, None
    biases = [weights[cell.bias(gate)] for gate in order]
    recurrent = [weights.get(f"b_h{gate}", np.zeros_like(b)) for gate, b in zip(order, biases, strict=True)]
    return W, R, np.concatenate(biases), np.concatenate(recurrent)


def _warn_of_merged_biases(cell: Cell, stacklevel: int) -> None:
    warnings.warn(
        f"the two biases of this {cell.name} were added into one: the function is the same, the split is lost",
        MergedBiasesWarning,
        stacklevel=stacklevel + 1,
    )


def _merge_biases(
    packing: Packing, cell: Cell, b: Array | None, b_h: Array | None, stacklevel: int = 4
) -> dict[str, Array]:
    """The container's biases from a packing's two: their sum, but for `b_hn`, which stays apart."""
    if b is None or b_h is None:
        return {}
    order = cell.orders[packing]
    biases: dict[str, Array] = {}
    merged = False
    for gate, b_gate, b_h_gate in zip(
        order, _split(b, len(order), "input bias"), _split(b_h, len(order), "recurrent bias"), strict=True
    ):
        if gate in cell.apart:
            biases |= {cell.bias(gate): b_gate, f"b_h{gate}": b_h_gate}
        else:
            biases[cell.bias(gate)] = b_gate + b_h_gate
            merged = merged or bool(np.any(b_h_gate))
    if merged:
        _warn_of_merged_biases(cell, stacklevel)
    return biases


def merged(cell: Cell, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Weights with both biases apart, as `unpack_torch` gives them, as `Parameters` hold them: the two of a gate are added."""
    found = dict(weights)
    for gate in set(cell.gates) - set(cell.apart):
        if f"b_h{gate}" in found:
            found[cell.bias(gate)] = found[cell.bias(gate)] + found.pop(f"b_h{gate}")
    return found


# A cell of the user's own, which no framework packs, has each weight by its name: in Keras a matrix transposed.


# PyTorch


def to_torch(parameters: Parameters, suffix: str = "_l0") -> dict[str, Array]:
    """The `state_dict` of `nn.RNN`, `nn.LSTM` or `nn.GRU` (or of a cell, with `suffix=""`), as NumPy arrays."""
    return pack_torch(parameters.cell, parameters, suffix)


def pack_torch(cell: Cell | str, weights: Mapping[str, Array], suffix: str = "_l0") -> dict[str, Array]:
    """Arrays by the document's names, both biases apart, arranged as `to_torch` does; see `unpack_torch`."""
    cell = cell_of(cell)
    if not cell.gates:
        return {f"{name}{suffix}": weights[name] for name in cell.roles if name in weights}
    W, R, b, b_h = _stack("torch", cell, weights)
    state = {f"weight_ih{suffix}": W, f"weight_hh{suffix}": R}
    if b is not None:
        state |= {f"bias_ih{suffix}": b, f"bias_hh{suffix}": cast(Array, b_h)}
    return state | ({f"weight_hr{suffix}": weights["projection"]} if "projection" in weights else {})


def from_torch(cell: Cell | str, state: Mapping[str, Any], *, suffix: str = "_l0") -> Parameters:
    """Read one layer and direction of a PyTorch `state_dict` (of arrays).

    Args:
        cell: the cell, or its name in `rnn_common.cells.CELLS`.
        state: `weight_ih{suffix}`, `weight_hh{suffix}` and, both or neither, `bias_ih{suffix}`, `bias_hh{suffix}`.
        suffix: of the names: `"_l0"` (default), `"_l1_reverse"`, …, `""` for a cell.

    Raises:
        ValueError: a missing or misshapen array, or what `Parameters` raises.

    Warns:
        MergedBiasesWarning: the two biases were added and the recurrent one was not zero.
    """
    cell = cell_of(cell)
    if not cell.gates:
        return Parameters(cell, unpack_torch(cell, state, suffix=suffix))
    names = [f"weight_ih{suffix}", f"weight_hh{suffix}"]
    if f"bias_ih{suffix}" in state or f"bias_hh{suffix}" in state:
        names += [f"bias_ih{suffix}", f"bias_hh{suffix}"]
    if missing := [name for name in names if name not in state]:
        raise ValueError(f"state should hold {', '.join(names)}, but lacks {', '.join(missing)}")
    arrays = [_require(name, state[name], 2 if name.startswith("weight") else 1) for name in names]
    gates = len(cell.gates)
    W, R = (_split(array, gates, name) for array, name in zip(arrays[:2], names, strict=False))
    blocks = by_gate("torch", cell, W, R)
    b, b_h = arrays[2:] if len(arrays) == 4 else (None, None)
    return Parameters(cell, blocks | _merge_biases("torch", cell, b, b_h))


def unpack_torch(cell: Cell | str, state: Mapping[str, Any], *, suffix: str = "_l0") -> dict[str, Array]:
    """Arrays packed as `from_torch` expects them, weights or gradients, by the document's names and both biases apart.

    The recurrent biases are `b_hi` and so on, an LSTM's `weight_hr` is `projection` (`W_hr` is a GRU's).
    """
    cell = cell_of(cell)
    if not cell.gates:
        return {name: np.asarray(state[f"{name}{suffix}"]) for name in cell.roles if f"{name}{suffix}" in state}
    gates = len(cell.gates)
    W, R = (np.split(np.asarray(state[f"weight_{kind}{suffix}"]), gates) for kind in ("ih", "hh"))
    projection = {"projection": np.asarray(state[f"weight_hr{suffix}"])} if f"weight_hr{suffix}" in state else {}
    if f"bias_ih{suffix}" not in state:
        return by_gate("torch", cell, W, R) | projection
    b, b_h = (np.split(np.asarray(state[f"bias_{kind}{suffix}"]), gates) for kind in ("ih", "hh"))
    return by_gate("torch", cell, W, R, b, **_recurrent_bias_names("torch", cell, b_h)) | projection


def gradients_from_torch(cell: Cell | str, state: Mapping[str, Any], *, suffix: str = "_l0") -> dict[str, Array]:
    """Gradients by the document's names, from arrays packed as `from_torch` expects them.

    Of two biases that are added each has the gradient of the sum; both are reported, as `b_i` and `b_hi`, so that
    neither goes unchecked.
    """
    return unpack_torch(cell, state, suffix=suffix)


def _recurrent_bias_names(packing: Packing, cell: Cell, blocks: Sequence[Array]) -> dict[str, Array]:
    return {f"b_h{gate}": block for gate, block in zip(cell.orders[packing], blocks, strict=True)}


# Keras


def to_keras(parameters: Parameters) -> list[Array]:
    """What `get_weights()` of `keras.layers.SimpleRNN`, `LSTM` or `GRU` (or of a cell) holds: kernel, recurrent kernel, bias."""
    return pack_keras(parameters.cell, parameters)


def pack_keras(cell: Cell | str, weights: Mapping[str, Array]) -> list[Array]:
    """Arrays by the document's names, both biases apart, arranged as `to_keras` does; see `unpack_keras`.

    Warns:
        MergedBiasesWarning: the packing has one bias, and the recurrent ones are not zero.
    """
    cell = cell_of(cell)
    if not cell.gates:
        return [np.ascontiguousarray(weights[name].T) for name in cell.roles if name in weights]
    W, R, b, b_h = _stack("keras", cell, weights)
    arrays = [np.ascontiguousarray(W.T), np.ascontiguousarray(R.T)]
    if b is None or b_h is None:
        return arrays
    if cell.apart:
        return [*arrays, np.stack([b, b_h])]
    if np.any(b_h):
        _warn_of_merged_biases(cell, stacklevel=4)
    return [*arrays, b + b_h]


def from_keras(cell: Cell | str, weights: Sequence[Any]) -> Parameters:
    """Read `get_weights()` of a Keras layer or cell.

    Args:
        cell: the cell, or its name in `rnn_common.cells.CELLS`.
        weights: kernel, recurrent kernel and, if there is one, bias.

    Raises:
        ValueError: not two or three arrays, a misshapen array, or what `Parameters` raises.

    Warns:
        MergedBiasesWarning: a GRU's two biases of r and z were added and the recurrent ones were not zero.
    """
    cell = cell_of(cell)
    if not cell.gates:
        return Parameters(cell, unpack_keras(cell, weights))
    if len(weights) not in (2, 3):
        raise ValueError(f"weights should be kernel, recurrent_kernel and perhaps bias, got {len(weights)} arrays")
    double = bool(cell.apart)
    W, R = _keras_blocks(cell, weights)
    if len(weights) == 2:
        return Parameters(cell, by_gate("keras", cell, W, R))
    bias = _require("bias", weights[2], 2 if double else 1)
    if double and len(bias) != 2:
        raise ValueError(f"bias should have shape (2, 3 · hidden) with reset_after, got {bias.shape}")
    b, b_h = bias if double else (bias, np.zeros_like(bias))
    return Parameters(cell, by_gate("keras", cell, W, R) | _merge_biases("keras", cell, b, b_h))


def unpack_keras(cell: Cell | str, weights: Sequence[Any]) -> dict[str, Array]:
    """Arrays packed as `from_keras` expects them, weights or gradients, by the document's names and both biases apart."""
    cell = cell_of(cell)
    if not cell.gates:
        names = [name for name, role in cell.roles.items() if role != "bias" or len(weights) == len(cell.roles)]
        return {name: np.asarray(array).T for name, array in zip(names, weights, strict=True)}
    W, R = _keras_blocks(cell, weights)
    gates = len(cell.gates)
    if len(weights) == 2:
        return by_gate("keras", cell, W, R)
    bias = np.asarray(weights[2])
    if bias.ndim == 1:
        return by_gate("keras", cell, W, R, np.split(bias, gates))
    b, b_h = (np.split(row, gates) for row in bias)
    return by_gate("keras", cell, W, R, b, **_recurrent_bias_names("keras", cell, b_h))


def gradients_from_keras(cell: Cell | str, weights: Sequence[Any]) -> dict[str, Array]:
    """Gradients by the document's names, from arrays packed as `from_keras` expects them; see `gradients_from_torch`."""
    return unpack_keras(cell, weights)


def _keras_blocks(cell: Cell, weights: Sequence[Any]) -> list[list[Array]]:
    gates = len(cell.gates)
    names = ("kernel", "recurrent_kernel")
    return [
        [block.T for block in _split(_require(name, array, 2), gates, name, axis=1)]
        for name, array in zip(names, weights[:2], strict=True)
    ]


# ONNX


# The operator of each cell, and its attributes.
ONNX_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "SimpleRNN": ("RNN", {}),
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {"linear_before_reset": 1}),
    "GRU v3": ("GRU", {"linear_before_reset": 0}),
}


def to_onnx(parameters: Parameters) -> dict[str, Array]:
    """The inputs W, R and B of the ONNX operators RNN, LSTM and GRU (one direction)."""
    return pack_onnx(parameters.cell, parameters)


def pack_onnx(cell: Cell | str, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays by the document's names, both biases apart, arranged as `to_onnx` does; see `unpack_onnx`."""
    W, R, b, b_h = _stack("onnx", cell_of(cell), weights)
    if b is None:
        return {"W": W[None], "R": R[None]}
    return {"W": W[None], "R": R[None], "B": np.concatenate([b, cast(Array, b_h)])[None]}


def unpack_onnx(cell: Cell | str, tensors: Mapping[str, Array], direction: int = 0) -> dict[str, Array]:
    """One direction of arrays packed as an ONNX operator expects them, by the document's names and both biases apart."""
    cell = cell_of(cell)
    gates = len(cell.gates)
    W, R = (np.split(tensors[name][direction], gates) for name in ("W", "R"))
    if "B" not in tensors:
        return by_gate("onnx", cell, W, R)
    blocks = np.split(tensors["B"][direction], 2 * gates)
    return by_gate("onnx", cell, W, R, blocks[:gates], **_recurrent_bias_names("onnx", cell, blocks[gates:]))


def from_onnx(cell: Cell | str, tensors: Mapping[str, Any]) -> Parameters:
    """Read the inputs W, R and, if there is one, B of an ONNX operator of one direction.

    Args:
        cell: the cell, or its name in `rnn_common.cells.CELLS`.
        tensors: `W (1, gates · hidden, input)`, `R (1, gates · hidden, hidden)`, `B (1, 2 · gates · hidden)`.

    Raises:
        ValueError: a missing or misshapen array, or what `Parameters` raises.

    Warns:
        MergedBiasesWarning: the two biases were added and the recurrent one was not zero.
    """
    cell = cell_of(cell)
    if missing := [name for name in ("W", "R") if name not in tensors]:
        raise ValueError(f"tensors should hold W, R and perhaps B, but lacks {', '.join(missing)}")
    arrays = {name: _require(name, array, 2 if name == "B" else 3) for name, array in tensors.items()}
    if directions := [name for name, array in arrays.items() if len(array) != 1]:
        raise ValueError(f"{directions[0]} should hold one direction, got shape {arrays[directions[0]].shape}")
    gates = len(cell.gates)
    W, R = (_split(arrays[name][0], gates, name) for name in ("W", "R"))
    blocks = by_gate("onnx", cell, W, R)
    b, b_h = _split(arrays["B"][0], 2, "B") if "B" in arrays else (None, None)
    return Parameters(cell, blocks | _merge_biases("onnx", cell, b, b_h))
