"""Gradient flow: known answers, the oracle and both frameworks agree, and the cells behave as theory says."""

import numpy as np
import pytest

from rnn_common import twins
from rnn_common.parity import flow
from rnn_common.parity.contract import GRADIENT_BOUND
from rnn_common.weights import Parameters, initialise


def sequences(time=12, width=2, batch=3):
    return np.random.default_rng(0).standard_normal((batch, time, width))


def test_a_linear_recurrence():
    """With inputs 0 and h = 0 tanh' is 1: the Jacobian is W_hh, and the gradient shrinks by its factor every step."""
    random = np.random.default_rng(0)
    orthogonal, _ = np.linalg.qr(random.standard_normal((4, 4)))
    weights = {"W_xh": np.zeros((4, 2)), "W_hh": 0.5 * orthogonal, "b_h": np.zeros(4)}
    found = flow.flow(Parameters("SimpleRNN", weights), sequences(), (0, 1, 3, 7))
    np.testing.assert_allclose(found.gradients, 0.5 ** np.array([0, 1, 3, 7]), rtol=1e-12)
    np.testing.assert_allclose(found.jacobians, 0.5, rtol=1e-12)


def test_jacobians_are_those_of_finite_differences(cell):
    from rnn_common import equations

    parameters = initialise(cell, 2, 3, seed=1)
    x = sequences(6, batch=1)
    states = [equations.unroll(parameters, x[:, : t + 1]).final for t in range(6)]

    def next_state(flat):
        parts = tuple(part[None] for part in np.split(flat, len(states[0])))
        return np.concatenate([s[0] for s in equations.unroll(parameters, x[:, 4:5], parts).final])

    before = np.concatenate([s[0] for s in states[3]])
    columns = [
        (next_state(before + 1e-6 * unit) - next_state(before - 1e-6 * unit)) / 2e-6 for unit in np.eye(len(before))
    ]
    expected = np.linalg.norm(np.array(columns).T, 2)
    found = flow.flow(parameters, x, (1,))  # the step that ends one before the last
    assert found.jacobians[0] == pytest.approx(expected, rel=1e-8)


def test_the_frameworks_agree_with_the_oracle(twin, cell):
    parameters = flow.scaled(initialise(cell, 2, 5, seed=3), 1.4)
    lags = (0, 1, 5, 11)
    flows = {
        "oracle": flow.flow(parameters, sequences(), lags),
        twin.name: flow.flow(parameters, sequences(), lags, twin),
    }
    assert flow.agreement(flows) < GRADIENT_BOUND


def test_large_recurrent_weights_let_more_through():
    parameters = initialise("SimpleRNN", 2, 8, scale=0.1, seed=0)
    orthogonal, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))
    parameters = Parameters("SimpleRNN", {**parameters, "W_hh": orthogonal})
    lost = [flow.flow(flow.scaled(parameters, s), sequences(40), (30,)).gradients[0] for s in (0.7, 1, 1.4)]
    assert lost[0] < 1e-4 < lost[1] < lost[2]


def test_scaling_leaves_inputs_and_biases():
    before = initialise("GRU", 2, 3)
    after = flow.scaled(before, 2)
    for name in before:
        factor = 2 if name in ("W_hr", "W_hz", "W_hn") else 1
        np.testing.assert_array_equal(after[name], factor * before[name])


@pytest.mark.parametrize("lags", [(-1,), (12,)])
def test_lags_out_of_range(lags):
    with pytest.raises(ValueError, match="lags should be from 0 to 11"):
        flow.flow(initialise("LSTM", 2, 3), sequences(), lags)


def test_clipping_keeps_a_training_that_explodes():
    clipped, free = flow.clipping(twins.get(twins.installed()[0]))
    assert (clipped["clip_norm"], free["clip_norm"]) == (flow.CLIPPED_AT, 0)
    assert len(clipped["losses"]) == 300
    assert max(clipped["norms"]) > 10 * flow.CLIPPED_AT
    assert np.mean(clipped["losses"][-30:]) < 0.1
    assert free["losses"][-1] > 1e10
    assert "until the loss was infinite" in free["said"]
