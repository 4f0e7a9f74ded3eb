"""Either framework trains the same network to the same numbers, and goes on where it or the other stopped."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from rnn_common import networks, twins
from rnn_common.cells import IN_BOTH
from rnn_common.data import Sequences, pad
from rnn_common.networks import EncoderDecoder, Network, Stack
from rnn_common.parity import lockstep
from rnn_common.training import checkpoint
from rnn_common.training.recipe import Recipe
from rnn_common.training.run import Diverged, Run, evaluate


def both():
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    return twins.get("torch"), twins.get("tf")


def features(count=40, seed=0):
    """Sequences of two features whose class is the sign of the first one's sum."""
    random = np.random.default_rng(seed)
    sequences = tuple(random.standard_normal((length, 2)) for length in random.integers(3, 9, count))
    return Sequences("signs", sequences, np.array([int(s[:, 0].sum() > 0) for s in sequences]))


def numbers(count=24):
    data = features(count)
    return Sequences("sums", data.sequences, np.array([[s[:, 0].sum(), s[-1, 1]] for s in data.sequences]))


def symbols(count=24):
    """Symbols, with the class of each step −1 or the symbol before it."""
    random = np.random.default_rng(1)
    sequences = tuple(random.integers(0, 5, length) for length in random.integers(3, 9, count))
    return Sequences("echo", sequences, tuple(np.append(-1, s[:-1]) for s in sequences))


def pairs(count=24):
    """Symbols, to be written backwards."""
    random = np.random.default_rng(2)
    sequences = tuple(random.integers(1, 5, length) for length in random.integers(2, 7, count))
    return Sequences("backwards", sequences, tuple(np.append(s[::-1], 0) for s in sequences))


def task(kind, cell, **options):
    """A small model of each kind and data for it."""
    if kind == "sequence":
        return Network(Stack(cell, 2, 5, **{"layers": 2, **options}), 2, "sequence"), features()
    if kind == "forecast":
        return Network(Stack(cell, 2, 5, **options), 2, "forecast"), numbers()
    if kind == "steps":
        return Network(Stack(cell, 5, 6, embedding=3, **options), 5, "steps"), symbols()
    encoder = Stack(cell, 5, 4, embedding=3, layers=2, bidirectional=True, **options)
    return EncoderDecoder(encoder, Stack(cell, 5, 8, embedding=3, layers=2, **options)), pairs()


KINDS = ("sequence", "forecast", "steps", "encoder-decoder")


def make_run(kind="sequence", cell="LSTM", recipe=None, options=None, **arguments):
    model, data = task(kind, cell, **(options or {}))
    recipe = recipe or Recipe(epochs=3, batch_size=8, dtype="float64")
    return Run(model, recipe, data, networks.initial_weights(model, 0, recipe.dtype), **arguments)


def relative(a, b):
    return np.max(np.abs(np.array(a) - b) / np.abs(b))


def equal(first, second):
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], name)


# Lockstep


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("cell", "optimizer", "updates"),
    [
        *((cell, optimizer, 200) for cell in IN_BOTH for optimizer in ("sgd", "adam")),
        ("SimpleRNN", "adam", 1000),  # whose deviation grows most
    ],
)
def test_many_updates_in_lockstep(cell, optimizer, updates):
    """On the recordings: 1e-9 over the first 200 updates, 1e-6 over 1,000; clipping and the schedule at work.

    The learning rates are ones at which training is stable: near its edge rounding grows from update to update, in one
    framework with another number of threads as between two.
    """
    twins = both()
    pytest.importorskip("aeon")
    norms = [[], []]

    def watch(kept):
        return lambda run: kept.append(run.norms[-1])

    losses = [
        lockstep.losses(twin, cell, optimizer, updates=updates, watch=watch(kept))
        for twin, kept in zip(twins, norms, strict=True)
    ]
    assert len(losses[0]) == len(losses[1]) == updates
    assert max(norms[0]) > 0.5  # where they are clipped
    assert losses[0][-50:].mean() < (0.7 if updates == 1000 else 0.9) * losses[0][:5].mean()
    assert relative(losses[0][:200], losses[1][:200]) < 1e-9
    assert relative(losses[0], losses[1]) < 1e-6


