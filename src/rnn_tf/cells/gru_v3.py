"""The GRU in its third form, whose reset gate acts before the recurrent product (Cho et al. 2014, arXiv 1406.1078v3)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from rnn_common.cells import GRUv3Weights
from rnn_tf.cells import kernel
from rnn_tf.cells.base import Activation, State, Tensor, apply


def step(
    w: GRUv3Weights,
    x_t: Tensor,
    state: State,
    activation: Activation = tf.tanh,
    recurrent_activation: Activation = tf.sigmoid,
) -> State:
    """One step of the third form of the GRU (Cho et al. 2014, arXiv 1406.1078v3).

    r_t = σ(W_ir x_t + W_hr h_{t−1} + b_r)
    z_t = σ(W_iz x_t + W_hz h_{t−1} + b_z)
    ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1}))
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}
    """
    (h,) = state
    r_t = recurrent_activation(apply(w.W_ir, x_t) + apply(w.W_hr, h) + w.b_r)
    z_t = recurrent_activation(apply(w.W_iz, x_t) + apply(w.W_hz, h) + w.b_z)
    n_tilde = activation(apply(w.W_in, x_t) + w.b_n + apply(w.W_hn, r_t * h))
    h_t = (1 - z_t) * n_tilde + z_t * h
    return (h_t,)


class Kernel(kernel.Kernel):
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
        inputs = [kernel.product(x, W, b) for W, b in matrices]
        final, kept = kernel.scan(step, state, inputs, 4, unrolled=self.unrolled)
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
        h_before = kernel.before(history[0], state[0])
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
        d_state, d_a = kernel.scan(step, d_final, given, 3, reverse=True, unrolled=self.unrolled)
        return self.gradients(packed, x, d_a, d_a, [h_before, h_before, r * h_before], d_state)
