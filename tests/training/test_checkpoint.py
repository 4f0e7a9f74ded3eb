"""A checkpoint comes back as it was written, or is refused with words that say why; the one before it stays."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("safetensors")

from safetensors.numpy import load_file, save_file

from rnn_common import files, networks
from rnn_common.data import Sequences
from rnn_common.networks import Network, Stack
from rnn_common.training import checkpoint
from rnn_common.training.checkpoint import BadCheckpoint, Checkpoint, Position
from rnn_common.training.recipe import Recipe
from rnn_common.training.run import Run, digest

MODEL = Network(Stack("LSTM", 3, 4, bidirectional=True), 2, "sequence")


def make(update=5, model=MODEL, seed=0):
    weights = networks.initial_weights(model, seed)
    return Checkpoint(
        model=model,
        recipe=Recipe(epochs=3, patience=2, learning_rate=0.01, dtype="float64"),
        framework="torch",
        position=Position(1, 2, update),
        weights=weights,
        moments={"m": weights, "v": {name: array**2 for name, array in weights.items()}},
        random={"torch": np.arange(7, dtype=np.uint8)},
        best={name: array - 1 for name, array in weights.items()},
        losses=1 / np.arange(3, 3 + update),
        norms=np.append(np.arange(1, update) / 3, 1e300),
        epochs=({"update": 3, "loss": 0.1, "metric": 0.5},),
        seconds=1.25,
        data="digest",
        about={"of": "no task", "alphabet": "äß", "seed": 0},
    )


def test_it_comes_back_bit_for_bit(tmp_path):
    written = make()
    read = checkpoint.load(checkpoint.save(written, tmp_path))
    for name in ("model", "recipe", "framework", "position", "epochs", "seconds", "data", "about"):
        assert getattr(read, name) == getattr(written, name), name
    for group in ("weights", "best", "random"):
        assert getattr(read, group).keys() == getattr(written, group).keys()
        for name, array in getattr(written, group).items():
            np.testing.assert_array_equal(getattr(read, group)[name], array)
            assert getattr(read, group)[name].dtype == array.dtype
    for moment in ("m", "v"):
        for name, array in written.moments[moment].items():
            np.testing.assert_array_equal(read.moments[moment][name], array)
    np.testing.assert_array_equal(read.losses, written.losses)
    np.testing.assert_array_equal(read.norms, written.norms)


def as_format_2(path, change):
    """What the version before would have written."""
    described = json.loads(path.read_text())
    described["format"] = "rnn-parity checkpoint 2"
    change(described)
    del described["sha256 of the rest"]
    path.write_text(json.dumps({**described, "sha256 of the rest": checkpoint._digest(described)}))


@pytest.mark.parametrize(("cell", "reset_after"), [("GRU v3", False), ("GRU", True), ("LSTM", True)])
def test_the_format_before_is_read(tmp_path, cell, reset_after):
    """It said by a flag of which form a GRU is."""
    model = Network(Stack(cell, 3, 4), 2, "sequence")
    path = checkpoint.save(make(model=model), tmp_path)
    as_format_2(path, lambda d: d["model"]["stack"].update(cell=cell.split()[0], reset_after=reset_after))
    assert checkpoint.load(path).model == model


def test_the_momentum_of_the_format_before(tmp_path):
    """PyTorch's −velocity / α was kept as it was; it becomes the velocity, with the learning rate of the last update."""
    recipe = Recipe("sgd", learning_rate=0.5, epochs=3, batch_size=3, dtype="float64", schedule="constant")
    x = tuple(np.random.default_rng(0).standard_normal((10, 4, 3)))
    data = Sequences("noise", x, np.arange(10) % 2)
    weights = networks.initial_weights(MODEL, 0)
    position = {"recipe": recipe, "best": {}, "epochs": (), "position": Position(0, 2, 2), "framework": "torch"}
    written = replace(make(2), **position, moments={"sum": weights}, data=digest(data), random={})
    run = Run(MODEL, recipe, data, weights, resume=written)
    assert set(run.moments) == {"velocity"}
    for name, array in weights.items():
        np.testing.assert_array_equal(run.moments["velocity"][name], -0.5 * array)


def test_names_are_the_documents(tmp_path):
    path = checkpoint.save(make(), tmp_path)
    arrays = load_file(path.with_suffix(".safetensors"))
    assert arrays["weights/layer1/forward/W_ii"].shape == (4, 3)
    assert arrays["weights/layer1/backward/b_f"].shape == (4,)
    assert arrays["weights/W_hy"].shape == (2, 8)
    assert arrays["moments m/b_y"].shape == (2,)
    assert json.loads(path.read_text())["model"]["stack"]["cell"] == "LSTM"


