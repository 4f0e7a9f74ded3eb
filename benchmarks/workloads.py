"""What is run: sizes of layers and inputs that were published, so that figures can be held against the literature.

Every workload is run with every cell, as one layer in one direction; where the source names another cell or a stack, the
sizes are taken from it.
"""

from __future__ import annotations

from dataclasses import dataclass

BRAUN = "Braun 2018, arXiv 1806.01818"
DEEPBENCH = "DeepBench, Baidu Research"
HASTE = "the grid of haste, LMNT"
FLASHRNN = "Pöppel et al. 2024, arXiv 2412.07752"


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
    Workload("ragged-600x1", 300, 600, 16, 64, "one long sequence packed with many short ones", (600, *[1] * 299)),
    Workload("ragged-even", 64, 64, 64, 128, "every length from 1 to 64, packed", tuple(range(64, 0, -1))),
]
WORKLOADS = {workload.name: workload for workload in _ALL}

# Ends within minutes on two cores.
DEFAULT = (
    "braun-2018",
    "deepbench-512x16x25",
    "deepbench-256x16x150",
    "deepbench-512x1x25",
    "haste-32x128",
    "haste-128x64",
)

# How cost grows: one size changes, the others stay.
SWEPT = Workload("sweep", 32, 50, 128, 128, "")
SWEEPS = {"time": (25, 50, 100, 200), "width": (64, 128, 256, 512), "batch": (1, 4, 16, 64, 256)}


def sweep(variable: str) -> list[Workload]:
    """The workloads of a sweep over `"time"`, `"width"` (of input and hidden state) or `"batch"`."""
    fields = ("input", "hidden") if variable == "width" else (variable,)
    sizes = {name: getattr(SWEPT, name) for name in ("batch", "time", "input", "hidden")}
    return [
        Workload(f"{variable} {size}", **(sizes | dict.fromkeys(fields, size)), source="") for size in SWEEPS[variable]
    ]
