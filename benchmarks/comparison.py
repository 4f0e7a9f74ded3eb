"""One comparison: everybody on one workload, cell and measure, checked, then timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_benchmarks.contenders import BUILTIN, OURS
from rnn_benchmarks.report import Baseline, Between, Row
from rnn_benchmarks.rounds import REST, ROUNDS, SLOW, Broken, Timed, in_turn
from rnn_benchmarks.runner import Conditions, Contender, Refused, Runner
from rnn_benchmarks.settings import Settings
from rnn_benchmarks.timing import Interval, operations, paired_ratio, peak_memory
from rnn_benchmarks.workloads import WORKLOADS, Workload
from rnn_common.parity.case import Case, OracleRun, make_case, run_oracle
from rnn_common.parity.contract import bounds, deviation
from rnn_common.twins import Framework
from rnn_common.weights import initialise

Array = NDArray[np.float64]

# The matrix product that says what the machine is capable of, on a CPU and on a GPU.
PRODUCT = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Ground:
    """What all comparisons at one number of threads share.

    Attributes:
        settings: what was asked for.
        threads: that an operation may use.
        contenders: who takes part.
        twins: their frameworks, by name.
        products: a large matrix product of each.
    """

    settings: Settings
    threads: int
    contenders: Sequence[Contender]
    twins: dict[str, Framework]
    products: dict[str, Callable[[], Any]]

    @property
    def conditions(self) -> Conditions:
        return self.settings.conditions(self.threads)

    def times(self, timed: Sequence[Timed], **options: Any) -> Array:
        return in_turn(timed, self.conditions, self.settings.seconds, **options)


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


def baseline(name: str, ground: Ground) -> Baseline:
    """Two layers of the framework's own, identical, one against the other; and the rate of a large matrix product."""
    twin, settings = ground.twins[name], ground.settings
    case = case_of(WORKLOADS["haste-32x128"], "LSTM", settings)
    steps = [
        twin.training_step(twin.make(case.parameters, builtin=True, device=settings.device, dtype=settings.dtype), case)
        for _ in range(2)
    ]
    first, second = ground.times([Timed(twin, step) for step in steps], rounds=ROUNDS[1])
    (product,) = ground.times([Timed(twin, ground.products[name])])
    limit = 2 * PRODUCT[settings.device] ** 3 / float(np.median(product))
    return Baseline(name, ground.threads, paired_ratio(first, second, settings.seed), limit)


@dataclass
class _Entry:
    """A contender in a comparison, ready to be timed."""

    contender: Contender
    timed: Timed
    first_call: float


