"""Recurrent layers in ONNX files: written, read again, run by a runtime of its own."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto

from rnn_common.cells import CELLS
from rnn_common.equations import unroll
from rnn_common.exchange import onnx_file
from rnn_common.exchange.contents import Budget
from rnn_common.exchange.description import (
    HARD_SIGMOID,
    HARD_SIGMOID_KERAS_2,
    LINEAR,
    SIGMOID,
    TANH,
    Activation,
    Dense,
    Direction,
    Embedding,
    Foreign,
    Recurrent,
    default_activations,
)
from rnn_common.exchange.onnx_constants import Constants
from rnn_common.exchange.onnx_proto import graph as parsed
from rnn_common.exchange.onnx_write import write
from rnn_common.packings import unpack_torch
from rnn_common.parity import contract
from rnn_common.weights import initialise
from tests.exchange.onnx_graphs import node, save

INPUT, HIDDEN, BATCH, TIME = 3, 5, 4, 6
LENGTHS = np.array([6, 1, 4, 3], np.int32)
# What stands for tanh, then for σ.
ACTIVATIONS = {
    "the equations'": (TANH, SIGMOID),
    "Keras 2": (Activation("relu"), HARD_SIGMOID_KERAS_2),
    "Keras 3": (Activation("softsign"), HARD_SIGMOID),
    "with parameters": (Activation("leaky_relu", 0.3), Activation("hard_sigmoid", 0.25, 0.4)),
    "elu": (Activation("elu", 1.5), SIGMOID),
    "softplus": (Activation("softplus"), Activation("softsign")),
    "identity": (LINEAR, SIGMOID),
}
WAYS = ("forward", "backward", "both")


# Layers, and what they should give


def layer_of(cell, way="forward", *, bias=True, activations=None, width=INPUT, hidden=HIDDEN, **options):
    """A layer with both biases of every gate where it has any, in float32."""
    cell = CELLS[cell]
    directions = []
    for seed in range(2 if way == "both" else 1):
        weights = dict(initialise(cell, width, hidden, bias=bias, seed=seed, dtype=np.float32))
        if bias:
            other = initialise("GRU v3" if cell.name == "GRU" else cell, width, hidden, seed=seed + 2, dtype=np.float32)
            weights |= {f"b_h{gate}": other[other.cell.bias(gate)] for gate in cell.gates}
        directions.append(Direction(weights, (activations or default_activations(cell))[: len(cell.activations)]))
    return Recurrent("rnn", cell, tuple(directions), "torch", backwards=way == "backward", **options)


def step(cell, w, activations, x, h, c=None):
    """One step of a cell with other activations than its equations have."""

    def gate(activation, name, h=h, bias=0.0):
        return activation(x @ w[f"W_i{name}"].T + h @ w[f"W_h{name}"].T + w.get(f"b_{name}", 0.0) + bias)

    g, *rest = activations
    if cell.name == "SimpleRNN":
        return (g(x @ w["W_xh"].T + h @ w["W_hh"].T + w.get("b_h", 0.0)),)
    (f,) = rest
    if cell.name == "LSTM":
        c = gate(f, "f") * c + gate(f, "i") * gate(g, "c")
        return gate(f, "o") * g(c), c
    r, z = gate(f, "r"), gate(f, "z")
    if cell.name == "GRU":
        n = g(x @ w["W_in"].T + w.get("b_n", 0.0) + r * (h @ w["W_hn"].T + w.get("b_hn", 0.0)))
    else:
        n = gate(g, "n", r * h)
    return ((1 - z) * n + z * h,)


def turned(x, lengths):
    """Sequences from their last step to their first, the padding left where it is."""
    x = x.copy()
    for row, length in zip(x, lengths, strict=True):
        row[:length] = row[:length][::-1]
    return x


def run_direction(layer, index, x, state, lengths):
    """Outputs and final state, in float64, of one direction."""
    backwards = layer.backwards or index == 1
    parameters = layer.parameters(index)
    x = turned(x, lengths) if backwards else x
    weights = {name: array.astype(float) for name, array in parameters.items()}
    now, outputs = tuple(state), []
    for t in range(x.shape[1]):
        after = step(layer.cell, weights, layer.directions[index].activations, x[:, t], *now)
        valid = (t < lengths)[:, None]
        now = tuple(np.where(valid, new, old) for new, old in zip(after, now, strict=True))
        outputs.append(np.where(valid, after[0], 0))
    outputs = np.stack(outputs, 1)
    if layer.directions[index].activations == default_activations(layer.cell):
        oracle = unroll(parameters, x, state, lengths)
        assert contract.deviation(outputs, oracle.outputs) < 1e-13
        outputs, now = oracle.outputs, oracle.final
    return turned(outputs, lengths) if backwards else outputs, now


MERGED = {
    "concat": lambda a: np.concatenate(a, -1),
    "sum": sum,
    "mul": lambda a: a[0] * a[1],
    "ave": lambda a: sum(a) / 2,
}


def expected(layer, x, states=None, lengths=None):
    """What a layer gives: `(batch, time, ·)`, or of the last step; and the final state, each `(directions, batch, hidden)`."""
    lengths = np.full(len(x), x.shape[1]) if lengths is None else lengths
    count = len(layer.directions)
    if states is None:
        states = [np.zeros((count, len(x), layer.hidden_size)) for _ in layer.cell.states]
    found = [run_direction(layer, i, x, [part[i] for part in states], lengths) for i in range(count)]
    final = [np.stack(parts) for parts in zip(*(final for _, final in found), strict=True)]
    if layer.returns_sequences is False:
        each = list(final[0])
    else:
        each = [outputs[:, ::-1] if layer.flipped else outputs for outputs, _ in found]
    return MERGED[layer.merge](each) if count == 2 else each[0], final


def run(path, **inputs):
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def assert_close(found, oracle):
    """Within the contract's bound in float32, for pre-activations of order one."""
    assert contract.deviation(found, oracle) <= contract.bounds(np.float32, 1.0).outputs


