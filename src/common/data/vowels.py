"""Japanese Vowels: real recordings of nine speakers.

Kudo, Toyama & Shimbo 1999, "Multidimensional curve classification using passing-through regions", Pattern Recognition
Letters 20; in the UCI Machine Learning Repository. Nine men spoke the vowels /ae/; each of the 640 utterances is a
sequence of 7 to 29 frames of 12 LPC cepstrum coefficients, and the question is who spoke.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from rnn_common.checks import one_of
from rnn_common.data.sequences import Sequences
from rnn_common.packages import optional


def japanese_vowels(split: Literal["train", "test"] = "train") -> Sequences:
    """The recordings, at their original lengths, from the copy that the package `aeon` ships; nothing is downloaded.

    Args:
        split: `"train"` (270 utterances, 30 a speaker; default) or `"test"` (370).

    Returns:
        `Sequences` of 12 features; targets are the speakers, 0 to 8.

    Raises:
        ValueError: another split.
        ModuleNotFoundError: `aeon` is not installed.
    """
    one_of("split", split, ["train", "test"])
    datasets = optional("aeon.datasets", "the Japanese Vowels recordings come with", extra="data")
    # The file itself, for the package's own function makes a folder in the user's home first, which may be unwritable.
    file = Path(datasets.__file__).parent / "data" / "JapaneseVowels" / f"JapaneseVowels_{split.upper()}.ts"
    recordings, speakers = datasets.load_from_ts_file(str(file))
    sequences = tuple(np.ascontiguousarray(recording.T, np.float64) for recording in recordings)
    return Sequences("vowels", sequences, np.asarray(speakers).astype(np.int64) - 1)
