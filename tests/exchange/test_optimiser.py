"""What Adam and SGD remember goes with a network: the next step is the one that it would have been, by NumPy's formula.

Gradients are given, so that both frameworks and the formula have the same; learning rate, β and μ are numbers that float32 holds,
to which Keras rounds them.
"""

import json
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache, reduce
from operator import getitem
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("onnx")
pytest.importorskip("typer")
torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from typer.testing import CliRunner

import rnn_tf
import rnn_torch
from rnn_common import exchange, networks, packings
from rnn_common.cells import CELLS, IN_BOTH, cell_of
from rnn_common.cli import app
from rnn_common.exchange import by_keras, convert, keras_file, keras_optimiser, optimisers
from rnn_common.exchange.proof import ProofFailed
from rnn_common.networks import Network, Stack
from rnn_common.training import checkpoint
from rnn_common.training.checkpoint import Checkpoint, Position
from rnn_common.training.recipe import Recipe

PEEPHOLES = f"{Path(__file__).parents[2]}/examples/peephole_lstm.py:PEEPHOLE_LSTM"
RATE, BETAS, MOMENTUM, EPSILON = 2.0**-7, (0.875, 1 - 2.0**-10), 0.875, 1e-8
UNIT = float(np.finfo(np.float32).eps)
OPTIMISERS = {
    "adam": (
        lambda parameters: torch.optim.Adam(parameters, RATE, BETAS, EPSILON),
        lambda: keras.optimizers.Adam(RATE, *BETAS, EPSILON),
    ),
    "sgd": (lambda parameters: torch.optim.SGD(parameters, RATE), lambda: keras.optimizers.SGD(RATE)),
    "momentum": (
        lambda parameters: torch.optim.SGD(parameters, RATE, MOMENTUM),
        lambda: keras.optimizers.SGD(RATE, MOMENTUM),
    ),
    "nesterov": (
        lambda parameters: torch.optim.SGD(parameters, RATE, MOMENTUM, nesterov=True),
        lambda: keras.optimizers.SGD(RATE, MOMENTUM, nesterov=True),
    ),
}
STEPS = 3  # before the conversion; one more after it


def change(kind, gradients):
    """By how much the last of these gradients moves a weight, by the formulas of docs/differences.md."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        if kind == "adam":
            m, v = BETAS[0] * m + (1 - BETAS[0]) * g, BETAS[1] * v + (1 - BETAS[1]) * g**2
            moved = -RATE * (m / (1 - BETAS[0] ** t)) / (np.sqrt(v / (1 - BETAS[1] ** t)) + EPSILON)
        else:
            m = (0.0 if kind == "sgd" else MOMENTUM) * m - RATE * g
            moved = MOMENTUM * m - RATE * g if kind == "nesterov" else m
    return moved


# A network, gradients of its weights by the document's names, and how either framework has them


def direction(random, cell, inputs, hidden):
    """Gradients of one direction, both biases apart: equal where they are added."""
    found = {name: random.standard_normal(shape) for name, shape in CELLS[cell].shapes(inputs, hidden).items()}
    return {f"b_h{gate}": found[CELLS[cell].bias(gate)] for gate in CELLS[cell].gates} | found


def gradients(seed):
    random = np.random.default_rng(seed)
    return {
        "table": {"E": random.standard_normal((9, 3))},
        "lstm": [direction(random, "LSTM", 3, 4) for _ in range(2)],
        "gru": [direction(random, "GRU", 8, 5)],
        "fc": {"W": random.standard_normal((2, 5)), "b": random.standard_normal(2)},
    }


def one_layer(cell):
    return lambda seed: {"lstm": [direction(np.random.default_rng(seed), cell, 3, 4)]}


def in_torch(given, cells):
    """By the names of a state dict."""
    found = {}
    for name, own in given.items():
        if name in cells:
            for each, suffix in zip(own, ("_l0", "_l0_reverse"), strict=False):
                packed = packings.pack_torch(CELLS[cells[name]], each, suffix)
                found |= {f"{name}.{key}": array for key, array in packed.items()}
        else:
            found[f"{name}.weight"] = own["E"] if "E" in own else own["W"]
            if "b" in own:
                found[f"{name}.bias"] = own["b"]
    return found


def in_keras(given, cells):
    """In the order of a model's variables; a bias that is one has the gradient of either."""
    found = []
    for name, own in given.items():
        if name in cells:
            cell = CELLS[cells[name]]
            for each in own:
                kept = {key: array for key, array in each.items() if cell.apart or key in cell.roles}
                found += packings.pack_keras(cell, kept)
        else:
            found += [own["E"]] if "E" in own else [own["W"].T, own["b"]]
    return found