def assert_same_layer(found, layer):
    """Weights to the bit and in float32, of names of their own; activations and all else exactly."""
    assert found.cell is layer.cell
    assert found.packing == "onnx"
    for name in ("backwards", "flipped", "merge", "name"):
        assert getattr(found, name) == getattr(layer, name)
    for a, b in zip(found.directions, layer.directions, strict=True):
        assert a.activations == b.activations
        assert set(a.weights) == set(b.weights)
        for name, array in a.weights.items():
            assert array.dtype == np.float32
            assert np.array_equal(array, b.weights[name])


def inputs_of(layer, seed=0):
    draw = np.random.default_rng(seed).standard_normal
    x = draw((BATCH, TIME, INPUT)).astype(np.float32)
    states = [draw((len(layer.directions), BATCH, HIDDEN)).astype(np.float32) for _ in layer.cell.states]
    return x, states


# Written, read, run


@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_there_and_back_and_run(tmp_path, cell, bias, way, activations):
    layer = layer_of(cell, way, bias=bias, activations=ACTIVATIONS[activations])
    x, states = inputs_of(layer)

    path = write([layer], tmp_path / "plain.onnx")
    onnx.checker.check_model(onnx.load(path), full_check=True)
    found = onnx_file.read(path)
    assert found.chain
    assert_same_layer(found.recurrent[0], layer)
    assert (found.recurrent[0].returns_sequences, found.recurrent[0].masks, found.recurrent[0].notes) == (
        True,
        False,
        (),
    )
    assert_close(run(path, x=x)["y"], expected(layer, x)[0])

    path = write([layer], tmp_path / "full.onnx", states=True, lengths=True)
    found = onnx_file.read(path)
    assert_same_layer(found.recurrent[0], layer)
    assert found.recurrent[0].masks is True
    assert "starts from a state that is given or computed: 'h_0'" in found.recurrent[0].notes[0]
    initial = {f"{name}_0": part for name, part in zip(layer.cell.states, states, strict=True)}
    outputs = run(path, x=x, lengths=LENGTHS, **initial)
    y, final = expected(layer, x, states, LENGTHS)
    assert_close(outputs["y"], y)
    for name, part in zip(layer.cell.states, final, strict=True):
        assert_close(outputs[f"{name}_n"], part)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("merge", MERGED)
