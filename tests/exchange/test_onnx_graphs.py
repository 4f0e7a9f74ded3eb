"""ONNX graphs as exporters and as strangers make them: what is read in them, what is named and left, what is refused."""

import random
import re
import time
import tracemalloc

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

from rnn_common.exchange import onnx_file, onnx_wire
from rnn_common.exchange.contents import Budget, NotUnderstood
from rnn_common.exchange.description import (
    HARD_SIGMOID,
    HARD_SIGMOID_KERAS_2,
    LINEAR,
    SIGMOID,
    TANH,
    Activation,
    Dense,
    Embedding,
    Foreign,
)
from rnn_common.exchange.onnx_proto import graph as parsed
from rnn_common.packings import pack_torch, unpack_torch
from rnn_common.weights import initialise
from tests.exchange.onnx_graphs import node, save

INPUT, HIDDEN, BATCH = 3, 5, 4

# Graphs as exporters make them


def packed(operator="LSTM", directions=1, seed=0, **shapes):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    draw = np.random.default_rng(seed).standard_normal
    sizes = {"W": (gates * HIDDEN, INPUT), "R": (gates * HIDDEN, HIDDEN), "B": (2 * gates * HIDDEN,)} | shapes
    return {name: draw((directions, *shape)).astype(np.float32) for name, shape in sizes.items()}


def read_node(tmp_path, operator="LSTM", inputs="x W R B", constants=None, directions=1, **attributes):
    """What a file of one node, or of one and its constants, is read as."""
    attributes = {"hidden_size": HIDDEN} | attributes
    made = node(operator, inputs, "y", "it", **attributes)
    extra = [name.strip("_") for name in inputs.split()[4:] if name.strip("_") and name not in (constants or {})]
    constants = packed(operator, directions) | (constants or {})
    (layer,) = onnx_file.read(save(tmp_path / "a.onnx", [made], constants, ("x", *extra))).layers
    return layer


def arrays_of_torch():
    """An LSTM's arrays in PyTorch's packing, both biases random."""
    weights = dict(initialise("LSTM", INPUT, HIDDEN, dtype=np.float32))
    weights |= {f"b_h{gate}": weights[f"b_{gate}"] + 1 for gate in "ifco"}
    return pack_torch("LSTM", weights, "")


