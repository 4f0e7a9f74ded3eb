"""Networks described once, as plain data; each twin builds them from its framework's parts and our layers."""

from rnn_common.networks.description import (
    Array,
    EncoderDecoder,
    Head,
    Model,
    Network,
    Stack,
    Weights,
    from_dict,
    to_dict,
)
from rnn_common.networks.weights import check_weights, initial_weights, recurrent_parameters, shapes

__all__ = [
    "Array",
    "EncoderDecoder",
    "Head",
    "Model",
    "Network",
    "Stack",
    "Weights",
    "check_weights",
    "from_dict",
    "initial_weights",
    "recurrent_parameters",
    "shapes",
    "to_dict",
]
