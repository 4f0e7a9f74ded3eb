"""Recurrent layers, and what else there is, found by the names that PyTorch gives weights: array for array."""

from pathlib import Path

import numpy as np
import pytest

from rnn_common import packings
from rnn_common.exchange.by_torch_names import find
from rnn_common.exchange.contents import Contents, NotUnderstood
from rnn_common.exchange.description import Dense, Embedding, Foreign, Recurrent
from rnn_common.exchange.pytorch_file import read

GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def arrays(prefix="", cell="LSTM", width=3, hidden=4, layers=1, directions=1, bias=True, seed=0):
    """The weights of a stack, named and shaped as PyTorch does it."""
    random = np.random.default_rng(seed)
    rows = GATES[cell] * hidden
    found = {}
    for layer in range(layers):
        for direction in ("", "_reverse")[:directions]:
            shapes = {"weight_ih": (rows, width if layer == 0 else directions * hidden), "weight_hh": (rows, hidden)}
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
            for what, shape in shapes.items():
                found[f"{prefix}{what}_l{layer}{direction}"] = random.standard_normal(shape)
    return found


def found_in(arrays, config=None):
    return find(Contents(Path("a.pt"), "PyTorch state dict", arrays, config))


def packed(layer):
    """The arrays of a layer as PyTorch has them, from what was found."""
    return [
        packings.pack_torch(layer.cell, direction.weights, "_reverse" if index else "")
        for index, direction in enumerate(layer.directions)
    ]


def check_layers(layers, state, prefix=""):
    """What was found of a stack is what PyTorch has, array for array."""
    for number, layer in enumerate(layers):
        names = [name for name in state if name.startswith(prefix) and f"_l{number}" in name]
        assert list(layer.arrays) == names
        repacked = {
            f"{prefix}{name.removesuffix('_reverse')}_l{number}{'_reverse' if index else ''}": array
            for index, direction in enumerate(packed(layer))
            for name, array in direction.items()
        }
        assert list(repacked) == names
        for name in names:
            assert repacked[name].dtype == np.asarray(state[name]).dtype
            np.testing.assert_array_equal(repacked[name], np.asarray(state[name]))


# Of torch.nn itself


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_what_is_found_is_what_torch_has(tmp_path, cell, layers, directions, bias):
    torch = pytest.importorskip("torch")
    module = getattr(torch.nn, cell)(5, 4, layers, bias=bias, bidirectional=directions == 2)
    torch.save(module.state_dict(), tmp_path / "a.pt")
    found = find(read(tmp_path / "a.pt"))
    assert [type(layer) for layer in found] == [Recurrent] * layers
    assert {len(layer.directions) for layer in found} == {directions}
    assert {layer.packing for layer in found} == {"torch"}
    assert found[0].cell.name == cell.replace("RNN", "SimpleRNN")
    assert (found[0].input_size, found[0].hidden_size, found[0].bias) == (5, 4, bias)
    check_layers(found, module.state_dict())


def test_the_weights_are_those_that_the_module_uses(tmp_path):
    """The equations on what was found give what torch.nn.GRU gives."""
    torch = pytest.importorskip("torch")
    from rnn_common.equations import gru

    torch.manual_seed(0)
    module = torch.nn.GRU(3, 4).double()
    torch.save(module.state_dict(), tmp_path / "a.pt")
    (layer,) = find(read(tmp_path / "a.pt"))
    weights = layer.cell.weights(**layer.parameters().weights)
    x, state, outputs = np.random.default_rng(0).standard_normal((5, 1, 3)), (np.zeros((1, 4)),), []
    for x_t in x:
        state, _ = gru.step(weights, x_t, state)
        outputs.append(state[0])
    np.testing.assert_allclose(outputs, module(torch.tensor(x))[0].detach().numpy(), atol=1e-12)


