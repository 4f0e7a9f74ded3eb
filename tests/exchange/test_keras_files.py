"""Keras's files of all ages, read without Keras: every weight, every activation, every default of the day."""

import json

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

from rnn_common import packings
from rnn_common.equations import unroll
from rnn_common.exchange import by_keras, hdf5_file, keras_file
from rnn_common.exchange.contents import NotUnderstood
from rnn_common.exchange.description import HARD_SIGMOID_KERAS_2, LINEAR, SIGMOID, TANH, Activation, Recurrent
from rnn_common.old_packings import pack_cudnn, pack_keras_1
from rnn_common.weights import initialise

I, H = 3, 4
X = np.random.default_rng(0).standard_normal((2, 6, I)) * 2


# Files as the versions of the time wrote them.


def write(path, version, layers, model=None, backend="tensorflow", pieces=1):
    """A file by layer: `layers` is a list of (name, [(array's name, array)])."""
    with h5py.File(path, "w") as file:
        group = file
        if model is not None:
            file.attrs["keras_version"] = version.encode()
            file.attrs["backend"] = backend.encode()
            file.attrs["model_config"] = json.dumps(model).encode()
            group = file.create_group("model_weights")
        names = [name.encode() for name, _ in layers]
        if pieces == 1:
            group.attrs["layer_names"] = names
        else:
            for index, part in enumerate(np.array_split(np.array(names), pieces)):
                group.attrs[f"layer_names{index}"] = part
        if version and not version.startswith("1."):  # Keras 1 said it of whole models alone
            group.attrs["keras_version"] = version.encode()
            group.attrs["backend"] = backend.encode()
        for name, arrays in layers:
            holder = group.create_group(name)
            holder.attrs["weight_names"] = [each.encode() for each, _ in arrays]
            for each, array in arrays:
                holder.create_dataset(each, data=array)
    return path


def found(path):
    """What is in a file, read in this process: what is written here is not damaged."""
    return by_keras.find((keras_file if path.suffix == ".keras" else hdf5_file).contents_of(path))


def run(layer: Recurrent, x):
    """The layer's outputs, step by step by its own weights and activations."""
    outputs = []
    for index in range(len(layer.directions)):
        backwards = layer.backwards or index == 1
        steps = one_direction(layer, index, x[:, ::-1] if backwards else x)
        outputs.append(steps[:, ::-1] if index == 1 or (backwards and not layer.flipped) else steps)
    return np.concatenate(outputs, -1)


def one_direction(layer, index, x):
    w, (phi, *sigma) = layer.parameters(index), layer.directions[index].activations
    sigma = sigma[0] if sigma else None
    h = c = np.zeros((len(x), layer.hidden_size))
    steps = []

    def gate(name, h):
        bias = w.get(f"b_{name}", 0)
        return x_t @ w[f"W_i{name}"].T + h @ w[f"W_h{name}"].T + bias

    for x_t in np.moveaxis(x, 1, 0):
        if layer.cell.name == "SimpleRNN":
            h = phi(x_t @ w["W_xh"].T + h @ w["W_hh"].T + w.get("b_h", 0))
        elif layer.cell.name == "LSTM":
            c = sigma(gate("f", h)) * c + sigma(gate("i", h)) * phi(gate("c", h))
            h = sigma(gate("o", h)) * phi(c)
        else:
            r, z = sigma(gate("r", h)), sigma(gate("z", h))
            if layer.cell.name == "GRU v3":
                n = phi(gate("n", r * h))
            else:
                n = phi(x_t @ w["W_in"].T + w.get("b_n", 0) + r * (h @ w["W_hn"].T + w.get("b_hn", 0)))
            h = (1 - z) * n + z * h
        steps.append(h)
    return np.stack(steps, 1)


def test_the_small_evaluator_is_the_oracle(cell):
    """What the files are held against below agrees with the equations where these have the same activations."""
    from rnn_common.exchange.description import Direction, default_activations

    p = initialise(cell, I, H)
    layer = Recurrent("x", p.cell, (Direction(dict(p), default_activations(p.cell)),), "keras")
    assert np.allclose(run(layer, X), unroll(p, X).outputs, atol=1e-15)


def old_sigmoid(a):
    return np.clip(0.2 * a + 0.5, 0, 1)


