"""The shared data module: sequences, real and synthetic, and the batches that reach both frameworks bit for bit."""

from common.data.batches import Batch, batches, pad
from common.data.sequences import DATASETS, Sequences, load
from common.data.synthetic import adding, copying, gaussian
from common.data.vowels import japanese_vowels

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
