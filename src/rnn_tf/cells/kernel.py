"""What the fast forms of the cells share: all steps run and differentiated by hand, arranged for speed, on any device.

- Forward: one product a gate gives W x_t + b for all steps; each step adds W_h h_{t−1}. Training keeps the gates and the
  states; where no gradient is asked for, TensorFlow drops what is kept for it.
- Backward: what multiplies ∂L/∂h_t and ∂L/∂c_t on the way to the pre-activations depends on the forward pass alone, so it
  is computed for all steps at once. Each step then scales it to ∂L/∂a_t and carries ∂L/∂h_{t−1} on. The gradients of the
  weights are one product a gate over all steps.

In what follows `a_q` is the pre-activation of gate q, and `d_q` is ∂L/∂q.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from rnn_common.cells import Cell
from rnn_tf.cells.base import Activation, State, Tensor, named

# From ∂L/∂y and y = f(a) to ∂L/∂a = ∂L/∂y f'(a), for the activations whose derivative y tells.
BACKWARD: dict[Activation, Callable[[Tensor, Tensor], Tensor]] = {
    keras.activations.tanh: lambda d_y, y: tf.raw_ops.TanhGrad(y=y, dy=d_y),
    keras.activations.sigmoid: lambda d_y, y: tf.raw_ops.SigmoidGrad(y=y, dy=d_y),
    # Not ReluGrad, which multiplies by 0: an infinite gradient does not reach a unit that is off.
    keras.activations.relu: lambda d_y, y: tf.where(y > 0, d_y, tf.zeros_like(d_y)),
    keras.activations.linear: lambda d_y, y: d_y,
}


def before(history: Tensor, initial: Tensor) -> Tensor:
    """The state before each step."""
    return tf.concat([initial[None], history[:-1]], 0)


def product(x: Tensor, W: Tensor, b: Tensor | float = 0.0) -> Tensor:
    """W x_t + b; for all steps at once where `x` has a time axis. A layer without biases has the number 0 in their place."""
    a = tf.matmul(x if len(x.shape) == 2 else tf.reshape(x, [-1, tf.shape(x)[-1]]), W)
    a = a if isinstance(b, float) else tf.nn.bias_add(a, b)  # which TensorFlow makes one with the product
    if len(x.shape) == 2:
        return a
    a = tf.reshape(a, tf.concat([tf.shape(x)[:-1], tf.shape(W)[-1:]], 0))
    a.set_shape([*x.shape[:-1], W.shape[-1]])
    return a


def transposed_product(x: Tensor, d_a: Tensor) -> Tensor:
    """Σ_t x_t ∂L/∂a_t, the gradient of the matrix that multiplies x_t."""
    x, d_a = (tf.reshape(each, [-1, tf.shape(each)[-1]]) for each in (x, d_a))
    return tf.matmul(x, d_a, transpose_a=True)


def sum_over_steps(d_a: Tensor) -> Tensor:
    """Σ_t ∂L/∂a_t, the gradient of a bias, added up in float32 at least."""
    if d_a.dtype.size >= 4:
        return tf.reduce_sum(d_a, [0, 1])
    return tf.cast(tf.reduce_sum(tf.cast(d_a, tf.float32), [0, 1]), d_a.dtype)


def scan(
    step: Callable[[State, tuple[Tensor, ...]], tuple[State, State]],
    state: State,
    inputs: Sequence[Tensor],
    count: int,
    reverse: bool = False,
    unrolled: bool = False,
) -> tuple[State, State]:
    """Run `step` from state and inputs of a step to the next state and `count` outputs; final state, and all outputs."""
    if unrolled:
        steps = list(zip(*(tf.unstack(each) for each in inputs), strict=True))
        every = []
        for given in reversed(steps) if reverse else steps:
            state, outputs = step(state, given)
            every.append(outputs)
        if reverse:
            every.reverse()
        return state, tuple(tf.stack(each) for each in zip(*every, strict=True))
    time = tf.shape(inputs[0])[0]
    given = [tf.TensorArray(each.dtype, time, element_shape=each.shape[1:]).unstack(each) for each in inputs]
    filled = [tf.TensorArray(state[0].dtype, time, element_shape=state[0].shape) for _ in range(count)]

    def body(k: Tensor, state: State, filled: list[tf.TensorArray]) -> Any:
        t = time - 1 - k if reverse else k
        state, outputs = step(state, tuple(each.read(t) for each in given))
        return k + 1, state, [array.write(t, output) for array, output in zip(filled, outputs, strict=True)]

    _, state, filled = tf.while_loop(lambda k, *_: k < time, body, (0, tuple(state), filled))
    outputs = tuple(array.stack() for array in filled)
    for each in outputs:
        each.set_shape([inputs[0].shape[0], *each.shape[1:]])
    return state, outputs


class Kernel:
    """What the fast forms share. One differs from another in the step forwards and the step backwards.

    Attributes:
        blocks: how many gates a step keeps.
        recurrent: which of the gradients that `retreat` returns are those of what the recurrent matrices give; the input
            matrices' come first.

    Args:
        cell: the cell.
        activations: what its step is given, each with a derivative in `BACKWARD`.
        unrolled: write the loops out in the graph, once a step. Default False.
    """

    blocks: int
    recurrent: tuple[int, ...]

    def __init__(self, cell: Cell, activations: tuple[Activation, ...], unrolled: bool = False) -> None:
        self.cell = cell
        self.activation, self.recurrent_activation = activations[0], activations[-1]
        self.activation_backward, self.recurrent_backward = (BACKWARD[f] for f in (activations[0], activations[-1]))
        # ∂L/∂y by a factor with f'(a) in it; as in BACKWARD, a relu that is off lets nothing through.
        self.scaled = tf.math.multiply_no_nan if keras.activations.relu in activations else tf.multiply
        self.unrolled = unrolled

    def weights(self, packed: Sequence[Tensor]) -> Any:
        return named(self.cell, packed)

    def inputs(self, w: Any) -> list[tuple[Tensor, Tensor]]:
        """W and b of each gate, in the order of Keras's packing: what gives the inputs' share of the pre-activations."""
        raise NotImplementedError

    def operands(self, gates: State, h: Tensor) -> list[Tensor]:
        """What each recurrent matrix multiplies, given the states before."""
        return [h] * len(self.cell.gates)

    def advance(self, w: Any, state: State, a: State) -> tuple[State, State]:
        """One step, from the inputs' share of the pre-activations: the state after it, and the gates."""
        raise NotImplementedError

    def derivatives(self, gates: State, before: State, history: State) -> list[Tensor]:
        """What `retreat` needs at each step: what ∂L/∂h_t and ∂L/∂c_t are to be multiplied by, for all steps at once."""
        raise NotImplementedError

    def retreat(self, R: Sequence[Tensor], d_state: State, given: State) -> tuple[State, State]:
        """One step backwards.

        Args:
            R: the recurrent matrices, transposed, in the order of Keras's packing.
            d_state: ∂L/∂ the state after the step, by way of what follows.
            given: of this step, what `derivatives` gave, and ∂L/∂h_t, ∂L/∂c_t as far as they are outputs.

        Returns:
            ∂L/∂ the state before the step; and ∂L/∂ what each input matrix gives and, where they differ, each recurrent one.
        """
        raise NotImplementedError

    def forward(self, packed: Sequence[Tensor], x: Tensor, state: State) -> tuple[State, State, State]:
        """Every state at every step, the final state, and the gates at every step."""
        w, states = self.weights(packed), len(state)

        def step(state: State, a: State) -> tuple[State, State]:
            after, gates = self.advance(w, state, a)
            return after, (*after, *gates)

        inputs = [product(x, W, b) for W, b in self.inputs(w)]
        final, kept = scan(step, state, inputs, states + self.blocks, unrolled=self.unrolled)
        return kept[:states], final, kept[states:]

    def backward(
        self,
        packed: Sequence[Tensor],
        x: Tensor,
        state: State,
        history: State,
        gates: State,
        d_history: State,
        d_final: State,
    ) -> list[Tensor]:
        """The gradients of `x`, the initial state and the packed weights."""
        count = len(self.cell.gates)
        R = [tf.transpose(each) for each in tf.split(packed[1], count, 1)]
        befores = tuple(before(h, h_0) for h, h_0 in zip(history, state, strict=True))

        def step(d_state: State, given: State) -> tuple[State, State]:
            return self.retreat(R, d_state, given)

        given = [*self.derivatives(gates, befores, history), *d_history]
        d_state, d_a = scan(step, d_final, given, max(self.recurrent) + 1, reverse=True, unrolled=self.unrolled)
        d_recurrent = [d_a[i] for i in self.recurrent]
        return self.gradients(packed, x, d_a[:count], d_recurrent, self.operands(gates, befores[0]), d_state)

    def gradients(
        self,
        packed: Sequence[Tensor],
        x: Tensor,
        d_inputs: Sequence[Tensor],
        d_recurrent: Sequence[Tensor],
        operands: Sequence[Tensor],
        d_state: State,
    ) -> list[Tensor]:
        """The gradients of `x`, the initial state and the packed weights.

        Args:
            d_inputs: ∂L/∂ what each gate's input matrix gives, in the order of Keras's packing.
            d_recurrent: the same for the recurrent matrices.
            operands: what each recurrent matrix multiplies.
        """
        blocks = tf.split(packed[0], len(d_inputs), 1)
        d_x = tf.add_n([product(d, tf.transpose(W)) for d, W in zip(d_inputs, blocks, strict=True)])
        d_kernel = tf.concat([transposed_product(x, d) for d in d_inputs], 1)
        d_recurrent_kernel = tf.concat(
            [transposed_product(h, d) for h, d in zip(operands, d_recurrent, strict=True)], 1
        )
        d_biases = [tf.concat([sum_over_steps(d) for d in each], 0) for each in (d_inputs, d_recurrent)]
        d_packed = [d_kernel, d_recurrent_kernel]
        if len(packed) == 3:
            d_packed.append(tf.stack(d_biases) if len(packed[2].shape) == 2 else d_biases[0])
        return [d_x, *d_state, *d_packed]
