"""Both frameworks train the same network side by side: how far do their losses drift apart?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from common import models
from common.comparison import environment
from common.data import japanese_vowels
from common.framework import Array, Framework
from common.models import Network, Stack
from common.parameters import CELLS, CellName
from common.recipe import Optimizer, Recipe
from common.training import Run

# Rates at which training is stable. Near the edge of stability rounding grows from update to update, between two frameworks
# as within one with another number of threads.
RATES: dict[Optimizer, float] = {"sgd": 0.003, "adam": 0.001}
BOUNDS = {200: 1e-9, 1000: 1e-6}


def losses(
    twin: Framework,
    cell: CellName,
    optimizer: Optimizer,
    *,
    dtype: str = "float64",
    updates: int = 1000,
    watch: Callable[[Run], None] | None = None,
) -> Array:
    """The losses of a run at the rate in `RATES`, clipped, on a cosine.

    A network in both directions learns 30 of the Japanese Vowels recordings.

    Args:
        twin: the framework that trains.
        cell: whose network.
        optimizer: `"sgd"` or `"adam"`.
        dtype: `"float64"` (default) or `"float32"`.
        updates: how many. Default 1,000.
        watch: called after every update. Default none.
    """
    data = japanese_vowels("train").take(range(0, 270, 9))
    model = Network(Stack(cell, data.features, 8, bidirectional=True), 9, "sequence")
    recipe = Recipe(
        optimizer=optimizer,
        learning_rate=RATES[optimizer],
        schedule="cosine",
        warm_up=20,
        clip_norm=0.5,
        batch_size=6,
        epochs=200,
        dtype=dtype,  # type: ignore[arg-type]
    )
    run = Run(model, recipe, data, models.initial_weights(model, 0, dtype), updates=updates, watch=watch)
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
    cases = [(cell, optimizer, dtype) for optimizer in RATES for cell in CELLS for dtype in ("float64", "float32")]
    rows = []
    for index, (cell, optimizer, dtype) in enumerate(cases):
        found = []
        for half, twin in enumerate(twins):
            what = f"{cell}, {optimizer}, {dtype}: {twin.name}"

            def watch(run: Run, done: float = index + half / 2, what: str = what) -> None:
                progress(what, (done + run.position.update / updates / 2) / len(cases))

            found.append(losses(twin, cell, optimizer, dtype=dtype, updates=updates, watch=watch))
        deviations = np.abs(found[0] - found[1]) / np.abs(found[1])
        worst = {str(n): float(deviations[:n].max()) for n in BOUNDS}
        rows.append(
            {"cell": cell, "optimizer": optimizer, "dtype": dtype, "worst": worst, "deviations": deviations.tolist()}
        )
    return {"environment": environment(twins), "updates": updates, "rates": dict(RATES), "rows": rows}


def holds(row: dict[str, Any]) -> bool | None:
    """Whether a row is within the bounds; None in float32, which has none."""
    return all(row["worst"][str(n)] <= bound for n, bound in BOUNDS.items()) if row["dtype"] == "float64" else None


def markdown(report: Mapping[str, Any]) -> str:
    """The largest relative differences, as a table."""
    lines = [
        "| | " + " | ".join(f"first {n:,} updates" for n in BOUNDS) + " |",
        "| --- | " + " | ".join("---:" for _ in BOUNDS) + " |",
    ]
    for row in report["rows"]:
        worst = " | ".join(f"{row['worst'][str(n)]:.1e}" for n in BOUNDS)
        lines.append(f"| {row['cell']}, {row['optimizer']}, {row['dtype']} | {worst} |")
    return "\n".join(lines) + "\n"