def test_weights_behind_what_only_moves_them_about(tmp_path):
    """PyTorch's arrays in its order of gates, put into ONNX's by the graph itself: by slices, a split, one transposed."""
    state = {f"{name}_l0": array for name, array in arrays_of_torch().items()}
    H = HIDDEN
    numbers = {"zero": [0], "H": [H], "2H": [2 * H], "3H": [3 * H], "4H": [4 * H], "flat": [1, 0]}
    constants = {key: np.array(value) for key, value in numbers.items()}
    constants |= {"W0": state["weight_ih_l0"].T, "R0": state["weight_hh_l0"].astype(np.float64)}
    constants |= {"b_ih": state["bias_ih_l0"], "b_hh": state["bias_hh_l0"]}

    def reordered(source, to):
        ends = {"i": "zero H", "o": "3H 4H", "f": "H 2H", "c": "2H 3H"}
        slices = [node("Slice", f"{source} {ends[gate]} zero", f"{source}/{gate}") for gate in "iofc"]
        return [*slices, node("Concat", " ".join(f"{source}/{gate}" for gate in "iofc"), to, axis=0)]

    nodes = [
        node("Transpose", "W0", "W1", perm=[1, 0]),
        *reordered("W1", "W2"),
        node("Unsqueeze", "W2 zero", "W"),
        node("Cast", "R0", "R1", to=TensorProto.FLOAT),
        node("Split", "R1", "Ri Rf Rc Ro", axis=0),
        node("Concat", "Ri Ro Rf Rc", "R2", axis=0),
        node("Constant", "", "shape", value=numpy_helper.from_array(np.array([1, 4 * H, -1]))),
        node("Reshape", "R2 shape", "R"),
        *reordered("b_ih", "b1"),
        *reordered("b_hh", "b2"),
        node("Identity", "b2", "b3"),
        node("Concat", "b1 b3", "b4", axis=0),
        node("Unsqueeze", "b4 zero", "B0"),
        node("Squeeze", "B0 zero", "B1"),
        node("Unsqueeze", "B1 zero", "B"),
        node("LSTM", "x W R B", "Y", hidden_size=H),
        node("Squeeze", "Y one", "y"),
    ]
    found = onnx_file.read(save(tmp_path / "a.onnx", nodes, constants | {"one": np.array([1])}))
    assert found.chain
    (read,) = found.layers
    expected = unpack_torch("LSTM", state)
    assert set(read.directions[0].weights) == set(expected)
    assert all(np.array_equal(read.directions[0].weights[name], array) for name, array in expected.items())


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("layout", ["torch", "one direction"])
def test_older_versions_have_their_axes_as_attributes(tmp_path, opset, layout):
    two = layout == "torch"
    axes = {"axes": [1]} if opset < 13 else {}
    last = "" if opset < 13 else " one"
    behind = (
        [node("Transpose", "Y", "t", perm=[0, 2, 1, 3]), node("Reshape", "t shape", "y")]
        if two
        else [node("Squeeze", f"Y{last}", "y", **axes)]
    )
    nodes = [
        node("LSTM", "x W R B", "Y", hidden_size=HIDDEN, direction="bidirectional" if two else "reverse"),
        *behind,
        node("MatMul", "y V", "z"),
        node("Softmax", "z", "p", axis=-1),
    ]
    constants = packed(directions=1 + two) | {"V": np.ones((HIDDEN * (1 + two), 2), np.float32)}
    constants |= {"shape": np.array([0, 0, -1]), "one": np.array([1])}
    found = onnx_file.read(save(tmp_path / "a.onnx", nodes, constants, outputs=("p",), opset=opset))
    assert found.chain
    assert found.format == f"ONNX of opset {opset}"
    assert (len(found.layers[0].directions), found.layers[0].backwards) == (1 + two, not two)
    assert found.layers[1].activation == Activation("softmax")


def test_a_node_as_it_is(tmp_path):
    """Defaults, directions, forms of the GRU, spelling, layout, no biases."""
    lstm = read_node(tmp_path)
    assert (lstm.cell.name, lstm.activations, lstm.backwards, lstm.arrays) == (
        "LSTM",
        (TANH, SIGMOID),
        False,
        ("W", "R", "B"),
    )
    W, B = packed()["W"][0], packed()["B"][0]
    weights = lstm.directions[0].weights
    assert np.array_equal(np.concatenate([weights[f"W_i{gate}"] for gate in "iofc"]), W)
    assert np.array_equal(np.concatenate([weights[f"b_h{gate}"] for gate in "iofc"]), B[4 * HIDDEN :])
    assert read_node(tmp_path, "GRU").cell.name == "GRU v3"
    assert read_node(tmp_path, "GRU", linear_before_reset=1).cell.name == "GRU"
    assert read_node(tmp_path, "RNN").activations == (TANH,)
    assert not read_node(tmp_path, inputs="x W R").bias
    assert read_node(tmp_path, layout=1).cell.name == "LSTM"
    assert read_node(tmp_path, direction="reverse").backwards
    two = read_node(tmp_path, direction="bidirectional", directions=2)
    assert len(two.directions) == 2
    assert not np.array_equal(two.directions[0].weights["W_ii"], two.directions[1].weights["W_ii"])
    assert read_node(tmp_path, inputs="x W R B lengths").masks
    assert read_node(tmp_path, inputs="x W R B _ h c").notes[0].endswith("'h', 'c'")
    zeros = {"h": np.zeros((1, BATCH, HIDDEN), np.float32)}
    assert read_node(tmp_path, "GRU", "x W R B _ h", zeros).notes == ()