NETWORK = {"lstm": "LSTM", "gru": "GRU"}


def torch_network():
    torch.manual_seed(0)
    return torch.nn.ModuleDict(
        {
            "table": torch.nn.Embedding(9, 3),
            "lstm": torch.nn.LSTM(3, 4, bidirectional=True),
            "gru": torch.nn.GRU(8, 5),
            "fc": torch.nn.Linear(5, 2),
        }
    )


def keras_network():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None,)),
            layers.Embedding(9, 3, name="table"),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="lstm"),
            layers.GRU(5, name="gru"),
            layers.Dense(2, name="fc"),
        ]
    )


def step_torch(optimiser, parameters, given):
    for name, parameter in parameters.items():
        parameter.grad = torch.from_numpy(given[name]).to(parameter)
    optimiser.step()


def step_keras(optimiser, variables, given):
    pairs = zip(given, variables, strict=True)
    optimiser.apply_gradients([(keras.ops.convert_to_tensor(g, v.dtype), v) for g, v in pairs])


def check_step(kind, before, after, history):
    """That a step moved weights as the formula does after all these gradients, to rounding."""
    for index, was in enumerate(before):
        moved = change(kind, [each[index] for each in history])
        bound = 4 * UNIT * max(1, np.abs(was).max())
        np.testing.assert_allclose(after[index], was + moved, rtol=0, atol=bound)
        assert np.abs(moved).max() > 1000 * bound


def trained_in_torch(kind, folder, net=None, of=gradients, cells=NETWORK):
    """A checkpoint after some steps: its path."""
    net = net or torch_network()
    optimiser = OPTIMISERS[kind][0](net.parameters())
    for seed in range(STEPS):
        step_torch(optimiser, dict(net.named_parameters()), in_torch(of(seed), cells))
    path = folder / "torch.pt"
    torch.save({"epoch": 3, "model": net.state_dict(), "optimizer": optimiser.state_dict()}, path)
    return path


def trained_in_keras(kind, folder):
    model = keras_network()
    model.compile(OPTIMISERS[kind][1]())
    model.optimizer.build(model.trainable_variables)
    for seed in range(STEPS):
        step_keras(model.optimizer, model.trainable_variables, in_keras(gradients(seed), NETWORK))
    model.save(folder / "keras.keras")
    return folder / "keras.keras"


def next_in_torch(kind, optimiser, parameters, names, of=gradients, cells=NETWORK):
    """One more step in PyTorch; `names` says what each parameter is called in `in_torch`."""
    history = [in_torch(of(seed), cells) for seed in range(STEPS + 1)]
    before = [parameter.detach().numpy().copy() for parameter in parameters.values()]
    step_torch(optimiser, parameters, {name: history[-1][names(name)] for name in parameters})
    after = [parameter.detach().numpy() for parameter in parameters.values()]
    check_step(kind, before, after, [[each[names(name)] for name in parameters] for each in history])


def next_in_keras(kind, optimiser, variables, of=gradients, cells=NETWORK):
    history = [in_keras(of(seed), cells) for seed in range(STEPS + 1)]
    before = [variable.numpy().copy() for variable in variables]
    step_keras(optimiser, variables, history[-1])
    check_step(kind, before, [variable.numpy() for variable in variables], history)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Of an optimiser a file of Keras's, written once."""
    return cache(lambda kind: trained_in_keras(kind, tmp_path_factory.mktemp("kept")))


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_from_torch_to_keras(kind, tmp_path):
    path = trained_in_torch(kind, tmp_path)
    found = replace(exchange.read(path), chain=True)  # which a state dict does not say
    assert found.optimiser is not None, found.notes
    model = rnn_tf.exchange.model(found)
    optimiser = rnn_tf.load_optimiser(path, model)
    assert optimiser.iterations.numpy() == (STEPS if kind == "adam" else 0)  # PyTorch's SGD does not count
    next_in_keras(kind, optimiser, model.trainable_variables)


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_from_keras_to_torch(kind, kept):
    path = kept(kind)
    assert exchange.read(path).optimiser.updates == STEPS
    model = rnn_torch.load(path)
    optimiser = rnn_torch.load_optimiser(path, model)
    next_in_torch(kind, optimiser, dict(model.named_parameters()), lambda name: name[7:].replace(".layer.", "."))


