"""Where the two frameworks differ: each row of the table in docs/differences.md, against torch.nn and keras themselves.

A row is proven on the frameworks' own layers and optimisers, in float64. Tests of layers run twice, on theirs and on ours:
ours are to differ in the same way, and where they do not, a test says so.
"""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras", minversion="3.15", reason="states what Keras 3.15 does")

from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_tf
import rnn_torch
from rnn_common import equations, packings
from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.parity.contract import GRADIENT_BOUND, OUTPUT_BOUND, deviation
from rnn_common.weights import Parameters, initialise

BATCH, TIME, INPUT, HIDDEN = 2, 5, 3, 4
LENGTHS = np.array([5, 3])
MASK = np.arange(TIME) < LENGTHS[:, None]

every_cell = pytest.mark.parametrize("cell", IN_BOTH)
theirs_and_ours = pytest.mark.parametrize(
    ("torch_module", "keras_module"), [(nn, keras.layers), (rnn_torch, rnn_tf)], ids=["theirs", "ours"]
)
torch_theirs_and_ours = pytest.mark.parametrize("module", [nn, rnn_torch], ids=["theirs", "ours"])
keras_theirs_and_ours = pytest.mark.parametrize("module", [keras.layers, rnn_tf], ids=["theirs", "ours"])


# Helpers


def sequences(seed=0):
    return np.random.default_rng(seed).standard_normal((BATCH, TIME, INPUT))


def torch_class(module, cell):
    return getattr(module, "RNN" if module is nn and cell == "SimpleRNN" else cell)


def torch_layer(module, *parameters, **options):
    """A layer of `torch.nn` or `rnn_torch` with these weights; a second set is the backward direction's."""
    first = parameters[0]
    options = {"batch_first": True, "bidirectional": len(parameters) == 2, "dtype": torch.float64} | options
    layer = torch_class(module, first.cell.layer_class)(first.input_size, first.hidden_size, **options)
    state = {}
    for each, suffix in zip(parameters, ("_l0", "_l0_reverse"), strict=False):
        state |= packings.to_torch(each, suffix)
    layer.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    return layer


def keras_layer(module, parameters, **options):
    """A layer of `keras.layers` or `rnn_tf` with these weights."""
    options = {"return_sequences": True, "dtype": "float64", **parameters.cell.options, **options}
    layer = getattr(module, parameters.cell.layer_class)(parameters.hidden_size, **options)
    layer.build((BATCH, TIME, parameters.input_size))
    layer.set_weights(packings.to_keras(parameters))
    return layer


def keras_bidirectional(module, forward, backward, merge_mode="concat", **options):
    inner = keras_layer(module, forward, **options)
    layer = keras.layers.Bidirectional(inner, merge_mode=merge_mode, dtype="float64")
    layer.build((BATCH, TIME, forward.input_size))
    layer.set_weights([*packings.to_keras(forward), *packings.to_keras(backward)])
    return layer


def numpy(value):
    """Tensors of either framework, nested or not, as a flat list of arrays."""
    if isinstance(value, (list, tuple)):
        return [array for each in value for array in numpy(each)]
    return [value.numpy(force=True) if isinstance(value, torch.Tensor) else np.asarray(value)]


def run_torch(layer, x, lengths=None):
    """Outputs and the final states, with `lengths` by way of packing."""
    x = torch.from_numpy(x)
    if lengths is None:
        return numpy(layer(x))
    packed = pack_padded_sequence(x, torch.from_numpy(lengths), batch_first=True, enforce_sorted=False)
    outputs, final = layer(packed)
    return numpy((pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0], final))


def run_keras(layer, x, mask=None, **options):
    return numpy(layer(keras.ops.convert_to_tensor(x), mask=mask, **options))


def same(a, b, bound=OUTPUT_BOUND):
    return deviation(np.asarray(a), np.asarray(b)) <= bound


# Weights


@every_cell
@theirs_and_ours
def test_gate_order_and_packing(cell, torch_module, keras_module):
    """LSTM i f c̃ o in both, GRU r z ñ against z r ñ, matrices transposed, two added biases against one."""
    parameters, kind, x = initialise(cell, INPUT, HIDDEN), CELLS[cell], sequences()
    orders = {"SimpleRNN": ("h", "h"), "LSTM": ("ifco", "ifco"), "GRU": ("rzn", "zrn")}[cell]
    expected = equations.unroll(parameters, x).outputs

    def pack(order):
        W = np.concatenate([parameters[kind.input_weight(gate)] for gate in order])
        R = np.concatenate([parameters[kind.recurrent_weight(gate)] for gate in order])
        b = np.concatenate([parameters[kind.bias(gate)] for gate in order])
        b_h = np.concatenate([parameters["b_hn"] if gate == "n" else np.zeros(HIDDEN) for gate in order])
        return W, R, b, b_h

    layer = torch_layer(torch_module, parameters)
    W, R, b, b_h = pack(orders[0])
    split = np.random.default_rng(1).standard_normal(b.shape)
    split[2 * HIDDEN :] *= cell != "GRU"  # b_hn is not added to b_n.
    packed = {"weight_ih_l0": W, "weight_hh_l0": R, "bias_ih_l0": b - split, "bias_hh_l0": b_h + split}
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in packed.items()})
    assert same(run_torch(layer, x)[0], expected)

    layer = keras_layer(keras_module, parameters)
    W, R, b, b_h = pack(orders[1])
    layer.set_weights([W.T, R.T, np.stack([b, b_h]) if cell == "GRU" else b])
    assert same(run_keras(layer, x)[0], expected)


@theirs_and_ours
def test_gru_reset_and_update_gate_change_places(torch_module, keras_module):
    """Copying a GRU's blocks in their order gives other numbers without an error."""
    parameters, x = initialise("GRU", INPUT, HIDDEN), sequences()
    source = torch_layer(torch_module, parameters)
    packed = [array.numpy(force=True) for array in source.parameters()]
    target = keras_layer(keras_module, parameters)
    target.set_weights([packed[0].T, packed[1].T, np.stack(packed[2:])])
    assert not same(run_keras(target, x)[0], run_torch(source, x)[0], 1e-3)


def sgd_steps(layer, parameters, x, lr, steps=3):
    """Train `torch` parameters on the sum of the outputs."""
    optimiser = torch.optim.SGD(parameters, lr=lr)
    for _ in range(steps):
        optimiser.zero_grad()
        layer(torch.from_numpy(x))[0].sum().backward()
        optimiser.step()


