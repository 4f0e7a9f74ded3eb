"""What the machine is, and what it has to give, so that what cannot be is refused before anything is allocated."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rnn_common.twins import Framework


def available_memory() -> int:
    """Bytes that this process may still take: the machine's, or its control group's where that is less."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            free = min(free, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return free


def check_memory(argument: str, value: int | str, least: int) -> None:
    """Refuse what cannot be held.

    Args:
        argument: whose value asks for so much.
        value: that value.
        least: bytes that are needed at the least.

    Raises:
        ValueError: there are fewer; names the argument, what came, what it needs and what there is.
    """
    free = available_memory()
    if least > free:
        got = value if isinstance(value, str) else _short(value)
        raise ValueError(
            f"{argument} should be less, got {got}, which needs at least {_short(-(-least // 2**30))} GiB of memory where "
            f"there are {free / 2**30:.1f}"
        )


def _short(number: int) -> str:
    return str(number) if number < 10**12 else f"1e{len(str(number)) - 1}"


def environment(frameworks: Sequence[Framework]) -> dict[str, Any]:
    """Versions, machine and time."""
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    for framework in frameworks:
        versions |= framework.versions()
    return {
        "versions": versions,
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