@pytest.mark.no_cover
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", IN_BOTH)
def test_every_kind_of_model_in_lockstep(kind, cell):
    runs = []
    bucket = kind in ("forecast", "steps")  # batches of many lengths, for each of which TensorFlow writes a graph
    recipe = Recipe(epochs=4, batch_size=5, bucket=bucket, clip_norm=1.0, dtype="float64")
    options = {"bidirectional": True} if kind == "sequence" else {}
    for twin in both():
        run = make_run(kind, cell, recipe, options)
        network = twin.train(run)
        runs.append((run, twin.weights(network), evaluate(run.model, partial(twin.predict, network), run.train)))
    assert relative(runs[0][0].losses, runs[1][0].losses) < 1e-9
    assert relative(runs[0][0].norms, runs[1][0].norms) < 1e-9
    assert runs[0][2] == pytest.approx(runs[1][2], rel=1e-6)
    for name, array in runs[0][1].items():
        np.testing.assert_allclose(array, runs[1][1][name], rtol=1e-8, atol=1e-10, err_msg=name)


def test_gru_in_its_other_form_in_lockstep():
    losses = []
    for twin in both():
        run = make_run("sequence", "GRU v3")
        twin.train(run)
        losses.append(run.losses)
    assert relative(losses[0], losses[1]) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_mean_over_valid_targets(twin, kind):
    """Before any update it is what `evaluate`, in NumPy, finds of the same batch; so padding does not count."""
    run = make_run(kind, recipe=Recipe(epochs=1, batch_size=100, dtype="float64"))
    network = twin.build(run.model, run.weights, dtype="float64")
    expected = evaluate(run.model, lambda batch: twin.predict(network, batch), run.train)
    twin.train(run)
    assert run.losses == pytest.approx([expected.loss], rel=1e-12)


@pytest.mark.parametrize("kind", ["sequence", "steps", "encoder-decoder"])
def test_padding_changes_nothing(twin, kind):
    """Outputs of a short sequence are the same beside a long one and alone."""
    run = make_run(kind, recipe=Recipe(dtype="float64"))
    network = twin.build(run.model, run.weights, dtype="float64")
    order = np.argsort(run.train.lengths)
    short, both_lengths = run.train.take(order[:1]), run.train.take([order[0], order[-1]])
    alone = twin.predict(network, pad(short.sequences, short.targets))[0]
    beside = twin.predict(network, pad(both_lengths.sequences, both_lengths.targets))[0]
    np.testing.assert_allclose(beside[: len(alone)] if alone.ndim == 2 else beside, alone, rtol=1e-12)


@pytest.mark.parametrize("kind", ["steps", "encoder-decoder"])
def test_step_by_step_is_the_same_as_at_once(twin, kind):
    run = make_run(kind, recipe=Recipe(dtype="float64"))
    network = twin.build(run.model, run.weights, dtype="float64")
    one = run.train.take([0])
    batch = pad(one.sequences, one.targets)
    at_once = twin.predict(network, batch)[0]
    state, read = None, batch.x[0]
    if kind == "encoder-decoder":
        state, read = twin.encode(network, batch), np.append(0, batch.targets[0, :-1])
    for symbol, expected in zip(read, at_once, strict=True):
        scores, state = twin.step(network, np.array([symbol]), state)
        np.testing.assert_allclose(scores[0], expected, rtol=1e-11, atol=1e-13)


def test_weights_go_in_and_out_unchanged(twin):
    for kind in KINDS:
        for cell in IN_BOTH:
            model, _ = task(kind, cell)
            weights = networks.initial_weights(model, 3, memory=20)
            equal(twin.weights(twin.build(model, weights, dtype="float64")), weights)