@pytest.mark.parametrize(
    ("operator", "attributes", "activations"),
    [
        ("RNN", {"activations": ["TANH"]}, [(TANH,)]),
        ("RNN", {"activations": ["relu"]}, [(Activation("relu"),)]),
        ("RNN", {"activations": ["LeakyReLU"]}, [(Activation("leaky_relu", 0.01),)]),
        ("RNN", {"activations": ["Elu"], "activation_alpha": [2.0]}, [(Activation("elu", 2.0),)]),
        ("RNN", {"activations": ["Affine"]}, [(LINEAR,)]),
        ("GRU", {"activations": ["HardSigmoid", "Softsign"]}, [(Activation("softsign"), HARD_SIGMOID_KERAS_2)]),
        (
            "GRU",
            {"activations": ["hardsigmoid", "tanh"], "activation_alpha": [1 / 6], "activation_beta": [0.5]},
            [(TANH, HARD_SIGMOID)],
        ),
        (
            "LSTM",
            {"activations": ["Sigmoid", "LeakyRelu", "LeakyRelu"], "activation_alpha": [0.3, 0.3]},
            [(Activation("leaky_relu", 0.3), SIGMOID)],
        ),
        (  # as many as there are activations, where both readings are one
            "LSTM",
            {
                "activations": ["HardSigmoid", "Tanh", "Tanh"],
                "activation_alpha": [0.25, 0, 0],
                "activation_beta": [0.4, 0, 0],
            },
            [(TANH, Activation("hard_sigmoid", 0.25, 0.4))],
        ),
        (
            "LSTM",
            {
                "direction": "bidirectional",
                "activations": ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Relu", "Relu"],
                "activation_alpha": [0.25],
            },
            [(TANH, SIGMOID), (Activation("relu"), Activation("hard_sigmoid", 0.25, 0.5))],
        ),
    ],
)
def test_activations(tmp_path, operator, attributes, activations):
    layer = read_node(tmp_path, operator, directions=len(activations), **attributes)
    assert [each.activations for each in layer.directions] == activations


NONZERO = {"h": np.full((1, BATCH, HIDDEN), 0.5, np.float32)}


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (dict(inputs="x W R B _ _ _ P", constants={"P": np.ones((1, 15), np.float32)}), "LSTM with peepholes (P)"),
        (dict(clip=3.0), "LSTM with clip 3.0"),
        (dict(operator="GRU", clip=0.5), "GRU with clip 0.5"),
        (dict(input_forget=1), "LSTM with input_forget"),
        (
            dict(activations=["Sigmoid", "Tanh", "Relu"]),
            "LSTM with different activations of the candidate (tanh) and of the cell's state (relu)",
        ),
        (dict(operator="RNN", activations=["ScaledTanh"]), "RNN with activation ScaledTanh 1 1"),
        (dict(operator="RNN", activations=["ThresholdedRelu"]), "RNN with activation ThresholdedRelu 1"),
        (dict(operator="RNN", activations=["Affine"], activation_alpha=[2.0]), "RNN with activation Affine 2 0"),
        (dict(operator="RNN", activations=["Gelu"]), "RNN with activation Gelu"),
        (
            dict(activations=["Tanh", "LeakyRelu", "LeakyRelu"], activation_alpha=[0.1, 0.2, 0.3]),
            "LSTM with activation_alpha of 3 values for 2 activations that take one",
        ),
        (dict(inputs="x V R B V"), "LSTM with W (V) that is not constant"),
        (dict(inputs="x W R B _ h", constants=NONZERO), "LSTM with a constant initial state (h) that is not 0"),
    ],
)
def test_forms_that_are_none_of_ours_are_named(tmp_path, options, kind):
    layer = read_node(tmp_path, **options)
    assert isinstance(layer, Foreign)
    assert layer.kind == kind
    assert layer.changes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(hidden_size=4), r"W of 'it' should have shape \(1, 16, 3\), got \(1, 20, 3\)"),
        (dict(constants=packed(R=(20, 4))), r"R of 'it' should have shape"),
        (dict(constants=packed(B=(20,))), r"B of 'it' should have shape \(1, 40\), got \(1, 20\)"),
        (dict(constants=packed(W=(20,))), r"W of 'it' should have shape"),
        (dict(constants={"W": np.ones((1, 20, 3), np.int64)}), "W of 'it' should be floating-point"),
        (dict(direction="bidirectional"), r"W of 'it' should have shape \(2, 20, 3\), got \(1, 20, 3\)"),
        (
            dict(direction="sideways"),
            "direction of 'it' should be one of forward, reverse, bidirectional, got 'sideways'",
        ),
        (dict(activations=["Tanh"]), "activations of 'it' should be 3 names, got"),
        (dict(hidden_size="5"), "hidden_size of 'it' should be a whole number, got '5'"),
    ],
)
def test_damaged_nodes_are_not_understood(tmp_path, options, message):
    with pytest.raises(NotUnderstood, match=message):
        read_node(tmp_path, **options)