@pytest.mark.parametrize(
    ("cell", "kind"),
    [*(("LSTM", kind) for kind in OPTIMISERS), *((cell, "adam") for cell in IN_BOTH if cell != "LSTM")],
)
def test_a_file_of_torch_into_one_of_keras(cell, kind, tmp_path):
    made = {"SimpleRNN": torch.nn.RNN, "LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}[cell]
    torch.manual_seed(0)
    alone = {"of": one_layer(cell), "cells": {"lstm": cell}}
    path = trained_in_torch(kind, tmp_path, torch.nn.ModuleDict({"lstm": made(3, 4)}), **alone)
    done = convert.convert(path, tmp_path / "b.keras")
    assert done.notes[0].startswith("The optimiser goes with it: ")
    model = keras.saving.load_model(tmp_path / "b.keras")
    next_in_keras(kind, model.optimizer, model.trainable_variables, **alone)


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_a_file_of_keras_into_one_of_torch(kind, tmp_path, kept):
    """PyTorch's own optimiser takes the state, and goes on."""
    done = convert.convert(kept(kind), tmp_path / "b.pt")
    assert done.notes[0].startswith("The optimiser goes with it: ")
    saved = torch.load(tmp_path / "b.pt", weights_only=True)
    net = torch_network()
    net.load_state_dict(saved["model"])
    optimiser = OPTIMISERS["sgd" if kind != "adam" else kind][0](net.parameters())
    optimiser.load_state_dict(saved["optimizer"])
    next_in_torch(kind, optimiser, dict(net.named_parameters()), lambda name: name)


def test_there_and_back(tmp_path):
    """PyTorch's file read as PyTorch's again: the same moments; both halves of a bias."""
    first = trained_in_torch("momentum", tmp_path, torch.nn.ModuleDict({"lstm": torch.nn.LSTM(3, 4)}),
                             of=one_layer("LSTM"), cells={"lstm": "LSTM"})  # fmt: skip
    convert.convert(first, tmp_path / "b.keras")
    convert.convert(tmp_path / "b.keras", tmp_path / "c.pt")
    before, after = (torch.load(path, weights_only=True)["optimizer"] for path in (first, tmp_path / "c.pt"))
    for n in range(4):
        torch.testing.assert_close(
            after["state"][n]["momentum_buffer"], before["state"][n]["momentum_buffer"], rtol=4 * UNIT, atol=0
        )


# Checkpoints of our own


@pytest.mark.parametrize("kind", ["adam", "momentum"])
@pytest.mark.parametrize("target", [".pt", ".keras"])
def test_from_a_checkpoint_of_ours(target, kind, tmp_path):
    """The moments of a run, in either framework's own file."""
    pytest.importorskip("safetensors")
    model = Network(Stack("GRU", 3, 4), 2, "sequence")
    weights = networks.initial_weights(model, 0, np.float32)
    random = np.random.default_rng(0)
    moments = {
        name: {key: random.uniform(0.1, 1, array.shape).astype(np.float32) for key, array in weights.items()}
        for name in (("m", "v") if kind == "adam" else ("velocity",))
    }
    recipe = Recipe("adam" if kind == "adam" else "sgd", RATE, MOMENTUM, *BETAS, epochs=3)
    made = Checkpoint(model, recipe, "tf", Position(1, 1, 3), weights, moments, losses=np.ones(3), norms=np.ones(3))
    checkpoint.save(made, tmp_path / "run")
    done = convert.convert(tmp_path / "run", tmp_path / f"b{target}")
    assert done.notes[0].startswith("The optimiser goes with it: ")
    again = exchange.read(tmp_path / f"b{target}").optimiser
    for name, group in moments.items():
        recurrent, dense = (layer for layer in again.moments[name] if not isinstance(layer, exchange.Foreign))
        own = recurrent.directions[0].weights
        for weight in CELLS["GRU"].roles:
            np.testing.assert_allclose(own[weight], group[f"layer1/forward/{weight}"], rtol=4 * UNIT)
        np.testing.assert_array_equal(own["b_hz"], own["b_z"])
        np.testing.assert_allclose(dense.W, group["W_hy"], rtol=4 * UNIT)
    assert again.updates == (3 if kind == "adam" or target == ".keras" else None)


@pytest.mark.parametrize("page", [rnn_torch, rnn_tf])
def test_of_a_cell_of_ones_own(page, tmp_path):
    """From PyTorch's file into another, and into either framework, by the names of the cell's weights."""
    cell = cell_of(PEEPHOLES)
    net = torch.nn.ModuleDict({"rnn": rnn_torch.layer_of(cell)(3, 4)})
    optimiser = torch.optim.Adam(net.parameters(), RATE, BETAS)
    random = np.random.default_rng(0)
    given = {name: random.standard_normal(shape) for name, shape in cell.shapes(3, 4).items()}
    step_torch(optimiser, dict(net.named_parameters()), {f"rnn.{name}_l0": g for name, g in given.items()})
    torch.save({"model": net.state_dict(), "optimizer": optimiser.state_dict()}, tmp_path / "a.pt")
    done = convert.convert(tmp_path / "a.pt", tmp_path / "b.pt", cells=[PEEPHOLES])
    assert done.notes[0].startswith("The optimiser goes with it: Adam")
    model = page.load(tmp_path / "b.pt", cells=[PEEPHOLES])
    optimiser = page.load_optimiser(tmp_path / "b.pt", model, [PEEPHOLES])
    if page is rnn_torch:
        m = [optimiser.state[parameter]["exp_avg"].numpy() for parameter in model.parameters()]
    else:
        m = [each.numpy().T for each in rnn_tf.private.moments(optimiser)[0]]
    for got, g in zip(m, given.values(), strict=True):
        np.testing.assert_allclose(got, (1 - BETAS[0]) * g, rtol=4 * UNIT)


# What is left out, by name

ODD = [
    None,
    True,
    -1,
    10**30,
    0.5,
    1e300,
    float("nan"),
    "",
    "x" * 2000,
    "a\nb",
    [],
    [0.5],
    {},
    {"class_name": ["Adam"]},
]


@contextmanager
def one_line():
    """A ValueError in one line is an answer to a stranger; any other is not."""
    try:
        yield
    except ValueError as error:
        if "\n" in str(error) or len(str(error)) > 1000:
            raise


SETTINGS = ("learning_rate", "beta_1", "epsilon", "clipnorm", "amsgrad", "use_ema")
WAYS = [(), ("class_name",), ("module",), ("config",), *(("config", name) for name in SETTINGS)]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
def test_odd_values_in_a_file_of_keras(odd, kept):
    contents = keras_file.read(kept("adam"))
    layers, _, _ = by_keras.find(contents)
    for way in WAYS:
        config = deepcopy(contents.config)
        *before, last = ("model", "compile_config", "optimizer", *way)
        reduce(getitem, before, config)[last] = odd
        with one_line():
            assert keras_optimiser.find(replace(contents, config=config), layers).name == "adam"


@pytest.mark.parametrize("odd", [*ODD, torch.ones(5), torch.ones(())], ids=lambda odd: repr(odd)[:12])
def test_odd_values_in_a_file_of_torch(odd, tmp_path):
    places = [
        lambda state: state,
        lambda state: state["state"],
        lambda state: state["state"][1],
        lambda state: state["param_groups"][0],
    ]
    for place, key in ((0, "state"), (0, "param_groups"), (1, 1), (2, "step"), (2, "exp_avg"), (3, "lr"), (3, "betas"),
                       (3, "eps"), (3, "params"), (3, "weight_decay"), (3, "amsgrad"), (3, "other")):  # fmt: skip
        torch_file(tmp_path / "a.pt", adam, changes=[lambda s, p=place, k=key: places[p](s).update({k: odd})])
        found = exchange.read(tmp_path / "a.pt")
        assert len(found.ours) == 2
        said = [note for note in found.notes if note.startswith(optimisers.LEFT_OUT)]
        assert (found.optimiser is None) == bool(said)
        assert all("\n" not in note and len(note) < 1000 for note in said)


def torch_file(path, optimiser, **others):
    """A checkpoint of a small network after one step of an optimiser, which is made of its parameters."""
    torch.manual_seed(0)
    net = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(3, 4), "fc": torch.nn.Linear(4, 2)})
    made = optimiser(net)
    net["fc"](net["lstm"](torch.ones(2, 3, 3))[0]).sum().backward()
    made.step()
    state = made.state_dict()
    for change in others.pop("changes", ()):
        change(state)
    torch.save({"model": net.state_dict(), "optimizer": state, **{k: v(net, state) for k, v in others.items()}}, path)


