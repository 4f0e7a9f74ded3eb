"""The catalogue, faults of directions and outputs: which way a layer runs, and what it takes for its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from rnn_common.doctor.calls import Call, Run, Seen
from rnn_common.doctor.faults import Does, Fault
from rnn_common.doctor.in_configuration import merge_fault
from rnn_common.doctor.in_weights import of_directions
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Merge, Recurrent
from rnn_common.exchange.forward import Ran, merge


def of_runs(layer: Recurrent) -> Iterator[Fault]:
    if len(layer.directions) == 1:
        yield from _single_direction(layer)
        return
    yield Fault(
        "the backward half's outputs in running order",
        "order of outputs",
        "backward outputs",
        "flip the outputs of the backward half: outputs[:, ::-1]",
        lambda layer: replace(layer, flipped=not layer.flipped),
    )
    yield Fault(
        "both halves forwards",
        "direction",
        "backward outputs",
        "run the second half from the last step to the first",
        run=_second_half_forwards,
    )
    yield from of_directions(layer)
    if layer.merge == "concat":
        yield Fault(
            "the halves of the outputs exchanged",
            "halves",
            "merge",
            "forward first: concatenate([forward, backward], -1)",
            run=_halves_exchanged,
            undo=with_outputs(_exchanged),
        )
    merges: tuple[Merge, ...] = ("concat", "sum", "mul", "ave")
    for how in merges:
        if how != layer.merge:
            yield merge_fault(layer, how)


def _single_direction(layer: Recurrent) -> Iterator[Fault]:
    yield Fault(
        "forwards, not backwards" if layer.backwards else "backwards, not forwards",
        "direction",
        "backward outputs",
        f"go_backwards={layer.backwards} in Keras; in PyTorch flip x",
        lambda layer: replace(layer, backwards=not layer.backwards),
    )
    yield Fault(
        "outputs in the order of the input, not in running order"
        if layer.backwards and layer.flipped
        else "outputs from the last step to the first",
        "order of outputs",
        "backward outputs",
        "flip the outputs: outputs[:, ::-1]",
        run=_outputs_flipped,
        undo=with_outputs(lambda y: y[:, ::-1]),
    )
    yield Fault(
        "the sequences of the batch from the last to the first",
        "order of the batch",
        "axes",
        "reverse the axis of time, not that of the batch",
        run=_batch_reversed,
        undo=lambda does: lambda call: does(call._replace(x=call.x[::-1])),
    )


def _outputs_flipped(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        ran = run(layer, call, dtype)
        return ran._replace(outputs=ran.outputs[:, ::-1])

    return changed


def _batch_reversed(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        return run(layer, call._replace(x=call.x[::-1]), dtype)

    return changed


def _second_half_forwards(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        halves = [
            run(
                replace(layer, directions=(each,)),
                call._replace(state=None if call.state is None else (call.state[n],)),
                dtype,
            )
            for n, each in enumerate(layer.directions)
        ]
        return both(layer, halves)

    return changed


def both(layer: Recurrent, halves: list[Ran]) -> Ran:
    forward, backward = halves
    return Ran(
        merge(layer.merge, forward.outputs, backward.outputs),
        merge(layer.merge, forward.last, backward.last),
        forward.final + backward.final,
    )


def with_outputs(change: Callable[[Array], Array]) -> Callable[[Does], Does]:
    """What a side does, with its outputs changed."""
    return lambda does: lambda call: Seen(change(does(call).outputs))


def _exchanged(array: Array) -> Array:
    return np.concatenate(np.split(array, 2, -1)[::-1], -1)


def _halves_exchanged(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        ran = run(layer, call, dtype)
        return ran._replace(outputs=_exchanged(ran.outputs), last=_exchanged(ran.last))

    return changed


def of_last(layer: Recurrent) -> Iterator[Fault]:
    """Of a layer that hands on its last output alone: which is taken for it."""
    if layer.returns_sequences is not False:
        return
    if len(layer.directions) == 2:
        yield Fault(
            "outputs[:, -1], which holds the backward half's first step, not its last",
            "last output",
            "last output",
            "torch.cat([h_n[-2], h_n[-1]], -1)",
            run=_taken(-1),
        )
    else:
        yield Fault(
            "the output at the end of the time axis, not at each sequence's own end",
            "last output",
            "padded state",
            "take h_n, or outputs[range(batch), lengths - 1]",
            run=_taken(-1),
        )
    yield Fault("the first output, not the last", "last output", "last output", "outputs[:, -1]", run=_taken(0))


def _taken(step: int) -> Callable[[Run], Run]:
    def wrapped(run: Run) -> Run:
        def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
            ran = run(layer, call, dtype)
            return ran._replace(last=ran.outputs[:, step])

        return changed

    return wrapped