def body(*operators):
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    nodes = [helper.make_node(operator, ["u", "x"], [f"v{i}"]) for i, operator in enumerate(operators)]
    return helper.make_graph(nodes, "body", [], [value])


def around(operator, **attributes):
    return helper.make_graph([node(operator, "b", "v", **attributes)], "around", [], [])


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (lambda: node("Loop", "n c x", "y", "it", body=body("MatMul", "Tanh")), "recurrent by a loop; not read"),
        (
            lambda: node("Scan", "x", "y", "it", num_scan_inputs=1, body=around("If", then_branch=body("MatMul"))),
            "recurrent by a loop; not read",
        ),
        (
            lambda: node("If", "c", "y", "it", then_branch=body("LSTM"), else_branch=body("Add")),
            "If that holds LSTM; not read",
        ),
        (lambda: node("DynamicQuantizeLSTM", "x W R", "y", "it", domain="com.microsoft"), "DynamicQuantizeLSTM"),
        (lambda: node("Conv", "x W", "y", "it"), "Conv"),
        (lambda: node("Einsum", "x W", "y", "it", equation="ij,jk"), "Einsum"),
        (lambda: helper.make_node("LSTM", ["x"], ["y"], "it", domain="com.microsoft"), "com.microsoft.LSTM"),
    ],
)
def test_what_is_no_layer_of_ours_is_foreign(tmp_path, made, kind):
    found = onnx_file.read(save(tmp_path / "a.onnx", [made()], packed() | {"n": np.array(3), "c": np.array(True)}))
    assert [(each.name, each.kind) for each in found.layers] == [("it", kind)]
    assert isinstance(found.layers[0], Foreign)


V, TABLE = np.ones((HIDDEN, HIDDEN), np.float32), np.arange(21, dtype=np.float32).reshape(7, 3)
LSTM = node("LSTM", "x W R B", "Y Y_h", "rnn", hidden_size=HIDDEN)
AND = [LSTM, node("Squeeze", "Y one", "s")]


@pytest.mark.parametrize(
    ("nodes", "layers", "chain"),
    [
        ([*AND, node("Relu", "s", "y", "r")], ["rnn", "r"], True),
        ([*AND, node("Dropout", "s", "y")], ["rnn"], True),
        ([*AND, node("MatMul", "s V", "m", "d"), node("Add", "m s", "y", "residual")], ["rnn", "d", "residual"], False),
        ([*AND, node("Shape", "s", "n"), node("Reshape", "s n", "y")], ["rnn"], True),
        ([*AND, node("MatMul", "s V", "y", "a"), node("MatMul", "s V", "z", "b")], ["rnn", "a", "b"], False),
        ([*AND, node("MatMul", "s V", "m", "a"), node("MatMul", "m V", "y", "b")], ["rnn", "a", "b"], True),
        ([*AND, node("MatMul", "V s", "y", "a")], ["rnn", "a"], True),  # the matrix on the left: foreign
        ([LSTM, node("Squeeze", "Y_h zero", "y")], ["rnn"], True),
        ([*AND, node("Squeeze", "Y_h zero", "h"), node("Concat", "s h", "y", "c", axis=0)], ["rnn", "c"], False),
        (
            [LSTM, node("Squeeze", "Y one", "y"), node("Squeeze", "Y_h zero", "h"), node("MatMul", "h V", "z", "d")],
            ["rnn", "d"],
            False,
        ),
        ([node("Relu", "z", "x", "r"), *AND, node("Identity", "s", "y")], ["r", "rnn"], True),
        ([node("Add", "z one", "x", "r"), *AND, node("Identity", "s", "y")], ["r", "rnn"], True),
    ],
)
def test_whether_it_is_a_chain(tmp_path, nodes, layers, chain):
    constants = packed() | {"V": V, "one": np.array([1]), "zero": np.array([0])}
    first = "z" if nodes[0] is not LSTM else "x"
    found = onnx_file.read(save(tmp_path / "a.onnx", nodes, constants, (first,)))
    assert [each.name for each in found.layers] == layers
    assert found.chain is chain
    whole = not any("Y_h" in each.input for each in nodes)
    if chain:
        assert [each.returns_sequences for each in found.recurrent] == [whole]


