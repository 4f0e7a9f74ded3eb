"""From file to file and into live models: the function stays, or it is refused by name, and a failed proof leaves nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("onnx")
pytest.importorskip("typer")

from typer.testing import CliRunner

from rnn_common import exchange, twins
from rnn_common.cells import IN_BOTH
from rnn_common.cli import app
from rnn_common.exchange import arrays_write, convert, forward, proof
from rnn_common.exchange.description import (
    HARD_SIGMOID_KERAS_2,
    LINEAR,
    TANH,
    Dense,
    Direction,
    Embedding,
    Foreign,
    Found,
)
from tests.exchange.described import recurrent

FOR = {".pt": "torch", ".keras": "tf", ".weights.h5": "tf"}
BOUND = 2e-6  # of float32, on small fresh networks


def needs(kind):
    if FOR.get(kind, "torch") not in twins.installed():
        pytest.skip(f"{kind} is written by {FOR[kind]}")
    if kind == ".onnx":
        pytest.importorskip("onnxruntime")


def source(folder, *layers):
    """A file with layers by PyTorch's names."""
    path = folder / "source.npz"
    np.savez(path, **arrays_write.state_dict(layers))
    return path


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("cell", IN_BOTH)
@pytest.mark.parametrize("kind", convert.TARGETS)
def test_a_layer_into_every_kind_of_file(kind, cell, directions, tmp_path):
    needs(kind)
    layer = recurrent(cell, directions)
    target = tmp_path / f"target{kind}"
    proofs = convert.convert(source(tmp_path, layer), target).proofs
    assert [each.holds for each in proofs] == [True]
    assert proofs[0].deviation <= BOUND
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.npz", target.name]
    (again,) = exchange.read(target).recurrent
    assert (again.cell, len(again.directions)) == (layer.cell, directions)
    x = proof.probe(layer)
    np.testing.assert_allclose(
        forward.run_layer(again, x).outputs, forward.run_layer(layer, x).outputs, rtol=0, atol=1e-6
    )


def test_a_stack_keeps_its_names(tmp_path):
    pytest.importorskip("torch")
    import torch

    nets = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    before = {f"encoder.{name}": array for name, array in nets.state_dict().items()}
    torch.save(before, tmp_path / "a.pt")
    convert.convert(tmp_path / "a.pt", tmp_path / "b.safetensors")
    convert.convert(tmp_path / "b.safetensors", tmp_path / "c.pt")
    after = torch.load(tmp_path / "c.pt", weights_only=True)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_what_torch_reads_is_what_keras_wrote(tmp_path):
    """A whole network of Keras's, in PyTorch."""
    keras = pytest.importorskip("keras")
    torch = pytest.importorskip("torch")
    import rnn_torch

    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((None,)),
            keras.layers.Embedding(9, 5, mask_zero=True),
            keras.layers.Bidirectional(
                keras.layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid")
            ),
            keras.layers.GRU(3),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    network.save(tmp_path / "network.keras")
    symbols = np.array([[1, 2, 3, 4, 0, 0], [5, 6, 7, 8, 1, 2], [3, 0, 0, 0, 0, 0]])
    model = rnn_torch.load(tmp_path / "network.keras")
    with torch.no_grad():
        found = model(torch.from_numpy(symbols)).numpy()
    np.testing.assert_allclose(found, network.predict(symbols, verbose=0), rtol=0, atol=BOUND)
    equations = exchange.run_chain(exchange.read(tmp_path / "network.keras").layers, symbols)
    np.testing.assert_allclose(equations, found, rtol=0, atol=BOUND)
    in_front = np.array([[0, 0, 1, 2, 3, 4]])
    with torch.no_grad():
        found = model(torch.from_numpy(in_front)).numpy()
    np.testing.assert_allclose(found, network.predict(in_front, verbose=0), rtol=0, atol=BOUND)


