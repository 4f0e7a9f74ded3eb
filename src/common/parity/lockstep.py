"""Both frameworks train the same network side by side: how far do their losses drift apart?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rnn_common import networks
from rnn_common.cells import IN_BOTH
from rnn_common.data import Sequences, japanese_vowels
from rnn_common.machine import environment
from rnn_common.networks import Network, Stack
from rnn_common.parity.case import Array
from rnn_common.training.recipe import Optimizer, Recipe
from rnn_common.training.run import Run
from rnn_common.twins import Framework

# Rates at which training is stable. Near the edge of stability rounding grows from update to update, between two frameworks
# as within one with another number of threads.
RATES: dict[Optimizer, float] = {"sgd": 0.003, "adam": 0.001}
BOUNDS = {200: 1e-9, 1000: 1e-6}
BATCH_SIZE = 6
UPDATE_BYTES = 12 * 8  # that an update takes in the report at the least: a number in each of its rows


def recordings() -> Sequences:
    """What is learnt: 30 of the Japanese Vowels recordings.

    Raises:
        ModuleNotFoundError: `aeon` is not installed.
    """
    return japanese_vowels("train").take(range(0, 270, 9))


def losses(
    twin: Framework,
    cell: str,
    optimizer: Optimizer,
    *,
    dtype: str = "float64",
    updates: int = 1000,
    watch: Callable[[Run], None] | None = None,
) -> Array:
    """The losses of a run at the rate in `RATES`, clipped, on a cosine.

    A network in both directions learns `recordings`.

    Args:
        twin: the framework that trains.
        cell: whose network.
        optimizer: `"sgd"` or `"adam"`.
        dtype: `"float64"` (default) or `"float32"`.
        updates: how many. Default 1,000.
        watch: called after every update. Default none.
    """
    data = recordings()
    model = Network(Stack(cell, data.features, 8, bidirectional=True), 9, "sequence")
    recipe = Recipe(
        optimizer=optimizer,
        learning_rate=RATES[optimizer],
        schedule="cosine",
        warm_up=20,
        clip_norm=0.5,
        batch_size=BATCH_SIZE,
        epochs=max(200, -(-updates * BATCH_SIZE // len(data))),
        dtype=dtype,  # type: ignore[arg-type]
    )
    run = Run(model, recipe, data, networks.initial_weights(model, 0, dtype), updates=updates, watch=watch)
    twin.train(run)
    return np.array(run.losses)


def measure(
    twins: Sequence[Framework],
    *,
    updates: int = 1000,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> dict[str, Any]:
    """The drift for every cell, optimiser and precision, as plain data.

    Args:
        twins: the two frameworks.
        updates: how many of each run. Default 1,000.
        progress: told what is being done, and which share of the whole is.
    """
    cases = [(cell, optimizer, dtype) for optimizer in RATES for cell in IN_BOTH for dtype in ("float64", "float32")]
    rows = []
    for index, (cell, optimizer, dtype) in enumerate(cases):
        found = []
        for half, twin in enumerate(twins):
            what = f"{cell}, {optimizer}, {dtype}: {twin.name}"

            def watch(run: Run, done: float = index + half / 2, what: str = what) -> None:
                progress(what, (done + run.position.update / updates / 2) / len(cases))

            found.append(losses(twin, cell, optimizer, dtype=dtype, updates=updates, watch=watch))
        deviations = np.abs(found[0] - found[1]) / np.abs(found[1])
        worst = {str(n): float(deviations[:n].max()) for n in bounds(updates)}
        rows.append(
            {"cell": cell, "optimizer": optimizer, "dtype": dtype, "worst": worst, "deviations": deviations.tolist()}
        )
    return {"environment": environment(twins), "updates": updates, "rates": dict(RATES), "rows": rows}


def bounds(updates: int) -> dict[int, float]:
    """The bounds of a run of so many updates, by the number of its first updates that each is on."""
    # Of a short run both are on the whole, and the stricter one counts.
    return dict(sorted({min(n, updates): bound for n, bound in reversed(BOUNDS.items())}.items()))


def holds(row: Mapping[str, Any]) -> bool | None:
    """Whether a row is within the bounds; None in float32, which has none."""
    within = bounds(len(row["deviations"])).items()
    return all(row["worst"][str(n)] <= bound for n, bound in within) if row["dtype"] == "float64" else None


def markdown(report: Mapping[str, Any]) -> str:
    """The largest relative differences, as a table."""
    within = bounds(report["updates"])
    lines = [
        "| | " + " | ".join(f"first {n:,} updates" for n in within) + " |",
        "| --- | " + " | ".join("---:" for _ in within) + " |",
    ]
    for row in report["rows"]:
        worst = " | ".join(f"{row['worst'][str(n)]:.1e}" for n in within)
        lines.append(f"| {row['cell']}, {row['optimizer']}, {row['dtype']} | {worst} |")
    return "\n".join(lines) + "\n"
