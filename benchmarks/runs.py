"""Brings workloads, contenders and timing together into a report."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_benchmarks.contenders import BUILTIN, CONTENDERS, Conditions, Contender, Runner
from rnn_benchmarks.timing import Interval, geometric_mean, growth, operations, paired_ratio, peak_memory
from rnn_benchmarks.workloads import DEFAULT, SWEEPS, WORKLOADS, Workload, sweep
from rnn_common import twins as registry
from rnn_common.cells import IN_BOTH, cell_of
from rnn_common.checks import one_of
from rnn_common.machine import environment
from rnn_common.packages import MissingPackage
from rnn_common.parity.case import Case, OracleRun, make_case, run_oracle
from rnn_common.parity.contract import bounds, deviation
from rnn_common.timing import time_in_turn
from rnn_common.twins import Framework
from rnn_common.weights import initialise

Array = NDArray[np.float64]

MEASURES = ("inference", "training")
# How many rounds a comparison has at least and at most, and how long a turn is at least, in seconds.
ROUNDS = (7, 60)
TURN = 0.002
# The matrix product that says what the machine is capable of, on a CPU and on a GPU.
PRODUCT = {"cpu": 1024, "cuda": 8192}
SELF_TEST = 0.05
MOST_THREADS = 1024  # beyond what machines have; a framework that cannot start so many ends the process


@dataclass(frozen=True)
class Settings:
    """What to run.

    Args:
        workloads: among `workloads.WORKLOADS`. Default `workloads.DEFAULT`.
        cells: among `SimpleRNN`, `LSTM` and `GRU`. Default all.
        measures: among `inference` and `training`. Default both.
        contenders: names among `contenders.CONTENDERS`. Default those that take part by default.
        sweeps: among `time`, `width` and `batch`. Default all.
        dtype: `"float32"` (default), `"float64"` or `"bfloat16"`.
        device: `"cpu"` (default) or `"cuda"`.
        threads: that an operation may use, from 1 to `MOST_THREADS`. Default 2.
        seconds: how long the rounds of a comparison go on, above 0, once they are enough to have an interval. Default 0.5.
        seed: of weights, inputs and intervals. Default 0.

    Raises:
        ValueError: one of them is out of its range.
    """

    workloads: tuple[str, ...] = DEFAULT
    cells: tuple[str, ...] = IN_BOTH
    measures: tuple[str, ...] = MEASURES
    contenders: tuple[str, ...] = tuple(contender.name for contender in CONTENDERS if contender.by_default)
    sweeps: tuple[str, ...] = tuple(SWEEPS)
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 2
    seconds: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for argument, values, choices in (
            ("workload", self.workloads, list(WORKLOADS)),
            ("measure", self.measures, MEASURES),
            ("contender", self.contenders, [contender.name for contender in CONTENDERS]),
            ("sweep", self.sweeps, list(SWEEPS)),
            ("dtype", [self.dtype], ["float32", "float64", "bfloat16"]),
            ("device", [self.device], ["cpu", "cuda"]),
        ):
            for value in values:
                one_of(argument, value, choices)
        for cell in self.cells:
            cell_of(cell)
        if self.threads < 1:
            raise ValueError(f"threads should be at least 1, got {self.threads}")
        if self.threads > MOST_THREADS:
            raise ValueError(f"threads should be at most {MOST_THREADS}, got {self.threads}")
        if not self.seconds > 0:
            raise ValueError(f"seconds should be above 0, got {self.seconds}")
        if self.seed < 0:
            raise ValueError(f"seed should be at least 0, got {self.seed}")

    @property
    def conditions(self) -> Conditions:
        return Conditions(self.device, self.dtype, self.threads)


@dataclass(frozen=True)
class Row:
    """A contender on a workload.

    Attributes:
        workload, cell, measure, contender: who did what.
        failed: why there are no figures; None if there are.
        seconds: of a call in each round.
        median: of `seconds`.
        ratio: how many times as fast as the framework's own layer, with its interval; None for want of that layer.
        share: of the rate of a large matrix product, with its interval: 1 would be a layer that costs its products alone.
        first_call: seconds of the first call beyond a later one: tracing and compiling.
        memory: bytes by which a call raises the most that is in use at once; None where it cannot be seen.
    """

    workload: str
    cell: str
    measure: str
    contender: str
    failed: str | None = None
    seconds: list[float] = field(default_factory=list)
    median: float | None = None
    ratio: Interval | None = None
    share: Interval | None = None
    first_call: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Mean:
    """The geometric mean over the workloads of a contender's ratio to the framework's own layer."""

    cell: str
    measure: str
    contender: str
    ratio: Interval


@dataclass(frozen=True)
class Growth:
    """How a contender's time grows: seconds ∝ size^exponent, over the sizes of a sweep."""

    variable: str
    cell: str
    measure: str
    contender: str
    sizes: list[int]
    seconds: list[float]
    exponent: Interval


