"""Layers as they are found in files, with weights of their own drawing."""

import numpy as np

from rnn_common.cells import CELLS
from rnn_common.exchange.description import Direction, Recurrent, default_activations
from rnn_common.weights import initialise


def recurrent(cell, directions=1, width=3, hidden=4, name="lstm", activations=None, **options):
    each = [
        Direction(
            dict(initialise(cell, width, hidden, seed=seed, dtype=np.float32)),
            activations or default_activations(CELLS[cell]),
        )
        for seed in range(directions)
    ]
    return Recurrent(name, CELLS[cell], tuple(each), "torch", **options)