THEN = node("LSTM", "u W2 R2", "Z", "then", hidden_size=HIDDEN)
CLOSE = node("Squeeze", "Z one", "y")


@pytest.mark.parametrize(
    ("between", "first", "chain"),
    [
        ([node("Squeeze", "Y one", "u")], {}, True),
        ([node("Squeeze", "Y one", "s"), node("Transpose", "s", "u", perm=[1, 0, 2])], {}, False),  # over the batch
        ([node("Transpose", "Y", "t", perm=[2, 0, 1, 3]), node("Reshape", "t rows", "u")], {}, False),
        (
            [
                node("Transpose", "Y", "t", perm=[2, 0, 1, 3]),
                node("Reshape", "t rows", "s"),
                node("Transpose", "s", "u", perm=[1, 0, 2]),
            ],
            {},
            True,
        ),
        (
            [
                node("Squeeze", "Y one", "s"),
                node("Transpose", "s", "v", perm=[0, 2, 1]),
                node("MatMul", "v V", "u", "d"),
            ],
            {},
            False,
        ),
        ([node("Squeeze", "Y one", "s"), node("MatMul", "s V", "v", "d"), node("Identity", "v", "u")], {}, True),
        ([node("Squeeze", "Y two", "u")], {"layout": 1}, False),
        ([node("Squeeze", "Y two", "s"), node("Transpose", "s", "u", perm=[1, 0, 2])], {"layout": 1}, True),
        ([node("Unsqueeze", "Y one", "v"), node("Squeeze", "v both", "u")], {}, True),
    ],
)
def test_a_layer_over_the_batch_is_no_chain(tmp_path, between, first, chain):
    """As in networks of two paths, where every second layer runs along another axis."""
    made = [node("LSTM", "x W R B", "Y", "rnn", hidden_size=HIDDEN, **first), *between, THEN, CLOSE]
    constants = packed() | {"W2": packed(W=(4 * HIDDEN, HIDDEN))["W"], "R2": packed()["R"], "V": V}
    constants |= {"one": np.array([1]), "two": np.array([2]), "rows": np.array([0, 0, -1]), "both": np.array([1, 2])}
    found = onnx_file.read(save(tmp_path / "a.onnx", made, constants))
    assert [each.name for each in found.recurrent] == ["rnn", "then"]
    assert found.chain is chain


