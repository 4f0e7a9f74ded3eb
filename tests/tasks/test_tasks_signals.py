"""Speech, series, adding and copying: what their data are, and that nothing leaks from one split into another."""

from functools import partial

import numpy as np
import pytest

from rnn_common.data import copying
from rnn_common.tasks import adding, problems
from rnn_common.tasks import copying as copying_task
from rnn_common.tasks.series import (
    HORIZON,
    WINDOW,
    YEAR,
    co2,
    level,
    origins,
    persistence,
    seasonal,
    seasonal_with_drift,
    windows,
)


def no_sequence_in_common(*splits):
    seen = [{(s.shape, s.tobytes()) for s in split.sequences} for split in splits if split is not None]
    for i, first in enumerate(seen):
        for second in seen[i + 1 :]:
            assert not first & second


# Copying


def test_copying():
    data = copying(5, 4, symbols=6, length=3, seed=0)
    assert len(data) == 5
    for sequence, target in zip(data.sequences, data.targets, strict=True):
        assert sequence.shape == target.shape == (10,)
        assert sequence[:3].min() >= 1
        assert sequence[:3].max() <= 6
        assert sequence[3:].tolist() == [0, 0, 0, 0, 7, 0, 0]  # the first symbol is due one step after the signal …
        assert target[:7].tolist() == [-1] * 7
        assert target[7:].tolist() == (sequence[:3] - 1).tolist()
    again = copying(5, 4, symbols=6, length=3, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(data.sequences, again.sequences, strict=True))
    other = copying(5, 4, symbols=6, length=3, seed=1)
    assert any(not np.array_equal(a, b) for a, b in zip(data.sequences, other.sequences, strict=True))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((0, 1), "count"), ((1, -1), "lag"), ((1, 1, 1), "symbols"), ((1, 1, 2, 0), "length")],
)
def test_copying_bad_input(arguments, said):
    names = dict(zip(("symbols", "length"), arguments[2:], strict=False))
    with pytest.raises(ValueError, match=f"{said} should be at least"):
        copying(*arguments[:2], **names)


def test_scores_of_copying():
    problem = problems("copying", "tiny")[0]
    right = [np.eye(8)[np.maximum(t, 0)] for t in problem.test.targets]
    assert problem.score(right) == {"symbols right": 1, "both right": 1}
    half = [scores.copy() for scores in right]
    for scores, target in zip(half, problem.test.targets, strict=True):
        scores[-1] = np.eye(8)[(target[-1] + 1) % 8]
    assert problem.score(half) == {"symbols right": 0.5, "both right": 0}
    assert problem.baselines()["guessing"] == {"symbols right": 1 / 8, "both right": 1 / 64}


# Adding


def test_scores_of_adding():
    problem = problems("adding", "tiny")[0]
    assert problem.score(list(problem.test.targets)) == {"mean squared error": 0, "solved": 1}
    off = problem.score(list(problem.test.targets + 0.05))
    assert off == {"mean squared error": pytest.approx(0.0025), "solved": 0}
    (mean,) = problem.baselines().values()
    spread = np.var(problem.test.targets)
    assert mean["mean squared error"] == pytest.approx(
        spread + (problem.test.targets.mean() - problem.train.targets.mean()) ** 2
    )


@pytest.mark.parametrize("task", ["adding", "copying"])
def test_synthetic_splits(task):
    for problem in problems(task, "tiny"):
        if task == "adding":
            no_sequence_in_common(problem.train, problem.validation, problem.test)
        assert len(problem.test) == 30
    module = {"adding": adding, "copying": copying_task}[task]
    assert module.SIZES["full"].lengths == (50, 100, 200, 400)
    assert [problem.name for problem in problems(task, "tiny")] == [f"{task} {n}" for n in module.SIZES["tiny"].lengths]


# Speech


def test_speech():
    pytest.importorskip("aeon")
    pytest.importorskip("sklearn")
    (problem,) = problems("speech", "quick")
    assert (len(problem.train), len(problem.test), problem.validation, problem.seeds) == (270, 370, None, 3)
    no_sequence_in_common(problem.train, problem.test)
    frames = np.concatenate(problem.train.sequences)
    assert frames.mean(0) == pytest.approx(0, abs=1e-12)
    assert frames.std(0) == pytest.approx(1)
    assert abs(np.concatenate(problem.test.sequences).mean(0)).max() > 1e-3  # not standardised by itself
    assert problem.score(np.eye(9)[problem.test.targets]) == {"accuracy": 1}
    for scores in problem.baselines().values():
        assert 0.8 < scores["accuracy"] < 1


# Series


@pytest.fixture(scope="module")
def weeks():
    pytest.importorskip("statsmodels")
    return co2()


def test_origins_leave_no_target_in_two_splits(weeks):
    values, _ = weeks
    at = origins(len(values))
    last = {split: getattr(at, split)[-1] + HORIZON for split in ("train", "validation", "test")}
    first = {split: getattr(at, split)[0] + 1 for split in ("train", "validation", "test")}
    assert last["train"] < first["validation"] <= last["validation"] < first["test"]
    assert last["test"] == len(values) - 1 or len(values) - 1 - last["test"] < 4
    assert at.train[0] == WINDOW - 1
    assert np.all(np.diff(at.test) == 4)


def test_the_future_changes_nothing_before_it(weeks, monkeypatch):
    """Every value from the first validation target on is replaced: what is trained on stays, to the bit."""
    from rnn_common.tasks import series

    values, angles = weeks
    end = origins(len(values)).validation[0] + 1
    before = problems("series", "tiny")[0]
    changed = values.copy()
    changed[end:] = 1e6
    monkeypatch.setattr(series, "co2", lambda: (changed, angles))
    after = problems("series", "tiny")[0]
    for old, new in zip(before.train.sequences, after.train.sequences, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(before.train.targets, after.train.targets)


def test_inputs_end_at_the_origin():
    values, angles = np.arange(400.0), np.zeros(400)
    data = windows(values, angles, np.array([200]), 2.0)
    mean = np.arange(149, 201).mean()
    assert level(values, 200) == mean
    np.testing.assert_allclose(data.sequences[0][:, 0], (np.arange(97, 201) - mean) / 2)
    np.testing.assert_allclose(data.targets[0], (np.arange(201, 253) - mean) / 2)


def test_simple_forecasts():
    values = np.arange(200.0)
    assert persistence(values, 150).tolist() == [150] * HORIZON
    assert seasonal(values, 150).tolist() == list(range(99, 151))
    np.testing.assert_allclose(seasonal_with_drift(values, 150), np.arange(151, 151 + YEAR))  # exact on a line


def test_series_scores_and_baselines(weeks):
    (problem,) = problems("series", "tiny")
    exact = problem.score(list(problem.test.targets))
    assert exact == pytest.approx(dict.fromkeys(exact, 0), abs=1e-9)
    found = {name: scores["mean absolute error, ppm"] for name, scores in problem.baselines().items()}
    assert found["autoregression, 104 lags and trend"] < found["seasonal persistence"] < found["persistence"]


@pytest.mark.parametrize("task", ["adding", "copying", "speech", "series"])
def test_the_same_data_every_time_and_small_in_tests(task):
    for package in ("aeon", "statsmodels"):
        pytest.importorskip(package)
    for first, second in zip(*map(partial(problems, task), ("tiny", "tiny")), strict=True):
        assert len(first.train) < 100
        for a, b in zip(first.train.sequences, second.train.sequences, strict=True):
            np.testing.assert_array_equal(a, b)
        assert first.recipe("LSTM").epochs <= 2