def keras_sgd_steps(layer, x, lr, steps=3):
    optimiser = keras.optimizers.SGD(lr)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = keras.ops.sum(layer(keras.ops.convert_to_tensor(x)))
        optimiser.apply_gradients(
            zip(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables, strict=True)
        )


@pytest.mark.parametrize("cell", [name for name in IN_BOTH if not CELLS[name].apart])
@theirs_and_ours
def test_two_added_biases_move_twice_as_far(cell, torch_module, keras_module):
    parameters, x, lr = initialise(cell, INPUT, HIDDEN), sequences(), 0.125
    two, one = torch_layer(torch_module, parameters), keras_layer(keras_module, parameters)
    start = packings.to_keras(parameters)[2]
    sgd_steps(two, two.parameters(), x, lr, steps=1)
    keras_sgd_steps(one, x, lr, steps=1)
    moved = (two.bias_ih_l0 + two.bias_hh_l0).numpy(force=True) - start
    assert same(moved, 2 * (one.get_weights()[2] - start), GRADIENT_BOUND)
    assert same(two.weight_hh_l0.numpy(force=True).T, one.get_weights()[1], GRADIENT_BOUND)


@pytest.mark.parametrize("cell", [name for name in IN_BOTH if not CELLS[name].apart])
@theirs_and_ours
def test_two_added_biases_with_one_frozen_train_as_one(cell, torch_module, keras_module):
    parameters, x, lr = initialise(cell, INPUT, HIDDEN), sequences(), 0.125
    two, one = torch_layer(torch_module, parameters), keras_layer(keras_module, parameters)
    two.bias_hh_l0.requires_grad_(False)
    sgd_steps(two, [p for p in two.parameters() if p.requires_grad], x, lr)
    keras_sgd_steps(one, x, lr)
    for array, expected in zip(two.parameters(), one.get_weights(), strict=False):
        assert same(array.numpy(force=True).T, expected, GRADIENT_BOUND)
    assert not two.bias_hh_l0.any()


@theirs_and_ours
def test_gru_has_two_biases_in_both(torch_module, keras_module):
    """With reset_after, a GRU's biases of r and z are doubled in Keras too, and train alike."""
    parameters, x, lr = initialise("GRU", INPUT, HIDDEN), sequences(), 0.125
    ours, theirs = torch_layer(torch_module, parameters), keras_layer(keras_module, parameters)
    sgd_steps(ours, ours.parameters(), x, lr)
    keras_sgd_steps(theirs, x, lr)
    r_z_n = np.split(theirs.get_weights()[2], 3, axis=1)
    bias = np.concatenate([r_z_n[1], r_z_n[0], r_z_n[2]], axis=1)
    assert same(np.stack([ours.bias_ih_l0.numpy(force=True), ours.bias_hh_l0.numpy(force=True)]), bias, GRADIENT_BOUND)


@every_cell
@torch_theirs_and_ours
def test_default_initialisation_of_torch(cell, module):
    """Everything from U(−1/√hidden, 1/√hidden), the biases too, in the order of the parameters."""
    torch.manual_seed(0)
    layer = torch_class(module, cell)(INPUT, 16, dtype=torch.float64)
    torch.manual_seed(0)
    for parameter in layer.parameters():
        assert torch.equal(parameter, torch.empty_like(parameter).uniform_(-1 / 4, 1 / 4))


def check_glorot_and_orthogonal(kernel, recurrent_kernel):
    """U(±√(6 / (rows + columns))) of the whole packed matrix, which is not that of one gate; orthonormal rows."""
    limit = np.sqrt(6 / sum(kernel.shape))
    assert 0.95 * limit < np.abs(kernel).max() <= limit
    assert same(recurrent_kernel @ recurrent_kernel.T, np.eye(len(recurrent_kernel)))


@every_cell
@keras_theirs_and_ours
def test_default_initialisation_of_keras(cell, module):
    """glorot_uniform, orthogonal, zeros; an LSTM's b_f is ones."""
    keras.utils.set_random_seed(0)
    layer = getattr(module, cell)(16, dtype="float64")
    layer.build((None, None, 30))
    kernel, recurrent_kernel, bias = layer.get_weights()
    check_glorot_and_orthogonal(kernel, recurrent_kernel)
    if cell == "LSTM":
        assert np.array_equal(bias, np.repeat([0.0, 1.0, 0.0, 0.0], 16))
    else:
        assert not bias.any()


@every_cell
@torch_theirs_and_ours
def test_default_initialisation_of_keras_in_torch(cell, module):
    torch.manual_seed(0)
    layer = torch_class(module, cell)(30, 16, dtype=torch.float64)
    nn.init.xavier_uniform_(layer.weight_ih_l0)
    nn.init.orthogonal_(layer.weight_hh_l0)
    check_glorot_and_orthogonal(layer.weight_ih_l0.numpy(force=True).T, layer.weight_hh_l0.numpy(force=True).T)


@every_cell
@keras_theirs_and_ours
def test_default_initialisation_of_torch_in_keras(cell, module):
    uniform = [keras.initializers.RandomUniform(-1 / 4, 1 / 4, seed=i) for i in range(3)]
    plugins = dict(zip(("kernel_initializer", "recurrent_initializer", "bias_initializer"), uniform, strict=True))
    forget = {"unit_forget_bias": False} if cell == "LSTM" else {}
    layer = getattr(module, cell)(16, dtype="float64", **plugins, **forget)
    layer.build((None, None, 30))
    for array in layer.get_weights():
        assert 0.2 < np.abs(array).max() <= 1 / 4


# Equations


@theirs_and_ours
def test_gru_form(torch_module, keras_module):
    """torch.nn has the v1 form alone; Keras's reset_after=False is v3, another function of the same weights."""
    x = sequences()
    v1 = initialise("GRU", INPUT, HIDDEN)
    v1 = Parameters("GRU", {name: array * (name != "b_hn") for name, array in v1.items()})
    v3 = Parameters("GRU v3", {name: array for name, array in v1.items() if name != "b_hn"})
    expected_v1, expected_v3 = (equations.unroll(form, x).outputs for form in (v1, v3))
    assert not same(expected_v3, expected_v1, 1e-3)
    assert same(run_torch(torch_layer(torch_module, v1), x)[0], expected_v1)
    assert same(run_keras(keras_layer(keras_module, v1), x)[0], expected_v1)
    assert same(run_keras(keras_layer(keras_module, v3), x)[0], expected_v3)


