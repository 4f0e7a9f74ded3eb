"""Runs one case through oracle, twins and built-in layers, and measures how far they are apart and how fast they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_common.cells import CELLS, cell_of
from rnn_common.checks import one_of
from rnn_common.data import Sequences, batches, load
from rnn_common.machine import check_memory, environment
from rnn_common.packages import MissingPackage
from rnn_common.parity.case import Case, OracleRun, Result, make_case, run_oracle
from rnn_common.parity.contract import Deviations, bounds, deviations
from rnn_common.timing import time_in_turn
from rnn_common.twins import Framework, get_each, installed
from rnn_common.weights import Parameters, initialise

Array = NDArray[Any]
Progress = Callable[[str, float], None]

ORACLE = "oracle"


# A comparison of everything


@dataclass(frozen=True)
class Contender:
    """Someone to compare with the oracle and with each other: a twin's layer, or a framework's own."""

    name: str
    framework: Framework
    builtin: bool
    layer: Any

    def run(self, case: Case) -> Result:
        return self.framework.run(self.layer, case)

    def training_step(self, case: Case) -> Callable[[], Any]:
        return self.framework.training_step(self.layer, case)


@dataclass(frozen=True)
class Settings:
    """What to compare.

    Args:
        cells: names in `rnn_common.cells.CELLS`, or of cells of the user's own: `"path/to/file.py:NAME"`. Default all.
        frameworks: among `torch` and `tf`. Default those installed.
        dtype: `"float64"` (default) or `"float32"`.
        device: `"cpu"` (default) or `"cuda"`.
        hidden: width of the hidden state, at least 1. Default 64.
        batch: sequences a batch, at least 1. Default 32.
        data: a data set of `rnn_common.data`. Default `"vowels"`.
        seed: of weights, states and cotangents. Default 0.
        rounds: pairs of training steps to time, at least 1. Default 15.

    Raises:
        ValueError: one of them is out of its range.
    """

    cells: tuple[str, ...] = tuple(CELLS)
    frameworks: tuple[str, ...] = field(default_factory=installed)
    dtype: str = "float64"
    device: str = "cpu"
    hidden: int = 64
    batch: int = 32
    data: str = "vowels"
    seed: int = 0
    rounds: int = 15

    def __post_init__(self) -> None:
        from rnn_common.data import DATASETS

        for cell in self.cells:
            cell_of(cell)
        for framework in self.frameworks:
            one_of("framework", framework, ["torch", "tf"])
        one_of("dtype", self.dtype, ["float64", "float32"])
        one_of("device", self.device, ["cpu", "cuda"])
        one_of("data set", self.data, list(DATASETS))
        for name, value in (("hidden", self.hidden), ("batch", self.batch), ("rounds", self.rounds)):
            if value < 1:
                raise ValueError(f"{name} should be at least 1, got {value}")
        if self.seed < 0:
            raise ValueError(f"seed should be at least 0, got {self.seed}")
        if not self.cells:
            raise ValueError("cells should name at least one cell, got none")


@dataclass(frozen=True)
class PairRow:
    """The worst deviation of one contender from another over all batches, its bound and whether it holds."""

    cell: str
    first: str
    second: str
    deviations: Deviations
    bounds: Deviations | None
    holds: bool


@dataclass(frozen=True)
class TimeRow:
    """A training step of ours beside the built-in layer's, in turn: medians, and quartiles of the paired ratio."""

    cell: str
    framework: str
    ours_ms: float
    builtin_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class Report:
    """What a comparison found."""

    settings: Settings
    left_out: dict[str, str]
    pairs: list[PairRow]
    times: list[TimeRow]
    environment: dict[str, Any]

    @property
    def holds(self) -> bool:
        return all(row.holds for row in self.pairs)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: only dictionaries, lists, strings, numbers, booleans and None."""
        report = asdict(self)
        for row in report["pairs"]:
            for key in ("deviations", "bounds"):
                row[key] = None if row[key] is None else dict(zip(Deviations._fields, row[key], strict=True))
        return report | {"holds": self.holds}


class Prepared(NamedTuple):
    """What a comparison is made with: the frameworks, which are left out and why, and the data."""

    frameworks: list[Framework]
    left_out: dict[str, str]
    data: Sequences


def prepare(settings: Settings, progress: Progress = lambda what, share: None) -> Prepared:
    """All that can be wrong with what was asked for is found here, before the work.

    Args:
        settings: what to compare.
        progress: called with what is being imported.

    Raises:
        ValueError: the device is absent, or the memory does not suffice.
        ModuleNotFoundError: none of the frameworks, or not the data's package, is installed.
    """
    absent = {name: "not installed" for name in ("torch", "tf") if name not in installed()}
    chosen = [name for name in settings.frameworks if name not in absent]
    if not chosen:
        asked = settings.frameworks or ("torch", "tf")
        remedy = " or ".join(f"'.[{name}]'" for name in asked)
        raise MissingPackage(f"none of the frameworks asked for is installed: {', '.join(asked)}: pip install {remedy}")
    data = load(settings.data, settings.seed)
    check_memory("hidden", settings.hidden, _least_memory(settings, data, len(chosen)))
    frameworks = list(get_each(chosen, progress).values())
    for framework in frameworks:
        one_of("device", settings.device, framework.devices())
    return Prepared(frameworks, absent, data)


def _least_memory(settings: Settings, data: Sequences, frameworks: int) -> int:
    """Bytes that the largest cell asked for takes at the least: the weights and each contender's gradients and outputs."""
    largest = max(
        sum(math.prod(shape) for shape in cell_of(cell).shapes(data.features, settings.hidden).values())
        for cell in settings.cells
    )
    steps = min(settings.batch, len(data)) * int(data.lengths.max())
    contenders = 2 * frameworks + 1
    return np.dtype(settings.dtype).itemsize * (largest * (1 + contenders) + steps * settings.hidden * contenders)