def arrays_of(cell, seed, dtype="float32"):
    return {name: array.astype(dtype) for name, array in initialise(cell, I, H, seed=seed).items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# Keras 1.2.2


KERAS_1_LSTM = {
    "class_name": "Sequential",
    "config": [
        {
            "class_name": "LSTM",
            "config": {
                "name": "lstm_1",
                "trainable": True,
                "batch_input_shape": [None, 6, I],
                "input_dtype": "float32",
                "return_sequences": True,
                "go_backwards": False,
                "stateful": False,
                "unroll": False,
                "consume_less": "cpu",
                "input_dim": I,
                "input_length": 6,
                "output_dim": H,
                "init": "glorot_uniform",
                "inner_init": "orthogonal",
                "forget_bias_init": "one",
                "activation": "tanh",
                "inner_activation": "hard_sigmoid",
                "W_regularizer": None,
                "U_regularizer": None,
                "b_regularizer": None,
                "dropout_W": 0.0,
                "dropout_U": 0.0,
            },
        },
        {
            "class_name": "GRU",
            "config": {
                "name": "gru_1",
                "trainable": True,
                "return_sequences": False,
                "go_backwards": True,
                "consume_less": "cpu",
                "input_dim": H,
                "output_dim": H,
                "activation": "relu",
                "inner_activation": "sigmoid",
            },
        },
        {"class_name": "Dropout", "config": {"name": "dropout_1", "p": 0.5, "trainable": True}},
        {
            "class_name": "Dense",
            "config": {"name": "dense_1", "output_dim": 2, "activation": "linear", "bias": True, "input_dim": H},
        },
        {"class_name": "Activation", "config": {"name": "activation_1", "activation": "softmax"}},
    ],
}
LSTM_NAMES = [f"lstm_1_{kind}_{gate}" for gate in "icfo" for kind in "WUb"]
GRU_NAMES = [f"gru_1_{kind}_{gate}" for gate in "zrh" for kind in "WUb"]


def keras_1(path, model=KERAS_1_LSTM):
    lstm, gru = arrays_of("LSTM", 1), dict(initialise("GRU v3", H, H, seed=2, dtype="float32"))
    W, b = np.arange(8, dtype="float32").reshape(H, 2), np.array([1, 2], "float32")
    layers = [
        ("lstm_1", list(zip(LSTM_NAMES, pack_keras_1("LSTM", lstm), strict=True))),
        ("gru_1", list(zip(GRU_NAMES, pack_keras_1("GRU v3", gru), strict=True))),
        ("dropout_1", []),
        ("dense_1", [("dense_1_W", W), ("dense_1_b", b)]),
        ("activation_1", []),
    ]
    return write(path, "1.2.2", layers, model, "theano"), lstm, gru, W, b


def test_keras_1_model(tmp_path):
    path, lstm, gru, W, b = keras_1(tmp_path / "old.h5")
    assert hdf5_file.read(path).format == "Keras 1.2.2"
    (first, second, dropout, dense), chain, notes = found(path)
    assert (chain, notes) == (True, ())
    assert (first.name, first.cell.name, first.packing, first.notes) == ("lstm_1", "LSTM", "keras 1", ())
    assert same(first.directions[0].weights, lstm)
    assert first.activations == (TANH, HARD_SIGMOID_KERAS_2)
    assert (first.returns_sequences, first.masks, first.backwards) == (True, False, False)
    assert first.arrays == tuple(f"lstm_1/{name}" for name in LSTM_NAMES)
    assert (second.cell.name, second.packing, second.backwards, second.flipped) == ("GRU v3", "keras 1", True, True)
    assert same(second.directions[0].weights, gru)
    assert second.activations == (Activation("relu"), SIGMOID)
    assert (dropout.kind, dropout.changes) == ("Dropout", False)
    assert dense.activation == Activation("softmax")
    assert np.array_equal(dense.W, W.T)
    assert np.array_equal(dense.b, b)


def test_keras_1_by_its_own_equations(tmp_path):
    """The LSTM of Keras 1 written with its arrays as they are."""
    path, *_ = keras_1(tmp_path / "old.h5")
    with h5py.File(path) as file:
        a = {name: np.asarray(file["model_weights/lstm_1"][name], float) for name in LSTM_NAMES}
    h = c = np.zeros((len(X), H))
    for t in range(X.shape[1]):
        pre = {g: X[:, t] @ a[f"lstm_1_W_{g}"] + h @ a[f"lstm_1_U_{g}"] + a[f"lstm_1_b_{g}"] for g in "icfo"}
        c = old_sigmoid(pre["f"]) * c + old_sigmoid(pre["i"]) * np.tanh(pre["c"])
        h = old_sigmoid(pre["o"]) * np.tanh(c)
    assert np.allclose(run(found(path)[0][0], X)[:, -1], h, atol=1e-12)


def test_keras_1_weights_only_and_consume_less_gpu(tmp_path):
    lstm, gru, rnn = arrays_of("LSTM", 1), arrays_of("GRU v3", 2), arrays_of("SimpleRNN", 3)
    table = np.arange(6, dtype="float32").reshape(3, 2)
    layers = [
        ("embedding_1", [("embedding_1_W:0", table)]),
        ("lstm_1", [(f"{name}:0", a) for name, a in zip(LSTM_NAMES, pack_keras_1("LSTM", lstm), strict=True)]),
        ("gru_1", [(f"{name}:0", a) for name, a in zip(GRU_NAMES, pack_keras_1("GRU v3", gru), strict=True)]),
        ("gru_2", [(f"gru_2_{n}:0", a) for n, a in zip("WUb", packings.pack_keras("GRU v3", gru), strict=True)]),
        ("rnn", [(f"rnn_{n}:0", a) for n, a in zip("WUb", pack_keras_1("SimpleRNN", rnn), strict=True)]),
        ("both", [(f"{n}_{k}", a) for k in "ab" for n, a in zip(LSTM_NAMES, pack_keras_1("LSTM", lstm), strict=True)]),
        ("dense_1", [("dense_1_W:0", table), ("dense_1_b:0", table[0])]),
    ]
    layers[5] = ("both", [(name.replace("lstm_1", way)[:-2], a) for way, (name, a) in _both(lstm)])
    contents = hdf5_file.read(write(tmp_path / "w.h5", "", layers))
    assert contents.format == "Keras 1, weights only"
    (embedding, first, second, third, simple, both, dense), chain, notes = by_keras.find(contents)
    assert not chain
    assert "taken for Keras 1" in notes[0]
    assert np.array_equal(embedding.E, table)
    assert np.array_equal(dense.W, table.T)
    assert [layer.cell.name for layer in (first, second, third, simple)] == ["LSTM", "GRU v3", "GRU v3", "SimpleRNN"]
    assert same(first.directions[0].weights, lstm)
    assert same(second.directions[0].weights, gru)
    assert same(third.directions[0].weights, gru)
    assert same(simple.directions[0].weights, rnn)
    assert first.activations == (TANH, HARD_SIGMOID_KERAS_2)
    assert simple.activations == (TANH,)
    assert any("hard_sigmoid 0.2·a + 0.5, the default of Keras 1" in note for note in first.notes)
    assert len(both.directions) == 2
    assert same(both.directions[1].weights, lstm)


def _both(lstm):
    each = [(f"{name}:0", array) for name, array in zip(LSTM_NAMES, pack_keras_1("LSTM", lstm), strict=True)]
    return [(way, pair) for way in ("forward_lstm_1", "backward_lstm_1") for pair in each]


# Keras 2


def keras_2_layer(kind, name, **options):
    return {"class_name": kind, "config": {"name": name, "trainable": True, **options}}


def keras_2_rnn(kind, name, **options):
    return keras_2_layer(kind, name, units=H, activation="tanh", use_bias=True, **options)


def bidirectional(tmp_path, version="2.0.4", merge="concat", **options):
    both = [arrays_of("LSTM", seed) for seed in (1, 2)]
    inner = keras_2_rnn("LSTM", "lstm_1", return_sequences=True, go_backwards=False, **options)
    model = {
        "class_name": "Sequential",
        "config": [
            keras_2_layer("Masking", "masking_1", mask_value=0.0, batch_input_shape=[None, 6, I]),
            keras_2_layer("Bidirectional", "bidirectional_1", merge_mode=merge, layer=inner),
            keras_2_layer(
                "TimeDistributed",
                "time_distributed_1",
                layer=keras_2_layer("Dense", "dense_1", units=2, activation="sigmoid", use_bias=True),
            ),
        ],
    }
    names = [f"bidirectional_1/{way}_lstm_1/{name}:0" for way in ("forward", "backward") for name in KERNELS]
    packed = [array for weights in both for array in packings.pack_keras("LSTM", weights)]
    width = 2 * H if merge == "concat" else H
    dense = [
        ("time_distributed_1/kernel:0", np.ones((width, 2), "f4")),
        ("time_distributed_1/bias:0", np.zeros(2, "f4")),
    ]
    layers = [
        ("masking_1", []),
        ("bidirectional_1", list(zip(names, packed, strict=True))),
        ("time_distributed_1", dense),
    ]
    return write(tmp_path / "b.h5", version, layers, model), both


KERNELS = ("kernel", "recurrent_kernel", "bias")


@pytest.mark.parametrize("merge", ["concat", "ave"])
def test_keras_2_bidirectional(tmp_path, merge):
    path, both = bidirectional(tmp_path, merge=merge, recurrent_activation="hard_sigmoid", implementation=0)
    (masking, layer, dense), chain, _ = found(path)
    assert chain
    assert (masking.kind, masking.changes) == ("Masking", False)
    assert (layer.cell.name, layer.packing, layer.merge, layer.masks) == ("LSTM", "keras", merge, True)
    assert layer.notes == ()
    for index, weights in enumerate(both):
        assert same(layer.directions[index].weights, weights)
        assert layer.directions[index].activations == (TANH, HARD_SIGMOID_KERAS_2)
    assert (dense.name, dense.activation) == ("time_distributed_1", SIGMOID)
    kernels = [[np.asarray(a, float) for a in packings.pack_keras("LSTM", weights)] for weights in both]
    expected = [keras_lstm(*kernels[0], X, old_sigmoid), keras_lstm(*kernels[1], X[:, ::-1], old_sigmoid)[:, ::-1]]
    assert np.allclose(run(layer, X), np.concatenate(expected, -1), atol=1e-12)


def keras_lstm(kernel, recurrent, bias, x, sigma):
    """Keras 2's LSTM in its own packing."""
    h = c = np.zeros((len(x), H))
    steps = []
    for x_t in np.moveaxis(x, 1, 0):
        i, f, g, o = np.split(x_t @ kernel + h @ recurrent + bias, 4, axis=1)
        c = sigma(f) * c + sigma(i) * np.tanh(g)
        h = sigma(o) * np.tanh(c)
        steps.append(h)
    return np.stack(steps, 1)


@pytest.mark.parametrize(
    ("version", "activation", "words"),
    [
        ("1.0.8", HARD_SIGMOID_KERAS_2, "the default of Keras 1.0.8"),
        ("2.2.5", HARD_SIGMOID_KERAS_2, "hard_sigmoid 0.2·a + 0.5, the default of Keras 2.2.5"),
        ("2.3.0", SIGMOID, "sigmoid, the default of Keras 2.3.0"),
        ("2.1.6-tf", HARD_SIGMOID_KERAS_2, "the default of Keras 2.1.6-tf"),
        ("2.2.4-tf", SIGMOID, "the default of Keras 2.2.4-tf"),
        ("2.14.0", SIGMOID, "the default of Keras 2.14.0"),
        ("3.4.1", SIGMOID, "the default of Keras 3.4.1"),
    ],
)
def test_the_default_of_the_day(tmp_path, version, activation, words):
    path, _ = bidirectional(tmp_path, version)
    layer = found(path)[0][1]
    assert layer.activations == (TANH, activation)
    assert any(words in note for note in layer.notes)
    assert any("TensorFlow 1.13 to 1.15" in note for note in layer.notes) == (version == "2.2.4-tf")


@pytest.mark.parametrize(("version", "slope"), [("2.15.0", 0.2), ("3.0.0", 1 / 6)])
def test_one_name_two_functions(tmp_path, version, slope):
    path, _ = bidirectional(tmp_path, version, recurrent_activation="hard_sigmoid")
    assert found(path)[0][1].activations[1] == Activation("hard_sigmoid", slope, 0.5)


def gru_file(tmp_path, version, cell, bias=True, **options):
    weights = dict(initialise(cell, I, H, bias=bias, seed=3, dtype="float32"))
    arrays = [(f"gru/{n}:0", a) for n, a in zip(KERNELS, packings.pack_keras(cell, weights), strict=False)]
    model = {"class_name": "Sequential", "config": {"name": "s", "layers": [gru_layer(bias, **options)]}}
    return write(tmp_path / "g.h5", version, [("gru", arrays)], model), weights


def gru_layer(bias, **options):
    return keras_2_layer(
        "GRU", "gru", units=H, activation="tanh", use_bias=bias, recurrent_activation="sigmoid", **options
    )


@pytest.mark.parametrize(
    ("version", "options", "cell"),
    [
        ("2.1.0", {}, "GRU v3"),
        ("2.3.1", {}, "GRU v3"),
        ("2.2.4-tf", {}, "GRU"),
        ("2.14.0", {}, "GRU"),
        ("3.1.0", {}, "GRU"),
        ("2.2.0", {"reset_after": True}, "GRU"),
        ("2.14.0", {"reset_after": False}, "GRU v3"),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_the_form_of_a_gru(tmp_path, version, options, cell, bias):
    """By the bias's shape where there is one, else by what the file says, else by the version."""
    path, weights = gru_file(tmp_path, version, cell, bias, **options)
    ((layer,), _, _) = found(path)
    assert layer.cell.name == cell
    assert layer.bias == bias
    assert bool(layer.notes) == (not bias and not options)
    expected = {**weights, "b_hr": 0 * weights["b_hn"], "b_hz": 0 * weights["b_hn"]} if "b_hn" in weights else weights
    assert same(layer.directions[0].weights, expected)
    assert same(layer.parameters(), weights)


def test_a_form_that_the_arrays_contradict_is_refused(tmp_path):
    path, _ = gru_file(tmp_path, "2.14.0", "GRU v3", reset_after=True)
    with pytest.raises(
        NotUnderstood, match=r"gru/gru/bias:0.*should be a bias with reset_after=True, got shape \(12,\)"
    ):
        found(path)


def cudnn(name, cell, seed):
    p = initialise("GRU v3" if cell == "GRU" else cell, I, H, seed=seed, dtype="float32")
    weights = dict(p) | {f"b_h{gate}": p[p.cell.bias(gate)] + 1 for gate in p.cell.gates}
    arrays = zip(KERNELS, pack_cudnn(cell, weights), strict=True)
    return weights, [(f"{name}/{each}:0", array) for each, array in arrays]


def test_cudnn_weights_only(tmp_path):
    """As Keras 2.1.5 wrote them, under whatever name the layer had."""
    lstm, lstm_arrays = cudnn("rnn_1", "LSTM", 1)
    gru, gru_arrays = cudnn("rnn_2", "GRU", 2)
    layers = [
        ("rnn_1", lstm_arrays),
        ("rnn_2", gru_arrays),
        ("attention", [("attention/attention_W:0", np.ones((8, 1)))]),
    ]
    contents = hdf5_file.read(write(tmp_path / "c.hdf5", "2.1.5", layers))
    assert contents.format == "Keras 2.1.5, weights only"
    assert contents.version == (2, 1, 5)
    (first, second, attention), _, _ = by_keras.find(contents)
    assert attention.kind == "arrays of (8, 1)"
    assert (first.cell.name, first.packing, second.cell.name, second.packing) == ("LSTM", "cudnn", "GRU", "cudnn")
    assert first.activations == second.activations == (TANH, SIGMOID)
    assert "the only ones that CuDNN has" in first.notes[0]
    assert same(first.directions[0].weights, lstm)
    assert same(second.directions[0].weights, gru)


@pytest.mark.parametrize("kind", ["CuDNNLSTM", "LSTM"])
def test_cudnn_in_a_model(tmp_path, kind):
    """A layer called LSTM with CuDNN's arrays is read by its bias, and has the activations that it says."""
    weights, arrays = cudnn("x", "LSTM", 1)
    options = {} if kind == "CuDNNLSTM" else {"activation": "tanh", "recurrent_activation": "hard_sigmoid"}
    model = {
        "class_name": "Sequential",
        "config": [keras_2_layer(kind, "x", units=H, return_sequences=True, **options)],
    }
    ((layer,), _, _) = found(write(tmp_path / "c.h5", "2.2.4", [("x", arrays)], model))
    assert layer.packing == "cudnn"
    assert layer.activations[1] == (SIGMOID if kind == "CuDNNLSTM" else HARD_SIGMOID_KERAS_2)
    assert same(layer.directions[0].weights, weights)


def test_weights_only_of_2_2_0_in_pieces(tmp_path):
    """Names in pieces, as Keras writes them where they are too many for one attribute."""
    weights = [arrays_of("LSTM", seed) for seed in range(3)]
    layers = [
        (f"lstm_{n}", [(f"lstm_{n}/{k}:0", a) for k, a in zip(KERNELS, packings.pack_keras("LSTM", w), strict=True)])
        for n, w in enumerate(weights)
    ]
    odd = [("odd/kernel:0", np.ones((I, 5 * H), "f4")), ("odd/recurrent_kernel:0", np.ones((H, 5 * H), "f4"))]
    peepholes = [*layers[0][1], ("peep/w_f:0", np.ones(H, "f4"))]
    norm = [(f"norm/{n}:0", np.ones(H, "f4")) for n in ("gamma", "beta", "moving_mean", "moving_variance")]
    layers += [("odd", odd), ("peep", peepholes), ("norm", norm)]
    path = write(tmp_path / "w.h5", "2.2.0", layers, pieces=3)
    (*lstms, odd, peep, norm), chain, _ = found(path)
    assert not chain
    for layer, expected in zip(lstms, weights, strict=True):
        assert same(layer.directions[0].weights, expected)
        assert layer.activations == (TANH, HARD_SIGMOID_KERAS_2)
        assert layer.returns_sequences is layer.masks is None
        assert any("the default of Keras 2.2.0" in note for note in layer.notes)
    assert odd.kind == "arrays of (3, 20) and (4, 20)"
    assert [peep.name, norm.name] == ["peep", "norm"]
    assert norm.changes


def test_a_functional_model_of_2_14(tmp_path):
    """Embedding, both directions, an LSTM around a cell, a dense head; a mask from the embedding."""
    embedding = np.arange(20, dtype="f4").reshape(10, 2)
    both = [dict(initialise("LSTM", 2, H, seed=seed, dtype="float32")) for seed in (1, 2)]
    top = dict(initialise("LSTM", 2 * H, H, seed=3, dtype="float32"))
    inner = keras_2_rnn(
        "LSTM", "lstm", return_sequences=True, recurrent_activation="sigmoid", zero_output_for_mask=True
    )
    cell = keras_2_rnn("LSTMCell", "lstm_cell", recurrent_activation="sigmoid")
    listed = [
        (keras_2_layer("InputLayer", "input_1"), []),
        (keras_2_layer("Embedding", "embedding", input_dim=10, output_dim=2, mask_zero=True), ["input_1"]),
        (keras_2_layer("Bidirectional", "bidirectional", layer=inner, merge_mode="concat"), ["embedding"]),
        (keras_2_layer("RNN", "rnn", cell=cell, return_sequences=False), ["bidirectional"]),
        (keras_2_layer("Dense", "dense", units=1, activation="sigmoid", use_bias=False), ["rnn"]),
    ]
    layers = [
        {**layer, "name": layer["config"]["name"], "inbound_nodes": [[[f, 0, 0, {}] for f in feeds]] if feeds else []}
        for layer, feeds in listed
    ]
    config = {
        "name": "model",
        "layers": layers,
        "input_layers": [["input_1", 0, 0]],
        "output_layers": [["dense", 0, 0]],
    }
    names = [f"bidirectional/{way}_lstm/lstm_cell/{name}:0" for way in ("forward", "backward") for name in KERNELS]
    arrays = [
        ("bidirectional", list(zip(names, [a for w in both for a in packings.pack_keras("LSTM", w)], strict=True))),
        ("dense", [("dense/kernel:0", np.ones((H, 1), "f4"))]),
        ("embedding", [("embedding/embeddings:0", embedding)]),
        ("input_1", []),
        ("rnn", list(zip([f"rnn/lstm_cell/{n}:0" for n in KERNELS], packings.pack_keras("LSTM", top), strict=True))),
    ]
    config["layers"] = layers[::-1]  # listed in any order
    path = write(tmp_path / "m.h5", "2.14.0", arrays, {"class_name": "Functional", "config": config})
    (start, table, bilstm, lstm, dense), chain, _ = found(path)
    assert chain
    assert (start.kind, start.changes, table.masks) == ("InputLayer", False, True)
    assert np.array_equal(table.E, embedding)
    assert [same(d.weights, w) for d, w in zip(bilstm.directions, both, strict=True)] == [True, True]
    assert (bilstm.masks, lstm.masks, lstm.returns_sequences) == (True, True, False)
    assert bilstm.notes == ("outputs of skipped steps are 0",)
    assert same(lstm.directions[0].weights, top)
    assert (dense.b, dense.activation) == (None, SIGMOID)
    # A second way to the output: no chain any more, and whether steps are skipped cannot be told.
    layers[4]["inbound_nodes"][0].append(["embedding", 0, 0, {}])
    path = write(tmp_path / "m.h5", "2.14.0", arrays, {"class_name": "Functional", "config": config})
    several, chain, _ = found(path)
    assert not chain
    assert [layer.name for layer in several] == ["dense", "rnn", "bidirectional", "embedding", "input_1"]
    assert several[1].masks is None
    # States that are handed on are no chain either.
    layers[4]["inbound_nodes"] = [[["rnn", 0, 1, {}]]]
    path = write(tmp_path / "m.h5", "2.14.0", arrays, {"class_name": "Functional", "config": config})
    assert found(path)[1] is False


def test_what_is_not_known_is_foreign_by_name(tmp_path):
    lstm = [(f"a/{k}:0", a) for k, a in zip(KERNELS, packings.pack_keras("LSTM", arrays_of("LSTM", 1)), strict=True)]
    layers = [
        (keras_2_layer("Lambda", "code", function=["4wEAAAA=", None, None]), []),
        (keras_2_layer("ReversedLSTM", "own", units=H), lstm),
        (keras_2_layer("ConvLSTM2D", "conv", filters=2), lstm),
        (keras_2_rnn("LSTM", "swish", recurrent_activation="swish"), lstm),
        (keras_2_layer("Bidirectional", "two", merge_mode=None, layer=keras_2_rnn("LSTM", "l")), lstm + lstm),
        (keras_2_layer("RNN", "peep", cell=keras_2_rnn("PeepholeLSTMCell", "p")), lstm),
        ({"module": "mine", "class_name": "LSTM", "config": {"name": "l"}, "registered_name": "mine>LSTM"}, lstm),
        (keras_2_layer("Flatten", "flat"), []),
    ]
    model = {"class_name": "Sequential", "config": [layer for layer, _ in layers]}
    arrays = [(layer["config"]["name"], [(f"{at}{n}", a) for at, (n, a) in enumerate(held)]) for layer, held in layers]
    foreign, _, _ = found(write(tmp_path / "f.h5", "2.2.4", arrays, model))
    assert [layer.kind for layer in foreign] == [
        "Lambda",
        "ReversedLSTM",
        "ConvLSTM2D",
        "LSTM with the recurrent_activation 'swish'",
        "Bidirectional with the merge_mode None",
        "RNN around a cell that is not known here",
        "LSTM",
        "Flatten",
    ]
    assert all(layer.changes for layer in foreign)
    assert foreign[1].arrays == tuple(f"own/{at}a/{name}:0" for at, name in enumerate(KERNELS))


def test_stacked_cells_are_layers(tmp_path):
    """The first reads in the order that all of them run in, the last hands on what the layer hands on."""
    weights = [arrays_of("LSTM", 1), dict(initialise("GRU v3", H, 2, bias=False, seed=2, dtype="float32"))]
    cells = [
        keras_2_rnn("LSTMCell", "a", recurrent_activation="sigmoid"),
        keras_2_layer(
            "GRUCell",
            "b",
            units=2,
            activation="tanh",
            recurrent_activation="sigmoid",
            use_bias=False,
            reset_after=False,
        ),
    ]
    stack = {"class_name": "StackedRNNCells", "config": {"cells": cells}}
    model = {"class_name": "Sequential", "config": [keras_2_layer("RNN", "rnn", cell=stack, go_backwards=True)]}
    packed = [*packings.pack_keras("LSTM", weights[0]), *packings.pack_keras("GRU v3", weights[1])]
    path = write(tmp_path / "s.h5", "2.2.4", [("rnn", [(f"rnn/{n}:0", a) for n, a in enumerate(packed)])], model)
    (first, second), _, _ = found(path)
    assert [first.name, second.name] == ["rnn, cell 0", "rnn, cell 1"]
    assert (first.backwards, first.flipped, first.returns_sequences) == (True, True, True)
    assert (second.backwards, second.flipped, second.returns_sequences) == (False, False, False)
    assert same(first.directions[0].weights, weights[0])
    assert same(second.directions[0].weights, weights[1])


def test_how_far_a_mask_goes(tmp_path):
    """To the layer that hands on its last output; past a layer that is not known, that cannot be told."""
    lstm = list(zip(KERNELS, packings.pack_keras("LSTM", dict(initialise("LSTM", H, H, dtype="float32"))), strict=True))
    for sequences, between, masks in [(False, "RepeatVector", False), (True, "Dropout", True), (True, "Mine", None)]:
        model = [
            keras_2_layer("Masking", "m"),
            keras_2_rnn("LSTM", "a", return_sequences=sequences),
            keras_2_layer(between, "b"),
            keras_2_rnn("LSTM", "c"),
        ]
        arrays = [("m", []), ("a", lstm), ("b", []), ("c", lstm)]
        layers, _, _ = found(write(tmp_path / "m.h5", "2.2.4", arrays, {"class_name": "Sequential", "config": model}))
        assert (layers[1].masks, layers[3].masks) == (True, masks)


def test_networks_within_a_network(tmp_path):
    """Their layers are the network's; one whose arrays cannot be told apart stays what it is."""
    weights = arrays_of("LSTM", 1)
    lstm = list(zip(KERNELS, packings.pack_keras("LSTM", weights), strict=True))
    dense = [("d/kernel:0", np.ones((H, 2), "f4")), ("d/bias:0", np.ones(2, "f4"))]
    inner = [keras_2_rnn("LSTM", "l", recurrent_activation="sigmoid"), keras_2_layer("Dropout", "o", rate=0.1)]
    head = keras_2_layer("Dense", "d", units=2, activation="relu")
    for more, kinds in [([], ["LSTM", "Dropout", "Dense"]), ([keras_2_layer("Mine", "m")], ["Sequential", "Dense"])]:
        nested = {"class_name": "Sequential", "config": {"name": "s", "layers": inner + more}}
        model = {"class_name": "Sequential", "config": {"name": "t", "layers": [nested, head]}}
        layers, chain, _ = found(write(tmp_path / "n.h5", "2.14.0", [("s", lstm), ("d", dense)], model))
        assert chain
        assert [getattr(each, "kind", None) or getattr(each, "cell", each).name for each in layers[:-1]] == kinds[:-1]
        assert layers[-1].activation == Activation("relu")
        if not more:
            assert layers[0].name == "s/l"
            assert same(layers[0].directions[0].weights, weights)


def test_activations_behind_a_dense_layer(tmp_path):
    dense = [("kernel:0", np.ones((I, 2), "f4")), ("bias:0", np.ones(2, "f4"))]
    kinds = {
        "a": (
            keras_2_layer("LeakyReLU", "x", alpha={"type": "ndarray", "value": 0.25}),
            Activation("leaky_relu", 0.25),
        ),
        "b": (keras_2_layer("ELU", "x", alpha=1.0), Activation("elu", 1.0)),
        "c": (keras_2_layer("Softmax", "x", axis=-1), Activation("softmax")),
        "d": (keras_2_layer("ReLU", "x", max_value=None, negative_slope=0.0, threshold=0.0), Activation("relu")),
        "e": (keras_2_layer("Activation", "x", activation="hard_sigmoid"), HARD_SIGMOID_KERAS_2),
        "f": (keras_2_layer("ReLU", "x", max_value=6.0), None),
        "g": (keras_2_layer("Activation", "x", activation="linear"), LINEAR),
    }
    for each, activation in kinds.values():
        model = {
            "class_name": "Sequential",
            "config": [keras_2_layer("Dense", "d", units=2, activation="linear"), each],
        }
        layers, _, _ = found(write(tmp_path / "a.h5", "2.2.4", [("d", dense), ("x", [])], model))
        assert layers[0].activation == (activation or LINEAR)
        assert len(layers) == (1 if activation else 2)


def test_bfloat16_is_read_as_float32(tmp_path):
    """As Keras 3 writes it: two bytes that HDF5 has no name for, and an attribute that says what they are."""
    numbers = np.array([[1.5, -2.25, 3.0], [0.0, 1.0, -1.0]], "f4")
    halves = (numbers.view("u4") >> 16).astype("u2").view("V2")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for name, options in {"0": {}, "1": {"chunks": (1, 2)}}.items():
            file.create_dataset(f"layers/dense/vars/{name}", data=halves, **options).attrs["dtype"] = "bfloat16"
    contents = hdf5_file.contents_of(tmp_path / "b.h5")
    assert "bfloat16 is read as float32" in contents.notes
    for array in contents.arrays.values():
        assert array.dtype == np.float32
        assert np.array_equal(array, numbers)


# Keras's own, today's


@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("tensorflow")
    return pytest.importorskip("keras")


def network(keras, seed=0):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    cells = [layers.LSTMCell(3), layers.GRUCell(2), layers.LSTMCell(2)]
    net = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(7, 4, mask_zero=True),
            layers.Dropout(0.2),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True, dropout=0.1), merge_mode="sum"),
            layers.Bidirectional(layers.GRU(5, return_sequences=True, reset_after=False)),
            layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid", go_backwards=True),
            layers.SimpleRNN(3, return_sequences=True, activation="relu"),
            layers.RNN(layers.GRUCell(3), return_sequences=True),
            layers.RNN(cells, return_sequences=True),
            layers.TimeDistributed(layers.Dense(3, activation="relu")),
            layers.GRU(4, use_bias=False),
            layers.Dense(5),
            layers.Activation("softmax"),
        ]
    )
    random = np.random.default_rng(seed)
    net.set_weights([random.standard_normal(array.shape).astype(array.dtype) for array in net.get_weights()])
    return net