def adam(net):
    return torch.optim.Adam(net.parameters())


def frozen(net):
    net["lstm"].bias_hh_l0.requires_grad_(False)
    return torch.optim.Adam([each for each in net.parameters() if each.requires_grad])


def unused(net):
    return torch.optim.Adam([*net.parameters(), torch.nn.Parameter(torch.ones(2))])


@pytest.mark.parametrize(
    ("optimiser", "others", "reason"),
    [
        (lambda net: torch.optim.AdamW(net.parameters()), {}, "its weight_decay is 0.01"),
        (lambda net: torch.optim.Adam(net.parameters(), amsgrad=True), {}, "its amsgrad is True"),
        (lambda net: torch.optim.Adam(net.parameters(), maximize=True), {}, "its maximize is True"),
        (lambda net: torch.optim.SGD(net.parameters(), 0.1, 0.9, dampening=0.5), {}, "its dampening is 0.5"),
        (lambda net: torch.optim.RMSprop(net.parameters()), {}, "it should be Adam or SGD, got one with"),
        (lambda net: torch.optim.RAdam(net.parameters()), {}, "it should be Adam or SGD, got one with"),
        (lambda net: torch.optim.NAdam(net.parameters()), {}, "it should be Adam or SGD, got one with"),
        (
            lambda net: torch.optim.Adam([{"params": list(net["fc"].parameters())}, {"params": list(net["lstm"].parameters())}]),
            {}, "2 groups of parameters, whose order",
        ),
        (lambda net: torch.optim.Adam([*net["fc"].parameters(), *net["lstm"].parameters()]), {}, "or of other shapes"),
        (frozen, {}, "its 5 parameters should be the weights of one state dict in the file, in its order, got 6 weights"),
        (unused, {}, "but lacks exp_avg of parameter 6"),
        (adam, {"ema": lambda net, _: net.state_dict()}, "got 2 that would fit"),
        (adam, {"second": lambda _, state: state}, "there are 2, 'optimizer', 'second'"),
        (adam, {"changes": [lambda s: s["state"][2].pop("exp_avg")]}, "but lacks exp_avg of parameter 2"),
        (adam, {"changes": [lambda s: s["state"].pop(3)]}, "but lacks exp_avg of parameter 3"),
        (adam, {"changes": [lambda s: s["state"][1]["step"].fill_(7)]}, "should have done as many updates, got 1 to 7"),
        (adam, {"changes": [lambda s: s["state"][1]["exp_avg"].fill_(np.nan)]}, "m of lstm, direction 0, W_hi should be f"),
        (adam, {"changes": [lambda s: s["state"][5]["exp_avg_sq"].sub_(1)]}, "v of model/fc, b should be finite, and at least 0"),
        (adam, {"changes": [lambda s: s["state"][1].update(other=torch.ones(2))]}, "got 'optimizer/state/1/other'"),
        (adam, {"changes": [lambda s: s["param_groups"][0].update(lr=-1.0)]}, "its learning_rate should be above 0, got -1"),
        (adam, {"changes": [lambda s: s["param_groups"][0].pop("eps")]}, "should have the settings lr, betas/0, betas/1, eps"),
        (adam, {"changes": [lambda s: s["param_groups"][0].update(betas=(0.9, 1.5))]}, "its beta_2 should be below 1"),
    ],
)  # fmt: skip
def test_what_is_left_out_of_torch(optimiser, others, reason, tmp_path):
    torch_file(tmp_path / "a.pt", optimiser, **others)
    found = exchange.read(tmp_path / "a.pt")
    assert found.optimiser is None
    (said,) = (note for note in found.notes if note.startswith(optimisers.LEFT_OUT))
    assert reason in said.replace("model/lstm", "lstm")
    assert "\n" not in said
    assert any(layer.name == "model/lstm" for layer in found.recurrent)