def test_gru_form_of_ours_in_torch():
    with pytest.raises(TypeError, match="reset_after"):
        nn.GRU(INPUT, HIDDEN, reset_after=False)
    v3 = initialise("GRU v3", INPUT, HIDDEN)
    ours = torch_layer(rnn_torch, v3, reset_after=False)
    assert same(run_torch(ours, sequences())[0], run_keras(keras_layer(keras.layers, v3), sequences())[0])


@theirs_and_ours
def test_simple_rnn_relu(torch_module, keras_module):
    """tanh by default in both; relu is `nonlinearity` in torch and `activation` in Keras."""
    parameters, x = initialise("SimpleRNN", INPUT, HIDDEN), sequences()
    ordinary = run_torch(torch_layer(torch_module, parameters), x)[0]
    assert same(ordinary, run_keras(keras_layer(keras_module, parameters), x)[0])
    relu = run_torch(torch_layer(torch_module, parameters, nonlinearity="relu"), x)[0]
    assert same(relu, run_keras(keras_layer(keras_module, parameters, activation="relu"), x)[0])
    assert relu.min() == 0 > ordinary.min()
    with pytest.raises(ValueError, match="nonlinearity"):
        torch_class(torch_module, "SimpleRNN")(INPUT, HIDDEN, nonlinearity="sigmoid")


@pytest.mark.parametrize("cell", [name for name in IN_BOTH if "sigmoid" in CELLS[name].activations])
@theirs_and_ours
def test_activation_of_lstm_and_gru(cell, torch_module, keras_module):
    """Keras takes other functions for tanh and σ, torch none; ours does."""
    parameters, x = initialise(cell, INPUT, HIDDEN), sequences()
    outputs = run_keras(keras_layer(keras_module, parameters, activation="relu"), x)[0]
    assert outputs.min() == 0 < outputs.max()
    if torch_module is nn:
        with pytest.raises(TypeError):
            torch_class(nn, cell)(INPUT, HIDDEN, activation="relu")
    else:
        assert same(run_torch(torch_layer(torch_module, parameters, activation="relu"), x)[0], outputs)


def test_slope_of_leaky_relu():
    """One name, two functions; ours has Keras's slope in both."""
    x = np.array([-1.0])
    assert nn.functional.leaky_relu(torch.from_numpy(x)).item() == -0.01
    assert float(keras.activations.leaky_relu(x)[0]) == pytest.approx(-0.2, rel=1e-7)  # TensorFlow's slope is a float32
    assert rnn_torch.LSTM(3, 4, activation="leaky_relu")._activations()[0](torch.from_numpy(x)).item() == -0.2


@keras_theirs_and_ours
def test_hard_sigmoid_of_old_keras(module):
    """One name, two functions: relu6(x + 3) / 6 in torch and in Keras since version 3, max(0, min(1, 0.2 x + 0.5)) before."""
    x = np.array([-3.0, -2.75, -1.0, 0.0, 2.0, 2.75, 3.0])
    layer = module.LSTM(4, recurrent_activation="hard_sigmoid")
    assert same(layer.recurrent_activation(x), nn.functional.hardsigmoid(torch.from_numpy(x)))
    old = [0.0, 0.0, 0.3, 0.5, 0.9, 1.0, 1.0]
    assert same(rnn_tf.hard_sigmoid_keras2(x), old)
    assert same(rnn_torch.hard_sigmoid_keras2(torch.from_numpy(x)), old)
    assert not same(layer.recurrent_activation(x), old, 1e-3)


# Shapes


@every_cell
@theirs_and_ours
def test_time_major_or_batch_major(cell, torch_module, keras_module):
    """torch reads (time, batch, …) unless batch_first; the wrong one runs without an error."""
    parameters, x = initialise(cell, INPUT, HIDDEN), sequences()
    expected = run_keras(keras_layer(keras_module, parameters), x)[0]
    layer = torch_layer(torch_module, parameters, batch_first=False)
    assert same(run_torch(layer, np.swapaxes(x, 0, 1))[0].swapaxes(0, 1), expected)
    assert same(run_torch(torch_layer(torch_module, parameters, batch_first=True), x)[0], expected)
    wrong = run_torch(layer, x)[0]
    assert wrong.shape == expected.shape
    assert not same(wrong, expected, 1e-3)


@every_cell
@theirs_and_ours
def test_what_a_layer_returns(cell, torch_module, keras_module):
    """torch: all outputs and the final state. Keras: the last output, unless asked for more."""
    parameters, x = initialise(cell, INPUT, HIDDEN), sequences()
    outputs, *final = run_torch(torch_layer(torch_module, parameters), x)
    (last,) = run_keras(keras_layer(keras_module, parameters, return_sequences=False), x)
    assert outputs.shape == (BATCH, TIME, HIDDEN)
    assert last.shape == (BATCH, HIDDEN)
    assert same(outputs[:, -1], last)
    everything = run_keras(keras_layer(keras_module, parameters, return_state=True), x)
    assert same(outputs, everything[0])
    assert len(final) == len(everything) - 1 == len(CELLS[cell].states)


@every_cell
@theirs_and_ours
def test_shape_of_the_state(cell, torch_module, keras_module):
    """torch: (layers · directions, batch, hidden), also with batch_first. Keras: a list of (batch, hidden)."""
    parameters, x = initialise(cell, INPUT, HIDDEN), sequences()
    draw = np.random.default_rng(1).standard_normal
    state = [draw((BATCH, HIDDEN)) for _ in CELLS[cell].states]
    hx = tuple(torch.from_numpy(h[None]) for h in state)
    _, final = torch_layer(torch_module, parameters)(torch.from_numpy(x), hx if len(hx) == 2 else hx[0])
    assert isinstance(final, tuple) == (cell == "LSTM")
    layer = keras_layer(keras_module, parameters, return_state=True)
    expected = run_keras(layer, x, initial_state=[keras.ops.convert_to_tensor(h) for h in state])[1:]
    for h, expected_h in zip(numpy(final), expected, strict=True):
        assert h.shape == (1, BATCH, HIDDEN)
        assert expected_h.shape == (BATCH, HIDDEN)
        assert same(h[0], expected_h)


# Dropout


def memoryless(cell):
    """Weights with which h_t depends on x_t alone, so that equal outputs mean equal masked inputs."""
    weights = dict(initialise(cell, HIDDEN, HIDDEN, seed=1).items())
    weights |= {name: np.zeros_like(array) for name, array in weights.items() if name.startswith("W_h")}
    weights |= {name: np.full(HIDDEN, -1e4) for name in ("b_f", "b_z") if name in weights}
    return Parameters(cell, weights)