def test_only_the_equations_biases_are_trained(twin):
    """The second of two biases that are added is still 0 after training, whatever the optimiser."""
    run = make_run("sequence", "GRU")
    network = twin.train(run)
    if twin.name == "torch":
        halves = [p[:10] for name, p in network.named_parameters() if name.rsplit(".")[-1].startswith("bias_hh")]
    else:
        halves = [v[1][:10] for v in network.trainable_variables if v.name == "bias" and len(v.shape) == 2]
    assert len(halves) == 2
    assert all(not np.any(np.asarray(half.detach() if twin.name == "torch" else half)) for half in halves)


@pytest.mark.no_cover
def test_dropout_is_for_training_only(twin):
    run = make_run(options={"dropout": 0.5})
    plain = make_run()
    network = twin.train(run)
    twin.train(plain)
    assert run.losses[0] != pytest.approx(plain.losses[0], rel=1e-3)
    assert evaluate(run.model, lambda b: twin.predict(network, b), run.train) == evaluate(
        run.model, lambda b: twin.predict(network, b), run.train
    )


def test_dropout_is_off_in_validation(twin):
    run = make_run(options={"dropout": 0.5}, validation=features(20, seed=5))
    network = twin.train(run)
    assert len(run.epochs) == 3
    found = evaluate(run.model, partial(twin.predict, network), run.validation)
    assert run.epochs[-1]["loss"] == pytest.approx(found.loss, rel=1e-12)


def test_early_stopping_takes_the_best_weights(twin):
    recipe = Recipe(learning_rate=0.05, epochs=60, batch_size=8, patience=3, dtype="float64")
    run = make_run(recipe=recipe, validation=features(20, seed=5))
    network = twin.train(run)
    losses = [epoch["loss"] for epoch in run.epochs]
    best = int(np.argmin(losses))
    assert len(losses) == best + 4 < 60
    found = evaluate(run.model, lambda batch: twin.predict(network, batch), run.validation)
    assert found.loss == pytest.approx(losses[best], rel=1e-12)


def test_a_loss_that_is_not_finite_stops_the_run(twin):
    run = make_run("forecast", "SimpleRNN", Recipe("sgd", learning_rate=1e38, epochs=50, dtype="float32"))
    with pytest.raises(Diverged, match="should be finite"):
        twin.train(run)
    assert all(map(np.isfinite, run.losses))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_as_on_a_cpu(twin, kind):
    if "cuda" not in twin.devices():
        pytest.skip("no GPU")
    losses = []
    for device in ("cpu", "cuda"):
        run = make_run(kind)
        twin.train(run, device=device)
        losses.append(run.losses)
    assert relative(losses[0], losses[1]) < 1e-9


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_resumed_run_on_a_gpu_ends_bit_equal(twin, tmp_path, optimizer):
    """With dropout, which draws from the GPU's random numbers."""
    if "cuda" not in twin.devices():
        pytest.skip("no GPU")
    arguments = dict(recipe=RESUMED[optimizer], options={"dropout": 0.2})
    expected = twin.weights(twin.train(make_run(**arguments), device="cuda"))
    stopped = make_run(folder=tmp_path, save_seconds=0, watch=stop_after(8), **arguments)
    with pytest.raises(KeyboardInterrupt):
        twin.train(stopped, device="cuda")
    equal(twin.weights(twin.train(make_run(**arguments, resume=checkpoint.load(tmp_path)), device="cuda")), expected)


ELSEWHERE = """
import sys
sys.path.insert(0, sys.argv[1])
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.debugging.set_log_device_placement(True)
import test_training as t
from rnn_tf import clock, networks, training
clock.on = networks.on = lambda device: tf.device("/CPU:1")
run = t.make_run("encoder-decoder", "GRU", t.RESUMED["adam"], validation=t.pairs(8))
network = training.train(run)
batch = t.pad(run.train.sequences[:2], run.train.targets[:2])
networks.predict(network, batch)
networks.step(network, batch.targets[:, 0], networks.encode(network, batch))
"""