def test_moments_of_a_cell_of_tensorflow_1(tmp_path):
    """To whose bias a forget bias is added, which none of its moments has."""
    weights = {"rnn/lstm_cell/kernel": torch.ones(7, 16), "rnn/lstm_cell/bias": torch.ones(16)}
    parameters = [torch.nn.Parameter(each) for each in weights.values()]
    optimiser = torch.optim.Adam(parameters)
    for each in parameters:
        each.grad = torch.ones_like(each)
    optimiser.step()
    torch.save({"model": weights, "optimizer": optimiser.state_dict()}, tmp_path / "a.pt")
    found = exchange.read(tmp_path / "a.pt")
    assert [layer.packing for layer in found.recurrent] == ["tf1"]
    assert found.optimiser is None
    assert any("is packed as TensorFlow 1 does" in note for note in found.notes)


def test_an_optimiser_before_its_first_step(tmp_path):
    net = torch.nn.LSTM(3, 4)
    torch.save(
        {"model": net.state_dict(), "optimizer": torch.optim.Adam(net.parameters()).state_dict()}, tmp_path / "a.pt"
    )
    found = exchange.read(tmp_path / "a.pt").optimiser
    assert (found.name, found.updates, dict(found.moments)) == ("adam", 0, {})
    convert.convert(tmp_path / "a.pt", tmp_path / "b.keras")
    assert keras.saving.load_model(tmp_path / "b.keras").optimizer.iterations.numpy() == 0


