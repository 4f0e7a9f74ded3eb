"""A search for a case that breaks parity: shapes, lengths, magnitudes up to saturation, seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_common import twins
from rnn_common.cells import CELLS
from rnn_common.parity.case import run_oracle
from rnn_common.parity.contract import bounds, deviations
from tests.cases import build, check_against_oracle, run


@st.composite
def searched(draw):
    cell = draw(st.sampled_from(sorted(CELLS)))
    batch, time = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    width, hidden = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    lengths = draw(st.none() | st.lists(st.integers(1, time), min_size=batch, max_size=batch))
    magnitude = draw(st.sampled_from([0.0, 1e-3, 1.0, 10.0, 1e3]))
    bias, seed = draw(st.booleans()), draw(st.integers(0, 2**32 - 1))
    return build(cell, batch, time, width, hidden, lengths, bias=bias, seed=seed, magnitude=magnitude)


def gradient_scale(case):
    """The size of a gradient in which nothing saturates.

    Where σ or tanh saturates, its derivative, s (1 − s) or 1 − h², is what rounding leaves of a difference of nearly equal
    numbers: its error is a unit of 1, not of itself. The error of a gradient is then a unit of what the gradient would be
    with a derivative of order one, and that is what it is measured against: cotangent times the largest input.
    """
    largest = max(1.0, float(np.abs(case.x).max()))
    return largest * max(float(np.abs(d).max()) for d in (case.d_outputs, *case.d_final))


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        (name, engine)
        for name in twins.installed()
        for engine in twins.get(name).engines()
        if (name, engine) != ("tf", "vendor")  # which needs a GPU
    ],
)
@given(case=searched())
@settings(max_examples=40)
def test_search_against_the_oracle(name, engine, case):
    check_against_oracle(twins.get(name), case, engine, scale=gradient_scale(case))


@given(case=searched())
@settings(max_examples=40)
def test_search_against_each_other(case):
    largest = run_oracle(case).largest_pre_activation
    names = twins.installed()
    results = [run(twins.get(name), case) for name in names]
    results += [run(twin, case, builtin=True) for twin in map(twins.get, names) if twin.has_builtin(case.parameters)]
    for other in results[1:]:
        found = deviations(results[0], other, gradient_scale(case))
        assert found.within(bounds("float64", largest)), found
