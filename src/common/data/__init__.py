"""The shared data module: sequences, real and synthetic, and the batches that reach both frameworks bit for bit."""

from rnn_common.data.batches import Batch, batches, pad
from rnn_common.data.sequences import DATASETS, Sequences, load
from rnn_common.data.synthetic import adding, copying, gaussian
from rnn_common.data.vowels import japanese_vowels

__all__ = [
    "DATASETS",
    "Batch",
    "Sequences",
    "adding",
    "batches",
    "copying",
    "gaussian",
    "japanese_vowels",
    "load",
    "pad",
]