def torch_stack(module, cell, parameters, dropout):
    """Two layers with these weights, the second being memoryless."""
    layer = torch_class(module, cell)(HIDDEN, HIDDEN, 2, batch_first=True, dropout=dropout, dtype=torch.float64)
    state = packings.to_torch(parameters, "_l0") | packings.to_torch(memoryless(cell), "_l1")
    layer.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    return layer


@every_cell
@torch_theirs_and_ours
def test_dropout_of_torch_is_between_layers_and_new_every_step(cell, module):
    torch.manual_seed(0)
    ones = torch.ones(BATCH, 20, HIDDEN, dtype=torch.float64)
    layer = torch_stack(module, cell, memoryless(cell), 0.5)
    outputs = layer(ones)[0].numpy(force=True)
    assert len(np.unique(outputs[0], axis=0)) > 4
    layer.eval()
    assert len(np.unique(layer(ones)[0].numpy(force=True)[0], axis=0)) == 1


@torch_theirs_and_ours
def test_dropout_of_torch_spares_inputs_and_last_outputs(module):
    """With one layer nothing is dropped, and torch warns."""
    parameters = initialise("LSTM", INPUT, HIDDEN)
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        layer = torch_layer(module, parameters, dropout=0.5)
    assert same(run_torch(layer, sequences())[0], equations.unroll(parameters, sequences()).outputs)


@torch_theirs_and_ours
def test_dropout_of_torch_scales_what_it_keeps(module):
    """h of the second layer is the first's, zeroed or times 1 / (1 − rate): nothing else is dropped."""
    identity = Parameters(
        "SimpleRNN", {"W_xh": np.eye(HIDDEN), "W_hh": np.zeros((HIDDEN, HIDDEN)), "b_h": np.zeros(HIDDEN)}
    )
    layer = torch_class(module, "SimpleRNN")(HIDDEN, HIDDEN, 2, nonlinearity="relu", dropout=0.5, dtype=torch.float64)
    state = packings.to_torch(identity, "_l0") | packings.to_torch(identity, "_l1")
    layer.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    torch.manual_seed(0)
    outputs = layer(torch.ones(20, BATCH, HIDDEN, dtype=torch.float64))[0]
    assert set(outputs.unique().tolist()) == {0.0, 2.0}
    assert len(outputs[:, 0].unique(dim=0)) > 4


@every_cell
@keras_theirs_and_ours
def test_dropout_of_keras_is_of_the_inputs_and_once_a_sequence(cell, module):
    keras.utils.set_random_seed(0)
    layer = keras_layer(module, memoryless(cell), dropout=0.5)
    ones = np.ones((30, TIME, HIDDEN))
    outputs = run_keras(layer, ones, training=True)[0]
    assert np.array_equal(outputs, np.repeat(outputs[:, :1], TIME, axis=1))
    assert len(np.unique(outputs[:, 0], axis=0)) > 4
    assert len(np.unique(run_keras(layer, ones)[0][:, 0], axis=0)) == 1


@keras_theirs_and_ours
def test_recurrent_dropout_is_of_the_state_and_once_a_sequence(module):
    """h_t = 2 · mask ⊙ h_{t−1} with one mask throughout: a unit either doubles at every step or stays zero."""
    zeros, ones = np.zeros((HIDDEN, HIDDEN)), np.ones((30, HIDDEN))
    identity = Parameters("SimpleRNN", {"W_xh": zeros, "W_hh": np.eye(HIDDEN), "b_h": zeros[0]})
    keras.utils.set_random_seed(0)
    layer = keras_layer(module, identity, activation="relu", recurrent_dropout=0.5)
    x = np.zeros((30, TIME, HIDDEN))
    outputs = run_keras(layer, x, initial_state=[keras.ops.convert_to_tensor(ones)], training=True)[0]
    kept = outputs[:, :1] > 0
    assert kept.any()
    assert not kept.all()
    assert np.array_equal(outputs, kept * 2.0 ** np.arange(1, TIME + 1)[:, None])


@every_cell
def test_recurrent_dropout_is_not_in_torch(cell):
    with pytest.raises(TypeError, match="recurrent_dropout"):
        torch_class(nn, cell)(INPUT, HIDDEN, recurrent_dropout=0.5)


@every_cell
@pytest.mark.parametrize("kind", ["dropout", "recurrent_dropout"])
def test_dropout_of_one_in_keras(cell, kind):
    """Keras's LSTM and GRU take a rate of 1 for 0; its SimpleRNN, and all of ours, drop everything."""
    parameters, x = initialise(cell, INPUT, HIDDEN), sequences()
    dropped = "W_i" if kind == "dropout" else "W_h"
    names = {"W_xh" if kind == "dropout" else "W_hh"} if cell == "SimpleRNN" else None
    without = Parameters(
        cell,
        {n: a * (n not in names if names else not n.startswith(dropped)) for n, a in parameters.items()},
    )
    undropped, everything = (equations.unroll(p, x).outputs for p in (parameters, without))
    assert not same(undropped, everything, 1e-3)
    theirs = run_keras(keras_layer(keras.layers, parameters, **{kind: 1.0}), x, training=True)[0]
    ours = run_keras(keras_layer(rnn_tf, parameters, **{kind: 1.0}), x, training=True)[0]
    assert same(theirs, everything if cell == "SimpleRNN" else undropped)
    assert same(ours, everything)


@every_cell
@theirs_and_ours
def test_dropout_outside_of_training(cell, torch_module, keras_module):
    """A new torch layer is in training mode, so it drops; a Keras layer called directly is not, so it does not."""
    x = np.ones((BATCH, TIME, HIDDEN))
    torch.manual_seed(0)
    layer = torch_stack(torch_module, cell, memoryless(cell), 0.5)
    assert layer.training
    outputs = run_torch(layer, x)[0]
    assert not same(outputs, run_torch(layer.eval(), x)[0], 1e-3)
    with_dropout, without = (keras_layer(keras_module, memoryless(cell), dropout=rate) for rate in (0.5, 0.0))
    assert np.array_equal(run_keras(with_dropout, x)[0], run_keras(without, x)[0])


# Padded sequences