@dataclass(frozen=True)
class Comparison:
    """Everybody who has the cell and the measure, on one workload."""

    workload: Workload
    cell: str
    measure: str
    ground: Ground

    def run(self, *, memory: bool = True, between: bool = True) -> Iterator[Row | Between]:
        """Whoever fails or refuses has a row that says so, and the others go on.

        Args:
            memory: whether the peak memory is measured. Default True.
            between: whether the frameworks are compared with each other, where both are there. Default True.
        """
        ground = self.ground
        chosen = [each for each in ground.contenders if each.takes(self.cell) and self.measure in each.measures]
        try:
            case = case_of(self.workload, self.cell, ground.settings)
            oracle = run_oracle(case, weights_alone=True)
        except Exception as error:  # such as a lack of memory: the other workloads are to have their turn
            yield from (self._without(each, error) for each in chosen)
            return
        for twin in ground.twins.values():
            twin.forget_compiled()
        entries: list[_Entry] = []
        for contender in chosen:
            try:
                entries.append(self._enter(contender, case, oracle))
            except Exception as error:
                yield self._without(contender, error)
        # One framework after the other, so that the idle threads of one do not disturb the other.
        for name in ground.twins:
            yield from self._group([each for each in entries if each.contender.framework == name], name, memory)
        if between and len(ground.twins) == 2:
            yield from self._between(entries)

    def _enter(self, contender: Contender, case: Case, oracle: OracleRun) -> _Entry:
        """Prepare a contender, time its first call and hold what it returns against the oracle.

        Raises:
            ArithmeticError: it is wrong.
            Exception: whatever it raises.
        """
        settings, twin = self.ground.settings, self.ground.twins[contender.framework]
        runner = contender.prepare(case, self.ground.conditions)
        function = runner.inference() if self.measure == "inference" else runner.training()
        returned: list[Any] = []
        first_call = twin.seconds(lambda: returned.append(function()), 1, settings.device)
        if contender.checked:
            # The frameworks' own layers multiply float32 in TF32 on a GPU, unless they are told otherwise.
            tf32 = settings.device == "cuda" and settings.dtype == "float32"
            check(runner, returned[0], self.measure, oracle, "tf32" if tf32 else settings.dtype)
        elif self.measure == "inference":
            check_shape(runner.outputs(returned[0]), oracle)
        return _Entry(contender, Timed(twin, function), first_call)

    def _without(self, contender: Contender, error: Exception) -> Row:
        """The row of a contender that has no figures."""
        refused = isinstance(error, Refused)
        reason = (str(error).strip() or "no message").splitlines()[0][:200]
        reason = reason if refused else f"{type(error).__name__}: {reason}"
        return self._row(contender, **{"refused" if refused else "failed": reason})

    def _row(self, contender: Contender, **figures: Any) -> Row:
        who = (self.workload.name, self.cell, self.measure, contender.name, self.ground.threads)
        return Row(*who, checked=contender.checked, **figures)

    def _group(self, entries: list[_Entry], name: str, memory: bool) -> Iterator[Row]:
        """The contenders of one framework in turn, and with them a large matrix product; who fails is left out."""
        ground = self.ground
        while entries:
            product = Timed(ground.twins[name], ground.products[name])
            try:
                *found, limit = ground.times([*(entry.timed for entry in entries), product])
                break
            except Broken as broken:
                if broken.index == len(entries):  # the product itself
                    yield from (self._without(entry.contender, broken.error) for entry in entries)
                    return
                yield self._without(entries.pop(broken.index).contender, broken.error)
        else:
            return
        names = [entry.contender.name for entry in entries]
        builtin = dict(zip(names, found, strict=True)).get(BUILTIN[name])
        flops = operations(self.workload, self.cell, self.measure)
        ideal = limit / (2 * PRODUCT[ground.settings.device] ** 3) * flops
        for entry, seconds in zip(entries, found, strict=True):
            median, seed = float(np.median(seconds)), ground.settings.seed
            yield self._row(
                entry.contender,
                seconds=seconds.tolist(),
                median=median,
                ratio=None if builtin is None else paired_ratio(builtin, seconds, seed),
                share=paired_ratio(ideal, seconds, seed),
                first_call=max(0.0, entry.first_call - median),
                memory=self._memory(entry, median) if memory else None,
            )

    def _memory(self, entry: _Entry, median: float) -> int | None:
        """None where it cannot be seen, or is too much to be seen."""
        device = self.ground.settings.device
        if not entry.contender.shows_memory:
            return None
        try:
            if device == "cuda":
                return entry.timed.twin.peak_memory(entry.timed.call, device)
            found = [peak_memory(entry.timed.call) for _ in range(3 if median < SLOW else 1)]
        except Exception:
            return None
        return None if None in found else int(np.median(found))  # type: ignore[arg-type]

    def _between(self, entries: Sequence[_Entry]) -> Iterator[Between]:
        """The built-in layers and ours of both frameworks, in turn with each other and a rest between."""
        wanted = [*BUILTIN.values(), *OURS.values()]
        chosen = [entry for entry in entries if entry.contender.name in wanted]
        if len({entry.contender.framework for entry in chosen}) < 2:
            return
        try:
            seconds = self.ground.times([entry.timed for entry in chosen], rest=REST)
        except Broken:  # it has its row, from when it was timed with its framework's
            return
        found = {entry.contender.name: each for entry, each in zip(chosen, seconds, strict=True)}

        def ratio(names: dict[str, str]) -> Interval | None:
            if not set(names.values()) <= found.keys():
                return None
            return paired_ratio(found[names["tf"]], found[names["torch"]], self.ground.settings.seed)

        where = (self.workload.name, self.cell, self.measure, self.ground.threads)
        yield Between(*where, ratio(BUILTIN), ratio(OURS))


def check(runner: Runner, returned: Any, measure: str, oracle: OracleRun, dtype: str) -> None:
    """Hold a contender's outputs or gradients against the oracle.

    The bounds are those of the numerical contract for float64, times the unit roundoff of the dtype. In bfloat16, where
    that would be more than everything, it is a tenth, and in TF32, which has three bits more, an eighth of that.

    Raises:
        ArithmeticError: it is beyond them.
    """
    allowed = bounds("float64" if dtype == "float64" else "float32", oracle.largest_pre_activation)
    bound = allowed.outputs if measure == "inference" else allowed.gradients
    bound = {"bfloat16": 0.1, "tf32": 0.1 / 8}.get(dtype, bound)
    if measure == "inference":
        found = {"outputs": deviation(runner.outputs(returned), oracle.result.outputs)}
    else:
        expected = oracle.result.gradients
        gradients = oracle.comparable(runner.gradients(returned))
        found = {name: deviation(gradients[name], expected[name]) for name in gradients if name in expected}
    worst = max(found, key=lambda name: found[name])
    if not found[worst] <= bound:
        raise ArithmeticError(f"{worst} deviate from the oracle by {found[worst]:.1e}, and {bound:.1e} is allowed")


def check_shape(outputs: NDArray[Any], oracle: OracleRun) -> None:
    """Of a contender with weights of its own no more can be said than that it returned what was asked for.

    Raises:
        ValueError: the outputs are not `(batch, time, hidden)`.
    """
    if outputs.shape != oracle.result.outputs.shape:
        raise ValueError(
            f"outputs should have shape (batch, time, hidden) = {oracle.result.outputs.shape}, got {outputs.shape}"
        )
