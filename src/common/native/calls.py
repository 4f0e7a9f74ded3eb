"""A call of the kernels: `recurrent.h` in Python, for arrays of any framework, which come as addresses and strides."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

from rnn_common.cells import Cell, Packing
from rnn_common.native import library


class Rows(ctypes.Structure):
    """Where a tensor's rows of numbers stand: row b of step t `t * step + b * row` numbers behind `data`; 0 is none."""

    _fields_ = (("data", ctypes.c_void_p), ("step", ctypes.c_int64), ("row", ctypes.c_int64))


class Matrix(ctypes.Structure):
    """Where a packed matrix's numbers stand: that of a unit and an input `unit * …  + input * …` numbers behind `data`."""

    _fields_ = (("data", ctypes.c_void_p), ("unit", ctypes.c_int64), ("input", ctypes.c_int64))


class Host(ctypes.Structure):
    """How threads are started, by addresses of GNU OpenMP's functions or of others that do the same."""

    _fields_ = (("parallel", ctypes.c_void_p), ("id", ctypes.c_void_p), ("count", ctypes.c_void_p))


class Call(ctypes.Structure):
    """See `rnn_call` in recurrent.h."""

    _fields_ = (
        ("cell", ctypes.c_int32),
        ("bytes", ctypes.c_int32),
        ("steps", ctypes.c_int64),
        ("batch", ctypes.c_int64),
        ("input", ctypes.c_int64),
        ("hidden", ctypes.c_int64),
        ("sizes", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
        ("packed", ctypes.c_int32),
        ("places", ctypes.c_int32 * 4),
        ("threads", ctypes.c_int32),
        ("host", ctypes.c_void_p),
        ("x", Rows),
        ("state", Rows * 2),
        ("W", Matrix),
        ("R", Matrix),
        ("bias", ctypes.c_void_p * 2),
        ("history", Rows * 2),
        ("final", Rows * 2),
        ("gates", ctypes.c_void_p),
        ("d_history", Rows * 2),
        ("d_final", Rows * 2),
        ("d_x", Rows),
        ("d_state", Rows * 2),
        ("d_W", Matrix),
        ("d_R", Matrix),
        ("d_bias", ctypes.c_void_p * 2),
        ("d_gates", ctypes.c_void_p),
    )

    @classmethod
    def of(cls, kernel: int, cell: Cell, packing: Packing, itemsize: int, sizes: tuple[int, int, int, int]) -> Call:
        """A call without arrays, of `(steps, batch, input, hidden)`."""
        call = cls(kernel, itemsize, *sizes, threads=1)
        for place, gate in enumerate(cell.gates):
            call.places[place] = cell.orders[packing].index(gate)
        return call


# The kernels by cell and, of a simple RNN, by activation.
KERNELS = {
    ("SimpleRNN", "tanh"): 0,
    ("SimpleRNN", "relu"): 1,
    ("LSTM", "tanh"): 2,
    ("GRU", "tanh"): 3,
    ("GRU v3", "tanh"): 4,
}


def kernel_of(cell: Cell, activations: Sequence[str]) -> int:
    """The kernel of a cell with activations of such names; −1 if there is none."""
    if not cell.in_table or tuple(activations[1:]) != cell.activations[1:]:
        return -1
    return KERNELS.get((cell.name, activations[0]), -1)


def cell_of(kernel: int) -> tuple[str, str]:
    """Name of the cell and of its first activation of which a kernel is."""
    return next(names for names, number in KERNELS.items() if number == kernel)


def layout(kernel: int, rows: int, hidden: int, itemsize: int) -> tuple[int, int, int]:
    """The shape of the gates that are kept: blocks of units, rows, and the numbers that a row of a block has."""
    units = _library().rnn_units(kernel, itemsize)
    return -(-hidden // units), rows + 1 - rows % 2, _library().rnn_gates(kernel) * units


def keeps(kernel: int) -> bool:
    """Whether there are gates to be kept: a simple RNN's is its state."""
    return bool(_library().rnn_keeps(kernel))


def forward(call: Call) -> None:
    """Run the forward pass.

    Raises:
        MemoryError: memory is short.
    """
    _run(_library().rnn_forward, call)


def backward(call: Call) -> None:
    """Run the backward pass.

    Raises:
        MemoryError: memory is short.
    """
    _run(_library().rnn_backward, call)


def input_gradient(call: Call) -> None:
    """From what a backward pass left in `d_gates` the gradient of x.

    Raises:
        MemoryError: memory is short.
    """
    _run(_library().rnn_input_gradient, call)


def _run(function: Any, call: Call) -> None:
    if function(ctypes.byref(call)):
        raise MemoryError("the kernels should have memory to work in, got none")


@functools.cache
def _library() -> Any:
    return library.load()