@every_cell
@theirs_and_ours
def test_padded_outputs(cell, torch_module, keras_module):
    """After the end: zeros in torch; in Keras the last valid output again, or zeros with zero_output_for_mask."""
    parameters, x = initialise(cell, INPUT, HIDDEN), sequences()
    expected = equations.unroll(parameters, x, lengths=LENGTHS).outputs
    assert not expected[1, 3:].any()
    assert same(run_torch(torch_layer(torch_module, parameters), x, LENGTHS)[0], expected)
    zeroed = run_keras(keras_layer(keras_module, parameters, zero_output_for_mask=True), x, MASK)[0]
    assert same(zeroed, expected)
    repeated = run_keras(keras_layer(keras_module, parameters), x, MASK)[0]
    assert same(repeated[MASK], expected[MASK])
    assert np.array_equal(repeated[1, 3:], np.stack([repeated[1, 2]] * 2))


@every_cell
@theirs_and_ours
def test_padded_final_state(cell, torch_module, keras_module):
    """Packed or masked, the state after a sequence's own last step; without either, padding is input like any other."""
    parameters, x = initialise(cell, INPUT, HIDDEN), sequences()
    own_last, at_end = (equations.unroll(parameters, x, lengths=lengths).final for lengths in (LENGTHS, None))
    theirs, ours = torch_layer(torch_module, parameters), keras_layer(keras_module, parameters, return_state=True)
    for i, (held, ran_on) in enumerate(zip(own_last, at_end, strict=True), start=1):
        assert not same(held, ran_on, 1e-3)
        assert same(run_torch(theirs, x, LENGTHS)[i][0], held)
        assert same(run_keras(ours, x, MASK)[i], held)
        assert same(run_torch(theirs, x)[i][0], ran_on)
        assert same(run_keras(ours, x)[i], ran_on)


@every_cell
@keras_theirs_and_ours
def test_padding_in_front(cell, module):
    """Keras skips masked steps wherever they are, here in front, where the outputs are zeros; torch cannot."""
    parameters, x = initialise(cell, INPUT, HIDDEN), sequences()
    outputs = run_keras(keras_layer(module, parameters), x, MASK[:, ::-1])[0]
    assert not outputs[1, :2].any()
    assert same(outputs[1, 2:], equations.unroll(parameters, x[1:, 2:]).outputs[0])


def test_mask_reaches_the_loss_in_keras():
    """The mask travels with the outputs, and losses leave masked steps out; torch's average over padding too."""
    parameters, x = initialise("LSTM", INPUT, HIDDEN), sequences()
    x[~MASK] = 0.0
    model = keras.Sequential(
        [keras.layers.Input((TIME, INPUT), dtype="float64"), keras.layers.Masking(dtype="float64")]
    )
    model.add(keras_layer(keras.layers, parameters, zero_output_for_mask=True))
    target = np.ones((BATCH, TIME, HIDDEN))
    outputs = equations.unroll(parameters, x, lengths=LENGTHS).outputs
    error = (outputs - target) ** 2
    masked = keras.losses.MeanSquaredError(dtype="float64")(target, model(keras.ops.convert_to_tensor(x)))
    everywhere = nn.functional.mse_loss(torch.from_numpy(outputs), torch.from_numpy(target))
    assert same(masked, error[MASK].mean())
    assert same(everywhere, error.mean())
    assert not same(masked, everywhere, 1e-3)


# Both directions


def two_directions(cell):
    return [initialise(cell, INPUT, HIDDEN, seed=seed) for seed in (0, 1)]


@every_cell
@theirs_and_ours
def test_backward_direction_of_padded_sequences(cell, torch_module, keras_module):
    """torch reverses each sequence, Keras the padded time axis, skipping masked steps: the same numbers at valid steps."""
    forward, backward = two_directions(cell)
    x = sequences()
    theirs = run_torch(torch_layer(torch_module, forward, backward), x, LENGTHS)[0]
    ours = run_keras(keras_bidirectional(keras_module, forward, backward), x, MASK)[0]
    assert same(theirs[MASK], ours[MASK])
    for sequence, length, outputs in zip(x, LENGTHS, theirs, strict=True):
        own = equations.unroll(backward, sequence[None, :length][:, ::-1]).outputs[0, ::-1]
        assert same(outputs[:length, HIDDEN:], own)


@every_cell
@theirs_and_ours
def test_backward_direction_without_packing_or_mask(cell, torch_module, keras_module):
    """Both start in the padding, which spoils every valid step."""
    forward, backward = two_directions(cell)
    x = sequences()
    clean, spoilt = (run_torch(torch_layer(torch_module, forward, backward), x, n)[0] for n in (LENGTHS, None))
    assert same(run_keras(keras_bidirectional(keras_module, forward, backward), x)[0], spoilt)
    assert not same(spoilt[1, :3, HIDDEN:], clean[1, :3, HIDDEN:], 1e-3)


@every_cell
@keras_theirs_and_ours
def test_where_backward_outputs_are_placed(cell, module):
    """Bidirectional, as torch, puts an output at its input's step; go_backwards alone leaves them in running order."""
    forward, backward = two_directions(cell)
    x = sequences()
    both = run_keras(keras_bidirectional(module, forward, backward), x)[0]
    alone = run_keras(keras_layer(module, backward, go_backwards=True), x)[0]
    assert same(alone, equations.unroll(backward, x[:, ::-1]).outputs)
    assert same(both[..., HIDDEN:], alone[:, ::-1])


@every_cell
@theirs_and_ours
def test_last_output_of_both_directions(cell, torch_module, keras_module):
    """Keras joins the outputs that each direction ends with; torch's outputs[:, -1] holds the backward one's first."""
    forward, backward = two_directions(cell)
    x = sequences()
    last = run_keras(keras_bidirectional(keras_module, forward, backward, return_sequences=False), x)[0]
    outputs, h_n, *_ = run_torch(torch_layer(torch_module, forward, backward), x)
    assert same(np.concatenate([h_n[0], h_n[1]], axis=-1), last)
    assert same(np.concatenate([outputs[:, -1, :HIDDEN], outputs[:, 0, HIDDEN:]], axis=-1), last)
    assert not same(outputs[:, -1], last, 1e-3)


@every_cell
@theirs_and_ours
def test_merge_of_both_directions(cell, torch_module, keras_module):
    """torch concatenates; so does Keras by default, and it can sum, multiply, average or return both."""
    forward, backward = two_directions(cell)
    x = sequences()
    outputs = run_torch(torch_layer(torch_module, forward, backward), x)[0]
    first, second = outputs[..., :HIDDEN], outputs[..., HIDDEN:]
    assert keras.layers.Bidirectional(getattr(keras_module, cell)(HIDDEN)).merge_mode == "concat"
    merged = {"concat": outputs, "sum": first + second, "mul": first * second, "ave": (first + second) / 2}
    for mode, expected in merged.items():
        assert same(run_keras(keras_bidirectional(keras_module, forward, backward, mode), x)[0], expected)
    apart = run_keras(keras_bidirectional(keras_module, forward, backward, None), x)
    assert same(np.stack(apart), np.stack([first, second]))


