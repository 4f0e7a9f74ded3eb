"""The doctor on what its users bring: ports that went wrong in one known way, files, functions, networks; and the command."""

import json
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")

from typer.testing import CliRunner

import rnn_tf
import rnn_torch
from rnn_common.cli import app
from rnn_common.differences import ROWS
from rnn_common.doctor import Side, diagnose, matching, of_function
from rnn_common.doctor.catalogue import catalogue
from rnn_common.doctor.faults import Fault
from rnn_common.doctor.probe import calls
from rnn_common.doctor.sides import side
from rnn_common.equations.arithmetic import sigmoid

HIDDEN = 8


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)


def ported(module, layer):
    """The Keras layer with the module's weights."""
    layer.build((None, None, module.input_size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two biases became one
        rnn_torch.copy_weights(module, layer)
    return layer


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def with_state(module, changes):
    """Another module of the same kind whose state is changed."""
    other = type(module)(
        module.input_size, module.hidden_size, module.num_layers, batch_first=True, bidirectional=module.bidirectional
    )
    other.load_state_dict(state(module) | changes)
    return other


def causes(report):
    return [cause.name for cause in report.causes]


# What went wrong, and what has to be said of it: the cause, the step and the gates at which it shows


def gru_without_the_swap():
    right = torch.nn.GRU(HIDDEN, HIDDEN, batch_first=True)
    port = ported(right, keras.layers.GRU(HIDDEN, return_sequences=True))
    swap = lambda a: np.concatenate([np.split(a, 3, -1)[gate] for gate in (1, 0, 2)], -1)  # noqa: E731
    port.set_weights([swap(array) for array in port.get_weights()])
    return right, port


def recurrent_kernel_transposed():
    right = torch.nn.LSTM(HIDDEN, HIDDEN, batch_first=True)
    blocks = [block.T for block in state(right)["weight_hh_l0"].chunk(4)]
    return right, with_state(right, {"weight_hh_l0": torch.cat(blocks)})


def old_hard_sigmoid():
    old = rnn_tf.LSTM(HIDDEN, recurrent_activation="hard_sigmoid_keras2", return_sequences=True)
    new = keras.layers.LSTM(HIDDEN, recurrent_activation="hard_sigmoid", return_sequences=True)
    for layer in (old, new):
        layer.build((None, None, 3))
    new.set_weights(old.get_weights())
    return old, new


def the_other_form_of_the_gru():
    old = keras.layers.GRU(HIDDEN, reset_after=False, return_sequences=True)
    new = keras.layers.GRU(HIDDEN, return_sequences=True)
    for layer in (old, new):
        layer.build((None, None, 3))
    kernel, recurrent, bias = old.get_weights()
    bias = np.random.default_rng(0).normal(size=bias.shape).astype(np.float32)
    old.set_weights([kernel, recurrent, bias])
    new.set_weights([kernel, recurrent, np.stack([bias, 0 * bias])])
    return old, new


WRONG = {
    "r and z exchanged": (gru_without_the_swap, "r and z exchanged", {"r", "z", "ñ"}, set()),
    "transposed": (
        recurrent_kernel_transposed,
        "the recurrent kernel transposed gate by gate",
        {"i", "f", "c̃", "o"},
        set(),
    ),
    "hard_sigmoid": (
        old_hard_sigmoid,
        "recurrent_activation hard_sigmoid 0.1667·a + 0.5, not hard_sigmoid 0.2·a + 0.5",
        {"i", "f", "o"},
        {"c̃"},
    ),
    "form": (
        the_other_form_of_the_gru,
        "the reset gate after the recurrent product (reset_after=True)",
        {"ñ"},
        {"r", "z"},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_port_is_explained(name):
    make, cause, differ, clean = WRONG[name]
    right, port = make()
    report = diagnose(right, port)
    assert (report.verdict, report.status, report.certain) == ("explained", 1, True), str(report)
    assert causes(report) == [cause]
    assert report.first is not None
    assert report.first.step == 0  # for the initial state is not zero
    for gate, deviation in report.first.gates.items():
        assert (deviation > 1e-3) == (gate in differ), report.first
        assert (deviation <= report.bound) == (gate in clean), report.first
    assert all(each.hold for each in report.equations.values())
    assert report.proof is not None
    assert report.proof.deviation <= report.bound


def test_the_other_way_round_it_is_the_other_fault():
    right, port = old_hard_sigmoid()
    assert causes(diagnose(port, right)) == [
        "recurrent_activation hard_sigmoid 0.2·a + 0.5, not hard_sigmoid 0.1667·a + 0.5"
    ]


def test_dropout_left_on_is_named_and_looked_past():
    right = torch.nn.LSTM(3, HIDDEN, 2, batch_first=True).eval()
    left_on = torch.nn.LSTM(3, HIDDEN, 2, batch_first=True, dropout=0.5)
    left_on.load_state_dict(right.state_dict())
    report = diagnose(right, left_on)
    assert (report.verdict, report.status) == ("random", 1)
    assert report.deviation <= report.bound
    assert (report.causes[0].fix, report.causes[0].row) == ("b.eval()", "mode")
    assert left_on.training
    torch.nn.init.zeros_(left_on.bias_hh_l1)
    report = diagnose(right, left_on)
    assert causes(report)[1:] == ["the input biases alone, without the recurrent ones"]


def test_a_state_that_is_kept_is_named():
    right = torch.nn.GRU(3, HIDDEN, batch_first=True)
    port = keras.layers.GRU(HIDDEN, return_sequences=True, stateful=True)
    port.build((4, 6, 3))
    rnn_torch.copy_weights(right, port)
    report = diagnose(right, port, x=np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32))
    assert report.verdict == "random"
    assert "a state that is kept from call to call" in report.causes[0].name
    assert "stateful" in report.causes[0].fix


# Weights


def test_other_weights_are_called_other_weights():
    report = diagnose(torch.nn.GRU(3, HIDDEN, batch_first=True), torch.nn.GRU(3, HIDDEN, batch_first=True))
    assert (report.verdict, report.status, causes(report)) == ("different weights", 1, [])
    assert "10 of 10 weights are others in b" in report.notes[0]
    assert "correlates most with a's" in report.notes[1]


def test_what_was_not_loaded_is_named():
    right = torch.nn.LSTM(3, HIDDEN, batch_first=True)
    blocks = list(state(right)["weight_hh_l0"].chunk(4))
    blocks[2] = torch.randn(HIDDEN, HIDDEN)
    report = diagnose(right, with_state(right, {"weight_hh_l0": torch.cat(blocks)}))
    assert report.verdict == "different weights"
    assert report.notes[0] == "1 of 12 weights are others in b: W_hc."


def test_layers_in_another_order():
    right = torch.nn.GRU(HIDDEN, HIDDEN, 2, batch_first=True)
    old = state(right)
    turned = {name[:-1] + {"0": "1", "1": "0"}[name[-1]]: tensor for name, tensor in old.items()}
    report = diagnose(right, with_state(right, turned))
    assert report.verdict == "different weights"
    assert "b's b, layer 1 has the weights of a's a, layer 2: the layers are in another order." in report.notes


# Functions, of which outputs alone are seen


def test_a_function_is_held_against_what_is_known_of_the_other():
    module = torch.nn.LSTM(3, HIDDEN)

    def forgot_batch_first(x):
        with torch.no_grad():
            return module(torch.from_numpy(x))[0].numpy()

    right = torch.nn.LSTM(3, HIDDEN, batch_first=True)
    right.load_state_dict(module.state_dict())
    report = diagnose(right, forgot_batch_first)
    assert (report.verdict, report.certain) == ("explained", True)
    assert causes(report) == ["the axes of batch and time exchanged"]
    assert report.proof.made == "With that undone around b"
    assert report.proof.deviation <= report.bound


def hand_written(module, gates):
    """An LSTM written by hand from a module's weights; `gates` is the order in which it takes their blocks."""
    arrays = {name: tensor.numpy() for name, tensor in module.state_dict().items()}

    def run(x):
        h = c = np.zeros((len(x), module.hidden_size), np.float32)
        outputs = []
        for x_t in x.swapaxes(0, 1):
            a = x_t @ arrays["weight_ih_l0"].T + h @ arrays["weight_hh_l0"].T
            a = a + arrays["bias_ih_l0"] + arrays["bias_hh_l0"]
            blocks = dict(zip(gates, np.split(a, 4, -1), strict=True))
            c = sigmoid(blocks["f"]) * c + sigmoid(blocks["i"]) * np.tanh(blocks["c"])
            h = sigmoid(blocks["o"]) * np.tanh(c)
            outputs.append(h)
        return np.stack(outputs, 1)

    return run


def test_who_does_something_else_than_it_is_declared_to():
    """Both have the same weights and configuration; one is not what it says."""
    right = torch.nn.LSTM(3, HIDDEN, batch_first=True)
    layers = side(right, "right").layers
    wrong = of_function(hand_written(right, "icfo"), "wrong", layers)
    report = diagnose(right, wrong)
    assert (report.equations["a"].hold, report.equations["b"].hold) == (True, False)
    assert [(cause.side, cause.declared, cause.name) for cause in report.causes] == [("b", False, "f and c exchanged")]
    report = diagnose(wrong, right)
    assert [(cause.side, cause.name) for cause in report.causes] == [("a", "f and c exchanged")]
    assert diagnose(right, of_function(hand_written(right, "ifco"), "right", layers)).verdict == "equal"


def test_two_faults_at_once_on_either_side():
    right = torch.nn.LSTM(3, HIDDEN, batch_first=True)
    wrong = of_function(lambda x: hand_written(right, "icfo")(x)[:, ::-1], "wrong", side(right, "a").layers)
    report = diagnose(right, wrong)
    assert report.verdict == "explained"
    assert causes(report) == ["f and c exchanged", "outputs from the last step to the first"]


def test_causes_that_leave_something_over_are_no_explanation(monkeypatch):
    """Were what sets the two apart overlooked in what they are declared to be, their outputs would still tell."""
    right, port = gru_without_the_swap()
    nothing = Fault("a fault that changes nothing", "a group", "", "a fix")
    monkeypatch.setattr(matching, "differences", lambda *_: matching.Differences((nothing,)))
    report = diagnose(right, port)
    assert (report.verdict, report.certain) == ("unexplained", False)
    assert "What they are declared otherwise by leaves" in report.notes[0]


def test_what_is_not_in_the_catalogue_is_unexplained():
    right = torch.nn.GRU(3, HIDDEN, batch_first=True)
    layers = side(right, "a").layers
    wrong = Side("b", lambda call: (seen := side(right, "a").run(call))._replace(outputs=seen.outputs**3), layers)
    report = diagnose(right, wrong)
    assert (report.verdict, report.status, report.causes) == ("unexplained", 3, ())
    assert report.nearest
    assert report.tried > 100
    assert "Unexplained" in str(report)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_coarser_dtype_is_no_fault_of_another_kind(dtype):
    """It computes in fewer bits, and hands its numbers on in float32."""
    right = torch.nn.LSTM(3, HIDDEN, batch_first=True)
    coarse = torch.nn.LSTM(3, HIDDEN, batch_first=True)
    coarse.load_state_dict(right.state_dict())
    coarse.to(getattr(torch, dtype))

    def run(x):
        with torch.no_grad():
            return coarse(torch.from_numpy(x).to(getattr(torch, dtype)))[0].float().numpy()

    report = diagnose(right, run)
    assert causes(report) == [f"numbers of {dtype}, not of float32"]
    assert (report.verdict, report.status) == ("explained", 1)


# Networks


class Tagger(torch.nn.Module):
    def __init__(self, takes="last"):
        super().__init__()
        self.table = torch.nn.Embedding(20, 6)
        self.rnn = torch.nn.GRU(6, 5, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(10, 3)
        self.takes = takes

    def forward(self, x):
        outputs, h_n = self.rnn(self.table(x))
        last = {"last": torch.cat([h_n[-2], h_n[-1]], -1), "outputs[:, -1]": outputs[:, -1], "mean": outputs.mean(1)}
        return self.head(last[self.takes])


def in_keras(network):
    layer = keras.layers.Bidirectional(keras.layers.GRU(5))
    model = keras.Sequential(
        [keras.Input((None,), dtype="int32"), keras.layers.Embedding(20, 6), layer, keras.layers.Dense(3)]
    )
    ported(network.rnn, layer)
    model.layers[0].set_weights([network.table.weight.detach().numpy()])
    model.layers[2].set_weights([network.head.weight.detach().numpy().T, network.head.bias.detach().numpy()])
    return model


def like(network, **options):
    other = Tagger(**options)
    other.load_state_dict(network.state_dict())
    return other


def test_a_network_of_either_framework():
    network = Tagger()
    assert diagnose(network, in_keras(network)).verdict == "equal"


def test_the_head_reads_the_backward_halfs_first_step():
    network = Tagger()
    for right in (network, in_keras(network)):
        report = diagnose(right, like(network, takes="outputs[:, -1]"))
        assert causes(report) == ["outputs[:, -1], the backward half's first step handed on, not the last output"]
        assert report.causes[0].row == "last output"
        assert "torch.cat([h_n[-2], h_n[-1]], -1)" in report.causes[0].fix


def test_another_summary_goes_on():
    network = Tagger()
    report = diagnose(network, like(network, takes="mean"))
    assert causes(report) == ["the mean of the outputs handed on, not the last output"]
    assert (report.causes[0].layer, report.first.layer) == ("rnn", "head")


OF_NETWORKS = {
    "a row off": (0, lambda E: [np.roll(E, 1, 0)], "each symbol's row is the symbol's before"),
    "row 0 is zeros": (0, lambda E: [np.concatenate([0 * E[:1], E[1:]])], "row 0 is zeros"),
    "no bias": (2, lambda W, b: [W, 0 * b], "no bias"),
}


@pytest.mark.parametrize("name", OF_NETWORKS)
def test_embeddings_and_dense_layers(name):
    place, change, cause = OF_NETWORKS[name]
    network = Tagger()
    model = in_keras(network)
    model.layers[place].set_weights(change(*model.layers[place].get_weights()))
    assert causes(diagnose(network, model)) == [cause]


def test_an_activation_of_the_head():
    network = Tagger()
    model = in_keras(network)
    model.layers[2].activation = keras.activations.softmax
    report = diagnose(network, model)
    assert causes(report) == ["activation softmax, not linear"]


# Files


def test_a_file_and_the_model_that_was_filled_from_it(tmp_path):
    right = torch.nn.LSTM(3, HIDDEN, batch_first=True)
    torch.save(right.state_dict(), tmp_path / "right.pt")
    assert diagnose(tmp_path / "right.pt", right).verdict == "equal"
    port = ported(right, keras.layers.LSTM(HIDDEN, return_sequences=True))
    port.cell.recurrent_activation = keras.activations.hard_sigmoid
    report = diagnose(tmp_path / "right.pt", port)
    assert causes(report) == ["recurrent_activation hard_sigmoid 0.1667·a + 0.5, not sigmoid"]


def masked(mask_zero=True):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Embedding(20, 6, mask_zero=mask_zero),
        keras.layers.Bidirectional(keras.layers.LSTM(5, bias_initializer="normal")),
        keras.layers.Dense(3, bias_initializer="normal"),
    ]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])


def test_a_file_of_a_network_that_skips_padding(tmp_path):
    """Padding is wherever a symbol is 0, in between too; the file is run by the equations, the model by Keras."""
    path = tmp_path / "masked.keras"
    masked().save(path)
    assert (diagnose(path, masked()).verdict, diagnose(path, masked()).notes) == ("equal", ())
    port = masked()
    kernel, bias = port.layers[2].get_weights()
    port.layers[2].set_weights([kernel, 0 * bias])
    report = diagnose(path, port)
    assert (report.verdict, causes(report)) == ("explained", ["no bias"])
    report = diagnose(path, masked(mask_zero=False))
    assert (report.verdict, causes(report)) == ("explained", ["symbol 0 read, not skipped"])


# What cannot be seen


def test_what_the_probe_could_not_have_shown_is_said():
    layer = keras.layers.LSTM(HIDDEN, return_sequences=True)
    layer.build((None, None, 3))
    blind = "\n".join(diagnose(layer, layer).blind)
    assert "in the biases alone" in blind
    right = torch.nn.LSTM(3, HIDDEN, batch_first=True)
    assert diagnose(right, right).blind == ()
    short = np.random.default_rng(0).normal(size=(4, 1, 3)).astype(np.float32)
    assert "outputs from the last step to the first" in "\n".join(diagnose(right, right, x=short).blind)


def test_weights_that_do_not_show_are_not_called_equal_without_a_word():
    """One step from a state of zeros does not see the recurrent weights."""
    right = torch.nn.LSTM(3, HIDDEN, batch_first=True)
    blocks = [block.T for block in state(right)["weight_hh_l0"].chunk(4)]
    wrong = with_state(right, {"weight_hh_l0": torch.cat(blocks)})
    layers = side(right, "a").layers, side(wrong, "b").layers
    sides = [
        of_function(lambda x, module=module: module(torch.from_numpy(x))[0].detach().numpy(), "", each)
        for module, each in zip((right, wrong), layers, strict=True)
    ]
    report = diagnose(*sides, x=np.ones((2, 1, 3), np.float32))
    assert report.verdict == "equal"
    assert report.notes == (
        "They are not declared alike, which this probe could not show: the recurrent kernel transposed gate by gate.",
    )


def test_that_a_network_has_other_outputs_is_said():
    class Two(Tagger):
        def forward(self, x):
            return super().forward(x), x

    network = Two()
    assert diagnose(network, network).notes == tuple(
        f"Of {name} the first output was compared, not the other 1." for name in "ab"
    )


def test_a_probe_that_shows_what_can_be_seen():
    a = side(torch.nn.GRU(6, 3, batch_first=True), "a")
    for call in calls(a, a):
        batch, time, width = call.x.shape
        assert len({batch, time, width, 3}) == 4
        assert time >= 5
        assert 2 < np.abs(call.x).max() <= 3
        assert all(np.abs(h).min() > 0 for each in call.state for h in each)
    assert len(set(calls(a, a)[1].lengths)) == 2


# The catalogue


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_each_fault_names_a_row_that_is_there_or_none(cell, directions):
    module = getattr(torch.nn, cell)(4, 4, batch_first=True, bidirectional=directions == 2)
    a = side(module, "a")
    faults = [fault for call in calls(a, a) for fault in catalogue(a.layers[0], call)]
    keys = {row.key for row in ROWS}
    assert {fault.row for fault in faults} <= keys | {""}
    assert all(fault.name and fault.group and fault.fix for fault in faults)


# The command

MODELS = """
import torch

torch.manual_seed(0)
right = torch.nn.LSTM(3, 8, batch_first=True)
wrong = torch.nn.LSTM(3, 8, batch_first=True)
wrong.load_state_dict(right.state_dict())
torch.nn.init.zeros_(wrong.bias_hh_l0)


def odd(x):
    with torch.no_grad():
        return right(torch.from_numpy(x))[0].numpy() ** 3
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command in a folder with models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(MODELS)
    return lambda *arguments: CliRunner().invoke(app.app, ["doctor", *arguments])


def test_the_command_says_it_by_its_status(tmp_path, run):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32))
    np.save(tmp_path / "n.npy", np.array([7, 4]))
    ran = run("models.py:right", "models.py:wrong", "--json", "found.json")
    assert ran.exit_code == 1, ran.stderr
    assert "Why: b has the input biases alone, without the recurrent ones." in ran.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["verdict"], found["status"], found["certain"]) == ("explained", 1, True)
    ran = run("models.py:right", "models.py:right", "--input", "x.npy", "--lengths", "n.npy")
    assert (ran.exit_code, ran.stdout.splitlines()[1].partition(":")[0]) == (0, "They are equal to rounding"), (
        ran.stderr
    )
    ran = run("models.py:right", "models.py:odd")
    assert ran.exit_code == 3, ran.stdout + ran.stderr


BAD = {
    "no such name": (("models.py:left", "models.py:right"), "model should be a name in models.py, got left"),
    "no such file": (("none.pt", "models.py:right"), "none.pt"),
    "not trained": (("models.py:right", "models.py:wrong", "--training"), "a should be what rnn_torch.trained.trained"),
    "another input": (("models.py:right", "models.py:wrong", "--input", "wide.npy"), "x should be"),
    "a pickle": (("models.py:right", "models.py:wrong", "--input", "p.npy"), "input should be an array of numpy.save"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name, tmp_path, run):
    np.save(tmp_path / "wide.npy", np.zeros((2, 7, 9), np.float32))
    np.save(tmp_path / "p.npy", np.array([{"a": 1}]), allow_pickle=True)
    arguments, said = BAD[name]
    ran = run(*arguments)
    assert ran.exit_code == 2, ran.stdout
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