def test_tensorflow_computes_on_the_device_that_was_asked_for():
    """The second of two processors takes the place of the one that TensorFlow does not compute on by itself."""
    pytest.importorskip("tensorflow")
    command = [sys.executable, "-c", ELSEWHERE, str(Path(__file__).parent)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    products = re.findall(r"(?:MatMul|Forward|Backward)\): /job:\S*device:(\S+)", result.stderr)
    assert len(products) > 10
    assert set(products) == {"CPU:1"}


# Checkpoints


def stop_after(updates):
    """A `watch` that ends a run as an exception would."""

    def watch(run):
        if run.position.update == updates:
            raise KeyboardInterrupt

    return watch


def interrupted(twin, folder, updates, **arguments):
    run = make_run(folder=folder, save_seconds=0, watch=stop_after(updates), **arguments)
    with pytest.raises(KeyboardInterrupt):
        twin.train(run)


RESUMED = {
    "adam": Recipe(epochs=4, batch_size=8, schedule="cosine", clip_norm=0.5),
    "plain sgd": Recipe("sgd", learning_rate=0.05, momentum=0, epochs=4, batch_size=8, schedule="cosine"),
    "sgd": Recipe("sgd", learning_rate=0.05, epochs=4, batch_size=8, schedule="cosine", warm_up=3, dtype="float64"),
}


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [("sequence", "adam"), ("encoder-decoder", "adam"), ("forecast", "sgd"), ("steps", "plain sgd")],
)
def test_a_resumed_run_ends_bit_equal(twin, tmp_path, kind, optimizer):
    """Stopped in the middle of an epoch, with dropout, whose random numbers go on too."""
    arguments = dict(kind=kind, recipe=RESUMED[optimizer], options={"dropout": 0.2})
    whole = make_run(**arguments)
    expected = twin.weights(twin.train(whole))
    interrupted(twin, tmp_path, 8, **arguments)
    found = checkpoint.load(tmp_path)
    assert found.position.update == 8 - (found.position.batch == 0)
    run = make_run(**arguments, resume=found)
    equal(twin.weights(twin.train(run)), expected)
    assert run.losses == whole.losses
    assert run.norms == whole.norms


def test_a_resumed_run_remembers_its_best_weights(twin, tmp_path):
    recipe = Recipe(learning_rate=0.05, epochs=60, batch_size=8, patience=3, dtype="float64")
    arguments = dict(options={"layers": 1, "bidirectional": False}, recipe=recipe, validation=features(20, seed=5))
    whole = make_run(**arguments)
    expected = twin.weights(twin.train(whole))
    interrupted(twin, tmp_path, len(whole.losses) - 7, **arguments)
    run = make_run(**arguments, resume=checkpoint.load(tmp_path))
    equal(twin.weights(twin.train(run)), expected)
    assert run.epochs == whole.epochs


@pytest.mark.no_cover
@pytest.mark.parametrize(("cell", "optimizer"), [("LSTM", "adam"), ("GRU", "sgd"), ("SimpleRNN", "plain sgd")])
@pytest.mark.parametrize("direction", ["torch-tf", "tf-torch"])
def test_a_run_goes_on_in_the_other_framework(tmp_path, cell, optimizer, direction):
    """On the curve that it would have followed at home."""
    both()
    first, second = map(twins.get, direction.split("-"))
    arguments = dict(cell=cell, recipe=replace(RESUMED[optimizer], dtype="float64"))
    home = make_run(**arguments)
    expected = first.weights(first.train(home))
    interrupted(first, tmp_path, 8, **arguments)
    run = make_run(**arguments, resume=checkpoint.load(tmp_path))
    weights = second.weights(second.train(run))
    assert relative(run.losses, home.losses) < 1e-9
    for name, array in weights.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-8, atol=1e-10, err_msg=name)


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_training as t
from rnn_common.training import checkpoint
from rnn_common import twins
def watch(run):
    print(run.position.update, flush=True)
    time.sleep(0.02)