def compare(
    settings: Settings,
    progress: Progress = lambda what, share: None,
    prepared: Prepared | None = None,
) -> Report:
    """Run every cell in twins, built-in layers and oracle on the same batches from the same weights.

    Args:
        settings: what to compare.
        progress: called with what is being done and the share of the work that is behind, 0 to 1.
        prepared: what `prepare` gave for these settings. Default: it is asked.

    Raises:
        ValueError, ModuleNotFoundError: see `prepare`.
    """
    frameworks, absent, data = prepared or prepare(settings, progress)
    left_out = dict(absent)
    found = list(batches(data, settings.batch, dtype=settings.dtype))
    pairs: list[PairRow] = []
    times: list[TimeRow] = []
    for i, cell in enumerate(settings.cells):
        parameters = initialise(
            cell,
            data.features,
            settings.hidden,
            seed=settings.seed,
            dtype=settings.dtype,
        )
        contenders = _contenders(parameters, frameworks, settings.device)
        cases = [make_case(parameters, batch.x, batch.lengths, seed=settings.seed + j) for j, batch in enumerate(found)]

        def report(what: str, share: float, i: int = i, name: str = parameters.cell.name) -> None:
            progress(f"{name}: {what}", (i + share) / len(settings.cells))

        pairs += _compare_pairs(cases, contenders, settings, lambda what, s: report(what, 0.8 * s))
        for framework in frameworks:
            report(f"timing {framework.package}", 0.9)
            rivals = [contender for contender in contenders if contender.framework is framework]
            if len(rivals) == 2:
                times.append(_time(rivals, cases[0], settings))
            elif parameters.cell.in_table:
                left_out[f"{framework.builtin_package}, {cell}"] = "there is no such layer"
    progress("done", 1.0)
    return Report(settings, left_out, pairs, times, environment(frameworks))