def test_cells(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch.nn.ModuleDict({"a": torch.nn.LSTMCell(3, 4), "b": torch.nn.GRUCell(3, 4, bias=False)})
    torch.save(net.state_dict(), tmp_path / "a.pt")
    first, second = find(read(tmp_path / "a.pt"))
    assert (first.name, first.cell.name, second.name, second.cell.name) == ("a", "LSTM", "b", "GRU")
    for layer, module in ((first, net["a"]), (second, net["b"])):
        (own,) = packed(layer)
        for name, parameter in module.named_parameters():
            np.testing.assert_array_equal(own[name], parameter.detach().numpy())


def test_a_network_and_its_optimiser(tmp_path):
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential()
    net.table, net.lstm, net.fc = (
        torch.nn.Embedding(9, 3),
        torch.nn.LSTM(3, 4, 2, bidirectional=True),
        torch.nn.Linear(8, 2),
    )
    adam = torch.optim.Adam(net.parameters())
    net.fc(net.lstm(net.table(torch.tensor([[1, 2]])))[0]).sum().backward()
    adam.step()
    torch.save(
        {"epoch": 3, "optimiser": adam.state_dict(), "net": torch.nn.DataParallel(net).state_dict()}, tmp_path / "a.pt"
    )
    optimiser, table, first, second, dense = find(read(tmp_path / "a.pt"))
    assert (optimiser.name, optimiser.kind, len(optimiser.arrays)) == ("optimiser", "optimiser state", 3 * 19)
    assert (table.name, type(table)) == ("net/module.table", Embedding)
    np.testing.assert_array_equal(table.E, net.table.weight.detach().numpy())
    assert (first.name, second.name) == ("net/module.lstm, layer 1", "net/module.lstm, layer 2")
    state = {f"net/module.{name}": array for name, array in net.state_dict().items()}
    check_layers([first, second], state, "net/module.lstm.")
    assert (dense.name, type(dense)) == ("net/module.fc", Dense)
    np.testing.assert_array_equal(dense.W, net.fc.weight.detach().numpy())
    np.testing.assert_array_equal(dense.b, net.fc.bias.detach().numpy())


def test_a_whole_model_says_its_activation(tmp_path):
    torch = pytest.importorskip("torch")
    for kind in ("relu", "tanh"):
        module = torch.nn.RNN(3, 4, nonlinearity=kind)
        torch.save(torch.nn.ModuleList([module, torch.nn.RNNCell(4, 4, nonlinearity=kind)]), tmp_path / "a.pt")
        for layer in find(read(tmp_path / "a.pt")):
            assert [str(each) for each in layer.activations] == [kind]
            assert layer.notes == ()
        torch.save(module.state_dict(), tmp_path / "a.pt")
        (layer,) = find(read(tmp_path / "a.pt"))
        assert [str(each) for each in layer.activations] == ["tanh"]
        assert layer.notes == ("tanh is assumed: relu cannot be told from the weights",)


def test_a_projection(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(3, 8, 2, bidirectional=True, proj_size=2)
    torch.save(module.state_dict(), tmp_path / "a.pt")
    found = find(read(tmp_path / "a.pt"))
    assert [type(layer) for layer in found] == [Foreign] * 2
    assert found[1].kind == "LSTM with a projection, proj_size 2"
    assert {name for layer in found for name in layer.arrays} == set(module.state_dict())


# By names and shapes alone


@pytest.mark.parametrize("cell", GATES)
def test_a_stack_by_its_shapes(cell):
    state = arrays("_model.decoder.rnn.", cell, layers=2, directions=2)
    found = found_in(state)
    assert [layer.name for layer in found] == ["_model.decoder.rnn, layer 1", "_model.decoder.rnn, layer 2"]
    assert {layer.cell.name for layer in found} == {cell}
    check_layers(found, state, "_model.decoder.rnn.")


def test_both_biases_stay_apart():
    (layer,) = found_in(arrays(cell="LSTM"))
    weights = layer.directions[0].weights
    state = arrays(cell="LSTM")
    np.testing.assert_array_equal(weights["b_f"], state["bias_ih_l0"][4:8])
    np.testing.assert_array_equal(weights["b_hf"], state["bias_hh_l0"][4:8])
    np.testing.assert_array_equal(layer.parameters()["b_f"], state["bias_ih_l0"][4:8] + state["bias_hh_l0"][4:8])
    assert layer.name == "LSTM"


def test_short_names():
    """As g2p_en has them."""
    stacks = {"enc": arrays(cell="GRU", seed=1), "dec": arrays(cell="GRU", seed=2)}
    state = {"enc_emb": np.zeros((9, 3))}
    for name, stack in stacks.items():
        short = {"weight_ih_l0": "w_ih", "weight_hh_l0": "w_hh", "bias_ih_l0": "b_ih", "bias_hh_l0": "b_hh"}
        state |= {f"{name}_{short[each]}": array for each, array in stack.items()}
    state |= {"fc_w": np.ones((5, 4)), "fc_b": np.ones(5)}
    table, enc, dec, fc = found_in(state)
    assert [(layer.name, type(layer)) for layer in (table, fc)] == [("enc_emb", Embedding), ("fc", Dense)]
    for layer, name in ((enc, "enc"), (dec, "dec")):
        assert (layer.name, layer.cell.name) == (name, "GRU")
        (own,) = packed(layer)
        for what, array in own.items():
            np.testing.assert_array_equal(array, stacks[name][f"{what}_l0"])


def test_ten_layers_stand_in_their_order():
    state = dict(sorted(arrays("rnn.", "GRU", layers=12).items()))
    assert list(state)[2] == "rnn.bias_hh_l10"
    assert [layer.name for layer in found_in(state)] == [f"rnn, layer {number}" for number in range(1, 13)]


def test_tables_and_dense_layers():
    W, b = np.ones((9, 3)), np.ones(9)
    lstm = arrays("rnn.")
    kinds = {
        "called so": ({"word_embeddings.weight": W}, Embedding),
        "called so, one of several": ({"embed.0.weight": W}, Embedding),
        "before a layer of its width": ({"first.weight": W, **lstm}, Embedding),
        "before a layer of another width": ({"first.weight": np.ones((9, 5)), **lstm}, Foreign),
        "square, before a layer of its width": ({"first.weight": np.ones((3, 3)), **lstm}, Foreign),
        "behind the layer": ({**lstm, "first.weight": W}, Foreign),
        "within another word": ({"member.weight": W}, Foreign),
        "within something called so": ({"embedder.proj.weight": W}, Foreign),
        "with a bias": ({"fc.weight": W, "fc.bias": b}, Dense),
        "with a bias of another length": ({"fc.weight": W, "fc.bias": np.ones(3)}, Foreign),
        "with a bias that belongs to another": ({"fc.weight": W, "fd.bias": b}, Foreign),
        "by itself": ({"weight": W, "bias": b}, Dense),
        "whole numbers": ({"embedding.weight": W.astype(int)}, Foreign),
        "three in one": ({"attention.in_proj_weight": W, "attention.in_proj_bias": b}, Foreign),
        "a normalisation": ({"norm.weight": b, "norm.bias": b}, Foreign),
    }
    for case, (state, kind) in kinds.items():
        found = [layer for layer in found_in(state) if not isinstance(layer, Recurrent)]
        assert {type(layer) for layer in found} == {kind}, case


def test_the_rest_is_grouped():
    state = {
        "a.conv.weight": np.ones((2, 1, 3)),
        "scale": np.ones(2),
        "a.conv.bias": np.ones(2),
        "a.norm.mean": np.ones(3),
    }
    state |= {f"many.x{number}": np.ones(1) for number in range(6)}
    assert [(layer.name, layer.kind, layer.arrays) for layer in found_in(state)] == [
        ("a.conv", "weight (2, 1, 3), bias (2,)", ("a.conv.weight", "a.conv.bias")),
        ("scale", "scale (2,)", ("scale",)),
        ("a.norm", "mean (3,)", ("a.norm.mean",)),
        ("many", "x0 (1,), x1 (1,), x2 (1,), x3 (1,), 2 more", tuple(f"many.x{number}" for number in range(6))),
    ]


def test_an_optimiser_by_its_settings_or_by_its_moments():
    state = {"state/0/exp_avg": np.ones((16, 3)), "state/0/exp_avg_sq": np.ones((16, 3)), "state/0/kept": np.ones(3)}
    (found,) = found_in(state, {"param_groups/0/lr": 0.1})
    assert (found.kind, found.arrays) == ("optimiser state", tuple(state))
    by_name, other = found_in(state)
    assert (by_name.kind, by_name.arrays) == ("optimiser state", tuple(state)[:2])
    assert other.kind == "kept (3,)"


def test_parts_of_a_layer_are_none():
    """This project's own names: `W_hr` of a GRU is no projection, and `W_hh` beside `W_xh` is not PyTorch's."""
    state = {
        "layer1/forward/W_ir": np.ones((4, 3)),
        "layer1/forward/W_hr": np.ones((4, 4)),
        "layer2/W_hh": np.ones((4, 4)),
    }
    assert [type(layer) for layer in found_in(state)] == [Foreign, Foreign]
    backward = {name.replace("_l0", "_l0_reverse"): array for name, array in arrays().items()}
    assert {type(layer) for layer in found_in(backward)} == {Foreign}


def test_a_cell_that_nobody_knows():
    state = {"rnn.weight_ih_l0": np.ones((10, 3)), "rnn.weight_hh_l0": np.ones((10, 5))}
    (found,) = found_in(state)
    assert (type(found), found.kind) == (Foreign, "recurrent layer of 2 gates")


WRONG = {
    "weight_hh_l0": (
        (15, 4), r"'rnn.weight_hh_l0' should have 1, 3 or 4 times as many rows as columns, got \(15, 4\)"),
    "weight_ih_l0": ((12, 3), r"'rnn.weight_ih_l0' should have shape \(16, …\), with the rows of weight_hh, got \(12, 3\)"),
    "bias_ih_l0": ((12,), r"'rnn.bias_ih_l0' should have shape \(16,\), the rows of weight_hh, got \(12,\)"),
    "bias_hh_l0": ((16, 1), r"'rnn.bias_hh_l0' should have shape \(16,\), the rows of weight_hh, got \(16, 1\)"),
    "weight_ih_l0_reverse": ((16, 2), r"'rnn.weight_ih_l0_reverse' should have shape \(16, 3\), as 'rnn.weight_ih_l0' has"),
    "weight_hh_l0_reverse": ((20, 5), "'rnn.weight_ih_l0_reverse' should have shape"),
    "weight_ih_l1": ((16, 4), r"'rnn.weight_ih_l1' should have shape \(…, 8\), as wide as what the layer before it gives"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_shapes_that_do_not_fit(name):
    shape, said = WRONG[name]
    state = arrays("rnn.", layers=2, directions=2)
    state[f"rnn.{name}"] = np.ones(shape)
    if name == "weight_ih_l1":
        state["rnn.weight_ih_l1_reverse"] = np.ones(shape)
    with pytest.raises(NotUnderstood, match=said):
        found_in(state)


def test_arrays_that_do_not_fit():
    state = arrays("rnn.")
    with pytest.raises(NotUnderstood, match=r"bias_hh should be there, as 'rnn\.bias_ih_l0' is"):
        found_in({name: array for name, array in state.items() if "bias_hh" not in name})
    with pytest.raises(NotUnderstood, match=r"'rnn\.bias_hh_l0' should be float64, got float32"):
        found_in(state | {"rnn.bias_hh_l0": np.ones(16, "float32")})
    with pytest.raises(NotUnderstood, match=r"should be floating-point numbers, got int64"):
        found_in({name: array.astype(int) for name, array in state.items()})
    with pytest.raises(NotUnderstood, match=r"'rnn\.w_ih_l0' should be the one weight_ih of its layer"):
        found_in(state | {"rnn.w_ih_l0": np.ones((16, 3))})
    both = arrays("rnn.", directions=2)
    one = {
        name: array for name, array in both.items() if not (name.startswith("rnn.bias") and name.endswith("reverse"))
    }
    with pytest.raises(NotUnderstood, match=r"should be there of both directions or of neither"):
        found_in(one)
    with pytest.raises(NotUnderstood, match="should have shape"):
        found_in({"weight_ih": np.ones((4, 3)), "weight_hh": np.ones(4)})
    with pytest.raises(NotUnderstood, match="times as many rows"):
        found_in({"weight_ih": np.ones((4, 3)), "weight_hh": np.ones((4, 0))})
