"""The cases of the parity suite: forms, shapes, and how a twin or a built-in layer is run on one."""

from __future__ import annotations

import os
import shutil

import numpy as np

from rnn_common.cells import CELLS
from rnn_common.parity.case import Case, Result, make_case, run_oracle
from rnn_common.parity.contract import Deviations, bounds, deviations
from rnn_common.twins import Framework
from rnn_common.weights import initialise

# batch, time, input, hidden, lengths
SHAPES = {
    "plain": (3, 7, 4, 6, None),
    "batch-1": (1, 6, 3, 5, None),
    "time-1": (4, 1, 3, 5, None),
    "width-1": (3, 5, 1, 1, None),
    "all-1": (1, 1, 1, 1, None),
    "ragged": (5, 9, 3, 4, (9, 1, 4, 9, 2)),
    "ragged-none-full": (3, 8, 2, 4, (3, 5, 1)),
    "long": (2, 510, 2, 3, (510, 17)),
    "wide": (2, 4, 40, 70, (4, 3)),
}


def make(
    cell: str, shape: str, *, dtype: str = "float64", bias: bool = True, seed: int = 0, magnitude: float = 1.0
) -> Case:
    """A case with weights from U(−1/√hidden, 1/√hidden) and standard normal inputs times `magnitude`."""
    row = CELLS[cell]
    batch, time, width, hidden, lengths = SHAPES[shape]
    return build(row, batch, time, width, hidden, lengths, dtype, bias, seed, magnitude)


def build(cell, batch, time, width, hidden, lengths, dtype="float64", bias=True, seed=0, magnitude=1.0) -> Case:
    parameters = initialise(cell, width, hidden, bias=bias, seed=seed, dtype=dtype)
    x = np.random.default_rng(seed).standard_normal((batch, time, width)) * magnitude
    return make_case(parameters, x, None if lengths is None else np.array(lengths), seed=seed)


def run(twin: Framework, case: Case, *, builtin: bool = False, engine: str = "auto") -> Result:
    return twin.run(twin.make(case.parameters, builtin=builtin, engine=engine), case)


def check_against_oracle(twin: Framework, case: Case, engine: str = "auto", scale: float = 0.0) -> None:
    """Hold a twin against the oracle, at the bounds of the numerical contract."""
    expected, largest, _ = run_oracle(case)
    found = deviations(run(twin, case, engine=engine), expected, scale)
    error = builtin_error(twin, case, scale)
    allowed = bounds(case.parameters.dtype, largest, error)
    assert found.within(allowed), f"{found} is beyond {allowed}; the built-in layer's error is {error}"


def builtin_error(twin: Framework, case: Case, scale: float = 0.0) -> Deviations | None:
    """The built-in layer's deviation from the oracle, None where there is no such layer."""
    if not twin.has_builtin(case.parameters):
        return None
    return deviations(run(twin, case, builtin=True), run_oracle(case).result, scale)


def inductors_compiler():
    """The C++ compiler that `torch.compile` calls by default, or None: without one it fails, whoever's layer it is."""
    return shutil.which(os.environ.get("CXX", "g++"))
