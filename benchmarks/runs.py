"""Brings workloads, contenders and timing together into a report."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from rnn_benchmarks.comparison import PRODUCT, Comparison, Ground, baseline
from rnn_benchmarks.contenders import BUILTIN, OURS, everybody, framework_of, names
from rnn_benchmarks.own import load
from rnn_benchmarks.plan import Remaining, Step, expected, steps, steps_at
from rnn_benchmarks.report import Baseline, Between, Growth, Mean, Report, Row
from rnn_benchmarks.runner import Contender
from rnn_benchmarks.settings import Settings
from rnn_benchmarks.timing import geometric_mean, growth
from rnn_benchmarks.workloads import least_memory
from rnn_common import twins as registry
from rnn_common.checks import one_of
from rnn_common.machine import available_memory, environment
from rnn_common.packages import MissingPackage
from rnn_common.twins import Framework


class Progress(Protocol):
    """Told what is being done, which share of the work is behind, 0 to 1, and the seconds left, where they are known."""

    def __call__(self, what: str, share: float, left: float | None = None) -> None: ...


def _silent(what: str, share: float, left: float | None = None) -> None:
    pass


class Prepared(NamedTuple):
    """Who takes part, who does not and why, and their twins, imported."""

    present: list[Contender]
    left_out: dict[str, str]
    twins: dict[str, Framework]


def prepare(settings: Settings, progress: Progress = _silent) -> Prepared:
    """All that can be wrong with what was asked for is found here, before the work. Files of the user's own are run.

    Args:
        settings: what to run.
        progress: called with what is being imported.

    Raises:
        ValueError: the device is absent, a contender is unknown or a file has none, or the memory does not suffice.
        ModuleNotFoundError: none of the contenders' frameworks is installed.
    """
    settings.check_memory()
    own, named = [load(name) for name in settings.files], settings.named
    wanted = {framework_of(name) for name in named or names()} | {each.framework for each in own}
    installed = [name for name in registry.installed() if name in wanted]
    twins = registry.get_each(installed, progress)
    everyone = everybody(twins.values(), own)
    for name in named:
        if framework_of(name) in twins:
            one_of("contender", name, [each.name for each in everyone])
    chosen = [each for each in everyone if each.name in named or each in own or (each.by_default and not named)]
    left_out = {name: f"{framework_of(name)} is not installed" for name in named if framework_of(name) not in twins}
    left_out |= {each.name: why for each in chosen if (why := _unfit(each, settings))}
    present = [each for each in chosen if each.name not in left_out]
    if not present:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        remedy = ": pip install '.[torch,tf,bench]'" if any("not installed" in why for why in left_out.values()) else ""
        raise MissingPackage(f"none of the contenders can run: {reasons}{remedy}")
    twins = {name: twin for name, twin in twins.items() if any(each.framework == name for each in present)}
    for twin in twins.values():
        one_of("device", settings.device, twin.devices())
    return Prepared(present, left_out, twins)


def _unfit(contender: Contender, settings: Settings) -> str | None:
    """Why a contender cannot take part, or None."""
    if why := contender.absent():
        return why
    if settings.dtype not in contender.dtypes:
        return f"does not take {settings.dtype}"
    if settings.device not in contender.devices:
        return f"does not run on {settings.device}"
    return None


@dataclass(frozen=True)
class Point:
    """A point of a sweep: how long a contender takes at a size."""

    step: Step
    contender: str
    seconds: float


# Those whose growth is measured, unless others are asked for.
SWEPT = (*BUILTIN.values(), *OURS.values())
Found = Row | Between | Baseline | Point


def run(settings: Settings, progress: Progress = _silent, prepared: Prepared | None = None) -> Report:
    """Time every contender on every workload, cell and measure, and on the sweeps.

    What there is when it is stopped by Ctrl-C is a report, too, which says so. With several numbers of threads each has a
    process of its own, for TensorFlow takes their number before its first operation only.

    Args:
        settings: what to run.
        progress: called before each step.
        prepared: what `prepare` gave for these settings. Default: it is asked.

    Raises:
        ValueError, ModuleNotFoundError: see `prepare`.
        KeyboardInterrupt: nothing was measured yet.
    """
    present, left_out, twins = prepared or prepare(settings, progress)
    todo = steps(settings)
    remaining = Remaining([expected(step, settings, present) for step in todo])
    found: list[Found] = []
    stopped, interrupted, behind = None, False, 0
    try:
        for event in _events(settings, present, twins):
            if isinstance(event, Step):
                behind = todo.index(event)
                progress(str(event), *remaining.before(behind))
            elif isinstance(event, str):
                stopped = event
            else:
                found.append(event)
        progress("done", 1.0, 0.0)
    except KeyboardInterrupt:
        if not any(isinstance(each, Row) and each.timed for each in found):
            raise
        interrupted = True
        stopped = f"stopped after {behind} of {len(todo)} steps"
    surroundings = environment(list(twins.values())) | {
        "device": {name: twin.device_name(settings.device) for name, twin in twins.items()},
        "threads": list(settings.threads),
        "commit": commit(),
    }
    rows = _in_order([each for each in found if isinstance(each, Row)], [each.name for each in present])
    return Report(
        settings,
        surroundings,
        [each for each in found if isinstance(each, Baseline)],
        {each.name: each.framework for each in present},
        left_out,
        rows,
        [each for each in found if isinstance(each, Between)],
        list(_means(rows, settings, present)),
        list(_growths([each for each in found if isinstance(each, Point)])),
        stopped,
        interrupted,
    )


# The work, step by step


def _events(
    settings: Settings, present: Sequence[Contender], twins: dict[str, Framework]
) -> Iterator[Step | Found | str]:
    """Each step before it is done, what it finds, and why what is missing is missing."""
    if len(settings.threads) == 1:
        yield from _at(settings.threads[0], settings, present, twins)
    else:
        for threads in settings.threads:
            yield from _apart(threads, settings)


def _at(
    threads: int, settings: Settings, present: Sequence[Contender], twins: dict[str, Framework]
) -> Iterator[Step | Found]:
    """The work at one number of threads."""
    logging.getLogger("tensorflow").setLevel(
        logging.ERROR
    )  # it warns of many graphs of one function, which is the work here
    for twin in twins.values():
        twin.set_threads(threads)
    products = {
        name: twin.matrix_product(PRODUCT[settings.device], settings.device, settings.dtype)
        for name, twin in twins.items()
    }
    ground = Ground(settings, threads, present, twins, products)
    for step in steps_at(threads, settings):
        yield step
        yield from _work(step, ground)


def _work(step: Step, ground: Ground) -> Iterator[Found]:
    if step.workload is None:
        yield from (baseline(name, ground) for name in ground.twins)
    elif not step.variable:
        yield from Comparison(step.workload, step.cell, step.measure, ground).run()
    elif least_memory(step.workload, step.cell) <= available_memory():
        chosen = [each for each in ground.contenders if each.name in SWEPT or not each.checked or ground.settings.named]
        sweep = Comparison(step.workload, step.cell, step.measure, replace(ground, contenders=chosen))
        for row in sweep.run(memory=False, between=False):
            if isinstance(row, Row) and row.median is not None:
                yield Point(step, row.contender, row.median)


def _apart(threads: int, settings: Settings) -> Iterator[Step | Found | str]:
    """The work in a process of its own, which ends when nobody listens any more."""
    yield next(steps_at(threads, settings))  # for until the other process has imported its frameworks it says nothing
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(there, threads, settings))
    listening = signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to all processes; this one answers for the other
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, listening)
    there.close()
    try:
        while (event := here.recv()) is not None:
            yield event
    except EOFError:
        process.join()
        yield f"the process with threads = {threads} ended with status {process.exitcode}"
    finally:
        process.terminate()
        process.join()


def _send(there: Connection, threads: int, settings: Settings) -> None:
    """In the other process."""
    present, _, twins = prepare(settings)
    for event in _at(threads, settings, present, twins):
        there.send(event)
    there.send(None)


# What comes of it


def _in_order(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """In each comparison the contenders in their order; who fails or refuses was there first."""
    of = [(row.workload, row.cell, row.measure, row.threads) for row in rows]
    place = {key: i for i, key in enumerate(dict.fromkeys(of))}
    return [
        row for _, row in sorted(zip(of, rows, strict=True), key=lambda t: (place[t[0]], names.index(t[1].contender)))
    ]


def _means(rows: Sequence[Row], settings: Settings, contenders: Sequence[Contender]) -> Iterator[Mean]:
    """For each contender that ran all the workloads that are quoted beside the framework's own layer."""
    by_key: dict[tuple[str, str, str, int], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row.timed:
            by_key[row.cell, row.measure, row.contender, row.threads][row.workload] = row
    builtin_of = {contender.name: BUILTIN[contender.framework] for contender in contenders}
    for (cell, measure, name, threads), found in by_key.items():
        builtin = by_key.get((cell, measure, builtin_of[name], threads), {})
        if name in BUILTIN.values() or not set(settings.quoted) <= found.keys() & builtin.keys():
            continue
        ratios = [np.divide(builtin[w].seconds, found[w].seconds) for w in settings.quoted]
        yield Mean(cell, measure, name, threads, geometric_mean(ratios, settings.seed))


def _growths(points: Sequence[Point]) -> Iterator[Growth]:
    """Of every line of at least three points."""
    lines: dict[tuple[str, str, str, str, str, int], dict[int, float]] = defaultdict(dict)
    for step, contender, seconds in ((each.step, each.contender, each.seconds) for each in points):
        lines[step.variable, step.around, step.cell, step.measure, contender, step.threads][step.size] = seconds
    for key, found in lines.items():
        if len(found) >= 3:
            sizes, times = list(found), list(found.values())
            yield Growth(*key, sizes, times, growth(sizes, times))


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
