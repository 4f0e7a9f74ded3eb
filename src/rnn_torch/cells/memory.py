"""Memory and the order of work: which steps are worked on together, and how what they need is laid out.

Nothing here knows a cell. Packed data have the rows of each step after those of the step before, longest sequence first.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor

# The batch from which on a CPU multiplies faster what is stored feature by feature: a vector register's worth of float32.
VECTOR = 16

# Rows, steps × batch, of one part on a CPU: enough for a product to run at full rate, or more if their gates, in numbers,
# still stay in a cache.
ROWS, CACHED = 512, 2**18

Steps = list[tuple[Any, ...]]


class Part(NamedTuple):
    """Steps that are worked on together.

    Attributes:
        rows: where they are along the first axis of the data.
        runs: the steps that follow each other with the same sequences, and how many sequences those are.
        sizes: of packed data, how many sequences each step has, and the step before the part; else None.
    """

    rows: slice
    runs: list[tuple[slice, int]]
    sizes: list[int] | None = None
    size_before: int = 0

    def steps(self, *tensors: Tensor | None) -> Steps:
        """The tensors of each step; None for each step of a tensor that is None.

        A view takes as long to make as a small product, so that it is made once, not when used.
        """
        return list(zip(*map(self._each, tensors), strict=False))

    def _each(self, tensor: Tensor | None) -> Iterable[Tensor | None]:
        if tensor is None:
            return repeat(None)
        return tensor.unbind(0) if self.sizes is None else torch.split(tensor, self.sizes)

    def before(self, history: Tensor, initial: Tensor) -> Tensor:
        """The state before each step, arranged as `history`."""
        first, stop = self.rows.start, self.rows.stop
        if self.sizes is None:
            return history[first - 1 : stop - 1] if first else torch.cat([initial.unsqueeze(0), history[: stop - 1]])
        states = [
            history[first - self.size_before : first] if first else initial,
            *torch.split(history[self.rows], self.sizes),
        ]
        return torch.cat([h[:size] for h, size in zip(states, self.sizes, strict=False)])


def largest(parts: list[Part]) -> int:
    """How long the longest part is along the first axis of the data."""
    return max((part.rows.stop - part.rows.start for part in parts), default=0)


def zeros_for_sum(weight: Tensor) -> Tensor:
    """Memory for a sum over parts, in float32 at least: in a lower precision the sum would lose what is added last."""
    return torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)


def packed_parts(sizes: list[int], limit: int) -> list[Part]:
    """Parts of packed data, each of as many steps as do not go beyond `limit` rows, or of one."""
    parts: list[Part] = []
    first, start = 0, 0
    while first < len(sizes):
        last, stop = first + 1, start + sizes[first]
        while last < len(sizes) and stop + sizes[last] - start <= limit:
            stop += sizes[last]
            last += 1
        runs, step = [], 0
        for size, group in groupby(sizes[first:last]):
            steps = len(list(group))
            runs.append((slice(step, step + steps), size))
            step += steps
        parts.append(Part(slice(start, stop), runs, sizes[first:last], sizes[first - 1] if first else 0))
        first, start = last, stop
    return parts


# Where the rows of packed data are


def starts(batch_sizes: Tensor) -> Tensor:
    """The first row of each step."""
    return batch_sizes.cumsum(0) - batch_sizes


def lengths(batch_sizes: Tensor, batch: int) -> Tensor:
    """How many steps each sequence has."""
    ascending = batch_sizes.flip(0)
    sequences = torch.arange(batch, device=batch_sizes.device)
    return len(batch_sizes) - torch.searchsorted(ascending, sequences, right=True)


def last_rows(batch_sizes: Tensor, batch: int) -> Tensor:
    """The row of each sequence's last step."""
    return starts(batch_sizes)[lengths(batch_sizes, batch) - 1] + torch.arange(batch, device=batch_sizes.device)


def reverse(sequence: Tensor, batch_sizes: Tensor | None, batch: int) -> Tensor:
    """Each sequence from its own last step to its first."""
    if batch_sizes is None:
        return sequence.flip(0)
    first, device = starts(batch_sizes), batch_sizes.device
    steps = torch.arange(len(batch_sizes), device=device).repeat_interleave(batch_sizes, output_size=len(sequence))
    sequences = torch.arange(len(sequence), device=device) - first[steps]
    last = lengths(batch_sizes, batch)[sequences] - 1
    return sequence.index_select(0, (first[last - steps] + sequences).to(sequence.device))