def test_two_directions_become_one(tmp_path, merge, sequences):
    layer = layer_of("GRU", "both", merge=merge, returns_sequences=sequences)
    x, _ = inputs_of(layer)
    path = write([layer], tmp_path / "a.onnx", lengths=True)
    found = onnx_file.read(path)
    assert_same_layer(found.recurrent[0], layer)
    assert (found.recurrent[0].returns_sequences, found.chain) == (sequences, True)
    assert_close(run(path, x=x, lengths=LENGTHS)["y"], expected(layer, x, lengths=LENGTHS)[0])


@pytest.mark.parametrize("flipped", [True, False])
@pytest.mark.parametrize("sequences", [True, False])
def test_outputs_in_the_order_in_which_they_ran(tmp_path, flipped, sequences):
    layer = layer_of("LSTM", "backward", flipped=flipped, returns_sequences=sequences)
    x, _ = inputs_of(layer)
    path = write([layer], tmp_path / "a.onnx")
    found = onnx_file.read(path).recurrent[0]
    assert (found.backwards, found.flipped, found.returns_sequences) == (True, flipped and sequences, sequences)
    assert_close(run(path, x=x)["y"], expected(layer, x)[0])


def a_network():
    """Symbols → two directions → one backward → the last step of one → two dense layers."""
    draw = np.random.default_rng(1).standard_normal
    return [
        Embedding("letters", draw((7, 4)).astype(np.float32), masks=True),
        layer_of("LSTM", "both", width=4),
        layer_of("SimpleRNN", "backward", width=2 * HIDDEN),
        layer_of("LSTM", width=HIDDEN, returns_sequences=False),
        Dense(
            "hidden", draw((6, HIDDEN)).astype(np.float32), draw(6).astype(np.float32), Activation("leaky_relu", 0.1)
        ),
        Dense("out", draw((3, 6)).astype(np.float32), None, Activation("softmax")),
    ]


def test_a_network_of_any_batch_and_time(tmp_path):
    layers = a_network()
    path = write(layers, tmp_path / "a.onnx", states=True, lengths=True)
    found = onnx_file.read(path)
    assert found.chain
    assert [type(each) for each in found.layers] == [type(each) for each in layers]
    assert [each.name for each in found.layers] == ["letters", "rnn", "rnn (2)", "rnn (3)", "hidden", "out"]
    assert [each.returns_sequences for each in found.recurrent] == [True, True, False]
    assert np.array_equal(found.layers[0].E, layers[0].E)
    for a, b in zip(found.layers[4:], layers[4:], strict=True):
        assert np.array_equal(a.W, b.W)
        assert a.activation == b.activation
    assert np.array_equal(found.layers[4].b, layers[4].b)
    assert found.layers[5].b is None

    random_ = np.random.default_rng(2)
    for lengths in (np.array([5, 2, 3], np.int32), np.array([9], np.int32)):
        batch, steps = len(lengths), int(lengths.max())
        symbols = random_.integers(0, 7, (batch, steps))
        h_0 = random_.standard_normal((4, batch, HIDDEN)).astype(np.float32)
        c_0 = random_.standard_normal((3, batch, HIDDEN)).astype(np.float32)
        outputs = run(path, x=symbols, lengths=lengths, h_0=h_0, c_0=c_0)
        y, h_n, c_n = layers[0].E[symbols], [], []
        for layer, h, c in zip(layers[1:4], (h_0[:2], h_0[2:3], h_0[3:]), (c_0[:2], None, c_0[2:]), strict=True):
            y, final = expected(layer, y, [h] if c is None else [h, c], lengths)
            h_n.append(final[0])
            c_n += final[1:]
        for dense in layers[4:]:
            y = dense.activation(y @ dense.W.T + (0 if dense.b is None else dense.b))
        assert_close(outputs["y"], y)
        assert_close(outputs["h_n"], np.concatenate(h_n))
        assert_close(outputs["c_n"], np.concatenate(c_n))


