"""Why two that are trained alike do not stay alike: each difference is planted, in optimiser, loss or clipping, and named."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")

import rnn_torch
from rnn_common.doctor import diagnose_training
from rnn_common.doctor.training import Rule, first_step
from rnn_tf import trained as keras_trained
from rnn_torch import trained as torch_trained

WIDTH, HIDDEN, OUTPUTS = 5, 7, 2
RATE = 2.0**-6


class Network(torch.nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.rnn = getattr(torch.nn, cell)(WIDTH, HIDDEN, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(2 * HIDDEN, OUTPUTS)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def networks(cell="LSTM"):
    """The same network in both frameworks."""
    torch.manual_seed(0)
    ours = Network(cell)
    layer = keras.layers.Bidirectional(getattr(keras.layers, cell)(HIDDEN, return_sequences=True))
    theirs = keras.Sequential([keras.Input((None, WIDTH)), layer, keras.layers.Dense(OUTPUTS)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rnn_torch.copy_weights(ours.rnn, theirs.layers[0])
    theirs.layers[1].set_weights([ours.head.weight.detach().numpy().T, ours.head.bias.detach().numpy()])
    return ours, theirs


def in_torch(network, optimiser="SGD", loss=None, clip_norm=0.0, **options):
    made = getattr(torch.optim, optimiser)(network.parameters(), **({"lr": RATE} | options))
    return torch_trained.trained(network, made, loss or torch.nn.MSELoss(), clip_norm)


def in_keras(network, optimiser="SGD", loss="mse", **options):
    made = getattr(keras.optimizers, optimiser)(**({"learning_rate": RATE} | options))
    return keras_trained.trained(network, made, loss)


TWO = "one bias a gate, not two, of which each takes the step"
# What either side has, and what the report has to name; a GRU's biases are two in both frameworks.
CASES = {
    "nothing": ("GRU", {}, {}, []),
    "two added biases": ("LSTM", {}, {}, [TWO]),
    "the rate": ("GRU", {}, {"learning_rate": 2 * RATE}, ["the learning rate 0.03125, not 0.01562"]),
    "Nesterov": ("GRU", {"momentum": 0.5, "nesterov": True}, {"momentum": 0.5}, ["Nesterov's momentum 0, not 0.5"]),
    "plain momentum": ("GRU", {"momentum": 0.5}, {"momentum": 0.5}, []),
    "Adam": ("GRU", {"optimiser": "Adam"}, {"optimiser": "Adam"}, ["ε 3.162e-06, not 1e-08"]),
    "Adam, ε translated": (
        "GRU",
        {"optimiser": "Adam", "eps": 1e-6},
        {"optimiser": "Adam", "epsilon": 1e-6 * (1 - 0.999) ** 0.5},
        [],
    ),
    "the place of decay": (
        "GRU",
        {"optimiser": "Adam", "weight_decay": 0.1, "eps": 1e-6},
        {"optimiser": "Adam", "weight_decay": 0.1, "epsilon": 1e-6 * (1 - 0.999) ** 0.5},
        ["weight decay apart from the gradient, not added to the gradient"],
    ),
    "AdamW is Keras's": (
        "GRU",
        {"optimiser": "AdamW", "weight_decay": 0.1, "eps": 1e-6},
        {"optimiser": "Adam", "weight_decay": 0.1, "epsilon": 1e-6 * (1 - 0.999) ** 0.5},
        [],
    ),
    "RMSprop": (
        "GRU",
        {"optimiser": "RMSprop", "alpha": 0.875, "eps": 1e-7},
        {"optimiser": "RMSprop", "rho": 0.875, "epsilon": 1e-7},
        ["ε under the root, not beside the root"],
    ),
    "each variable's norm": (
        "GRU",
        {"clip_norm": 0.01},
        {"clipnorm": 0.01},
        ["clipped the norm of each variable's gradient, not the norm of all gradients"],
    ),
    "the same norm": ("GRU", {"clip_norm": 0.01}, {"global_clipnorm": 0.01}, []),
    "the limit": ("GRU", {"clip_norm": 0.01}, {"global_clipnorm": 0.02}, ["the limit of clipping 0.02, not 0.01"]),
    "a sum": ("GRU", {"loss": torch.nn.MSELoss(reduction="sum")}, {}, ["a loss that is the mean over"]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_makes_two_trainings_differ_is_named(name):
    cell, ours, theirs, expected = CASES[name]
    a, b = networks(cell)
    report = diagnose_training(in_torch(a, **ours), in_keras(b, **theirs))
    assert len(report.causes) == len(expected), str(report)
    for cause, said in zip(report.causes, expected, strict=True):
        assert cause.name.startswith(said), str(report)
    assert (report.verdict, report.status) == (("explained", 1) if expected else ("equal", 0)), str(report)


def test_the_models_stay_as_they_are():
    ours, theirs = networks()
    optimiser = torch.optim.Adam(ours.parameters())
    kept = [each.detach().clone() for each in ours.parameters()], [each.numpy() for each in theirs.variables]
    diagnose_training(torch_trained.trained(ours, optimiser, torch.nn.MSELoss()), in_keras(theirs, "Adam"))
    assert all(torch.equal(each, before) for each, before in zip(ours.parameters(), kept[0], strict=True))
    assert all(each.grad is None for each in ours.parameters())
    assert not optimiser.state
    for variable, before in zip(theirs.variables, kept[1], strict=True):
        np.testing.assert_array_equal(variable.numpy(), before)


def test_outputs_that_differ_are_looked_at_first():
    ours, theirs = networks()
    theirs.layers[1].set_weights([2 * each for each in theirs.layers[1].get_weights()])
    report = diagnose_training(in_torch(ours), in_keras(theirs))
    assert report.verdict == "different weights"
    assert report.notes[-1] == "Training was not looked at: their outputs differ already."


def test_another_loss_is_unexplained():
    ours, theirs = networks("GRU")
    report = diagnose_training(in_torch(ours), in_keras(theirs, loss="mae"))
    assert report.status == 3
    assert "times; it is another one, or something is masked" in report.notes[0]


def test_an_optimiser_that_is_not_known_is_unexplained():
    ours, theirs = networks("GRU")
    report = diagnose_training(in_torch(ours, "Adagrad"), in_keras(theirs, "Adagrad"))
    assert report.status == 3
    assert "does not step as" in report.notes[0]


def test_what_is_not_given():
    ours, theirs = networks()
    with pytest.raises(ValueError, match="optimiser should be given, or the model compiled with one"):
        keras_trained.trained(theirs)
    groups = [{"params": [each]} for each in ours.parameters()]
    with pytest.raises(ValueError, match="optimiser should have one group of parameters, got 10"):
        torch_trained.trained(ours, torch.optim.SGD(groups, lr=1.0), torch.nn.MSELoss())


def test_a_compiled_model_says_it_itself():
    ours, theirs = networks("GRU")
    theirs.compile(keras.optimizers.SGD(RATE), "mse")
    assert diagnose_training(in_torch(ours), keras_trained.trained(theirs)).verdict == "equal"


def test_the_first_step_by_hand():
    """Of two biases the sum goes as far as both; a norm counts both."""
    gradients = {"0/forward/b_i": np.array([3.0]), "0/forward/W_ii": np.array([[4.0]])}
    weights = {"0/forward/b_i": np.zeros(1), "0/forward/b_hi": np.zeros(1), "0/forward/W_ii": np.zeros((1, 1))}
    steps = first_step(Rule("sgd", 0.5), gradients, weights)
    assert (steps["0/forward/b_i"][0], steps["0/forward/W_ii"][0, 0]) == (-3.0, -2.0)
    clipped = first_step(Rule("sgd", 0.5, clip="all", clip_norm=1.0), gradients, weights)
    assert clipped["0/forward/W_ii"][0, 0] == pytest.approx(-2.0 / np.sqrt(34), rel=1e-15)