@pytest.mark.parametrize(
    ("nodes", "expected_layer"),
    [
        ([node("Gather", "T x", "y", "l")], Embedding("l", TABLE)),
        ([node("MatMul", "x U", "y", "l")], Dense("l", TABLE.T, None)),
        ([node("MatMul", "x U", "m", "l"), node("Add", "b m", "y")], Dense("l", TABLE.T, TABLE[1])),
        (
            [
                node("MatMul", "x U", "m", "l"),
                node("Reshape", "m r", "n"),
                node("Add", "n b", "o"),
                node("Tanh", "o", "y"),
            ],
            Dense("l", TABLE.T, TABLE[1], TANH),
        ),
        (
            [node("Gemm", "x U", "m", "l"), node("Softmax", "m", "y", axis=1)],
            Dense("l", TABLE.T, None, Activation("softmax")),
        ),
        (
            [node("Gemm", "x S b7", "m", "l", transB=1), node("HardSigmoid", "m", "y")],
            Dense("l", TABLE, TABLE[:, 0], HARD_SIGMOID_KERAS_2),
        ),
        (
            [node("Gemm", "x U b", "m", "l"), node("LeakyRelu", "m", "y", alpha=0.2)],
            Dense("l", TABLE.T, TABLE[1], Activation("leaky_relu", 0.2)),
        ),
        ([node("Gemm", "x U b", "y", "l", beta=0.5)], Foreign("l", "Gemm", arrays=("U", "b"))),
    ],
)
def test_embeddings_and_dense_layers(tmp_path, nodes, expected_layer):
    constants = {"T": TABLE, "U": TABLE, "S": TABLE, "b": TABLE[1], "b7": TABLE[:, 0], "r": np.array([-1, 2, 3])}
    (found,) = onnx_file.read(save(tmp_path / "a.onnx", nodes, constants)).layers
    assert type(found) is type(expected_layer)
    for name in set(vars(expected_layer)) - {"arrays"}:
        a, b = getattr(found, name), getattr(expected_layer, name)
        assert np.array_equal(a, b) if isinstance(b, np.ndarray) else a == b
    if isinstance(found, Foreign):
        assert found.arrays == expected_layer.arrays


@pytest.mark.parametrize(
    "behind",
    [
        [node("Softmax", "m", "y", "it", axis=1)],  # of three axes perhaps
        [node("Add", "m n", "y", "it")],  # one number an entry, no bias
        [node("Add", "m b", "y", "it"), node("Add", "m y", "z", "other")],
        [node("ThresholdedRelu", "m", "y", "it")],
    ],
)
def test_what_a_dense_layer_does_not_take_in(tmp_path, behind):
    constants = {"U": TABLE, "b": TABLE[1], "n": np.ones((2, 3), np.float32)}
    found = onnx_file.read(save(tmp_path / "a.onnx", [node("MatMul", "x U", "m", "l"), *behind], constants))
    dense, foreign = found.layers
    assert (dense.b, dense.activation) == (None, LINEAR)
    assert (foreign.name, foreign.kind) == ("it", behind[0].op_type)


# Strangers


def small(path):
    """A file with most of what is read in it."""
    nodes = [
        node("Constant", "", "one", value=numpy_helper.from_array(np.array([1]))),
        node("Split", "R0", "Ra Rb", axis=1),
        node("Concat", "Ra Rb", "R", axis=1),
        node("LSTM", "x W R B", "Y", "rnn", hidden_size=HIDDEN, activations=["HardSigmoid", "Tanh", "Tanh"]),
        node("Squeeze", "Y one", "s"),
        node("If", "c", "t", then_branch=body("MatMul"), else_branch=body("Add")),
        node("Gemm", "s V b", "y", "out", transB=1),
    ]
    constants = {("R0" if name == "R" else name): array for name, array in packed().items()}
    constants |= {"V": V, "b": V[0], "c": np.array(True)}
    return save(path, nodes, constants)


def read_within(path, seconds, mebibytes):
    """Read a file that may be refused, in one line; False if it was."""
    tracemalloc.start()
    begun, said = time.perf_counter(), None
    try:
        onnx_file.read(path)
    except (NotUnderstood, ValueError, OSError) as error:
        said = str(error)
    taken, most = time.perf_counter() - begun, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < seconds
    assert most < mebibytes * 2**20
    assert said is None or "\n" not in said
    return said is None


def test_truncated_anywhere(tmp_path):
    content = small(tmp_path / "whole.onnx").read_bytes()
    assert read_within(tmp_path / "whole.onnx", 2, 5)
    path, whole = tmp_path / "a.onnx", 0
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        whole += read_within(path, 2, 5)
    assert whole <= 1  # what is behind the graph says the version; without all of the graph there is none