def test_the_newest_is_read_and_two_are_kept(tmp_path):
    for update in (5, 6, 100):
        checkpoint.save(make(update), tmp_path)
    assert checkpoint.load(tmp_path).position.update == 100
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"checkpoint-{n:08d}.{end}" for n in (6, 100) for end in ("json", "safetensors")]


def test_later_ones_stay(tmp_path):
    """Going on from an older one beside them, of a backup, say, neither loses what is written nor what was there."""
    for update in (500, 600):
        checkpoint.save(make(update), tmp_path)
    for update in (99, 100, 101):
        path = checkpoint.save(make(update), tmp_path)
        assert checkpoint.load(path).position.update == update
    names = sorted(int(path.stem.removeprefix("checkpoint-")) for path in tmp_path.glob("*.json"))
    assert names == [100, 101, 500, 600]


def test_none_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is none"):
        checkpoint.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="not there"):
        checkpoint.load(tmp_path / "checkpoint-00000001.json")


def spoil(path, how):
    arrays = path.with_suffix(".safetensors")
    described = json.loads(path.read_text())
    if how == "truncated arrays":
        arrays.write_bytes(arrays.read_bytes()[:-9])
    elif how == "a bit of the arrays":
        content = bytearray(arrays.read_bytes())
        content[-3] ^= 1
        arrays.write_bytes(content)
    elif how == "arrays of another":
        save_file({"weights/W_hy": np.zeros((2, 8))}, arrays)
    elif how == "no arrays":
        arrays.unlink()
    elif how == "truncated JSON":
        path.write_text(path.read_text()[:-40])
    elif how == "position":
        path.write_text(json.dumps(described | {"position": {"epoch": 0, "batch": 0, "update": 4}}))
    elif how == "foreign":
        path.write_text(json.dumps({"format": "something else"}))
    elif how == "not an object":
        path.write_text("[1, 2]")
    elif how == "pickle":
        path.write_bytes(b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated arrays", "truncated, altered"),
        ("a bit of the arrays", "truncated, altered"),
        ("arrays of another", "truncated, altered"),
        ("no arrays", "not there"),
        ("truncated JSON", "not JSON, or truncated"),
        ("position", "altered after it was written"),
        ("foreign", "format should be"),
        ("not an object", "should be a mapping"),
        ("pickle", "not JSON"),
    ],
)
def test_a_bad_one_is_refused_and_the_one_before_stays(tmp_path, how, said):
    before = checkpoint.save(make(5), tmp_path)
    path = checkpoint.save(make(6), tmp_path)
    spoil(path, how)
    with pytest.raises(BadCheckpoint, match=said) as refusal:
        checkpoint.load(tmp_path)
    assert str(before) in str(refusal.value)
    assert checkpoint.load(before).position.update == 5


OTHER = networks.initial_weights(Network(Stack("LSTM", 3, 5), 2, "sequence"))
NAN = {**make().weights, "b_y": np.array([np.nan, 0])}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": OTHER}, "weights should be those of the model"),
        ({"weights": NAN}, "b_y should be finite"),
        ({"best": OTHER}, "weights should be those of the model"),
        ({"moments": {"m": make().weights, "v": NAN}}, "b_y should be finite"),
        ({"moments": {"m": make().weights, "v": OTHER}}, "weights should be those of the model"),
        ({"moments": {"m": make().weights}}, "moments should be"),
        ({"moments": {}}, "moments should be"),
        ({"weights": {n: a.astype(np.float32) for n, a in make().weights.items()}}, "should be of float64"),
        ({"losses": np.zeros(4)}, "losses should be of 5 updates"),
        ({"norms": np.zeros((5, 1))}, "norms should be of 5 updates"),
        ({"epochs": ({"loss": 1.0},)}, r"epochs\[0\].update should be there"),
        ({"recipe": Recipe("sgd", dtype="float64")}, "moments should be"),
    ],
)
def test_contents_that_do_not_fit_are_refused(tmp_path, changes, said):
    """Whole files with right digests, but not of a run that could go on."""
    path = checkpoint.save(replace(make(), **changes), tmp_path)
    with pytest.raises(BadCheckpoint, match=said):
        checkpoint.load(path)


