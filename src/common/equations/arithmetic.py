"""What every page of the oracle is written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
State = tuple[Array, ...]
Activation = Callable[[Array], Array]


def sigmoid(a: Array) -> Array:
    """σ(a) = 1 / (1 + e^{−a}), without overflow and to rounding on both sides; analytic, so it takes complex `a` too."""
    right = a.real >= 0
    exponential = np.exp(np.where(right, -a, a))
    return np.asarray(np.where(right, 1.0, exponential) / (1.0 + exponential))