@pytest.mark.parametrize("seed", range(4))
def test_bytes_altered_at_random(tmp_path, seed):
    draw = random.Random(seed)
    content = small(tmp_path / "whole.onnx").read_bytes()
    path, refused = tmp_path / "a.onnx", 0
    for _ in range(250):
        altered = bytearray(content)
        for _ in range(draw.choice((1, 1, 2, 8))):
            at = draw.randrange(len(altered))
            altered[at] = draw.choice((0, 1, 127, 128, 255, altered[at] ^ 1 << draw.randrange(8)))
        path.write_bytes(altered)
        refused += not read_within(path, 2, 5)
    assert 20 < refused < 250


@pytest.mark.parametrize("seed", range(4))
def test_fields_altered_at_random(tmp_path, seed):
    """The file stays one in protobuf: attributes, shapes, names and operators are others."""
    draw = random.Random(seed)
    content = small(tmp_path / "whole.onnx").read_bytes()
    path, refused = tmp_path / "a.onnx", 0
    odd = [0, 1, -1, 2, 3, 9, 2**31, 2**40, -(2**63), 2**63 - 1]
    for _ in range(150):
        model = onnx.ModelProto.FromString(content)
        each = draw.choice(model.graph.node)
        tensor = draw.choice(model.graph.initializer)
        match draw.randrange(7):
            case 0:
                each.op_type = draw.choice(
                    ["LSTM", "GRU", "RNN", "Slice", "Split", "Concat", "Reshape", "Gather", "Loop"]
                )
            case 1:
                for attribute in each.attribute:
                    attribute.i, attribute.type = draw.choice(odd), draw.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
            case 2:
                tensor.dims[:] = draw.choices(odd, k=draw.choice([0, 1, 2, 3, 9, 40]))
            case 3:
                tensor.data_type = draw.randrange(30)
            case 4:
                tensor.ClearField("raw_data")
                getattr(tensor, draw.choice(["int32_data", "int64_data"])).extend([1, 7, 2])
            case 5:
                each.input[:] = draw.choices([*each.input, "", "x", "one", "B", "c"], k=draw.choice([0, 1, 2, 5, 9]))
            case 6:
                each.output[:] = draw.choices([*each.output, "", "x"], k=draw.choice([0, 1, 2, 5]))
        path.write_bytes(model.SerializeToString())
        refused += not read_within(path, 2, 5)
    assert 20 < refused < 150


def field(number, content):
    """A field of bytes in protobuf."""
    length, size = len(content), b""
    while length > 127:
        length, size = length >> 7, size + bytes([length & 127 | 128])
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def test_nested_without_end(tmp_path):
    """Graphs in the attribute of a node of a graph …"""
    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))
    (tmp_path / "a.onnx").write_bytes(field(7, graph))
    with pytest.raises(NotUnderstood, match="should be an ONNX file, but it is none, or damaged"):
        onnx_file.read(tmp_path / "a.onnx")
    assert not read_within(tmp_path / "a.onnx", 5, 20)


def test_many_small_fields_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_wire, "FIELDS", 50_000)
    (tmp_path / "a.onnx").write_bytes(field(7, b"\x0a\x00" * 100_000))
    with pytest.raises(NotUnderstood, match="should have at most 50,000 fields"):
        onnx_file.read(tmp_path / "a.onnx")
    monkeypatch.setattr(onnx_wire, "PACKED", 50_000)
    (tmp_path / "b.onnx").write_bytes(field(7, field(5, field(7, b"\x00" * 100_000))))
    with pytest.raises(NotUnderstood, match="50,000 bytes of packed numbers"):
        onnx_file.read(tmp_path / "b.onnx")
    assert not read_within(tmp_path / "b.onnx", 2, 5)


