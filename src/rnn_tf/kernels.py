"""The cells of `rnn_tf.cells` run over all steps and differentiated by hand, arranged for speed, on any device.

- Forward: one product a gate gives W x_t + b for all steps; each step adds W_h h_{t−1}. Training keeps the gates and the
  states; where no gradient is asked for, TensorFlow drops what is kept for it.
- Backward: what multiplies ∂L/∂h_t and ∂L/∂c_t on the way to the pre-activations depends on the forward pass alone, so it
  is computed for all steps at once. Each step then scales it to ∂L/∂a_t and carries ∂L/∂h_{t−1} on. The gradients of the
  weights are one product a gate over all steps.

In what follows `a_q` is the pre-activation of gate q, and `d_q` is ∂L/∂q.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

# Not exported by TensorFlow, but the only way to see that a tape is at work.
from tensorflow.python.eager.record import could_possibly_record

from rnn_common.cells import CellName
from rnn_tf.cells import Activation, Recurrence, State, Tensor, gate_weights

# From ∂L/∂y and y = f(a) to ∂L/∂a = ∂L/∂y f'(a), for the activations whose derivative y tells.
BACKWARD: dict[Activation, Callable[[Tensor, Tensor], Tensor]] = {
    keras.activations.tanh: lambda d_y, y: tf.raw_ops.TanhGrad(y=y, dy=d_y),
    keras.activations.sigmoid: lambda d_y, y: tf.raw_ops.SigmoidGrad(y=y, dy=d_y),
    # Not ReluGrad, which multiplies by 0: an infinite gradient does not reach a unit that is off.
    keras.activations.relu: lambda d_y, y: tf.where(y > 0, d_y, tf.zeros_like(d_y)),
    keras.activations.linear: lambda d_y, y: d_y,
}


def _before(history: Tensor, initial: Tensor) -> Tensor:
    """The state before each step."""
    return tf.concat([initial[None], history[:-1]], 0)


def _product(x: Tensor, W: Tensor, b: Tensor | float = 0.0) -> Tensor:
    """W x_t + b; for all steps at once where `x` has a time axis. A layer without biases has the number 0 in their place."""
    a = tf.matmul(x if len(x.shape) == 2 else tf.reshape(x, [-1, tf.shape(x)[-1]]), W)
    a = a if isinstance(b, float) else tf.nn.bias_add(a, b)  # which TensorFlow makes one with the product
    if len(x.shape) == 2:
        return a
    a = tf.reshape(a, tf.concat([tf.shape(x)[:-1], tf.shape(W)[-1:]], 0))
    a.set_shape([*x.shape[:-1], W.shape[-1]])
    return a


def _transposed_product(x: Tensor, d_a: Tensor) -> Tensor:
    """Σ_t x_t ∂L/∂a_t, the gradient of the matrix that multiplies x_t."""
    x, d_a = (tf.reshape(each, [-1, tf.shape(each)[-1]]) for each in (x, d_a))
    return tf.matmul(x, d_a, transpose_a=True)


def _sum_over_steps(d_a: Tensor) -> Tensor:
    """Σ_t ∂L/∂a_t, the gradient of a bias, added up in float32 at least."""
    if d_a.dtype.size >= 4:
        return tf.reduce_sum(d_a, [0, 1])
    return tf.cast(tf.reduce_sum(tf.cast(d_a, tf.float32), [0, 1]), d_a.dtype)


def _scan(
    step: Callable[[State, tuple[Tensor, ...]], tuple[State, State]],
    state: State,
    inputs: Sequence[Tensor],
    count: int,
    reverse: bool = False,
    unroll: bool = False,
) -> tuple[State, State]:
    """Run `step` from state and inputs of a step to the next state and `count` outputs; final state, and all outputs."""
    if unroll:
        steps = list(zip(*(tf.unstack(each) for each in inputs), strict=True))
        unrolled = []
        for given in reversed(steps) if reverse else steps:
            state, outputs = step(state, given)
            unrolled.append(outputs)
        if reverse:
            unrolled.reverse()
        return state, tuple(tf.stack(each) for each in zip(*unrolled, strict=True))
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
    """What the cells share. A kernel differs in the step forwards and the step backwards."""

    def __init__(
        self,
        cell: CellName,
        reset_after: bool,
        activation: Activation,
        recurrent_activation: Activation,
        unroll: bool,
    ) -> None:
        self.cell = cell
        self.reset_after = reset_after
        self.activation, self.activation_backward = activation, BACKWARD[activation]
        self.recurrent_activation, self.recurrent_backward = recurrent_activation, BACKWARD[recurrent_activation]
        # ∂L/∂y by a factor with f'(a) in it; as in BACKWARD, a relu that is off lets nothing through.
        relu = keras.activations.relu in (activation, recurrent_activation)
        self.scaled = tf.math.multiply_no_nan if relu else tf.multiply
        self.unroll = unroll
        # For callers without a graph: eagerly a loop takes milliseconds a step.
        self.graph_forward = tf.function(self.forward, autograph=False, reduce_retracing=True)
        self.graph_backward = tf.function(self.backward, autograph=False, reduce_retracing=True)
        self.lock = threading.Lock()

    def call(self, graph: Callable[..., Any], *arguments: Any) -> Any:
        """Call `graph_forward` or `graph_backward`: under a tape, one thread at a time.

        TensorFlow writes the derivative of a graph's loop when the graph is first called under a tape, and two threads
        that do so at once spoil the graph for good.
        """
        with self.lock if could_possibly_record() else contextlib.nullcontext():
            return graph(*arguments)

    def weights(self, packed: Sequence[Tensor]) -> Any:
        return gate_weights(self.cell, *packed, reset_after=self.reset_after)

    def forward(self, packed: Sequence[Tensor], x: Tensor, state: State) -> tuple[State, State, State]:
        """Every state at every step, the final state, and the gates at every step."""
        raise NotImplementedError

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
        raise NotImplementedError

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
        d_x = tf.add_n([_product(d, tf.transpose(W)) for d, W in zip(d_inputs, blocks, strict=True)])
        d_kernel = tf.concat([_transposed_product(x, d) for d in d_inputs], 1)
        d_recurrent_kernel = tf.concat(
            [_transposed_product(h, d) for h, d in zip(operands, d_recurrent, strict=True)], 1
        )
        d_biases = [tf.concat([_sum_over_steps(d) for d in each], 0) for each in (d_inputs, d_recurrent)]
        d_packed = [d_kernel, d_recurrent_kernel]
        if len(packed) == 3:
            d_packed.append(tf.stack(d_biases) if len(packed[2].shape) == 2 else d_biases[0])
        return [d_x, *d_state, *d_packed]


class SimpleRNNKernel(Kernel):
    """h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h)."""

    def forward(self, packed: Sequence[Tensor], x: Tensor, state: State) -> tuple[State, State, State]:
        w = self.weights(packed)

        def step(state: State, inputs: State) -> tuple[State, State]:
            (h,), (a_h,) = state, inputs
            h_t = self.activation(a_h + tf.matmul(h, w.W_hh))
            return (h_t,), (h_t,)

        final, history = _scan(step, state, [_product(x, w.W_xh, w.b_h)], 1, unroll=self.unroll)
        return history, final, ()

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
        w = self.weights(packed)
        W_hh = tf.transpose(w.W_hh)

        def step(d_state: State, given: State) -> tuple[State, State]:
            (d_h,), (h_t, d_h_t) = d_state, given
            d_a_h = self.activation_backward(d_h + d_h_t, h_t)
            return (tf.matmul(d_a_h, W_hh),), (d_a_h,)

        d_state, d_a = _scan(step, d_final, [*history, *d_history], 1, reverse=True, unroll=self.unroll)
        return self.gradients(packed, x, d_a, d_a, [_before(history[0], state[0])], d_state)


class LSTMKernel(Kernel):
    """i_t, f_t, o_t = σ(a_·), c̃_t = tanh(a_c); c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t; h_t = o_t ⊙ tanh(c_t).

    Gates: i f c̃ o, as Keras packs them.
    """

    def forward(self, packed: Sequence[Tensor], x: Tensor, state: State) -> tuple[State, State, State]:
        w, σ, tanh = self.weights(packed), self.recurrent_activation, self.activation

        def step(state: State, inputs: State) -> tuple[State, State]:
            (h, c), (a_i, a_f, a_c, a_o) = state, inputs
            i_t = σ(a_i + tf.matmul(h, w.W_hi))
            f_t = σ(a_f + tf.matmul(h, w.W_hf))
            c_tilde = tanh(a_c + tf.matmul(h, w.W_hc))
            o_t = σ(a_o + tf.matmul(h, w.W_ho))
            c_t = f_t * c + i_t * c_tilde
            h_t = o_t * tanh(c_t)
            return (h_t, c_t), (h_t, c_t, i_t, f_t, c_tilde, o_t)

        matrices = ((w.W_ii, w.b_i), (w.W_if, w.b_f), (w.W_ic, w.b_c), (w.W_io, w.b_o))
        inputs = [_product(x, W, b) for W, b in matrices]
        final, kept = _scan(step, state, inputs, 6, unroll=self.unroll)
        return kept[:2], final, kept[2:]

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
        w, scaled = self.weights(packed), self.scaled
        W_hi, W_hf, W_hc, W_ho = map(tf.transpose, (w.W_hi, w.W_hf, w.W_hc, w.W_ho))
        i, f, c_tilde, o = gates
        tanh_c = self.activation(history[1])
        c_by_i = self.recurrent_backward(c_tilde, i)  # ∂c_t/∂a_i
        c_by_f = self.recurrent_backward(_before(history[1], state[1]), f)  # ∂c_t/∂a_f
        c_by_c = self.activation_backward(i, c_tilde)  # ∂c_t/∂a_c
        h_by_o = self.recurrent_backward(tanh_c, o)  # ∂h_t/∂a_o
        h_by_c = self.activation_backward(o, tanh_c)  # ∂h_t/∂c_t

        def step(d_state: State, given: State) -> tuple[State, State]:
            (d_h, d_c), (c_by_i, c_by_f, c_by_c, h_by_o, h_by_c, f_t, d_h_t, *d_c_t) = d_state, given
            d_h = d_h + d_h_t
            d_c = tf.add_n([d_c, scaled(d_h, h_by_c), *d_c_t])
            d_a_i, d_a_f, d_a_c = scaled(d_c, c_by_i), scaled(d_c, c_by_f), scaled(d_c, c_by_c)
            d_a_o = scaled(d_h, h_by_o)
            d_h_before = tf.add_n(
                [tf.matmul(d_a_i, W_hi), tf.matmul(d_a_f, W_hf), tf.matmul(d_a_c, W_hc), tf.matmul(d_a_o, W_ho)]
            )
            return (d_h_before, d_c * f_t), (d_a_i, d_a_f, d_a_c, d_a_o)

        given = [c_by_i, c_by_f, c_by_c, h_by_o, h_by_c, f, *d_history]
        d_state, d_a = _scan(step, d_final, given, 4, reverse=True, unroll=self.unroll)
        return self.gradients(packed, x, d_a, d_a, [_before(history[0], state[0])] * 4, d_state)


class GRUKernel(Kernel):
    """r_t, z_t = σ(a_·), ñ_t = tanh(W_in x_t + b_n + r_t ⊙ q_t) with q_t = W_hn h_{t−1} + b_hn;
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}.

    Gates: z r ñ, as Keras packs them, and q.
    """

    def forward(self, packed: Sequence[Tensor], x: Tensor, state: State) -> tuple[State, State, State]:
        w, σ, tanh = self.weights(packed), self.recurrent_activation, self.activation

        def step(state: State, inputs: State) -> tuple[State, State]:
            (h,), (a_z, a_r, a_n) = state, inputs
            z_t = σ(a_z + tf.matmul(h, w.W_hz))
            r_t = σ(a_r + tf.matmul(h, w.W_hr))
            q_t = _product(h, w.W_hn, w.b_hn)
            n_tilde = tanh(a_n + r_t * q_t)
            h_t = (1 - z_t) * n_tilde + z_t * h
            return (h_t,), (h_t, z_t, r_t, n_tilde, q_t)

        matrices = ((w.W_iz, w.b_z), (w.W_ir, w.b_r), (w.W_in, w.b_n))
        inputs = [_product(x, W, b) for W, b in matrices]
        final, kept = _scan(step, state, inputs, 5, unroll=self.unroll)
        return kept[:1], final, kept[1:]

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
        w, scaled = self.weights(packed), self.scaled
        W_hz, W_hr, W_hn = map(tf.transpose, (w.W_hz, w.W_hr, w.W_hn))
        z, r, n_tilde, q = gates
        h_before = _before(history[0], state[0])
        h_by_n = self.activation_backward(1 - z, n_tilde)  # ∂h_t/∂a_n
        h_by_z = self.recurrent_backward(h_before - n_tilde, z)  # ∂h_t/∂a_z
        h_by_r = self.recurrent_backward(h_by_n * q, r)  # ∂h_t/∂a_r
        h_by_q = h_by_n * r  # ∂h_t/∂q_t

        def step(d_state: State, given: State) -> tuple[State, State]:
            (d_h,), (h_by_z, h_by_r, h_by_n, h_by_q, z_t, d_h_t) = d_state, given
            d_h = d_h + d_h_t
            d_a_z, d_a_r = scaled(d_h, h_by_z), scaled(d_h, h_by_r)
            d_a_n, d_q = scaled(d_h, h_by_n), scaled(d_h, h_by_q)
            d_h_before = tf.add_n([d_h * z_t, tf.matmul(d_a_z, W_hz), tf.matmul(d_a_r, W_hr), tf.matmul(d_q, W_hn)])
            return (d_h_before,), (d_a_z, d_a_r, d_a_n, d_q)

        given = [h_by_z, h_by_r, h_by_n, h_by_q, z, *d_history]
        d_state, (d_a_z, d_a_r, d_a_n, d_q) = _scan(step, d_final, given, 4, reverse=True, unroll=self.unroll)
        return self.gradients(packed, x, [d_a_z, d_a_r, d_a_n], [d_a_z, d_a_r, d_q], [h_before] * 3, d_state)


class GRUResetBeforeKernel(Kernel):
    """r_t, z_t = σ(a_·), ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1})); h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}.

    Gates: z r ñ, as Keras packs them.
    """

    def forward(self, packed: Sequence[Tensor], x: Tensor, state: State) -> tuple[State, State, State]:
        w, σ, tanh = self.weights(packed), self.recurrent_activation, self.activation

        def step(state: State, inputs: State) -> tuple[State, State]:
            (h,), (a_z, a_r, a_n) = state, inputs
            z_t = σ(a_z + tf.matmul(h, w.W_hz))
            r_t = σ(a_r + tf.matmul(h, w.W_hr))
            n_tilde = tanh(a_n + tf.matmul(r_t * h, w.W_hn))
            h_t = (1 - z_t) * n_tilde + z_t * h
            return (h_t,), (h_t, z_t, r_t, n_tilde)

        matrices = ((w.W_iz, w.b_z), (w.W_ir, w.b_r), (w.W_in, w.b_n))
        inputs = [_product(x, W, b) for W, b in matrices]
        final, kept = _scan(step, state, inputs, 4, unroll=self.unroll)
        return kept[:1], final, kept[1:]

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
        w, scaled = self.weights(packed), self.scaled
        W_hz, W_hr, W_hn = map(tf.transpose, (w.W_hz, w.W_hr, w.W_hn))
        z, r, n_tilde = gates
        h_before = _before(history[0], state[0])
        h_by_n = self.activation_backward(1 - z, n_tilde)  # ∂h_t/∂a_n
        h_by_z = self.recurrent_backward(h_before - n_tilde, z)  # ∂h_t/∂a_z
        reset_h_by_r = self.recurrent_backward(h_before, r)  # ∂(r_t ⊙ h_{t−1})/∂a_r

        def step(d_state: State, given: State) -> tuple[State, State]:
            (d_h,), (h_by_z, h_by_n, reset_h_by_r, z_t, r_t, d_h_t) = d_state, given
            d_h = d_h + d_h_t
            d_a_z, d_a_n = scaled(d_h, h_by_z), scaled(d_h, h_by_n)
            d_reset_h = tf.matmul(d_a_n, W_hn)
            d_a_r = scaled(d_reset_h, reset_h_by_r)
            d_h_before = tf.add_n([d_h * z_t, d_reset_h * r_t, tf.matmul(d_a_z, W_hz), tf.matmul(d_a_r, W_hr)])
            return (d_h_before,), (d_a_z, d_a_r, d_a_n)

        given = [h_by_z, h_by_n, reset_h_by_r, z, r, *d_history]
        d_state, d_a = _scan(step, d_final, given, 3, reverse=True, unroll=self.unroll)
        return self.gradients(packed, x, d_a, d_a, [h_before, h_before, r * h_before], d_state)


def kernel_of(recurrence: Recurrence, unroll: bool = False) -> Kernel:
    """The kernel of a cell; `unroll` writes its loops out in the graph."""
    return _kernel(
        recurrence.cell, recurrence.reset_after, recurrence.activation, recurrence.recurrent_activation, unroll
    )


@functools.cache
def _kernel(cell: CellName, reset_after: bool, *options: Any) -> Kernel:
    kernels = {
        "SimpleRNN": SimpleRNNKernel,
        "LSTM": LSTMKernel,
        "GRU": GRUKernel if reset_after else GRUResetBeforeKernel,
    }
    return kernels[cell](cell, reset_after, *options)
