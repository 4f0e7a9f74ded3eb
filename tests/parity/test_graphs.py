"""A graph around the layer: what a user builds of several calls, of states and weights that depend on something, of parts.

The gradients, taken plainly and so that they could be differentiated again, are the built-in layer's; the second derivatives
are those of the engine `reference`, whose operations the framework differentiates by itself, and of the other twin.
"""

import importlib

import numpy as np
import pytest

from rnn_common import twins
from rnn_common.cells import CELLS
from rnn_common.parity.contract import GRADIENT_BOUND, deviation
from rnn_common.weights import initialise

WIDTH = 3
NAMES = (
    "two_calls",
    "state_from_the_input",
    "states_that_are_one_tensor",
    "on_its_own_outputs",
    "generated_weights",
    "weights_from_outputs",
    "a_decoder_fed_its_own_output",
    "a_gradient_step",
    "gathered",
    "changed_in_place",
    "one_step",
    "the_last_state",
)

each_graph = pytest.mark.parametrize("name", NAMES)


def graphs(twin):
    return importlib.import_module(f"tests.parity.graphs_{twin.name}")


def given(cell):
    """Weights, an input, and how many states there are."""
    row = CELLS[cell]
    parameters = initialise(row, WIDTH, WIDTH, seed=3)
    x = np.random.default_rng(4).standard_normal((2, 6, WIDTH))
    return parameters, x, len(row.states)


def assert_close(found, expected, scale=1.0):
    """To the contract's bound of gradients; a graph of several calls has pre-activations of order one."""
    for a, b in zip(found, expected, strict=True):
        assert deviation(a, b) <= scale * GRADIENT_BOUND


def test_both_twins_have_every_graph(twin):
    assert tuple(graph.__name__ for graph in graphs(twin).GRAPHS) == NAMES


@each_graph
def test_gradients(twin, cell, name, engine):
    parameters, x, states = given(cell)
    graph = getattr(graphs(twin), name)
    builtin = twin.has_builtin(parameters)
    right = twin.make(parameters, builtin=builtin, **({} if builtin else {"engine": "reference"}))
    if twin.name == "torch" and name == "a_gradient_step":
        right = twin.make(parameters, engine="reference")  # nn's layers have no second derivatives of everything
    expected = graphs(twin).first(right, graph, x, states, again=False)
    layer = twin.make(parameters, engine=engine)
    for again in (False, True):
        assert_close(graphs(twin).first(layer, graph, x, states, again), expected)


@each_graph
def test_second_derivatives(twin, cell, name):
    parameters, x, states = given(cell)
    graph = getattr(graphs(twin), name)
    # rnn_tf has no `vendor` without a GPU, and would run `reference` twice.
    engines = [engine for engine in twin.engines() if (twin.name, engine) != ("tf", "vendor")]
    reference, *others = (
        graphs(twin).second(twin.make(parameters, engine=engine), graph, x, states) for engine in engines
    )
    for found in others:
        assert_close(found, reference, scale=10)  # each gradient is itself of order ten


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("a_gradient_step", "weights_from_outputs", "changed_in_place")]
)
def test_the_twins_agree(cell, name):
    """By the gradient of the input. Where something is added to every weight, two added biases move twice as far as one."""
    if twins.installed() != ("torch", "tf"):
        pytest.skip("needs both frameworks")
    parameters, x, states = given(cell)
    torch, tf = (
        graphs(twin).first(twin.make(parameters), getattr(graphs(twin), name), x, states, again=True)[0]
        for twin in map(twins.get, ("torch", "tf"))
    )
    assert_close([torch], [tf])