def test_weights_in_other_precisions_are_written_as_float32(tmp_path):
    layer = layer_of("GRU")
    wide = Direction({n: a.astype(np.float64) + 1e-12 for n, a in layer.directions[0].weights.items()}, (TANH, SIGMOID))
    path = write([Recurrent("rnn", layer.cell, (wide,), "keras")], tmp_path / "a.onnx")
    found = onnx_file.read(path).recurrent[0].directions[0].weights
    assert all(np.array_equal(found[name], array.astype(np.float32)) for name, array in wide.weights.items())


def test_where_one_direction_alone_has_biases_the_other_has_zeros(tmp_path):
    layer = layer_of("LSTM", "both")
    bare = initialise("LSTM", INPUT, HIDDEN, bias=False, seed=1, dtype=np.float32)
    one = Recurrent("rnn", layer.cell, (layer.directions[0], Direction(dict(bare), (TANH, SIGMOID))), "torch")
    zeros = {name: np.zeros(HIDDEN, np.float32) for name in layer.directions[1].weights if name.startswith("b_")}
    full = Recurrent("rnn", layer.cell, (layer.directions[0], Direction({**bare, **zeros}, (TANH, SIGMOID))), "torch")
    assert_same_layer(onnx_file.read(write([one], tmp_path / "a.onnx")).recurrent[0], full)


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (list, {}, "layers should be at least one, got none"),
        (
            lambda: [layer_of("LSTM", width=4), layer_of("LSTM")],
            {},
            "should read 5 features, as it is given, got weights of 3",
        ),
        (
            lambda: [layer_of("LSTM", returns_sequences=False), layer_of("LSTM", width=HIDDEN)],
            {},
            "should be given every step's output, got the last alone",
        ),
        (lambda: [layer_of("LSTM", masks=True)], {}, "'rnn' can skip steps: write it with lengths=True"),
        (lambda: a_network()[:1], {}, "'letters' skips symbol 0: write it with lengths=True"),
        (lambda: [layer_of("LSTM"), a_network()[0]], {}, "'letters' should be the first of the layers"),
        (
            lambda: [layer_of("LSTM", "backward", flipped=True)],
            {"lengths": True},
            "in the order in which they ran: write it with lengths=False",
        ),
        (
            lambda: [Dense("d", np.ones((2, 3)), None)],
            {"states": True},
            "states should be False where no layer is recurrent",
        ),
        (
            lambda: [layer_of("GRU"), layer_of("GRU", width=HIDDEN, hidden=2)],
            {"states": True},
            "should have one hidden size with states=True, or be written each by itself",
        ),
        (
            lambda: [layer_of("SimpleRNN", activations=(Activation("softmax"),))],
            {},
            "'rnn': an activation should be one that ONNX has within a layer",
        ),
        (
            lambda: [layer_of("GRU"), Foreign("conv", "Conv1D")],
            {},
            "should be recurrent, embeddings or dense, got Foreign",
        ),
        (lambda: [projected()], {}, "'rnn' should be without projection, which ONNX's LSTM has not"),
        (lambda: [Dense("d", np.full((2, 3), 1e39), None)], {}, "'d/W' should be finite in float32"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, layers, options, message):
    with pytest.raises(ValueError, match=message):
        write(layers(), tmp_path / "a.onnx", **options)
    assert list(tmp_path.iterdir()) == []


def projected():
    (direction,) = layer_of("LSTM").directions
    weights = dict(direction.weights) | {"projection": np.ones((2, HIDDEN), np.float32)}
    return Recurrent("rnn", CELLS["LSTM"], (Direction(weights, direction.activations),), "torch")


