"""Writing with a network: beam search finds the most probable sequence, sampling draws from the distribution."""

import itertools

import numpy as np
import pytest

from rnn_common.networks.decoding import beam_search, sample
from rnn_common.tasks.metrics import log_probabilities

# p(next | last) of a small Markov chain over the symbols 0 (the end), 1, 2, where the greedy way is not the best one.
P = np.array([[0.0, 0.55, 0.45], [0.35, 0.35, 0.30], [0.9, 0.05, 0.05]])


def chain(symbols, state):
    """Its state counts the steps, and rides along with its row."""
    with np.errstate(divide="ignore"):
        return np.log(P[symbols]), [(state[0][0] + 1,)]


def start(rows):
    return [(np.zeros((rows, 1)),)]


def most_probable(longest):
    """By trying all of them."""
    found = {}
    for length in range(longest):
        for symbols in itertools.product([1, 2], repeat=length):
            path = (0, *symbols, 0)
            found[symbols] = np.prod([P[a, b] for a, b in itertools.pairwise(path)])
    return max(found, key=found.get)


def test_greedy_takes_the_likeliest_step_by_step():
    greedy = beam_search(chain, start(1), width=1, longest=4)[0].tolist()
    symbol, expected = 0, []
    for _ in range(4):
        symbol = int(P[symbol].argmax())
        if symbol == 0:
            break
        expected.append(symbol)
    assert greedy == expected


def test_a_beam_finds_the_most_probable_sequence():
    assert most_probable(5) == (2,)
    for width in (2, 3, 5):
        assert [s.tolist() for s in beam_search(chain, start(3), width=width, longest=5)] == [[2]] * 3


def test_each_row_has_its_own_state():
    """The state is reordered with the beginnings: a decoder that copies what its state says, row by row."""
    words = np.array([[3, 1, 2, 0], [2, 2, 0, 0]])

    def copier(symbols, state):
        ((position, row),) = state
        scores = np.full((len(symbols), 4), -20.0)
        scores[np.arange(len(symbols)), words[row[:, 0].astype(int), position[:, 0].astype(int).clip(max=3)]] = 0
        return scores, [(position + 1, row)]

    state = [(np.zeros((2, 1)), np.array([[0.0], [1.0]]))]
    assert [s.tolist() for s in beam_search(copier, state, width=3, longest=8)] == [[3, 1, 2], [2, 2]]


@pytest.mark.parametrize("seed", range(12))
def test_each_beginning_keeps_its_own_state(seed):
    """What comes next depends on the state alone, which gathers what was written: still the best of all sequences."""
    table = np.random.default_rng(seed).dirichlet([0.1, 1.0, 1.0], 64)

    def remembering(symbols, state):
        ((gathered,),) = state
        gathered = (3 * gathered + symbols[:, None]) % 64
        return np.log(table[gathered[:, 0].astype(int)]), [(gathered,)]

    def probability(symbols):
        p, gathered = 1.0, 0
        for before, after in itertools.pairwise((0, *symbols, 0)[: longest + 1]):
            gathered = (3 * gathered + before) % 64
            p *= table[gathered, after]
        return p

    longest = 5
    every = [s for length in range(longest + 1) for s in itertools.product([1, 2], repeat=length)]
    found = beam_search(remembering, [(np.zeros((2, 1)),)], width=40, longest=longest)
    assert [tuple(s.tolist()) for s in found] == [max(every, key=probability)] * 2


def test_a_sequence_that_does_not_end_is_cut():
    def endless(symbols, state):
        return np.tile([-50.0, 0.0], (len(symbols), 1)), state

    assert beam_search(endless, start(1), width=2, longest=6)[0].tolist() == [1] * 6


def test_samples_follow_the_distribution():
    def independent(symbols, state):
        return np.log(np.tile([0.5, 0.3, 0.2], (len(symbols), 1))), [(np.zeros((1, 1)),)]

    drawn = sample(independent, [0], length=4000, seed=1)
    assert np.bincount(drawn) / 4000 == pytest.approx([0.5, 0.3, 0.2], abs=0.025)
    cold = sample(independent, [0], length=4000, temperature=0.5, seed=1)
    expected = np.array([0.25, 0.09, 0.04]) / 0.38
    assert np.bincount(cold) / 4000 == pytest.approx(expected, abs=0.025)
    for frozen in (0, 5e-324):
        assert set(sample(independent, [0], length=20, temperature=frozen)) == {0}
    np.testing.assert_array_equal(drawn, sample(independent, [0], length=4000, seed=1))


def test_log_probabilities_of_large_scores():
    assert np.exp(log_probabilities(np.array([[1e4, 1e4, -1e4]]))) == pytest.approx(np.array([[0.5, 0.5, 0]]))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: beam_search(chain, start(1), width=0), "width should be at least 1"),
        (lambda: beam_search(chain, start(1), longest=0), "longest should be at least 1"),
        (lambda: sample(chain, []), "prompt should hold"),
        (lambda: sample(chain, [1], length=0), "length should be at least 1"),
        (lambda: sample(chain, [1], temperature=-1), "temperature should be at least 0"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(ValueError, match=said):
        call()