@every_cell
@keras_theirs_and_ours
def test_bidirectional_zeroes_masked_outputs(cell, module):
    """Keras's Bidirectional sets zero_output_for_mask to return_sequences, whatever the layer was given."""
    forward, backward = two_directions(cell)
    layer = keras_bidirectional(module, forward, backward, zero_output_for_mask=False)
    assert not run_keras(layer, sequences(), MASK)[0][~MASK].any()


@every_cell
def test_unrolled_backward_mask_of_keras(cell):
    """Keras, unrolled: outputs of a backward run are zeroed where the forward mask is False. Ours are not."""
    parameters, x = initialise(cell, INPUT, HIDDEN), sequences()
    options = {"go_backwards": True, "zero_output_for_mask": True}
    runs = {
        (module, unroll): run_keras(keras_layer(module, parameters, unroll=unroll, **options), x, MASK)[0]
        for module in (keras.layers, rnn_tf)
        for unroll in (False, True)
    }
    right = runs[keras.layers, False]
    assert same(right[1, 2:], equations.unroll(parameters, x[1:, 2::-1]).outputs[0])
    assert not right[1, :2].any()
    assert same(runs[rnn_tf, False], right)
    assert same(runs[rnn_tf, True], right)
    # In running order the sequence's three steps come last; two of them are lost.
    wrong = runs[keras.layers, True]
    assert same(wrong[0], right[0])
    assert same(wrong[1, 2], right[1, 2])
    assert not wrong[1, 3:].any()


@every_cell
def test_unrolled_bidirectional_mask_of_keras(cell):
    """The same through Bidirectional, which turns zero_output_for_mask on: valid steps of the backward half are zeros."""
    forward, backward = two_directions(cell)
    x = sequences()
    right = run_keras(keras_bidirectional(keras.layers, forward, backward), x, MASK)[0]
    wrong = run_keras(keras_bidirectional(keras.layers, forward, backward, unroll=True), x, MASK)[0]
    ours = run_keras(keras_bidirectional(rnn_tf, forward, backward, unroll=True), x, MASK)[0]
    assert same(ours, right)
    assert same(wrong[..., :HIDDEN], right[..., :HIDDEN])
    assert not wrong[1, :2, HIDDEN:].any()
    assert (right[1, :3, HIDDEN:] != 0).all()


# Optimisers

POWER_OF_TWO = 2.0**-10  # A learning rate that float32 holds exactly.
GRADIENTS = np.random.default_rng(0).standard_normal((8, 4)) * 1e-7  # Of the size of the epsilons.
START = np.random.default_rng(1).standard_normal(4) * 1e-3


def torch_path(optimiser, gradients=GRADIENTS, before_step=lambda optimiser, step: None, start=START, **options):
    """The parameter after every step, 1-based, of an optimiser that is fed these gradients."""
    parameter = nn.Parameter(torch.from_numpy(start.copy()))
    optimiser, path = optimiser([parameter], **options), []
    for step, gradient in enumerate(gradients, start=1):
        before_step(optimiser, step)
        parameter.grad = torch.from_numpy(gradient.copy())
        optimiser.step()
        path.append(parameter.detach().numpy().copy())
    return np.array(path)


def keras_path(optimiser, gradients=GRADIENTS, before_step=lambda optimiser, step: None, start=START, dtype="float64"):
    variable, path = keras.Variable(start, dtype=dtype), []
    optimiser.build([variable])
    for step, gradient in enumerate(gradients, start=1):
        before_step(optimiser, step)
        optimiser.apply_gradients([(keras.ops.convert_to_tensor(gradient, dtype=dtype), variable)])
        path.append(np.array(variable.numpy()))
    return np.array(path)


def rounded(value):
    return float(np.float32(value))


def torch_adam(lr, beta_1, beta_2, eps):
    """p −= lr m̂ / (√v̂ + ε), with m̂ = m / (1 − β1^t), v̂ = v / (1 − β2^t)."""
    m, v, p, path = 0.0, 0.0, START, []
    for t, g in enumerate(GRADIENTS, start=1):
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        p = p - lr * (m / (1 - beta_1**t)) / (np.sqrt(v / (1 - beta_2**t)) + eps)
        path.append(p)
    return np.array(path)


def keras_adam(lr, beta_1, beta_2, epsilon, correction_1=None, correction_2=None):
    """p −= α_t m / (√v + ε), with α_t = lr √(1 − β2^t) / (1 − β1^t); `correction_*` are the β in α_t."""
    correction_1, correction_2 = correction_1 or beta_1, correction_2 or beta_2
    m, v, p, path = 0.0, 0.0, START, []
    for t, g in enumerate(GRADIENTS, start=1):
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        alpha = lr * np.sqrt(1 - correction_2**t) / (1 - correction_1**t)
        p = p - alpha * m / (np.sqrt(v) + epsilon)
        path.append(p)
    return np.array(path)


EXACT_BETAS = (0.875, 1 - POWER_OF_TWO)


def test_adam_formula():
    """The same betas, learning rate and epsilon, exact in float32, give different steps: ε is added at another place."""
    theirs = torch_path(torch.optim.Adam, lr=POWER_OF_TWO, betas=EXACT_BETAS, eps=1e-8)
    ours = keras_path(keras.optimizers.Adam(POWER_OF_TWO, *EXACT_BETAS, epsilon=1e-8))
    assert same(theirs, torch_adam(POWER_OF_TWO, *EXACT_BETAS, 1e-8))
    assert same(ours, keras_adam(POWER_OF_TWO, *EXACT_BETAS, 1e-8))
    assert not same(ours, theirs, 0.1)


def test_adam_translation():
    """torch's step is Keras's with epsilon = eps √(1 − β2^t), set anew before every step."""

    def translate(optimiser, step):
        optimiser.epsilon = 1e-8 * np.sqrt(1 - EXACT_BETAS[1] ** step)

    theirs = torch_path(torch.optim.Adam, lr=POWER_OF_TWO, betas=EXACT_BETAS, eps=1e-8)
    assert same(keras_path(keras.optimizers.Adam(POWER_OF_TWO, *EXACT_BETAS), before_step=translate), theirs)


