"""The arithmetic of the benchmarks: paired ratios and their intervals, growth, operations, memory."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rnn_benchmarks.workloads import Workload
from rnn_common.cells import cell_of

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure, and where it lies with a confidence of 95 %."""

    value: float
    low: float
    high: float


def paired_ratio(rival: Array, ours: Array, seed: int = 0) -> Interval:
    """The median over rounds of `rival / ours`, with a bootstrap interval.

    Args:
        rival, ours: seconds of each round, in which both were timed one after the other.
        seed: of the bootstrap.
    """
    return geometric_mean([rival / ours], seed)


def geometric_mean(ratios: Sequence[Array], seed: int = 0) -> Interval:
    """The geometric mean over workloads of the median ratio of each, with a bootstrap interval over their rounds."""

    def statistic(*samples: Array, axis: int = -1) -> Array:
        return np.exp(np.mean([np.log(np.median(sample, axis)) for sample in samples], 0))

    value = float(statistic(*ratios))
    if min(len(each) for each in ratios) < 2:
        return Interval(value, float("nan"), float("nan"))
    found = stats.bootstrap(
        ratios, statistic, method="percentile", n_resamples=2000, rng=np.random.default_rng(seed), vectorized=True
    )
    return Interval(value, float(found.confidence_interval.low), float(found.confidence_interval.high))


def growth(sizes: Sequence[float], seconds: Sequence[float]) -> Interval:
    """The exponent p of seconds ∝ size^p: the slope of a straight line through the logarithms, by least squares.

    Args:
        sizes, seconds: of each point, at least three.

    Raises:
        ValueError: fewer than three points.
    """
    if len(sizes) < 3:
        raise ValueError(f"sizes should number at least 3 to have an interval, got {len(sizes)}")
    line = stats.linregress(np.log(sizes), np.log(seconds))
    margin = float(stats.t.ppf(0.975, len(sizes) - 2) * line.stderr)
    return Interval(float(line.slope), float(line.slope) - margin, float(line.slope) + margin)


def operations(workload: Workload, cell: str, measure: str) -> float:
    """Floating-point operations of a layer's matrix products, two for a multiplication and an addition.

    Inference: W x_t and R h_{t−1} for every gate. A training step has three more: ∂L/∂W, ∂L/∂R and, to walk backwards,
    ∂L/∂h_{t−1}; the gradient of the input is not asked for.
    """
    matrices = cell_of(cell).input_matrices, cell_of(cell).recurrent_matrices
    of_x, of_h = (
        2.0 * len(names) * workload.hidden * width * workload.steps
        for names, width in zip(matrices, (workload.input, workload.hidden), strict=True)
    )
    return of_x + of_h if measure == "inference" else 2 * of_x + 3 * of_h


def peak_memory(function: Callable[[], Any]) -> int | None:
    """By how many bytes a call raises the most memory that this process has at once; None where Linux does not say.

    What is free already is given back first, so that all that the call needs is counted. Exact to some hundred KiB.
    """
    status = Path("/proc/self/status")
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the highest figure so far is forgotten
        before = _kibibytes(status, "VmRSS")
        function()
        return max(0, _kibibytes(status, "VmHWM") - before) * 1024
    except (OSError, AttributeError):
        return None


def _kibibytes(status: Path, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", status.read_text(), re.M)
    if found is None:
        raise OSError(f"{status} has no {field}")
    return int(found[1])
