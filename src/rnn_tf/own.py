"""Layers of cells of the user's own: all that does not depend on the cell."""

from __future__ import annotations

from functools import cache
from typing import Any

import keras

from rnn_common.cells import Cell, cell_of
from rnn_tf.cells.base import RNNCell, arguments
from rnn_tf.layer import Layer


class OwnCell(RNNCell):
    """One step of a cell of the user's own, as Keras's cells take one; see `OwnLayer`."""

    cell: Cell

    def __init__(
        self,
        units: int,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, arguments(locals()), kwargs)


class OwnLayer(Layer):
    """A cell of the user's own over a sequence, as `keras.layers.RNN` would run it.

    Its variables are the cell's weights by name; matrices are transposed, as Keras keeps them.

    Args:
        units: width of every state.
        use_bias: default True.
        kernel_initializer, recurrent_initializer, bias_initializer: of input matrices and vectors, of recurrent matrices, of
            biases. Default `"glorot_uniform"`, `"orthogonal"`, `"zeros"`.
        kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer: default None.
        kernel_constraint, recurrent_constraint, bias_constraint: default None.
        dropout, recurrent_dropout: of x_t and of the inputs of recurrent matrices in training, in [0, 1]; one mask a sequence.
            Default 0.
        seed: of the dropout. Default None.
        return_sequences: return the output of every step, not of the last. Default False.
        return_state: return the final states besides. Default False.
        go_backwards: run from the last step to the first, and return the outputs in that order. Default False.
        stateful: start each batch from the final states of the one before. Default False.
        unroll: write the loop out in the graph. Default False.
        return_all_states: return the final states and, after them, every state at every step. Default False.
        engine: a name in `rnn_tf.ENGINES` or `"auto"` (default); all are `reference`, for the cell has no fast form.
        zero_output_for_mask: outputs of skipped steps are zeros, not the output before. Default False.

    Raises:
        ValueError: an argument out of range, or inputs of the wrong shape.
    """

    def __init__(
        self,
        units: int,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, arguments(locals()), kwargs)


@cache
def layer_of(cell: Cell | str) -> type[OwnLayer]:
    """The class of a cell's layer: `layer_of(CELL)(units)`; see docs/own-cell.md.

    It is registered with Keras under the cell's name, so that models with it are saved and loaded wherever it was made before.

    Args:
        cell: a cell with a step in TensorFlow, or where it stands: `"path/to/file.py:NAME"`.

    Raises:
        ValueError: it has none.
    """
    cell = cell_of(cell)
    if cell.tf is None:
        raise ValueError(f"cell {cell.name} should have a step in TensorFlow, its argument tf, got none")
    names = ("activation", "recurrent_activation")[: len(cell.activations)] if cell.gates else ()
    own_cell = type(f"{cell.name}Cell", (OwnCell,), {"cell": cell, "activations": names, "__module__": __name__})
    body = {
        "cell_class": own_cell,
        "cell_name": f"{cell.name.lower()}_cell",
        "__doc__": OwnLayer.__doc__,
        "__module__": __name__,
    }
    register = keras.saving.register_keras_serializable("rnn_tf.own")
    register(own_cell)
    return register(type(cell.name, (OwnLayer,), body))
