"""What is run: sizes of layers and inputs that were published, so that figures can be held against the literature, those that
users bring, and one's own.

Every workload is run with every cell, as one layer in one direction; where the source names another cell or a stack, the
sizes are taken from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rnn_common.cells import cell_of
from rnn_common.reader import shown

BRAUN = "Braun 2018, arXiv 1806.01818"
DEEPBENCH = "DeepBench, Baidu Research"
HASTE = "the grid of haste, LMNT"
FLASHRNN = "Pöppel et al. 2024, arXiv 2412.07752"
GIVEN = "asked for by its size"


@dataclass(frozen=True)
class Workload:
    """The sizes of a layer and its input.

    Args:
        name: under which it can be asked for.
        batch, time, input, hidden: sequences, steps of the longest, width of x_t and of h_t.
        source: where the sizes were published.
        lengths: how many steps each sequence has. Default: all of them `time`.
    """

    name: str
    batch: int
    time: int
    input: int
    hidden: int
    source: str
    lengths: tuple[int, ...] | None = None

    @property
    def sizes(self) -> str:
        sizes = f"batch {self.batch}, time {self.time}, input {self.input}, hidden {self.hidden}"
        return sizes if self.lengths is None else f"{sizes}, {self.steps} steps in all"

    @property
    def shape(self) -> str:
        """The sizes without their names: batch × time × input × hidden."""
        shape = f"{self.batch}×{self.time}×{self.input}×{self.hidden}"
        return shape if self.lengths is None else f"{shape}, {self.steps} steps"

    @property
    def steps(self) -> int:
        """The steps of all sequences together."""
        return self.batch * self.time if self.lengths is None else sum(self.lengths)


def _deepbench(hidden: int, batch: int, time: int) -> Workload:
    return Workload(f"deepbench-{hidden}x{batch}x{time}", batch, time, hidden, hidden, DEEPBENCH)


def _haste(batch: int, width: int) -> Workload:
    """The grid names batch and width; 50 steps."""
    return Workload(f"haste-{batch}x{width}", batch, 50, width, width, HASTE)


_ALL = [
    Workload("braun-2018", 64, 100, 123, 320, BRAUN),
    Workload("braun-2018-ctc", 32, 1000, 640, 320, f"{BRAUN}: a direction of a middle layer of four"),
    _deepbench(512, 16, 25),
    _deepbench(1024, 64, 25),
    _deepbench(256, 16, 150),
    _deepbench(1760, 16, 50),
    _deepbench(1024, 32, 1500),
    _deepbench(2816, 32, 187),
    _deepbench(512, 1, 25),
    _deepbench(256, 2, 150),
    _deepbench(1536, 1, 187),
    *(_haste(batch, width) for batch in (1, 32, 64, 128) for width in (64, 128, 256, 512)),
    Workload("flashrnn", 16, 1024, 768, 768, FLASHRNN),
    Workload("one-sequence", 1, 100, 64, 64, "one sequence at a time"),
    Workload("ragged-600x1", 300, 600, 16, 64, "one long sequence packed with many short ones", (600, *[1] * 299)),
    Workload("ragged-even", 64, 64, 64, 128, "every length from 1 to 64, packed", tuple(range(64, 0, -1))),
]
WORKLOADS = {workload.name: workload for workload in _ALL}

# The geometric means that are quoted are over these six, whatever else is run with them.
QUOTED = (
    "braun-2018",
    "deepbench-512x16x25",
    "deepbench-256x16x150",
    "deepbench-512x1x25",
    "haste-32x128",
    "haste-128x64",
)
# Ends within half an hour on two cores. The last two are what users bring.
DEFAULT = (*QUOTED, "one-sequence", "ragged-600x1")


def of_size(text: str) -> Workload:
    """A workload of the user's own.

    Args:
        text: `BATCHxTIMExINPUTxHIDDEN`, as in `64x100x123x320`.

    Raises:
        ValueError: it is not four whole numbers above 0.
    """
    found = re.fullmatch("[x×]".join([r"0*([1-9]\d{0,39})"] * 4), text, re.ASCII | re.IGNORECASE)
    if found is None:
        raise ValueError(
            "size should be BATCHxTIMExINPUTxHIDDEN, four whole numbers above 0, such as 64x100x123x320, "
            f"got {shown(text)}"
        )
    batch, time, input, hidden = map(int, found.groups())
    return Workload(f"{batch}x{time}x{input}x{hidden}", batch, time, input, hidden, GIVEN)


def least_memory(workload: Workload, cell: str) -> int:
    """Bytes that a comparison needs at the least: inputs, outputs, weights and their gradients in float64, for the oracle."""
    row = cell_of(cell)
    weights = workload.hidden * (
        len(row.input_matrices) * workload.input + len(row.recurrent_matrices) * workload.hidden
    )
    return 8 * (workload.batch * workload.time * (workload.input + 2 * workload.hidden) + 2 * weights)


# How cost grows: one size changes, the others stay.
SWEPT = of_size("32x50x128x128")
SWEEPS = {"time": (25, 50, 100, 200), "width": (64, 128, 256, 512), "batch": (1, 4, 16, 64, 256)}


def sweep(variable: str, around: Workload = SWEPT) -> dict[int, Workload]:
    """The workloads of a sweep, by the size that changes.

    Args:
        variable: `"time"`, `"width"` (of input and hidden state, named by the hidden state's) or `"batch"`.
        around: a workload that it passes through. Default `SWEPT`, with the sizes of `SWEEPS`.
    """
    varied = "hidden" if variable == "width" else variable
    sizes = SWEEPS[variable] if around == SWEPT else _around(getattr(around, varied))
    return {size: _resized(around, variable, size) for size in sizes}


def _around(size: int) -> list[int]:
    """Four sizes, one of which is that, a factor 2 apart where there are whole ones."""
    sizes = [part for part in (size // 4, size // 2) if part] + [size]
    while len(sizes) < 4:
        sizes.append(2 * sizes[-1])
    return sizes


def _resized(fixed: Workload, variable: str, size: int) -> Workload:
    sizes = {name: getattr(fixed, name) for name in ("batch", "time", "input", "hidden")}
    if variable == "width":  # in proportion
        sizes |= {"hidden": size, "input": max(1, round(fixed.input * size / fixed.hidden))}
    else:
        sizes[variable] = size
    return Workload(f"{variable} {size}", **sizes, source="")
