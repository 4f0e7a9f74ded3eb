"""The next year of a time series: weekly CO₂ at Mauna Loa, 1958 to 2001.

Keeling & Whorf's measurements, in the copy that `statsmodels` ships (2284 weeks, in parts per million; 59 are missing and are
filled by a line between their neighbours). From the last two years, all of the next 52 weeks are forecast at once, at origins
that roll forward through the test years. Nothing at or after the first test origin is in the training data or in the scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_common.data.sequences import Sequences
from rnn_common.networks import Array, Network, Stack
from rnn_common.packages import optional
from rnn_common.tasks.metrics import mean_absolute_error, root_mean_squared_error
from rnn_common.tasks.problem import Problem, Scores, Setting
from rnn_common.training.recipe import Recipe

YEAR = 52
WINDOW, HORIZON = 2 * YEAR, YEAR
TEST_YEARS, VALIDATION_YEARS = 8, 3
LAGS = 2 * YEAR  # of the autoregression


class Size(NamedTuple):
    """A setting: steps between the origins of training and of test, network, recipe."""

    step: int
    test_step: int
    hidden: int
    epochs: int


SIZES: dict[Setting, Size] = {
    "tiny": Size(60, 26, 6, 2),
    "quick": Size(1, 4, 32, 30),
    "full": Size(1, 1, 64, 100),
}


class Origins(NamedTuple):
    """The last known week of each forecast, by split."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@cache
def co2() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The weeks' values in parts per million and their place in the year, an angle.

    Raises:
        ModuleNotFoundError: `statsmodels` is not installed.
    """
    weeks = optional("statsmodels.datasets.co2", "the CO₂ series comes with").load_pandas().data["co2"]
    angles = 2 * np.pi * weeks.index.dayofyear.to_numpy() / 365.25
    return weeks.interpolate().to_numpy(np.float64), angles


def origins(weeks: int, step: int = 1, test_step: int = 4) -> Origins:
    """Where forecasts begin: every target of a split is before the first target of the next."""
    test_start = weeks - TEST_YEARS * YEAR
    validation_start = test_start - VALIDATION_YEARS * YEAR
    return Origins(
        np.arange(WINDOW - 1, validation_start - HORIZON, step),
        np.arange(validation_start - 1, test_start - HORIZON, test_step),
        np.arange(test_start - 1, weeks - HORIZON, test_step),
    )


def level(values: Array, origin: int) -> float:
    """What forecasts are relative to: the mean of the year before."""
    return float(values[origin - YEAR + 1 : origin + 1].mean())


def windows(values: Array, angles: Array, at: NDArray[np.int64], scale: float) -> Sequences:
    """The two years before each origin, `(104, 3)`, and the year after it, `(52,)`: values relative to `level`, over `scale`.

    The other two features are sine and cosine of the place in the year.
    """
    inputs = []
    for origin in at:
        past = slice(origin - WINDOW + 1, origin + 1)
        relative = (values[past] - level(values, origin)) / scale
        inputs.append(np.stack([relative, np.sin(angles[past]), np.cos(angles[past])], 1))
    targets = [(values[origin + 1 : origin + 1 + HORIZON] - level(values, origin)) / scale for origin in at]
    return Sequences("co2", tuple(inputs), np.array(targets))


def _scores(values: Array, at: NDArray[np.int64], forecasts: Array) -> Scores:
    """Errors in parts per million, over all origins and weeks."""
    truth = np.array([values[origin + 1 : origin + 1 + HORIZON] for origin in at])
    return {
        "mean absolute error, ppm": mean_absolute_error(truth, forecasts),
        "root mean squared error, ppm": root_mean_squared_error(truth, forecasts),
        "mean absolute error after a year, ppm": mean_absolute_error(truth[:, -1], forecasts[:, -1]),
    }


def _score(values: Array, at: NDArray[np.int64], scale: float, answers: Sequence[Array]) -> Scores:
    levels = np.array([level(values, origin) for origin in at])
    return _scores(values, at, levels[:, None] + scale * np.asarray(answers, np.float64))


def persistence(values: Array, origin: int) -> Array:
    """The last value, for ever."""
    return np.full(HORIZON, values[origin])


def seasonal(values: Array, origin: int) -> Array:
    """The value of the same week a year before."""
    return np.asarray(values[origin - YEAR + 1 : origin + 1])


def seasonal_with_drift(values: Array, origin: int) -> Array:
    """The value of the same week a year before, and what the last week has grown since a year before it."""
    return np.asarray(seasonal(values, origin) + values[origin] - values[origin - YEAR])


def _autoregression(values: Array, at: NDArray[np.int64], end: int) -> Array:
    """An autoregression with trend, fitted once to the first `end` values, then given those up to each origin."""
    models = optional("statsmodels.tsa.ar_model", "the baseline needs")
    fitted = models.AutoReg(values[:end], LAGS, trend="ct").fit()
    return np.array([fitted.append(values[end : origin + 1]).forecast(HORIZON) for origin in at])


def _baselines(values: Array, at: NDArray[np.int64], end: int) -> Mapping[str, Scores]:
    simple: dict[str, Callable[[Array, int], Array]] = {
        "persistence": persistence,
        "seasonal persistence": seasonal,
        "seasonal persistence with drift": seasonal_with_drift,
    }
    found = {name: np.array([forecast(values, int(origin)) for origin in at]) for name, forecast in simple.items()}
    found[f"autoregression, {LAGS} lags and trend"] = _autoregression(values, at, end)
    return {name: _scores(values, at, forecasts) for name, forecasts in found.items()}


def _network(size: Size, cell: str) -> Network:
    return Network(Stack(cell, 3, size.hidden), HORIZON, "forecast")


def _recipe(size: Size, cell: str) -> Recipe:
    return Recipe(learning_rate=1e-2, schedule="cosine", clip_norm=1.0, batch_size=64, epochs=size.epochs)


def problems(setting: Setting) -> tuple[Problem, ...]:
    """The one problem, see `rnn_common.tasks.problems`. The validation data are shown, not used: nothing is chosen by them."""
    size = SIZES[setting]
    values, angles = co2()
    at = origins(len(values), size.step, size.test_step)
    known = windows(values, angles, at.train, 1.0)
    scale = float(np.std(np.asarray(known.targets)))
    train, validation, test = (windows(values, angles, split, scale) for split in (at.train, at.validation, at.test))
    return (
        Problem(
            name="series",
            train=train,
            validation=validation,
            test=test,
            model=partial(_network, size),
            recipe=partial(_recipe, size),
            score=partial(_score, values, at.test, scale),
            # The autoregression is fitted to the values that the networks are trained on.
            baselines=partial(_baselines, values, at.test, int(at.train[-1]) + HORIZON + 1),
            lower_is_better={
                "mean absolute error, ppm": True,
                "root mean squared error, ppm": True,
                "mean absolute error after a year, ppm": True,
            },
            memory=WINDOW,
            seeds=3,
        ),
    )