def test_arrays_that_are_not_there(tmp_path):
    path = save(tmp_path / "a.onnx", [LSTM], packed(), outputs=("Y",))
    model = onnx.load(path)
    for dims, message in (
        ([2**39, 2**39], "the arrays should have at most 4,294,967,296 bytes together, 'W' goes beyond"),
        ([1, 20, 4], r"'W' should hold 80 numbers, as its shape \(1, 20, 4\) says, got 60"),
        ([-1, 20, 3], "'W' should have at most 8 axes, each of a whole size, got"),
        ([1] * 9, "'W' should have at most 8 axes"),
    ):
        model.graph.initializer[0].dims[:] = dims
        path.write_bytes(model.SerializeToString())
        with pytest.raises(NotUnderstood, match=message):
            onnx_file.read(path)


def test_constants_that_grow_are_refused_before_they_have(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "Budget", lambda: Budget(2**20))
    constants = {"c0": np.ones(2**10, np.float32)}
    nodes = [node("Concat", f"c{i} c{i}", f"c{i + 1}", axis=0) for i in range(12)]
    onnx_file.read(save(tmp_path / "a.onnx", nodes[:4], constants, outputs=("c4",)))
    path = save(tmp_path / "a.onnx", nodes, constants, outputs=("c12",))
    with pytest.raises(NotUnderstood, match=r"'c8' goes beyond"):
        onnx_file.read(path)
    assert not read_within(path, 2, 2)


def test_arrays_in_other_files_are_not_followed(tmp_path):
    path = save(tmp_path / "a.onnx", [LSTM], packed(), outputs=("Y",))
    model = onnx.load(path)
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        NotUnderstood, match="'R' should be in the file itself, got external data in another, not followed"
    ):
        onnx_file.read(path)


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT64", "BOOL", "UINT64"])
@pytest.mark.parametrize("raw", [True, False])
def test_tensors_of_every_type(tmp_path, kind, raw):
    numbers = [0, 1, 1, 0] if kind == "BOOL" else [0, 3, 120, 1] if kind.startswith("U") else [0, 3, -2, 100]
    number = getattr(TensorProto, kind)
    tensor = helper.make_tensor("T", number, (2, 2), np.array(numbers), raw=False)
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "T")
        assert tensor.data_type == number
        assert tensor.raw_data
    graph = helper.make_graph([], "g", [], [], [tensor])
    opset = [helper.make_opsetid("", 17)]
    (tmp_path / "a.onnx").write_bytes(helper.make_model(graph, opset_imports=opset).SerializeToString())
    found = parsed(tmp_path / "a.onnx", Budget()).constants["T"]
    expected = np.float32 if kind == "BFLOAT16" else helper.tensor_dtype_to_np_dtype(number)
    assert found.dtype == expected
    assert found.tolist() == np.array(numbers, expected).reshape(2, 2).tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "should be of opset 7 or later, got 0"),
        (b"PK\x03\x04" + bytes(100), "should be ONNX, but it is none"),
        (b'{"a": 1}', "should be ONNX, but it is none"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "should be an ONNX file, but it is none, or damaged"),
    ],
)
def test_what_is_no_onnx(tmp_path, content, message):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(NotUnderstood, match=message):
        onnx_file.read(tmp_path / "a.onnx")


def test_names_that_are_not_written_or_written_twice(tmp_path):
    for nodes, message in (
        ([node("Relu", "z", "y")], "'z', which 'y' reads, should be there before it"),
        ([node("Relu", "y", "y")], "'y', which 'y' reads, should be there before it"),
        ([node("Relu", "x", "y"), node("Relu", "x", "y")], "'y', which 'y' writes, should be written once"),
        ([node("Relu", "x", "x")], "'x', which 'x' writes, should be written once"),
        ([node("Relu", "x", "z")], "the output 'y' should be written by a node"),
    ):
        with pytest.raises(NotUnderstood, match=re.escape(message)):
            onnx_file.read(save(tmp_path / "a.onnx", nodes))
    with pytest.raises(OSError, match="No such file"):
        onnx_file.read(tmp_path / "absent.onnx")
    with pytest.raises(ValueError, match="should be a regular file"):
        onnx_file.read(tmp_path)
