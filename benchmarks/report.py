"""What a run of the benchmarks found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rnn_benchmarks.contenders import framework_of
from rnn_benchmarks.settings import Settings
from rnn_benchmarks.timing import Interval
from rnn_benchmarks.workloads import SWEPT

FORMAT = "rnn-parity benchmarks 2"
OLDER = "rnn-parity benchmarks 1"  # of one number of threads, and without what is new since
SELF_TEST = 0.05


@dataclass(frozen=True)
class Row:
    """A contender on a workload.

    Attributes:
        workload, cell, measure, contender: who did what.
        threads: that an operation could use.
        failed: why there are no figures, though there should be; None if there are.
        refused: why the contender does not take the case; None if it does.
        seconds: of a call in each round.
        median: of `seconds`.
        ratio: how many times as fast as the framework's own layer, with its interval; None for want of that layer.
        share: of the rate of a large matrix product, with its interval: 1 would be a layer that costs its products alone.
        first_call: seconds of the first call beyond a later one: tracing and compiling.
        memory: bytes by which a call raises the most that is in use at once; None where it cannot be seen.
        checked: whether it was held against the oracle.
    """

    workload: str
    cell: str
    measure: str
    contender: str
    threads: int
    failed: str | None = None
    refused: str | None = None
    seconds: list[float] = field(default_factory=list)
    median: float | None = None
    ratio: Interval | None = None
    share: Interval | None = None
    first_call: float | None = None
    memory: int | None = None
    checked: bool = True

    @property
    def timed(self) -> bool:
        return self.median is not None


@dataclass(frozen=True)
class Between:
    """PyTorch beside TensorFlow on a workload, their layers timed in turn with each other.

    Attributes:
        workload, cell, measure, threads: where.
        builtin: how many times as fast `torch.nn` is as `keras.layers`, with its interval; None for want of one.
        ours: how many times as fast `rnn_torch` is as `rnn_tf`.
    """

    workload: str
    cell: str
    measure: str
    threads: int
    builtin: Interval | None
    ours: Interval | None


@dataclass(frozen=True)
class Baseline:
    """What a framework does at a number of threads, whoever is timed.

    Attributes:
        framework, threads: of what.
        self_test: the ratio of its own layer to itself.
        limit: floating-point operations a second of a large matrix product.
    """

    framework: str
    threads: int
    self_test: Interval
    limit: float


@dataclass(frozen=True)
class Mean:
    """The geometric mean over workloads (`Settings.quoted`) of a contender's ratio to the framework's own layer."""

    cell: str
    measure: str
    contender: str
    threads: int
    ratio: Interval


@dataclass(frozen=True)
class Growth:
    """How a contender's time grows: seconds ∝ size^exponent, over the sizes of a sweep through the workload `around`."""

    variable: str
    around: str
    cell: str
    measure: str
    contender: str
    threads: int
    sizes: list[int]
    seconds: list[float]
    exponent: Interval


@dataclass(frozen=True)
class Report:
    """What a run found.

    Attributes:
        settings: what was asked for.
        environment: versions, processor, device, threads, date and commit.
        baselines: of each framework at each number of threads.
        contenders: who took part, in order, and the framework of each.
        left_out: who did not, and why.
        rows, between, means, growth: the figures.
        stopped: why this is a part of what was asked for; None if it is all.
        interrupted: whether that is because the user stopped it.
    """

    settings: Settings
    environment: dict[str, Any]
    baselines: list[Baseline]
    contenders: dict[str, str]
    left_out: dict[str, str]
    rows: list[Row]
    between: list[Between]
    means: list[Mean]
    growth: list[Growth]
    stopped: str | None = None
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        """Whether two identical contenders came out as equally fast."""
        return all(abs(each.self_test.value - 1) <= SELF_TEST for each in self.baselines)

    @property
    def failures(self) -> list[Row]:
        return [row for row in self.rows if row.failed is not None]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: only dictionaries, lists, strings, numbers, booleans and None."""
        return {"format": FORMAT, **asdict(self), "passed": self.passed}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Report:
        """The report that `as_dict` made this of, or an older version's."""
        found = upgraded(content)

        def intervals(each: dict[str, Any], *names: str) -> dict[str, Any]:
            return each | {name: None if each[name] is None else Interval(*each[name]) for name in names}

        chosen: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found["settings"].items()}
        return cls(
            Settings(**chosen),
            found["environment"],
            [Baseline(**intervals(each, "self_test")) for each in found["baselines"]],
            found["contenders"],
            found["left_out"],
            [Row(**intervals(each, "ratio", "share")) for each in found["rows"]],
            [Between(**intervals(each, "builtin", "ours")) for each in found["between"]],
            [Mean(**intervals(each, "ratio")) for each in found["means"]],
            [Growth(**intervals(each, "exponent")) for each in found["growth"]],
            found["stopped"],
            found["interrupted"],
        )


def upgraded(content: Mapping[str, Any]) -> dict[str, Any]:
    """A report's content as this version writes it: an older one's was of one number of threads, which its settings say."""
    if content.get("format") != OLDER:
        return dict(content)
    found = dict(content)
    threads = found["settings"].get("threads")
    found["settings"] = found["settings"] | {"threads": [threads]}
    for part in ("rows", "means", "growth"):
        found[part] = [each | {"threads": threads} for each in found.get(part, [])]
    found["growth"] = [each | {"around": SWEPT.name} for each in found["growth"]]
    limit = found.get("limit", {})
    found["baselines"] = [
        {"framework": name, "threads": threads, "self_test": ratio, "limit": limit[name]}
        for name, ratio in found.get("self_test", {}).items()
    ]
    contenders = {name: framework_of(name) for name in found["settings"].get("contenders", [])}
    return found | {"between": [], "stopped": None, "interrupted": False, "contenders": contenders}