def test_adam_translation_back():
    """Keras's step is torch's with eps = epsilon / √(1 − β2^t)."""

    def translate(optimiser, step):
        optimiser.param_groups[0]["eps"] = 1e-7 / np.sqrt(1 - EXACT_BETAS[1] ** step)

    theirs = keras_path(keras.optimizers.Adam(POWER_OF_TWO, *EXACT_BETAS))
    found = torch_path(torch.optim.Adam, before_step=translate, lr=POWER_OF_TWO, betas=EXACT_BETAS)
    assert same(found, theirs)


def test_adam_defaults():
    """lr 1e-3 and β 0.9, 0.999 in both; ε 1e-8 against 1e-7, and Keras's β^t and learning rate are rounded to float32."""
    assert same(torch_path(torch.optim.Adam), torch_adam(1e-3, 0.9, 0.999, 1e-8))
    ours = keras_path(keras.optimizers.Adam())
    assert same(ours, keras_adam(rounded(1e-3), 0.9, 0.999, 1e-7, rounded(0.9), rounded(0.999)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_keras_rounds_adam_to_float32(dtype):
    """Its bias correction takes β for float32(β), in every dtype: a first step shorter by 6.6e-6 of itself."""
    start, gradients = np.zeros(4), np.ones((1, 4))
    ours = keras_path(keras.optimizers.Adam(POWER_OF_TWO, epsilon=0.0), gradients, start=start, dtype=dtype)
    theirs = torch_path(torch.optim.Adam, gradients, start=start, lr=POWER_OF_TWO, eps=0.0)
    ratio = np.sqrt((1 - rounded(0.999)) / (1 - 0.999)) * (1 - 0.9) / (1 - rounded(0.9))
    assert 6.6e-6 < 1 - ratio < 6.7e-6
    assert same(ours, theirs * ratio, OUTPUT_BOUND if dtype == "float64" else 4 * np.finfo(np.float32).eps)


def test_keras_rounds_the_learning_rate_to_float32():
    """In a float64 model too: a step of SGD with 0.1 is float32(0.1) · g."""
    gradients = np.ones((1, 4))
    ours = keras_path(keras.optimizers.SGD(0.1), gradients, start=np.zeros(4))
    theirs = torch_path(torch.optim.SGD, gradients, start=np.zeros(4), lr=0.1)
    assert np.array_equal(ours, np.full((1, 4), -rounded(0.1)))
    assert np.array_equal(theirs, np.full((1, 4), -0.1))
    assert rounded(0.1) != 0.1


def rmsprop(lr, rho, eps, inside):
    v, p, path = 0.0, START, []
    for g in GRADIENTS:
        v = rho * v + (1 - rho) * g**2
        p = p - lr * g / (np.sqrt(v + eps) if inside else np.sqrt(v) + eps)
        path.append(p)
    return np.array(path)


def test_rmsprop_formula():
    """torch: √v + 1e-8, alpha 0.99, lr 1e-2. Keras: √(v + 1e-7), rho 0.9, lr 1e-3. Defaults of both."""
    assert same(torch_path(torch.optim.RMSprop), rmsprop(1e-2, 0.99, 1e-8, inside=False))
    ours = keras_path(keras.optimizers.RMSprop())
    assert same(ours, rmsprop(rounded(1e-3), 0.9, 1e-7, inside=True))
    assert not same(ours, rmsprop(rounded(1e-3), 0.9, 1e-7, inside=False), 0.1)


@pytest.mark.parametrize(("size", "apart"), [(1e-16, 1e-6), (1e-7, np.inf), (1.0, 1e-6)])
def test_rmsprop_with_epsilon_squared(size, apart):
    """Keras's epsilon = eps² agrees with torch's eps where v ≪ eps² or v ≫ eps², and not between."""
    gradients, start = GRADIENTS / 1e-7 * size, np.zeros(4)
    options = {"lr": POWER_OF_TWO, "alpha": 0.875, "eps": 1e-8}
    theirs = torch_path(torch.optim.RMSprop, gradients, start=start, **options)
    ours = keras_path(keras.optimizers.RMSprop(POWER_OF_TWO, 0.875, epsilon=1e-16), gradients, start=start)
    found = deviation(ours, theirs)
    assert found < apart
    assert size != 1e-7 or found > 1e-3


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_momentum_at_a_constant_learning_rate(nesterov):
    """torch: v = μ v + g, p −= lr v. Keras: v = μ v − lr g, p += v. The same path."""
    theirs = torch_path(torch.optim.SGD, lr=POWER_OF_TWO, momentum=0.9, nesterov=nesterov)
    assert same(keras_path(keras.optimizers.SGD(POWER_OF_TWO, 0.9, nesterov)), theirs)


def test_sgd_momentum_when_the_learning_rate_changes():
    """torch's new rate scales the whole velocity, Keras's only what is added from then on."""
    rates = POWER_OF_TWO * np.array([1, 1, 1, 0.25, 0.25, 0.5, 0.5, 0.5])

    def torch_rate(optimiser, step):
        optimiser.param_groups[0]["lr"] = rates[step - 1]

    def keras_rate(optimiser, step):
        optimiser.learning_rate = rates[step - 1]

    def torch_rate_as_keras(optimiser, step):
        torch_rate(optimiser, step)
        for state in optimiser.state.values():
            state["momentum_buffer"] *= rates[step - 2] / rates[step - 1]

    start, options = np.zeros(4), {"lr": 1.0, "momentum": 0.875}
    theirs = torch_path(torch.optim.SGD, before_step=torch_rate, start=start, **options)
    ours = keras_path(keras.optimizers.SGD(1.0, 0.875), before_step=keras_rate, start=start)
    rescaled = torch_path(torch.optim.SGD, before_step=torch_rate_as_keras, start=start, **options)
    v, p, torch_expected = 0.0, 0.0, []
    for lr, g in zip(rates, GRADIENTS, strict=True):
        v = 0.875 * v + g
        p = p - lr * v
        torch_expected.append(p)
    v, p, keras_expected = 0.0, 0.0, []
    for lr, g in zip(rates, GRADIENTS, strict=True):
        v = 0.875 * v - lr * g
        p = p + v
        keras_expected.append(p)
    assert same(theirs, np.array(torch_expected))
    assert same(ours, np.array(keras_expected))
    assert not same(ours, theirs, 1e-2)
    assert same(rescaled, ours)


def test_default_learning_rates():
    parameters = [nn.Parameter(torch.zeros(1))]
    for name, torch_rate, keras_rate in (("SGD", 1e-3, 1e-2), ("Adam", 1e-3, 1e-3), ("RMSprop", 1e-2, 1e-3)):
        assert getattr(torch.optim, name)(parameters).defaults["lr"] == torch_rate
        assert float(getattr(keras.optimizers, name)().learning_rate) == rounded(keras_rate)


def test_weight_decay():
    """torch's Adam adds it to the gradient; Keras's shrinks the weight apart, as AdamW of either does."""
    decay, gradients = 0.25, GRADIENTS * 1e7
    torch_options = {"lr": POWER_OF_TWO, "betas": EXACT_BETAS, "eps": 0.0, "weight_decay": decay}
    keras_options = {"learning_rate": POWER_OF_TWO, "beta_1": EXACT_BETAS[0], "beta_2": EXACT_BETAS[1], "epsilon": 0.0}
    added = torch_path(torch.optim.Adam, gradients, **torch_options)
    apart = torch_path(torch.optim.AdamW, gradients, **torch_options)
    ours = keras_path(keras.optimizers.Adam(weight_decay=decay, **keras_options), gradients)
    assert same(ours, apart)
    assert same(keras_path(keras.optimizers.AdamW(weight_decay=decay, **keras_options), gradients), apart)
    assert not same(added, apart, 1e-9)
    assert torch.optim.AdamW([nn.Parameter(torch.zeros(1))]).defaults["weight_decay"] == 0.01
    assert keras.optimizers.AdamW().weight_decay == 0.004


# Clipping


def torch_clipped(gradients, max_norm, together=True):
    parameters = [nn.Parameter(torch.zeros_like(torch.from_numpy(g))) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.from_numpy(gradient.copy())
    for group in [parameters] if together else [[p] for p in parameters]:
        nn.utils.clip_grad_norm_(group, max_norm)
    return np.concatenate([p.grad.numpy() for p in parameters])


def keras_clipped(gradients, **clipping):
    """What a step of length 1 subtracts from zeros."""
    variables = [keras.Variable(np.zeros_like(g), dtype="float64") for g in gradients]
    optimiser = keras.optimizers.SGD(1.0, **clipping)
    optimiser.apply_gradients(zip(map(keras.ops.convert_to_tensor, gradients), variables, strict=True))
    return -np.concatenate([variable.numpy() for variable in variables])


# Norms 5 and 1e-5; together 5 to 2e-12.
APART = [np.array([3.0, 4.0]), np.array([6e-6, 8e-6])]


@pytest.mark.parametrize("max_norm", [1.0, 1e-6, 8.0])
def test_clipping_by_global_norm(max_norm):
    """torch: max_norm / (norm + 1e-6), at most 1. Keras's global_clipnorm: min(1, max_norm / norm)."""
    whole = np.concatenate(APART)
    norm = np.linalg.norm(whole)
    theirs, ours = torch_clipped(APART, max_norm), keras_clipped(APART, global_clipnorm=max_norm)
    assert same(theirs, whole * min(1, max_norm / (norm + 1e-6)))
    assert same(ours, whole * min(1, max_norm / norm))
    assert np.array_equal(ours, theirs) == (max_norm == 8.0)


def test_clipping_of_small_gradients():
    """At norms of about 1e-6 torch's constant counts: it shrinks a gradient whose norm is half of max_norm."""
    small = [np.array([3e-7, 4e-7])]
    assert same(torch_clipped(small, 1e-6), small[0] / 1.5)
    assert same(keras_clipped(small, global_clipnorm=1e-6), small[0])


def test_clipnorm_of_keras_is_each_variables_own():
    """Keras's clipnorm clips the large one alone and leaves its direction; torch's scales all alike."""
    ours = keras_clipped(APART, clipnorm=1.0)
    assert same(ours, np.concatenate([APART[0] / 5, APART[1]]))
    each = torch_clipped(APART, 1.0, together=False)
    assert same(each, np.concatenate([APART[0] / (5 + 1e-6), APART[1]]))
    assert torch_clipped(APART, 1.0)[2] < 0.21 * ours[2]


@theirs_and_ours
def test_clipping_counts_two_added_biases_twice(torch_module, keras_module):
    parameters, x = initialise("LSTM", INPUT, HIDDEN), sequences()
    two, one = torch_layer(torch_module, parameters), keras_layer(keras_module, parameters)
    two(torch.from_numpy(x))[0].sum().backward()
    total = float(nn.utils.get_total_norm([p.grad for p in two.parameters()]))
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(one(keras.ops.convert_to_tensor(x)))
    gradients = [np.asarray(g) for g in tape.gradient(loss, one.trainable_variables)]
    squared = [np.sum(g**2) for g in gradients]
    assert same(total**2, sum(squared) + squared[2], GRADIENT_BOUND)


def test_clipping_counts_rows_of_an_embedding_that_are_read_twice():
    """Keras takes the norm of an embedding's gradient before the rows of one symbol are summed, so it clips to another length."""
    symbols = np.array([1, 1, 1, 1])
    table = nn.Embedding(3, 2)
    table(torch.from_numpy(symbols)).sum().backward()
    assert same(float(nn.utils.get_total_norm([table.weight.grad])), 4 * np.sqrt(2), 1e-6)

    layer = keras.layers.Embedding(3, 2, embeddings_initializer="zeros", dtype="float64")
    layer.build((None,))
    optimiser = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(layer(symbols))
    optimiser.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)
    step = np.linalg.norm(layer.embeddings.numpy())
    assert same(step, 2.0, 1e-6)  # √n times the limit, for n readings of the same symbol

    layer.embeddings.assign(np.zeros((3, 2)))
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(layer(symbols))
    summed = [tf.convert_to_tensor(g) for g in tape.gradient(loss, layer.trainable_variables)]
    optimiser.apply(summed, layer.trainable_variables)
    assert same(np.linalg.norm(layer.embeddings.numpy()), 1.0, 1e-6)


# Loops


def test_fit_counts_an_update_too_many_where_the_size_is_unknown():
    """At the end of such a data set `fit` begins a step that finds no batch, and `optimizer.iterations` has counted it."""

    def batches():
        return ((np.ones((2, 3)), np.ones((2, 1))) for _ in range(4))

    signature = (tf.TensorSpec((None, 3)), tf.TensorSpec((None, 1)))
    for known, counted in ((False, 15), (True, 12)):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(), "mse", jit_compile=False)
        data = tf.data.Dataset.from_generator(batches, output_signature=signature)
        if known:
            data = data.apply(tf.data.experimental.assert_cardinality(4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(data, epochs=3, verbose=0, shuffle=False)
        assert int(model.optimizer.iterations) == counted
