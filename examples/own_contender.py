"""A layer of your own in the benchmarks, beside the built-in layers and ours, on a workload of your own.

    rnn-parity bench --size 16x50x32x64 --cell LSTM --contender examples/own_contender.py

runs this file because you name it, and calls its function `contender` for each cell and workload. What the function returns is
called as `layer(x)` with `x (batch, time, input)`, and returns the outputs `(batch, time, hidden)`. Here it is an LSTM that one
may have written by hand: PyTorch's cell in a loop.
"""

import torch
from torch import nn

FRAMEWORK = "torch"  # or "tf", for a Keras layer


class Loop(nn.Module):
    """`nn.LSTMCell`, step by step."""

    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.cell = nn.LSTMCell(input_size, hidden_size)

    def forward(self, x):
        state, outputs = None, []
        for x_t in x.unbind(1):
            state = self.cell(x_t, state)
            outputs.append(state[0])
        return torch.stack(outputs, 1)


def contender(cell, workload):
    """A layer for a cell's name and a workload, which has `batch`, `time`, `input`, `hidden` and `lengths`."""
    if cell != "LSTM" or workload.lengths is not None:
        raise NotImplementedError("is an LSTM for sequences of one length")
    return Loop(workload.input, workload.hidden)


if __name__ == "__main__":
    layer = Loop(3, 5)
    print(
        "outputs", tuple(layer(torch.zeros(2, 4, 3)).shape), "of", sum(p.numel() for p in layer.parameters()), "weights"
    )