folder = Path(sys.argv[3])
resume = checkpoint.load(folder) if list(folder.glob("*.json")) else None
run = t.make_run(recipe=t.RESUMED["adam"], folder=folder, save_seconds=0, watch=watch, resume=resume)
twins.get(sys.argv[2]).train(run)
print("done", flush=True)
"""


def test_killed_and_resumed(twin, tmp_path):
    """`kill -9` at moments of no one's choosing, as often as it takes; the weights are those of a run left in peace."""
    whole = make_run(recipe=RESUMED["adam"])
    expected = twin.weights(twin.train(whole))
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), twin.name, str(tmp_path)]
    random = np.random.default_rng(0)
    kills = 0
    for _ in range(10):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        seen = []
        for line in process.stdout:
            seen.append(line.strip())
            if kills < 2 and len(seen) == 4:
                time.sleep(random.uniform(0, 0.04))
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        process.stdout.close()
        process.wait()
        if "done" in seen:
            break
    assert kills == 2
    found = checkpoint.load(tmp_path)
    assert found.position.update == whole.position.update
    equal(found.weights, expected)
    assert found.losses.tolist() == whole.losses


def test_a_resumed_run_knows_how_long_it_took(tmp_path):
    twin = twins.get(twins.installed()[0])
    interrupted(twin, tmp_path, 8)
    found = checkpoint.load(tmp_path)
    assert 0 < found.seconds < 60
    assert make_run(resume=replace(found, seconds=1000.0)).seconds > 1000


def test_a_batch_without_targets_counts_nothing():
    model, data = task("steps", "GRU")
    silent = Sequences("silent", data.sequences[:2], tuple(np.full(len(s), -1) for s in data.sequences[:2]))
    both = Sequences("both", (*data.sequences, *silent.sequences), (*data.targets, *silent.targets))

    def predict(batch):  # scores that depend on the symbol alone
        return np.eye(5)[batch.x]

    assert evaluate(model, predict, both) == evaluate(model, predict, data)
    with pytest.raises(ValueError, match="data should have targets"):
        evaluate(model, predict, silent)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    twin = twins.get(twins.installed()[0])
    interrupted(twin, tmp_path, 3)
    found = checkpoint.load(tmp_path)
    with pytest.raises(ValueError, match=r"resume should be of a run with stack .*GRU.*, got .*LSTM"):
        make_run(cell="GRU", resume=found)
    with pytest.raises(ValueError, match="resume should be of a run with epochs 9, got 3"):
        make_run(recipe=replace(found.recipe, epochs=9), resume=found)
    other = replace(found, data="another")
    with pytest.raises(ValueError, match="same data"):
        make_run(resume=other)
    with pytest.raises(ValueError, match="validation should be given"):
        make_run(recipe=Recipe(patience=2))


def test_other_validation_data_is_refused_where_it_decides(tmp_path):
    """With patience it says when to stop; without, it is only shown."""
    twin = twins.get(twins.installed()[0])
    for patience in (0, 2):
        recipe = Recipe(epochs=9, batch_size=8, patience=patience, dtype="float64")
        interrupted(twin, tmp_path / str(patience), 8, recipe=recipe, validation=features(20, seed=5))
    make_run(recipe=replace(recipe, patience=0), validation=features(9), resume=checkpoint.load(tmp_path / "0"))
    with pytest.raises(ValueError, match="same data"):
        make_run(recipe=recipe, validation=features(9), resume=checkpoint.load(tmp_path / "2"))
    make_run(recipe=recipe, validation=features(20, seed=5), resume=checkpoint.load(tmp_path / "2"))