def test_moments_without_an_optimiser(tmp_path):
    np.savez(tmp_path / "a.npz", **{"w.exp_avg": np.ones((16, 3))})
    assert exchange.read(tmp_path / "a.npz").notes == (
        f"{optimisers.LEFT_OUT}which optimiser it is of is not in the file",
    )


@pytest.mark.parametrize(
    ("optimiser", "reason"),
    [
        (lambda: keras.optimizers.RMSprop(), "it should be Keras's Adam or SGD, got 'RMSprop'"),
        (lambda: keras.optimizers.AdamW(), "it should be Keras's Adam or SGD, got 'AdamW'"),
        (lambda: keras.optimizers.Adam(weight_decay=0.1), "its weight_decay is 0.1"),
        (lambda: keras.optimizers.Adam(amsgrad=True), "its amsgrad is True"),
        (lambda: keras.optimizers.SGD(0.1, 0.9, use_ema=True), "its use_ema is True"),
        (lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), "its gradient_accumulation_steps is 2"),
        (lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9), 0.9), "got a schedule"),
        (lambda: keras.optimizers.Adam(), "it should have 2 moments of each of 4 weights, got 6 in all"),
    ],
)
def test_what_is_left_out_of_keras(optimiser, reason, tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.SimpleRNN(4), keras.layers.Dense(2, use_bias=False)])
    model.layers[1].trainable = "got 6 in all" not in reason
    model.compile(optimiser())
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "a.keras")
    found = exchange.read(tmp_path / "a.keras")
    assert (found.optimiser, found.is_network) == (None, True)
    (said,) = (note for note in found.notes if note.startswith(optimisers.LEFT_OUT))
    assert reason in said


def test_weights_alone_do_not_say_which_optimiser(tmp_path, kept):
    model = keras.saving.load_model(kept("adam"))
    model.save_weights(tmp_path / "a.weights.h5")
    found = exchange.read(tmp_path / "a.weights.h5")
    assert f"{optimisers.LEFT_OUT}which optimiser it is of is not in the file, as it is in .keras" in found.notes
    assert len(found.layers) == 4


