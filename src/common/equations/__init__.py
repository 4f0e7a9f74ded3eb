"""The oracle: the equations of docs/equations.md, one step each, and their back-propagation through time, in NumPy float64.

Nothing here is fast or clever. Each cell has a page: its `step` is the equations as the document prints them, its
`step_backward` their derivative by hand, line for line in reverse. `unroll` runs a step over a sequence, and `backpropagate`
walks it backwards. Everything else in this project is held against these functions.

Shapes: a batch of sequences `x` is `(batch, time, input)`, a step's input `x_t` is `(batch, input)` and a state is
`(batch, hidden)`, so the document's `W x_t` reads `x_t @ W.T` for the rows of a batch. In the backward pass `d_q` stands
for ∂L/∂q.
"""

from rnn_common.equations.arithmetic import sigmoid
from rnn_common.equations.bptt import Gradients, Unrolled, backpropagate, check_lengths, page, unroll, unroll_weights

__all__ = ["Gradients", "Unrolled", "backpropagate", "check_lengths", "page", "sigmoid", "unroll", "unroll_weights"]
