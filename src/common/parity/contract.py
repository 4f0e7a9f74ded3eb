"""The numerical contract: how far apart two results are, and how far they may be."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_common.parity.case import Result

Array = NDArray[Any]

# The numerical contract: float64 deviations for pre-activations of order one.
OUTPUT_BOUND = 1e-13
GRADIENT_BOUND = 1e-12
# In lower precision: twice the built-in layer's own error, and this many units in the last place.
FEW_UNITS = 4.0


class Deviations(NamedTuple):
    """The worst deviation of one result from another, over the arrays of each kind."""

    outputs: float
    final: float
    gradients: float

    def worst(self, other: Deviations) -> Deviations:
        return Deviations(*(_maximum(a, b) for a, b in zip(self, other, strict=True)))

    def within(self, bounds: Deviations) -> bool:
        return all(value <= bound for value, bound in zip(self, bounds, strict=True))


def _maximum(*values: float) -> float:
    """Like `max`, but NaN wins."""
    return float(np.max(values))


def deviation(a: Array, b: Array, scale: float = 0.0) -> float:
    """max|a − b| / max|b|; NaN or infinity anywhere gives infinity.

    Args:
        a, b: two arrays of one shape.
        scale: the least that counts as max|b|. Default 0.

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"a and b should have the same shape, got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    difference = float(np.abs(a.astype(np.float64) - b).max(initial=0.0))
    largest = max(float(np.abs(b).max(initial=0.0)), scale)
    if difference == 0:
        return 0.0
    return difference / largest if largest else float("inf")


def deviations(result: Result, expected: Result, scale: float = 0.0) -> Deviations:
    """How far `result` is from `expected`, each of outputs, final state and gradients by its worst array.

    Args:
        result, expected: of one case.
        scale: the least that counts as the largest entry of a gradient, see `deviation`. Default 0.
    """
    names = set(result.gradients) | set(expected.gradients)
    gradients = [deviation(_gradient(result, name), _gradient(expected, name), scale) for name in names]
    finals = [deviation(a, b) for a, b in zip(result.final, expected.final, strict=True)]
    return Deviations(deviation(result.outputs, expected.outputs), _maximum(*finals), _maximum(*gradients))


def _gradient(result: Result, name: str) -> Array:
    """The gradient of that name; of a recurrent bias that is added to another (b_hi), the gradient of their sum."""
    return result.gradients[name if name in result.gradients else name.replace("b_h", "b_")]


def bounds(dtype: Any, largest_pre_activation: float, builtin_error: Deviations | None = None) -> Deviations:
    """How far a layer may be from the oracle.

    Args:
        dtype: of the case. In float64 the bounds are `OUTPUT_BOUND` and `GRADIENT_BOUND`, times the largest
            |pre-activation| if that is above 1. In lower precision they are twice the built-in layer's own error and
            `FEW_UNITS` units in the last place.
        largest_pre_activation: of the case.
        builtin_error: the built-in layer's deviations from the oracle; where it has none in lower precision, the float64
            bounds are scaled by the unit roundoffs.
    """
    unit = float(np.finfo(dtype).eps)
    if unit > np.finfo(np.float64).eps and builtin_error is not None:
        return Deviations(*(2 * error + FEW_UNITS * unit for error in builtin_error))
    scale = max(1.0, largest_pre_activation) * unit / float(np.finfo(np.float64).eps)
    return Deviations(OUTPUT_BOUND * scale, OUTPUT_BOUND * scale, GRADIENT_BOUND * scale)
