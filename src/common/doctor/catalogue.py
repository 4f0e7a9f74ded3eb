"""All that can be wrong with a layer in a call."""

from __future__ import annotations

from rnn_common.doctor.calls import Call
from rnn_common.doctor.faults import Fault
from rnn_common.doctor.in_calls import of_axes, of_lengths, of_states
from rnn_common.doctor.in_configuration import of_activations, of_dense, of_embedding
from rnn_common.doctor.in_directions import of_last, of_runs
from rnn_common.doctor.in_weights import of_weights
from rnn_common.exchange.description import Dense, Embedding, Layer, Recurrent


def catalogue(layer: Layer, call: Call) -> list[Fault]:
    """What can be wrong with a layer: of a recurrent one weights, activations, directions, what is handed on, and the call.

    A fault that would change nothing may be among them.
    """
    if isinstance(layer, Dense):
        return list(of_dense(layer))
    if isinstance(layer, Embedding):
        return list(of_embedding(layer))
    if not isinstance(layer, Recurrent):
        return []
    return [
        *of_weights(layer),
        *of_activations(layer),
        *of_runs(layer),
        *of_last(layer),
        *of_states(layer, call),
        *of_lengths(layer, call),
        *of_axes(layer, call),
    ]