def packed(layer):
    """A found layer's arrays as Keras has them."""
    if isinstance(layer, Recurrent):
        return [a for d in layer.directions for a in packings.pack_keras(layer.cell, d.weights)]
    if hasattr(layer, "E"):
        return [layer.E]
    return [a for a in (layer.W.T, layer.b) if a is not None]


@pytest.mark.parametrize("name", ["n.keras", "n.h5", "n.weights.h5", "w.h5"])
def test_todays_keras(keras, tmp_path, name):
    """Every weight as Keras has it, in the network's order where the file says it."""
    net = network(keras)
    path = tmp_path / name
    if name == "w.h5":
        from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

        with h5py.File(path, "w") as file:
            save_weights_to_hdf5_group(file, net)
    elif "weights" in name:
        net.save_weights(path)
    else:
        net.save(path)
    layers, chain, _ = found(path)
    whole = name in ("n.keras", "n.h5")
    assert chain == whole
    kept = [layer for layer in layers if not hasattr(layer, "kind")]
    arrays = [a for layer in kept for a in packed(layer)]
    expected = net.get_weights()
    if name == "n.weights.h5":  # in no order of the network's: each once
        assert len(arrays) == len(expected)
        assert all(sum(a.shape == e.shape and np.array_equal(a, e) for a in arrays) == 1 for e in expected)
        return
    if name == "w.h5":  # stacked cells are no layer that arrays alone show
        assert [len(layers) - len(kept), layers[7].name] == [1, net.layers[8].name]
        return
    assert all(np.array_equal(a, e) for a, e in zip(arrays, expected, strict=True))
    recurrent = [layer for layer in kept if isinstance(layer, Recurrent)]
    assert [layer.cell.name for layer in recurrent] == [
        "LSTM", "GRU v3", "LSTM", "SimpleRNN", "GRU", "LSTM", "GRU", "LSTM", "GRU",
    ]  # fmt: skip
    assert [layer.merge for layer in recurrent[:2]] == ["sum", "concat"]
    assert recurrent[2].activations == (TANH, Activation("hard_sigmoid", 1 / 6, 0.5))
    assert recurrent[2].flipped
    assert recurrent[3].activations == (Activation("relu"),)
    assert [layer.masks for layer in recurrent] == [True] * 9
    assert [layer.returns_sequences for layer in recurrent] == [True] * 8 + [False]
    assert kept[-1].activation == Activation("softmax")
    assert kept[-1].name == "dense_1" or kept[-1].name.startswith("dense")