def rewritten(path, change):
    """A checkpoint's JSON changed by someone who knows how its digest is made."""
    described = json.loads(path.read_text())
    del described["sha256 of the rest"]
    change(described)
    path.write_text(json.dumps({**described, "sha256 of the rest": checkpoint._digest(described)}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["model"]["stack"].update(hidden=10**9), "should have shape"),  # nothing of that size is made
        (lambda d: d["model"]["stack"].update(hidden=4.0), "hidden should be a whole number, got 4.0"),
        (lambda d: d["recipe"].update(momentum=1.0), "momentum should be at least 0 and below 1"),
        (lambda d: d["position"].update(update=1_000_001), "losses should be of 1000001 updates"),
        (lambda d: d.pop("sha256 of the arrays"), "sha256 of the arrays should be a string, got None"),
        (lambda d: d.pop("seconds"), "seconds should be there"),
        (lambda d: d.update(epochs=[3]), r"epochs\[0\] should be a mapping, got 3"),
    ],
)
def test_a_foreign_writers_json_is_refused(tmp_path, change, said):
    path = checkpoint.save(make(), tmp_path)
    rewritten(path, change)
    with pytest.raises(BadCheckpoint, match=said):
        checkpoint.load(path)


def test_json_without_end_is_refused(tmp_path):
    path = tmp_path / "checkpoint-00000001.json"
    path.write_text("[" * 100_000)
    with pytest.raises(BadCheckpoint, match="nested at most 16 deep"):
        checkpoint.load(path)


def test_nothing_is_executed(tmp_path):
    """A pickle in the place of the arrays is refused, not loaded."""
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    path = checkpoint.save(make(), tmp_path)
    path.with_suffix(".safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(BadCheckpoint):
        checkpoint.load(path)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("failing", ["write_bytes", "write_json"])
def test_a_crash_while_writing_leaves_the_last_one(tmp_path, monkeypatch, failing):
    checkpoint.save(make(5), tmp_path)

    def crash(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, failing, crash)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(make(6), tmp_path)
    monkeypatch.undo()
    assert checkpoint.load(tmp_path).position.update == 5


def test_a_half_written_file_is_not_seen(tmp_path, monkeypatch):
    """Killed before the rename: the temporary file is there, and no checkpoint."""
    monkeypatch.setattr(files.os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(files.os, "unlink", lambda path: None)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(make(), tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"optimizer": "lbfgs"}, "optimizer should be one of"),
        ({"learning_rate": 0}, "learning_rate should be above 0"),
        ({"beta_2": 1}, "beta_2 should be"),
        ({"clip_norm": -1}, "clip_norm should be at least 0"),
        ({"clip_norm": float("nan")}, "clip_norm should be a finite number, got nan"),
        ({"epochs": 0}, "epochs should be at least 1"),
        ({"epochs": 1.5}, "epochs should be a whole number, got 1.5"),
        ({"batch_size": np.float64(2)}, "batch_size should be a whole number"),
        ({"seed": -1}, "seed should be at least 0"),
        # What is in range, but not once it is rounded to float32:
        ({"momentum": 0.99999999}, "momentum should be at least 0 and below 1, in float32, got 0.99999999"),
        ({"beta_1": 0.99999999}, "beta_1 should be"),
        ({"learning_rate": 1e39}, "learning_rate should be above 0 and finite"),
        ({"learning_rate": 1e-50}, "learning_rate should be above 0 and finite"),
        ({"dtype": "float16"}, "dtype should be one of"),
    ],
)
def test_bad_recipes(arguments, said):
    with pytest.raises(ValueError, match=said):
        Recipe(**arguments)


def test_epsilon_is_not_rounded():
    assert Recipe(epsilon=1e-50).epsilon == 1e-50


def test_schedules():
    constant = Recipe(learning_rate=0.5)
    assert [constant.rate(u, 10) for u in (0, 9)] == [0.5, 0.5]
    warm = Recipe(learning_rate=0.5, warm_up=3)
    assert [warm.rate(u, 10) for u in range(4)] == [0.125, 0.25, 0.375, 0.5]
    cosine = Recipe(learning_rate=1.0, schedule="cosine", warm_up=2)
    assert cosine.rate(2, 12) == 1.0
    assert cosine.rate(7, 12) == pytest.approx(0.5)
    assert 0 < cosine.rate(11, 12) < 0.03
    falling = Recipe(learning_rate=0.1, schedule="cosine")
    assert all(falling.rate(u, 7) == np.float32(falling.rate(u, 7)) for u in range(7))