def test_what_clips_is_said(tmp_path):
    model = keras_network()
    model.compile(keras.optimizers.Adam(global_clipnorm=1.5))
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "a.keras")
    notes = convert.convert(tmp_path / "a.keras", tmp_path / "b.pt").notes
    assert "global_clipnorm 1.5 is left out: in PyTorch the training loop clips" in notes


def test_two_biases_with_moments_of_their_own_are_not_one(tmp_path):
    """As after one of them was frozen for a while."""
    net = torch.nn.LSTM(3, 4)
    optimiser = torch.optim.Adam(net.parameters())
    for name, parameter in net.named_parameters():
        parameter.grad = torch.full_like(parameter, 2.0 if name == "bias_hh_l0" else 1.0)
    optimiser.step()
    torch.save({"model": net.state_dict(), "optimizer": optimiser.state_dict()}, tmp_path / "a.pt")
    done = convert.convert(tmp_path / "a.pt", tmp_path / "b.keras")
    assert done.notes == (
        f"{optimisers.LEFT_OUT}the two biases of gate i in model have moments of their own, for which Keras's one has no place",
    )
    assert exchange.read(tmp_path / "b.keras").optimiser is None
    assert convert.convert(tmp_path / "a.pt", tmp_path / "c.pt").notes[0].startswith("The optimiser goes with it")


def test_files_without_a_place_for_it(tmp_path, kept):
    path = kept("adam")
    notes = convert.convert(path, tmp_path / "b.npz").notes
    assert notes == (f"{optimisers.LEFT_OUT}.npz has no place for it, .keras and .pt have",)
    assert convert.convert(path, tmp_path / "c.pt", "gru").notes[0].startswith("The optimiser goes with it")
    assert [layer.name for layer in exchange.read(tmp_path / "c.pt").recurrent] == ["model/gru"]


def test_a_state_that_is_not_what_was_read_leaves_no_file(tmp_path, kept, monkeypatch):
    path = kept("adam")
    real = rnn_torch.exchange._remembering

    def spoilt(about, parameters, arrays):
        return real(
            about, parameters, {"m": arrays["m"], "v": {name: array * 1.001 for name, array in arrays["v"].items()}}
        )

    monkeypatch.setattr(rnn_torch.exchange, "_remembering", spoilt)
    with pytest.raises(
        ProofFailed, match=r"should hold the optimiser of keras\.keras, but its v of table, E is another"
    ):
        convert.convert(path, tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()


@pytest.mark.parametrize("page", [rnn_torch, rnn_tf])
def test_a_file_without_an_optimiser(page, tmp_path):
    torch_file(tmp_path / "a.pt", lambda net: torch.optim.AdamW(net.parameters()))
    with pytest.raises(ValueError, match=r"a\.pt should hold an optimiser's state: its weight_decay is 0.01"):
        page.load_optimiser(tmp_path / "a.pt", page.load(tmp_path / "a.pt"))
    np.savez(tmp_path / "b.npz", weight_ih_l0=np.ones((4, 3)), weight_hh_l0=np.ones((4, 4)))
    with pytest.raises(ValueError, match="there is none in it"):
        page.load_optimiser(tmp_path / "b.npz", page.load(tmp_path / "b.npz"))


def test_the_commands_say_it(tmp_path, kept):
    path = kept("nesterov")
    said = CliRunner().invoke(app.app, ["inspect", str(path), "--json", str(tmp_path / "found.json")])
    assert said.exit_code == 0, said.output
    words = "Trained with SGD, learning rate 0.0078125, momentum 0.875, nesterov, after 3 updates, with velocity"
    assert words in " ".join(said.output.split())
    assert json.loads((tmp_path / "found.json").read_text())["optimiser"]["moments"] == ["velocity"]
    said = " ".join(CliRunner().invoke(app.app, ["convert", str(path), str(tmp_path / "b.pt")]).output.split())
    assert "The optimiser goes with it: SGD, learning rate 0.0078125" in said
    assert "PyTorch's scales with it, Keras's does not" in said