def test_constants_are_computed_as_the_runtime_does(tmp_path):
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    whole = {"starts": [-1, 9, -3], "ends": [-(2**63), -(2**63), 2**63 - 1], "axes": [2, 1, 0], "steps": [-2, -1, 1]}
    constants = {"a": a} | {name: np.array(value) for name, value in whole.items()}
    constants |= {"shape": np.array([0, -1]), "parts": np.array([1, 3]), "few": np.array([-1]), "start": np.array([-3])}
    nodes = [
        node("Slice", "a starts ends axes steps", "o1"),
        node("Slice", "a start few few", "o2"),
        node("Reshape", "a shape", "o3"),
        node("Split", "a parts", "o4 o5", axis=-1),
        node("Split", "a", "o6 o7", axis=2),
        node("Concat", "o7 o6", "o8", axis=-1),
        node("Transpose", "a", "o9"),
        node("Unsqueeze", "a few", "o10"),
        node("Squeeze", "o10", "o11"),
        node("Cast", "a", "o12", to=TensorProto.FLOAT16),
        node("Constant", "", "o13", value_floats=[1.0, 2.5]),
        node("Constant", "", "o14", value_int=3),
    ]
    names = [f"o{index}" for index in range(1, 15)]
    kinds = {"o12": TensorProto.FLOAT16, "o14": TensorProto.INT64}
    path = save(tmp_path / "a.onnx", nodes, constants, (), names, kinds=kinds)
    budget = Budget()
    found = Constants(parsed(path, budget), budget)
    for name, array in run(path).items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


# As PyTorch's exporter makes them


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_what_pytorch_exports(tmp_path, kind, states):
    """Two layers of two directions, the batch first; the weights to the bit, and the runtime's output from what was read."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(INPUT, HIDDEN, num_layers=2, bidirectional=True, batch_first=True).eval()
    x = torch.randn(BATCH, TIME, INPUT)
    h = torch.randn(4, BATCH, HIDDEN)
    given = (x, (h, h + 1) if kind == "LSTM" else h) if states else (x,)
    axes = {"x": {0: "batch", 1: "time"}}
    path = tmp_path / "a.onnx"
    torch.onnx.export(module, given, path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    found = onnx_file.read(path)
    assert found.format.startswith("ONNX of opset")
    assert "written by pytorch" in found.format
    assert found.chain
    assert len(found.layers) == len(found.recurrent) == 2
    y = x.numpy()
    for index, layer in enumerate(found.recurrent):
        assert bool(layer.notes) is states
        for direction, suffix in zip(layer.directions, ("", "_reverse"), strict=True):
            arrays = {name: array.numpy() for name, array in module.state_dict().items()}
            weights = unpack_torch(layer.cell, arrays, suffix=f"_l{index}{suffix}")
            assert set(weights) == set(direction.weights)
            assert all(np.array_equal(direction.weights[name], array) for name, array in weights.items())
        parts = [h.numpy(), h.numpy() + 1][: len(layer.cell.states)]
        y, _ = expected(layer, y, [part[2 * index : 2 * index + 2] for part in parts] if states else None)
    assert_close(module(*given)[0].detach().numpy(), y)


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_pytorch_exports(tmp_path):
    """An embedding, two directions, a dense layer, what its last output is through a function of its own."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.letters = torch.nn.Embedding(7, INPUT)
            self.rnn = torch.nn.GRU(INPUT, HIDDEN, bidirectional=True, batch_first=True)
            self.out = torch.nn.Linear(2 * HIDDEN, 2)

        def forward(self, x):
            return torch.sigmoid(self.out(self.rnn(self.letters(x))[0]))

    network, path = Network().eval(), tmp_path / "a.onnx"
    axes = {"x": {0: "batch", 1: "time"}}
    torch.onnx.export(
        network, torch.zeros(2, 3, dtype=torch.int64), path, dynamo=False, input_names=["x"], dynamic_axes=axes
    )
    found = onnx_file.read(path)
    assert found.chain
    letters, rnn, out = found.layers
    assert np.array_equal(letters.E, network.letters.weight.detach().numpy())
    assert (rnn.cell.name, len(rnn.directions), rnn.returns_sequences) == ("GRU", 2, True)
    assert np.array_equal(out.W, network.out.weight.detach().numpy())
    assert np.array_equal(out.b, network.out.bias.detach().numpy())
    assert out.activation == SIGMOID
    again = write(found.layers, tmp_path / "b.onnx")
    symbols = np.random.default_rng(0).integers(0, 7, (BATCH, TIME))
    assert_close(run(again, x=symbols)["y"], run(path, x=symbols)[onnx.load(path).graph.output[0].name])