def _contenders(parameters: Parameters, frameworks: Sequence[Framework], device: str) -> list[Contender]:
    """The twins' layers with these weights, and after them those of the frameworks themselves that there are."""
    return [
        Contender(
            framework.builtin_package if builtin else framework.package,
            framework,
            builtin,
            framework.make(parameters, builtin=builtin, device=device),
        )
        for builtin in (False, True)
        for framework in frameworks
        if not builtin or framework.has_builtin(parameters)
    ]


def _compare_pairs(
    cases: Sequence[Case],
    contenders: Sequence[Contender],
    settings: Settings,
    progress: Progress,
) -> Iterator[PairRow]:
    """Every pair of contenders, and each of them and the oracle, over all cases."""
    worst: dict[tuple[str, str], Deviations] = {}
    largest = 0.0
    for i, case in enumerate(cases):
        oracle = run_oracle(case)
        largest = max(largest, oracle.largest_pre_activation)
        results = {}
        for j, contender in enumerate(contenders):
            progress(contender.name, (i + j / len(contenders)) / len(cases))
            results[contender.name] = contender.run(case)
        apart = {(a, b): deviations(results[a], results[b]) for a, b in combinations(results, 2)}
        apart |= {(name, ORACLE): _from_oracle(result, oracle) for name, result in results.items()}
        for pair, deviation in apart.items():
            worst[pair] = worst.get(pair, deviation).worst(deviation)
    cell = cases[0].parameters.cell.name
    for first, second in combinations([*(contender.name for contender in contenders), ORACLE], 2):
        found = worst[first, second]
        limit = _pair_bounds(first, second, contenders, worst, settings.dtype, largest)
        yield PairRow(cell, first, second, found, limit, limit is None or found.within(limit))


def _from_oracle(result: Result, oracle: OracleRun) -> Deviations:
    return deviations(result._replace(gradients=oracle.comparable(result.gradients)), oracle.result)


def _pair_bounds(
    first: str,
    second: str,
    contenders: Sequence[Contender],
    worst: dict[tuple[str, str], Deviations],
    dtype: str,
    largest: float,
) -> Deviations | None:
    """The bound on a pair: in float64 the contract's; below, the sum of what each may be from the oracle.

    None in lower precision for a pair without one of ours: the built-in layers' errors are the measure there.
    """
    if dtype == "float64":
        return bounds(dtype, largest)
    pair = [contender for contender in contenders if contender.name in (first, second)]
    if all(contender.builtin for contender in pair):
        return None
    allowed = []
    for contender in pair:
        own_error = worst.get((contender.framework.builtin_package, ORACLE))
        if contender.builtin and own_error is not None:
            allowed.append(own_error)
        else:
            allowed.append(bounds(dtype, largest, own_error or _any_builtin_error(contenders, worst)))
    return Deviations(*(sum(parts) for parts in zip(*allowed, strict=True)))


def _any_builtin_error(contenders: Sequence[Contender], worst: dict[tuple[str, str], Deviations]) -> Deviations | None:
    """The error of the other framework's layer, for a form that one framework lacks."""
    errors = [worst[contender.name, ORACLE] for contender in contenders if contender.builtin]
    return errors[0] if errors else None


def _time(rivals: Sequence[Contender], case: Case, settings: Settings) -> TimeRow:
    """Ours and the framework's own, in that order."""
    framework = rivals[0].framework
    ours, builtin = time_in_turn(
        [rival.training_step(case) for rival in rivals],
        settings.rounds,
        seconds=lambda step: framework.seconds(step, device=settings.device),
    )
    low, ratio, high = np.quantile(builtin / ours, [0.25, 0.5, 0.75])
    medians = 1e3 * float(np.median(ours)), 1e3 * float(np.median(builtin))
    return TimeRow(case.parameters.cell.name, framework.package, *medians, float(ratio), float(low), float(high))