def test_what_keras_reads_is_what_torch_wrote(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("keras")
    import rnn_tf

    torch.manual_seed(0)
    theirs = torch.nn.GRU(3, 4, batch_first=True, bidirectional=True)
    torch.save({"state": theirs.state_dict()}, tmp_path / "a.pt")
    model = rnn_tf.load(tmp_path / "a.pt")
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(np.asarray(model(x)), expected, rtol=0, atol=BOUND)


# What is refused


@pytest.mark.parametrize(
    ("layers", "kind", "message"),
    [
        ([recurrent("GRU v3")], ".pt", "of the form GRU v3: .onnx and .keras can"),
        ([recurrent("LSTM", activations=(TANH, HARD_SIGMOID_KERAS_2))], ".safetensors", "hard_sigmoid 0.2"),
        ([recurrent("LSTM", backwards=True)], ".npz", "that runs backwards"),
        ([recurrent("LSTM", 2, merge="sum")], ".pt", "merges its directions by sum"),
        ([recurrent("LSTM"), recurrent("GRU", name="b")], ".onnx", "name one layer with --only"),
        ([Foreign("m", "Masking", changes=False), recurrent("LSTM", masks=True)], ".keras", "has m, Masking, too"),
        ([Embedding("e", np.zeros((3, 2)))], ".pt", "source should hold a recurrent layer, got e"),
        ([recurrent("LSTM")], ".tflite", r"target should end with .weights.h5, .keras"),
    ],
)
def test_what_a_target_cannot_hold_is_refused_by_name(layers, kind, message, tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "read", lambda path, cells: Found(Path(path), "a test", tuple(layers)))
    with pytest.raises(ValueError, match=message):
        convert.convert(tmp_path / "a.npz", tmp_path / f"b{kind}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [".npz", ".onnx"])
def test_a_proof_that_fails_leaves_no_file(kind, tmp_path, monkeypatch):
    needs(kind)
    path = source(tmp_path, recurrent("LSTM"))
    (tmp_path / f"b{kind}").write_text("what was there before")

    right = forward.run_layer

    def run_layer(*given, **options):
        ran = right(*given, **options)
        return ran._replace(outputs=ran.outputs * ran.outputs.dtype.type(1.01))

    monkeypatch.setattr(forward, "run_layer", run_layer)
    monkeypatch.setattr(proof, "run_layer", run_layer)
    with pytest.raises(proof.ProofFailed, match=r"off, bound .*; nothing was written"):
        convert.convert(path, tmp_path / f"b{kind}")
    assert (tmp_path / f"b{kind}").read_text() == "what was there before"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", twins.TWINS)
def test_what_a_layer_says_of_skipped_steps_is_not_lost(name):
    """A network with a Masking layer is no chain of ours: its layers come by name."""
    if name not in twins.installed():
        pytest.skip(f"needs {twins.TITLES[name]}")
    layers = (
        Foreign("masking", "Masking", changes=False),
        recurrent("LSTM", masks=True),
        recurrent("GRU", width=4, name="gru"),
    )
    model = convert.page(name).model(Found(Path("a.keras"), "a test", layers, chain=True))
    assert list(model) == ["lstm", "gru"]


@pytest.mark.parametrize("name", twins.TWINS)
def test_names_that_would_be_one_are_refused(name):
    if name not in twins.installed():
        pytest.skip(f"needs {twins.TITLES[name]}")
    mark = {"torch": ".", "tf": "/"}[name]
    layers = (recurrent("LSTM", name=f"a{mark}b"), recurrent("LSTM", name="a_b"))
    with pytest.raises(ValueError, match=f"names of their own, got a{mark}b and a_b"):
        convert.page(name).model(Found(Path("a.pt"), "a test", layers))


def test_what_overflows_is_no_proof():
    """Neither deviation nor bound is finite: nothing is shown."""
    growing = recurrent("SimpleRNN", activations=(LINEAR,))
    weights = {name: array * np.float32(1e9) for name, array in growing.directions[0].weights.items()}
    layer = replace(growing, directions=(replace(growing.directions[0], weights=weights),))
    with np.errstate(all="ignore"):
        (found,) = proof.of_layers(
            [layer], "itself", lambda n, x: forward.run_layer(layer, x, dtype=np.float32).outputs
        )
    assert not found.holds


def test_a_link_stays_one(tmp_path):
    (tmp_path / "real.npz").write_text("before")
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    convert.convert(source(tmp_path, recurrent("LSTM")), tmp_path / "link.npz")
    assert (tmp_path / "link.npz").is_symlink()
    assert exchange.read(tmp_path / "real.npz").recurrent


def test_a_model_is_copied_and_pickled(tmp_path):
    """With an activation whose slope is no name's."""
    pytest.importorskip("torch")
    import pickle

    layers = (recurrent("LSTM"), Dense("d", np.ones((2, 4), np.float32), None, exchange.Activation("leaky_relu", 0.3)))
    page = convert.page("torch")
    model = page.model(Found(Path("a.keras"), "a test", layers, chain=True))
    again = pickle.loads(pickle.dumps(model))
    x = proof.probe(layers[0])
    np.testing.assert_array_equal(page.run(again, x), page.run(model, x))


@pytest.mark.filterwarnings("error")
def test_what_was_read_is_not_trained(tmp_path):
    """A model has memory of its own: that of a file is for reading alone."""
    torch = pytest.importorskip("torch")
    layers = (Embedding("e", np.ones((5, 3), np.float32)), recurrent("LSTM"))
    found = exchange.read(source(tmp_path, *layers))
    model = convert.page("torch").model(found)
    with torch.no_grad():
        for each in model.parameters():
            each += 1
    np.testing.assert_array_equal(found.layers[0].E, layers[0].E)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("kind", [".npz", ".pt", ".keras", ".onnx"])
def test_two_biases_are_not_added_in_half_precision(kind, dtype, tmp_path):
    needs(kind)
    layer = recurrent("LSTM")
    random = np.random.default_rng(0)
    weights = {name: array.astype(dtype) for name, array in layer.directions[0].weights.items()}
    weights |= {f"b_h{gate}": random.standard_normal(4).astype(dtype) for gate in "ifco"}
    both = replace(layer, directions=(Direction(weights, layer.activations),))
    convert.convert(source(tmp_path, both), tmp_path / f"b{kind}")
    (again,) = exchange.read(tmp_path / f"b{kind}").recurrent
    expected = weights["b_i"].astype("float64") + weights["b_hi"]
    np.testing.assert_allclose(again.parameters()["b_i"], expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", twins.TWINS)
def test_an_activation_that_a_framework_has_not_is_refused_by_name(name):
    if name not in twins.installed():
        pytest.skip(f"needs {twins.TITLES[name]}")
    found = Found(Path("a.h5"), "a test", (recurrent("SimpleRNN", activations=(exchange.Activation("elu", 0.3),)),))
    with pytest.raises(ValueError, match=r"lstm: .*elu"):
        convert.page(name).model(found)


def test_a_runtimes_rounding_is_no_fault(tmp_path):
    """Outputs so small that ONNX Runtime's e^a − 1, and its tanh, are a thousandth of them off."""
    needs(".onnx")
    layer = recurrent("SimpleRNN", activations=(exchange.Activation("elu", 1.0),))
    small = {name: array * np.float32(1e-4) for name, array in layer.directions[0].weights.items()}
    found = Found(Path("a.h5"), "a test", (replace(layer, directions=(Direction(small, layer.activations),)),))
    (held,) = convert.write(found, tmp_path / "a.onnx").proofs
    assert held.holds
    assert held.deviation > 1e-5


def test_what_is_0_throughout_is_not_off(tmp_path):
    """Behind a relu all outputs may be."""
    needs(".onnx")
    layer = recurrent("SimpleRNN", returns_sequences=False)
    off = Dense("off", np.zeros((2, 4), np.float32), np.full(2, -9, np.float32), exchange.Activation("relu"))
    through = Dense("through", np.ones((1, 2), np.float32), None, TANH)
    found = Found(Path("a.h5"), "a test", (layer, off, through), chain=True)
    assert all(each.holds for each in convert.write(found, tmp_path / "a.onnx").proofs)


def test_only_some_layers(tmp_path):
    path = source(tmp_path, recurrent("LSTM", name="a"), recurrent("GRU", name="b"))
    assert [each.name for each in convert.convert(path, tmp_path / "c.npz", "b").proofs] == ["b"]
    with pytest.raises(
        ValueError, match=r"only should begin the name of a recurrent layer of source.npz \(a, b\), got c"
    ):
        convert.convert(path, tmp_path / "c.npz", "c")


# The commands


def call(*arguments):
    return CliRunner().invoke(app.app, list(map(str, arguments)))


def test_inspect_says_what_is_there(tmp_path):
    layers = [recurrent("LSTM", 2), Dense("head", np.ones((2, 8), np.float32), np.ones(2, np.float32))]
    ran = call("inspect", source(tmp_path, *layers), "--json", tmp_path / "found.json")
    assert ran.exit_code == 0, ran.output
    assert "LSTM 3 → 4 both ways" in ran.output
    assert "packed as torch, tanh sigmoid" in ran.output
    assert "dense 8 → 2" in ran.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert [each["kind"] for each in found["layers"]] == ["Recurrent", "Dense"]
    assert found["layers"][0]["hidden"] == 4


def test_inspect_says_once_what_was_assumed(tmp_path):
    path = source(tmp_path, recurrent("SimpleRNN", name="a"), recurrent("SimpleRNN", name="b"))
    (note,) = {note for layer in exchange.read(path).recurrent for note in layer.notes}
    said = " ".join(call("inspect", path).output.split())
    assert said.count(note) == 1
    assert f"a, b: {note}" in said


def test_convert_prints_its_proof(tmp_path):
    ran = call("convert", source(tmp_path, recurrent("GRU")), tmp_path / "b.safetensors")
    assert ran.exit_code == 0, ran.output
    assert "from the equations, bound" in ran.output
    assert (tmp_path / "b.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pkl", b"cos\nsystem\n(S'echo'\ntR.", "is a pickle"),
        ("a.txt", b"", "should end with .pt"),
        ("a.npz", b"PK\x03\x04", "a.npz"),
        ("a.h5", b"\x89HDF\r\n", "a.h5"),
        ("a.onnx", b"\xff" * 40, "a.onnx"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_a_file_that_is_not_understood_is_answered_in_one_line(command, name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    ran = call(command, tmp_path / name, *[tmp_path / "b.npz"] * (command == "convert"))
    assert ran.exit_code == 2, ran.output
    assert message in " ".join(ran.output.split())
    assert "Traceback" not in ran.output


def test_a_file_that_is_not_there(tmp_path):
    ran = call("inspect", tmp_path / "a.npz")
    assert ran.exit_code == 2
    assert "a.npz" in ran.output


# What is beside recurrent layers

NET = (
    Embedding("embedding", np.random.default_rng(0).normal(size=(9, 3)), masks=True),
    recurrent("LSTM"),
    Dense("fc", np.random.default_rng(1).normal(size=(2, 4)).astype(np.float16), np.ones(2, np.float16)),
    Dense("bare", np.ones((3, 2), np.float32), None, exchange.Activation("relu")),
)
STATE_DICTS = [".pt", ".safetensors", ".npz"]


@pytest.mark.parametrize("kind", STATE_DICTS)
def test_the_weights_of_embeddings_and_dense_layers_are_proven(kind, tmp_path, monkeypatch):
    """Bit for bit in their dtypes, with what the arrays do not say."""
    needs(kind)
    monkeypatch.setattr(exchange, "read", lambda path, *_: Found(Path(path), "a test", NET))
    proofs = convert.convert(tmp_path / "a.keras", tmp_path / f"b{kind}").proofs
    assert [(each.name, each.run, each.deviation, each.bound) for each in proofs[1:]] == [
        ("embedding", False, 0, 0),
        ("fc", False, 0, 0),
        ("bare", False, 0, 0),
    ]
    assert [each.unsaid for each in proofs] == [
        "",
        "that symbol 0 is padding",
        "",
        "that it is a dense layer and its activation, relu",
    ]
    monkeypatch.undo()
    written = {each.name: each for each in exchange.read(tmp_path / f"b{kind}").layers}
    np.testing.assert_array_equal(written["embedding"].E, NET[0].E)
    assert written["fc"].W.dtype == np.float16


def turned(arrays):
    return arrays | {"fc.weight": np.ascontiguousarray(arrays["fc.weight"][::-1])}


def without(arrays):
    return {name: array for name, array in arrays.items() if name != "bare.weight"}


def a_bit_off(arrays):
    E = arrays["embedding.weight"].copy()
    E[4, 1] = np.nextafter(E[4, 1], 9)
    return arrays | {"embedding.weight": E}


def another_shape(arrays):
    return arrays | {"fc.weight": arrays["fc.weight"].reshape(4, 2), "fc.bias": np.ones(4, np.float16)}


@pytest.mark.parametrize(
    ("fault", "layer"), [(turned, "fc"), (without, "bare"), (a_bit_off, "embedding"), (another_shape, "fc")]
)
@pytest.mark.parametrize("kind", STATE_DICTS)
def test_a_matrix_that_is_not_what_was_found_leaves_no_file(kind, fault, layer, tmp_path, monkeypatch):
    needs(kind)
    right = arrays_write.state_dict
    monkeypatch.setattr(exchange, "read", lambda path, *_: Found(Path(path), "a test", NET))
    monkeypatch.setattr(arrays_write, "state_dict", lambda layers: fault(right(layers)))
    with pytest.raises(proof.ProofFailed, match=f"but {layer}, by its weights read again, is .* off, bound 0.0e"):
        convert.convert(tmp_path / "a.keras", tmp_path / f"b{kind}")
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_arrays_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "read", lambda path, *_: Found(Path(path), "a test", NET))
    said = " ".join(call("convert", tmp_path / "a.keras", tmp_path / "b.npz").output.split())
    assert "fc: its weights, read again, are bit for bit what was found: holds bare:" in said
    assert "holds; what such a file does not say: that it is a dense layer and its activation, relu" in said


# States and lengths


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("states", "lengths"), [(True, False), (False, True), (True, True)])
def test_states_and_lengths_of_an_onnx_file(states, lengths, directions, tmp_path, monkeypatch):
    """A stack of two cells: its inputs and outputs, and what they give, from states and of lengths that are not all alike."""
    onnxruntime = pytest.importorskip("onnxruntime")
    layers = (
        recurrent("LSTM", directions, name="a", returns_sequences=True),
        recurrent("GRU", directions, width=4 * directions, name="b", returns_sequences=True),
        Dense("head", np.ones((2, 4 * directions), np.float32), np.ones(2, np.float32), exchange.Activation("tanh")),
    )
    monkeypatch.setattr(exchange, "read", lambda path, *_: Found(Path(path), "a test", layers, chain=True))
    proofs = convert.convert(tmp_path / "a.keras", tmp_path / "b.onnx", states=states, lengths=lengths).proofs
    finals = ["h_n of a.keras", "c_n of a.keras"] if states else []
    assert [each.name for each in proofs] == ["a.keras", *finals]
    session = onnxruntime.InferenceSession(tmp_path / "b.onnx", providers=["CPUExecutionProvider"])
    random = np.random.default_rng(3)
    given = {"x": random.normal(size=(3, 5, 3)).astype(np.float32)}
    h, c = (random.normal(size=(count * directions, 3, 4)).astype(np.float32) for count in (2, 1))
    given |= {"lengths": np.array([2, 5, 3], np.int32)} if lengths else {}
    given |= {"h_0": h, "c_0": c} if states else {}
    assert {each.name for each in session.get_inputs()} == set(given)
    ran = dict(zip([each.name for each in session.get_outputs()], session.run(None, given), strict=True))
    initial = [[(h[n], c[n]) for n in range(directions)], [(h[directions + n],) for n in range(directions)]]
    y, final = proof.run_with_states(layers, given["x"], initial if states else None, given.get("lengths"))
    np.testing.assert_allclose(ran["y"], y, rtol=0, atol=BOUND)
    if states:
        np.testing.assert_allclose(ran["h_n"], [state[0] for each in final for state in each], rtol=0, atol=BOUND)
        np.testing.assert_allclose(ran["c_n"], [state[1] for state in final[0]], rtol=0, atol=BOUND)


@pytest.mark.parametrize(
    ("wrong", "options", "names"),
    [
        ("h_0", {"states": True}, {"source.npz", "h_n of source.npz", "c_n of source.npz"}),
        ("c_0", {"states": True}, {"source.npz", "h_n of source.npz", "c_n of source.npz"}),
        ("lengths", {"states": True, "lengths": True}, {"source.npz", "h_n of source.npz", "c_n of source.npz"}),
    ],
)
def test_states_and_lengths_that_are_not_used_are_seen(wrong, options, names, tmp_path):
    """The proof of a network that ignores one of its inputs."""
    layer = recurrent("LSTM")
    found = Found(tmp_path / "source.npz", "a test", (layer,))

    def run(given):
        ignored = np.full_like(given[wrong], proof.TIME if wrong == "lengths" else 0)
        given = given | {wrong: ignored}
        initial = [[(given["h_0"][0], given["c_0"][0])]]
        y, (((h, c),),) = proof.run_with_states([layer], given["x"], initial, given.get("lengths"))
        return {"y": y, "h_n": h[None], "c_n": c[None]}

    assert {each.name for each in proof.of_graph(found, "itself", run, **options) if not each.holds} == names


@pytest.mark.parametrize("option", ["states", "lengths"])
@pytest.mark.parametrize("kind", [kind for kind in convert.TARGETS if kind != ".onnx"])
def test_states_and_lengths_are_refused_where_there_are_none(kind, option, tmp_path):
    needs(kind)
    ran = call("convert", source(tmp_path, recurrent("LSTM")), tmp_path / f"b{kind}", f"--{option}")
    assert ran.exit_code == 2
    said = (
        f"{option} should be asked for with an .onnx file alone, got b{kind}: the layers of Keras and PyTorch take them"
    )
    assert said in " ".join(ran.output.split())
    assert len(list(tmp_path.iterdir())) == 1


def test_the_command_writes_states_and_lengths(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    ran = call("convert", source(tmp_path, recurrent("GRU", 2)), tmp_path / "b.onnx", "--states", "--lengths")
    assert ran.exit_code == 0, ran.output
    assert "h_n of source.npz, run by ONNX Runtime" in ran.output
    session = onnxruntime.InferenceSession(tmp_path / "b.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["h_0", "x", "lengths"]
    layers = (replace(recurrent("GRU"), masks=True),)
    refused = "lstm' can skip steps: write it with lengths=True (--lengths)"
    with pytest.raises(ValueError, match="can skip steps") as error:
        convert.onnx_write.write(layers, tmp_path / "c.onnx")
    assert refused in str(error.value)
