"""A checkpoint comes back as it was written, or is refused with words that say why; the one before it stays."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("safetensors")

from safetensors.numpy import load_file, save_file

from common import checkpoint, files, models
from common.checkpoint import BadCheckpoint, Checkpoint, Position
from common.models import Network, Stack
from common.recipe import Recipe

MODEL = Network(Stack("LSTM", 3, 4, bidirectional=True), 2, "sequence")


def make(update=5, model=MODEL, seed=0):
    weights = models.initial_weights(model, seed)
    return Checkpoint(
        model=model,
        recipe=Recipe(epochs=3, learning_rate=0.01),
        framework="torch",
        position=Position(1, 2, update),
        weights=weights,
        moments={"m": {name: array + 1 for name, array in weights.items()}, "v": weights},
        random={"torch": np.arange(7, dtype=np.uint8)},
        best={name: array - 1 for name, array in weights.items()},
        losses=np.array([1 / 3, 0.1]),
        norms=np.array([2 / 3, 1e300]),
        epochs=({"update": 3, "loss": 0.1, "metric": 0.5},),
        data="digest",
        about={"task": "speech", "alphabet": "äß", "seed": 0},
    )


def test_it_comes_back_bit_for_bit(tmp_path):
    written = make()
    read = checkpoint.load(checkpoint.save(written, tmp_path))
    for name in ("model", "recipe", "framework", "position", "epochs", "data", "about"):
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
        ("not an object", "format should be"),
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


def test_contents_that_do_not_fit_are_refused(tmp_path):
    """Whole files with right digests, but of weights that are not the model's, or not finite."""
    other = models.initial_weights(Network(Stack("LSTM", 3, 5), 2, "sequence"))
    nan = {**make().weights, "b_y": np.array([np.nan, 0])}
    for weights in (other, nan):
        path = checkpoint.save(replace(make(), weights=weights), tmp_path)
        with pytest.raises(BadCheckpoint, match="do not fit"):
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
        ({"clip_norm": float("nan")}, "clip_norm should be at least 0"),
        ({"epochs": 0}, "epochs should be at least 1"),
        ({"dtype": "float16"}, "dtype should be one of"),
    ],
)
def test_bad_recipes(arguments, said):
    with pytest.raises(ValueError, match=said):
        Recipe(**arguments)


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