def test_todays_functions(keras, tmp_path):
    """What is found computes what Keras does: both directions, the third GRU, both kinds of order, activations."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((6, I)),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid")),
            layers.GRU(4, return_sequences=True, reset_after=False),
            layers.GRU(3, return_sequences=True, go_backwards=True, bias_initializer="normal"),
            layers.RNN(layers.SimpleRNNCell(4, activation="softsign"), return_sequences=True),
            layers.LSTM(4, return_sequences=True, use_bias=False),
            layers.Dense(5),
            layers.LeakyReLU(negative_slope=0.1),
        ]
    )
    net.save(tmp_path / "n.keras")
    (_, *recurrent, dense), chain, _ = found(tmp_path / "n.keras")
    assert chain
    assert [getattr(layer, "kind", None) for layer in recurrent] == [None] * 5
    outputs = X
    for layer in recurrent:
        outputs = run(layer, outputs)
    outputs = dense.activation(outputs @ dense.W.T + dense.b)
    expected = np.asarray(net(X.astype("float32")))
    assert np.abs(outputs - expected).max() < 1e-6 * np.abs(expected).max()


def test_a_functional_model_of_today(keras, tmp_path):
    """A mask, which Keras 3 computes beside the way through; and two ways, which are no chain."""
    layers = keras.layers
    start = keras.Input((None,), dtype="int32")
    hidden = layers.Embedding(7, 4, mask_zero=True, name="table")(start)
    hidden = layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both")(hidden)
    last = layers.LSTM(2, name="last")(hidden)
    net = keras.Model(start, layers.Dense(1, name="out")(last))
    two = keras.Model(start, layers.Concatenate(name="join")([last, layers.LSTM(2, name="more")(hidden)]))
    for name in ("f.keras", "f.h5"):
        net.save(tmp_path / name)
        (_, table, both, lstm, dense), chain, _ = found(tmp_path / name)
        assert chain
        assert [each.name for each in (table, both, lstm, dense)] == ["table", "both", "last", "out"]
        assert (table.masks, both.masks, lstm.masks) == (True, True, True)
        arrays = [a for each in (table, both, lstm, dense) for a in packed(each)]
        assert all(np.array_equal(a, e) for a, e in zip(arrays, net.get_weights(), strict=True))
        two.save(tmp_path / name)
        several, chain, _ = found(tmp_path / name)
        assert not chain
        assert {each.name: getattr(each, "kind", "known") for each in several if each.name in ("join", "more")} == {
            "join": "Concatenate",
            "more": "known",
        }


def test_a_network_within_a_network_of_today(keras, tmp_path):
    layers = keras.layers
    inner = keras.Sequential(
        [keras.Input((None, I)), layers.LSTM(4, return_sequences=True), layers.GRU(3)], name="inner"
    )
    net = keras.Sequential([keras.Input((None, I)), inner, layers.Dense(2)])
    for name in ("n.keras", "n.h5"):
        net.save(tmp_path / name)
        kept, chain, _ = found(tmp_path / name)
        assert chain
        arrays = [a for each in kept if not hasattr(each, "kind") for a in packed(each)]
        assert all(np.array_equal(a, e) for a, e in zip(arrays, net.get_weights(), strict=True))
        assert kept[-3].name.startswith("inner/lstm")


def test_bfloat16_and_frozen_layers_of_today(keras, tmp_path):
    net = keras.Sequential(
        [
            keras.Input((None, I)),
            keras.layers.LSTM(4, dtype="bfloat16", recurrent_initializer="normal"),
            keras.layers.Dense(2),
        ]
    )
    net.layers[0].trainable = False
    for name in ("b.keras", "b.weights.h5"):
        (net.save if name == "b.keras" else net.save_weights)(tmp_path / name)
        layers, _, _ = found(tmp_path / name)
        (lstm,) = (each for each in layers if isinstance(each, Recurrent))
        assert all(
            np.array_equal(a, np.asarray(e, "float32"))
            for a, e in zip(packed(lstm), net.layers[0].get_weights(), strict=True)
        )
