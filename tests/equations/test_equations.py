"""The oracle: the forward pass against the equations by hand, BPTT against complex-step derivatives, exact to rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_common.cells import CELLS
from rnn_common.equations import backpropagate, sigmoid, unroll, unroll_weights
from rnn_common.parity.contract import GRADIENT_BOUND, OUTPUT_BOUND, deviation
from rnn_common.weights import Parameters, initialise

STEP = 1e-200  # so small that its square vanishes: the derivative has no truncation error and no cancellation


def sigma(a):
    return 1 / (1 + np.exp(-a))


def scalar(cell, **weights):
    """A layer of width 1 with every weight given or 0."""
    full = initialise(cell, 1, 1, scale=0)
    given = {name: np.full(array.shape, weights.get(name, 0.0)) for name, array in full.items()}
    return Parameters(cell, given)


def test_simple_rnn_is_the_equation():
    p = scalar("SimpleRNN", W_xh=0.5, W_hh=-0.25, b_h=0.125)
    h = unroll(p, [[[2.0]]], [[[3.0]]]).outputs.item()
    assert h == pytest.approx(np.tanh(-0.25 * 3 + 0.5 * 2 + 0.125), abs=1e-16)


def test_lstm_is_the_equations():
    values = dict(W_ii=0.1, W_if=0.2, W_io=0.3, W_ic=0.4, W_hi=-0.5, W_hf=0.6, W_ho=-0.7, W_hc=0.8)
    values |= dict(b_i=0.15, b_f=0.25, b_o=0.35, b_c=0.45)
    x, h, c = 2.0, 3.0, -1.5
    i = sigma(0.1 * x - 0.5 * h + 0.15)
    f = sigma(0.2 * x + 0.6 * h + 0.25)
    o = sigma(0.3 * x - 0.7 * h + 0.35)
    c_t = f * c + i * np.tanh(0.4 * x + 0.8 * h + 0.45)
    run = unroll(scalar("LSTM", **values), [[[x]]], [[[h]], [[c]]])
    assert run.final[0].item() == pytest.approx(o * np.tanh(c_t), abs=1e-15)
    assert run.final[1].item() == pytest.approx(c_t, abs=1e-15)


@pytest.mark.parametrize("cell", ["GRU", "GRU v3"])
def test_gru_is_the_equations(cell):
    values = dict(W_ir=0.1, W_iz=0.2, W_in=0.3, W_hr=-0.4, W_hz=0.5, W_hn=0.6, b_r=0.1, b_z=-0.2, b_n=0.3)
    if cell == "GRU":
        values["b_hn"] = 0.7
    x, h = 2.0, 3.0
    r = sigma(0.1 * x - 0.4 * h + 0.1)
    z = sigma(0.2 * x + 0.5 * h - 0.2)
    recurrent = r * (0.6 * h + 0.7) if cell == "GRU" else 0.6 * (r * h)
    expected = (1 - z) * np.tanh(0.3 * x + 0.3 + recurrent) + z * h
    run = unroll(scalar(cell, **values), [[[x]]], [[[h]]])
    assert run.final[0].item() == pytest.approx(expected, abs=1e-15)


def case(cell, *, batch=2, time=4, width=3, hidden=5, bias=True, seed=0):
    random = np.random.default_rng(seed)
    p = initialise(cell, width, hidden, bias=bias, seed=seed, scale=1.5)
    state = tuple(random.standard_normal((batch, hidden)) for _ in CELLS[cell].states)
    d_final = tuple(random.standard_normal((batch, hidden)) for _ in state)
    lengths = random.integers(1, time, batch, endpoint=True)
    return (
        p,
        random.standard_normal((batch, time, width)),
        state,
        lengths,
        random.standard_normal((batch, time, hidden)),
        d_final,
    )


def complex_step(function, array):
    """∂function/∂array, entry by entry: Im f(a + i·step) / step."""
    derivative = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        moved = array.astype(complex)
        moved[index] += 1j * STEP
        derivative[index] = function(moved).imag / STEP
    return derivative


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("batch", "time", "width", "hidden"), [(2, 4, 3, 5), (1, 1, 1, 1), (3, 7, 1, 2), (1, 5, 4, 1)])
def test_bptt_is_the_derivative(cell, bias, batch, time, width, hidden):
    p, x, state, lengths, d_outputs, d_final = case(cell, batch=batch, time=time, width=width, hidden=hidden, bias=bias)
    gradients = backpropagate(p, unroll(p, x, state, lengths), d_outputs, d_final, lengths)
    w = p.cell.weights(**p)

    def loss(w, x, state):
        run = unroll_weights(p.cell, w, x, state, lengths)
        return (run.outputs * d_outputs).sum() + sum((h * d).sum() for h, d in zip(run.final, d_final, strict=True))

    assert deviation(gradients.x, complex_step(lambda a: loss(w, a, state), x)) <= GRADIENT_BOUND
    for i, d_h in enumerate(gradients.state):
        exact = complex_step(lambda a, i=i: loss(w, x, (*state[:i], a, *state[i + 1 :])), state[i])
        assert deviation(d_h, exact) <= GRADIENT_BOUND
    for name, d_w in gradients.weights.items():
        exact = complex_step(lambda a, name=name: loss(w._replace(**{name: a}), x, state), p[name])
        assert deviation(d_w, exact) <= GRADIENT_BOUND, name


def test_a_padded_batch_equals_its_sequences_one_by_one(cell):
    p, x, state, _, d_outputs, d_final = case(cell, batch=4, time=6)
    lengths = np.array([6, 1, 4, 2])
    run = unroll(p, x, state, lengths)
    gradients = backpropagate(p, run, d_outputs, d_final, lengths)
    total = {name: np.zeros(array.shape) for name, array in p.items()}
    for b, length in enumerate(lengths):
        one = np.s_[b : b + 1]
        alone = unroll(p, x[one, :length], [h[one] for h in state])
        d_alone = backpropagate(p, alone, d_outputs[one, :length], [d[one] for d in d_final])
        assert deviation(run.outputs[one, :length], alone.outputs) <= OUTPUT_BOUND
        assert not run.outputs[b, length:].any()
        assert all(
            deviation(h[one], h_alone) <= OUTPUT_BOUND for h, h_alone in zip(run.final, alone.final, strict=True)
        )
        assert deviation(gradients.x[one, :length], d_alone.x) <= GRADIENT_BOUND
        assert not gradients.x[b, length:].any()
        for name in total:
            total[name] += d_alone.weights[name]
    assert all(deviation(gradients.weights[name], total[name]) <= GRADIENT_BOUND for name in total)


def test_padding_has_no_effect(cell):
    p, x, state, _, d_outputs, d_final = case(cell, batch=3, time=5)
    lengths = np.array([5, 2, 3])
    first = unroll(p, x, state, lengths)
    other_x, other_d = x.copy(), d_outputs.copy()
    padding = np.arange(5) >= lengths[:, None]
    other_x[padding], other_d[padding] = 7.0, -3.0
    second = unroll(p, other_x, state, lengths)
    assert np.array_equal(first.outputs, second.outputs)
    a = backpropagate(p, first, d_outputs, d_final, lengths)
    b = backpropagate(p, second, other_d, d_final, lengths)
    assert np.array_equal(a.x, b.x)
    assert all(np.array_equal(a.weights[name], b.weights[name]) for name in p)


def test_default_state_is_zero(cell):
    p, x, state, *_ = case(cell)
    zeros = [np.zeros_like(h) for h in state]
    assert np.array_equal(unroll(p, x).outputs, unroll(p, x, zeros).outputs)


@given(st.floats(-700, 700))
def test_sigmoid_is_relatively_exact(a):
    # log σ(a) by a formula of its own: −log1p(e^{−a}) for a ≥ 0, a − log1p(e^a) below. The relative error of exp(y) is
    # that of y times |y| units.
    exact = -np.log1p(np.exp(-a)) if a >= 0 else a - np.log1p(np.exp(a))
    assert sigmoid(np.array(a)) == pytest.approx(np.exp(exact), rel=4e-16 * (2 + abs(a)))


def test_sigmoid_of_the_extremes():
    assert sigmoid(np.array([-1e4, 1e4])).tolist() == [0.0, 1.0]


def test_largest_pre_activation():
    p = scalar("SimpleRNN", W_xh=2.0, b_h=1.0)
    assert unroll(p, [[[3.0], [-5.0]]]).largest_pre_activation == 9.0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(x=np.zeros((2, 3))), ValueError, r"x should have shape \(batch, time, 3\), got \(2, 3\)"),
        (dict(x=np.zeros((2, 4, 5))), ValueError, r"x should have shape \(batch, time, 3\), got \(2, 4, 5\)"),
        (dict(x=np.zeros((2, 0, 3))), ValueError, "at least one step"),
        (dict(state=[np.zeros((2, 5))]), ValueError, r"state should be \(h, c\), got 1 arrays"),
        (
            dict(state=[np.zeros((2, 5)), np.zeros((3, 5))]),
            ValueError,
            r"state c should have shape \(2, 5\), got \(3, 5\)",
        ),
        (dict(lengths=[4, 0]), ValueError, "lengths should be from 1 to 4, got 0 to 4"),
        (dict(lengths=[5, 1]), ValueError, "lengths should be from 1 to 4, got 1 to 5"),
        (dict(lengths=[4]), ValueError, r"lengths should have shape \(2,\), got \(1,\)"),
        (dict(lengths=[4.0, 2.0]), TypeError, "lengths should be integers, got float64"),
    ],
)
def test_bad_input(change, error, message):
    p = initialise("LSTM", 3, 5)
    arguments = dict(x=np.zeros((2, 4, 3)), state=None, lengths=None) | change
    with pytest.raises(error, match=message):
        unroll(p, **arguments)


def test_bad_cotangents():
    p, x, state, lengths, d_outputs, d_final = case("LSTM")
    run = unroll(p, x, state, lengths)
    with pytest.raises(ValueError, match="d_outputs should have shape"):
        backpropagate(p, run, d_outputs[:, :1], d_final, lengths)
    with pytest.raises(ValueError, match="d_final should have shapes"):
        backpropagate(p, run, d_outputs, d_final[:1], lengths)