@dataclass(frozen=True)
class Report:
    """What a run of the benchmarks found.

    Attributes:
        settings: what was asked for.
        environment: versions, processor, device, threads, date and commit.
        self_test: by framework, the ratio of its own layer to itself.
        limit: floating-point operations a second of a large matrix product, by framework.
        left_out: contenders that did not take part, and why.
        rows, means, growth: the figures.
    """

    settings: Settings
    environment: dict[str, Any]
    self_test: dict[str, Interval]
    limit: dict[str, float]
    left_out: dict[str, str]
    rows: list[Row]
    means: list[Mean]
    growth: list[Growth]

    @property
    def passed(self) -> bool:
        """Whether two identical contenders came out as equally fast."""
        return all(abs(ratio.value - 1) <= SELF_TEST for ratio in self.self_test.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON: only dictionaries, lists, strings, numbers, booleans and None."""
        return {**asdict(self), "passed": self.passed}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Report:
        """The report that `as_dict` made this of."""

        def interval(values: Any) -> Any:
            return None if values is None else Interval(*values)

        def row(each: dict[str, Any]) -> Row:
            return Row(**{**each, "ratio": interval(each["ratio"]), "share": interval(each["share"])})

        chosen: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found["settings"].items()}
        return cls(
            Settings(**chosen),
            found["environment"],
            {name: Interval(*values) for name, values in found["self_test"].items()},
            found["limit"],
            found["left_out"],
            [row(each) for each in found["rows"]],
            [Mean(**{**each, "ratio": Interval(*each["ratio"])}) for each in found["means"]],
            [Growth(**{**each, "exponent": Interval(*each["exponent"])}) for each in found["growth"]],
        )


Progress = Callable[[str, float], None]


class Prepared(NamedTuple):
    """Who takes part, who does not and why, and their twins, ready."""

    present: list[Contender]
    left_out: dict[str, str]
    twins: dict[str, Framework]


def prepare(settings: Settings, progress: Progress = lambda what, share: None) -> Prepared:
    """All that can be wrong with what was asked for is found here, before the work.

    Args:
        settings: what to run.
        progress: called with what is being imported.

    Raises:
        ValueError: the device is absent.
        ModuleNotFoundError: none of the contenders' frameworks is installed.
    """
    chosen = [contender for contender in CONTENDERS if contender.name in settings.contenders]
    left_out = {contender.name: why for contender in chosen if (why := _unfit(contender, settings))}
    present = [contender for contender in chosen if contender.name not in left_out]
    if not present:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        remedy = ": pip install '.[torch,tf,bench]'" if any(contender.absent() for contender in chosen) else ""
        raise MissingPackage(f"none of the contenders can run: {reasons}{remedy}")
    twins = registry.get_each(dict.fromkeys(contender.framework for contender in present), progress)
    for twin in twins.values():
        one_of("device", settings.device, twin.devices())
        twin.set_threads(settings.threads)
    return Prepared(present, left_out, twins)


def run(
    settings: Settings,
    progress: Progress = lambda what, share: None,
    prepared: Prepared | None = None,
) -> Report:
    """Time every contender on every workload, cell and measure, and on the sweeps.

    Args:
        settings: what to run.
        progress: called with what is being done and the share of the work that is behind, 0 to 1.
        prepared: what `prepare` gave for these settings. Default: it is asked.

    Raises:
        ValueError, ModuleNotFoundError: see `prepare`.
    """
    present, left_out, twins = prepared or prepare(settings, progress)
    products = {
        name: twin.matrix_product(PRODUCT[settings.device], settings.device, settings.dtype)
        for name, twin in twins.items()
    }
    blocks = list(_blocks(settings))
    sweeps = [(variable, cell) for variable in settings.sweeps for cell in settings.cells if cell == "LSTM"]
    total = 1 + len(blocks) + sum(len(SWEEPS[variable]) for variable, _ in sweeps)
    done = 0

    def report(what: str, advance: int = 1) -> None:
        nonlocal done
        progress(what, done / total)
        done += advance

    report("self-test")
    self_test = {name: _self_test(twin, settings) for name, twin in twins.items()}
    limit = {
        name: 2 * PRODUCT[settings.device] ** 3 / float(np.median(_time(twins[name], [product], settings)))
        for name, product in products.items()
    }
    rows: list[Row] = []
    for workload, cell, measure in blocks:
        report(f"{workload.name}, {cell}, {measure}")
        rows += _compare(workload, cell, measure, present, twins, products, settings)
    grown = [
        each for variable, cell in sweeps for each in _sweep(variable, cell, present, twins, products, settings, report)
    ]
    progress("done", 1.0)
    surroundings = environment(list(twins.values())) | {
        "device": {name: twin.device_name(settings.device) for name, twin in twins.items()},
        "threads": settings.threads,
        "commit": commit(),
    }
    means = list(_means(rows, settings))
    return Report(settings, surroundings, self_test, limit, left_out, rows, means, grown)


def _unfit(contender: Contender, settings: Settings) -> str | None:
    """Why a contender cannot take part, or None."""
    if why := contender.absent():
        return why
    if settings.dtype not in contender.dtypes:
        return f"does not take {settings.dtype}"
    if settings.device not in contender.devices:
        return f"does not run on {settings.device}"
    return None


def _blocks(settings: Settings) -> Iterator[tuple[Workload, str, str]]:
    for name in settings.workloads:
        for cell in settings.cells:
            for measure in settings.measures:
                yield WORKLOADS[name], cell, measure


def case_of(workload: Workload, cell: str, settings: Settings) -> Case:
    """Weights from U(−1/√hidden, 1/√hidden) and standard normal inputs, in numbers that the dtype holds exactly."""
    dtype = "float64" if settings.dtype == "float64" else "float32"
    parameters = initialise(cell, workload.input, workload.hidden, seed=settings.seed, dtype=dtype)
    x = np.random.default_rng(settings.seed).standard_normal((workload.batch, workload.time, workload.input))
    if settings.dtype == "bfloat16":
        weights = {name: _to_bfloat16(array) for name, array in parameters.items()}
        parameters = parameters.replace(weights)
        x = _to_bfloat16(x.astype(np.float32))
    lengths = None if workload.lengths is None else np.array(workload.lengths)
    case = make_case(parameters, x, lengths, seed=settings.seed)
    if settings.dtype == "bfloat16":
        case = case._replace(state=tuple(map(_to_bfloat16, case.state)), d_outputs=_to_bfloat16(case.d_outputs))
        case = case._replace(d_final=tuple(map(_to_bfloat16, case.d_final)))
    return case


def _to_bfloat16(array: NDArray[Any]) -> NDArray[Any]:
    """float32 cut to the upper 16 bits, which bfloat16 holds."""
    return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _self_test(twin: Framework, settings: Settings) -> Interval:
    """Two layers of the framework's own, identical, one against the other."""
    case = case_of(WORKLOADS["haste-32x128"], "LSTM", settings)
    steps = [
        twin.training_step(twin.make(case.parameters, builtin=True, device=settings.device, dtype=settings.dtype), case)
        for _ in range(2)
    ]
    first, second = _time(twin, steps, settings, rounds=ROUNDS[1])
    return paired_ratio(first, second, settings.seed)


def _time(
    twin: Framework, functions: Sequence[Callable[[], Any]], settings: Settings, rounds: int | None = None
) -> Array:
    """Seconds of a call of each function in each round, `(functions, rounds)`, in turn.

    A turn is as many calls as fill `TURN`, after one that does not count: what the contender before has left in the caches
    is not its doing. There are as many rounds as fill the time that a comparison may take.
    """

    def once(function: Callable[[], Any]) -> float:
        return twin.seconds(function, 1, settings.device)

    def turn(function: Callable[[], Any]) -> float:
        if seconds[function] < 10 * TURN:
            function()
        return twin.seconds(function, calls[function], settings.device)

    seconds = {function: min(once(function), once(function)) for function in functions}
    calls = {function: max(1, int(np.ceil(TURN / each))) for function, each in seconds.items()}
    length = sum(seconds[function] * calls[function] for function in functions)
    rounds = rounds or int(np.clip(settings.seconds / length, *ROUNDS))
    return time_in_turn(functions, rounds, warm_up=1, seconds=turn)


@dataclass
class _Entry:
    """A contender in a comparison, ready to be timed."""

    contender: Contender
    function: Callable[[], Any]
    first_call: float


def _compare(
    workload: Workload,
    cell: str,
    measure: str,
    contenders: Sequence[Contender],
    twins: dict[str, Framework],
    products: dict[str, Callable[[], Any]],
    settings: Settings,
    memory: bool = True,
) -> Iterator[Row]:
    """Every contender that has the cell and the measure, checked, then timed in turn with the others."""
    case = case_of(workload, cell, settings)
    oracle = run_oracle(case, weights_alone=True)
    for twin in twins.values():
        twin.forget_compiled()
    entries: list[_Entry] = []
    for contender in contenders:
        if not contender.takes(cell) or measure not in contender.measures:
            continue
        try:
            entries.append(_enter(contender, case, oracle, measure, twins[contender.framework], settings))
        except Exception as error:  # whatever it is, the others are to have their turn
            reason = (str(error).strip() or "no message").splitlines()[0][:200]
            yield Row(workload.name, cell, measure, contender.name, f"{type(error).__name__}: {reason}")
    # One framework after the other, so that the idle threads of one do not disturb the other.
    for name, twin in twins.items():
        group = [entry for entry in entries if entry.contender.framework == name]
        if group:
            yield from _time_group(group, workload, cell, measure, twin, products[name], settings, memory)


def _time_group(
    entries: Sequence[_Entry],
    workload: Workload,
    cell: str,
    measure: str,
    twin: Framework,
    product: Callable[[], Any],
    settings: Settings,
    memory: bool,
) -> Iterator[Row]:
    """The contenders of one framework in turn, and with them a large matrix product."""
    *found, limit = _time(twin, [*(entry.function for entry in entries), product], settings)
    names = [entry.contender.name for entry in entries]
    builtin = dict(zip(names, found, strict=True)).get(BUILTIN[entries[0].contender.framework])
    ideal = limit / (2 * PRODUCT[settings.device] ** 3) * operations(workload, cell, measure)
    for entry, seconds in zip(entries, found, strict=True):
        median = float(np.median(seconds))
        yield Row(
            workload.name,
            cell,
            measure,
            entry.contender.name,
            None,
            seconds.tolist(),
            median,
            None if builtin is None else paired_ratio(builtin, seconds, settings.seed),
            paired_ratio(ideal, seconds, settings.seed),
            max(0.0, entry.first_call - median),
            _memory(entry, twin, settings) if memory else None,
        )


def _enter(
    contender: Contender,
    case: Case,
    oracle: OracleRun,
    measure: str,
    twin: Framework,
    settings: Settings,
) -> _Entry:
    """Prepare a contender, time its first call and hold what it returns against the oracle.

    Raises:
        ArithmeticError: it is wrong.
        Exception: whatever it raises.
    """
    runner = contender.prepare(case, settings.conditions)
    function = runner.inference() if measure == "inference" else runner.training()
    returned: list[Any] = []
    first_call = twin.seconds(lambda: returned.append(function()), 1, settings.device)
    check(runner, returned[0], measure, oracle, settings.dtype)
    return _Entry(contender, function, first_call)


def check(runner: Runner, returned: Any, measure: str, oracle: OracleRun, dtype: str) -> None:
    """Hold a contender's outputs or gradients against the oracle.

    The bounds are those of the numerical contract for float64, times the unit roundoff of the dtype. In bfloat16, where
    that would be more than everything, it is a tenth.

    Raises:
        ArithmeticError: it is beyond them.
    """
    allowed = bounds("float64" if dtype == "float64" else "float32", oracle.largest_pre_activation)
    bound = allowed.outputs if measure == "inference" else allowed.gradients
    bound = 0.1 if dtype == "bfloat16" else bound
    if measure == "inference":
        found = {"outputs": deviation(runner.outputs(returned), oracle.result.outputs)}
    else:
        expected = oracle.result.gradients
        gradients = oracle.comparable(runner.gradients(returned))
        found = {name: deviation(gradients[name], expected[name]) for name in gradients if name in expected}
    worst = max(found, key=lambda name: found[name])
    if not found[worst] <= bound:
        raise ArithmeticError(f"{worst} deviate from the oracle by {found[worst]:.1e}, and {bound:.1e} is allowed")


def _memory(entry: _Entry, twin: Framework, settings: Settings) -> int | None:
    if not entry.contender.shows_memory:
        return None
    if settings.device == "cuda":
        return twin.peak_memory(entry.function, settings.device)
    found = [peak_memory(entry.function) for _ in range(3)]
    return None if None in found else int(np.median(found))  # type: ignore[arg-type]


def _means(rows: Sequence[Row], settings: Settings) -> Iterator[Mean]:
    """For each contender that ran all the workloads beside the framework's own layer."""
    by_key: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        if row.failed is None:
            by_key.setdefault((row.cell, row.measure, row.contender), {})[row.workload] = row
    builtin_of = {contender.name: BUILTIN[contender.framework] for contender in CONTENDERS}
    for (cell, measure, name), found in by_key.items():
        builtin = by_key.get((cell, measure, builtin_of[name]), {})
        if name in BUILTIN.values() or not set(settings.workloads) <= found.keys() & builtin.keys():
            continue
        ratios = [np.divide(builtin[w].seconds, found[w].seconds) for w in settings.workloads]
        yield Mean(cell, measure, name, geometric_mean(ratios, settings.seed))


def _sweep(
    variable: str,
    cell: str,
    contenders: Sequence[Contender],
    twins: dict[str, Framework],
    products: dict[str, Callable[[], Any]],
    settings: Settings,
    report: Callable[[str], None],
) -> Iterator[Growth]:
    """How the time of our layers and the frameworks' own grows with one size."""
    wanted = {"rnn_torch", "rnn_tf", *BUILTIN.values()}
    chosen = [contender for contender in contenders if contender.name in wanted]
    measure = settings.measures[-1]
    medians: dict[str, list[float]] = {contender.name: [] for contender in chosen}
    for workload in sweep(variable):
        report(f"{variable} sweep, {cell}, {measure}")
        for row in _compare(workload, cell, measure, chosen, twins, products, settings, memory=False):
            if row.median is not None:
                medians[row.contender].append(row.median)
    sizes = list(SWEEPS[variable])
    for name, found in medians.items():
        if len(found) == len(sizes):
            yield Growth(variable, cell, measure, name, sizes, found, growth(sizes, found))


def commit() -> str | None:
    """The commit of the code that ran, marked where there are changes since; None outside of a checkout."""
    root = Path(__file__).parents[1]
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
