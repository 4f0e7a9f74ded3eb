"""The catalogue, faults of the call: state, lengths, order of axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from rnn_common.doctor.calls import Call, Run, Seen
from rnn_common.doctor.faults import Does, Fault
from rnn_common.doctor.in_directions import both
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Recurrent
from rnn_common.exchange.forward import Ran


def _of_call(change: Callable[[Call], Call]) -> Callable[[Run], Run]:
    def wrapped(run: Run) -> Run:
        return lambda layer, call, dtype: run(layer, change(call), dtype)

    return wrapped


def of_states(layer: Recurrent, call: Call) -> Iterator[Fault]:
    if call.state is None:
        return
    yield Fault(
        "an initial state of zeros, not the one that it is given",
        "initial state",
        "state",
        "pass the state: layer(x, state) in PyTorch, layer(x, initial_state=state) in Keras",
        run=_of_call(lambda call: call._replace(state=None)),
    )
    if len(layer.cell.states) == 2:
        yield Fault(
            "h and c of the initial state exchanged",
            "order of the state",
            "state",
            "(h, c), in this order",
            run=_of_call(_parts_exchanged),
            undo=lambda does: lambda call: does(_parts_exchanged(call)),
        )
    if len(layer.directions) == 2:
        yield Fault(
            "the initial states of the two directions exchanged",
            "order of the state",
            "state",
            "the forward direction's state first",
            run=_of_call(_directions_exchanged),
            undo=lambda does: lambda call: does(_directions_exchanged(call)),
        )


def _parts_exchanged(call: Call) -> Call:
    return call._replace(state=tuple(each[::-1] for each in call.state or ()))


def _directions_exchanged(call: Call) -> Call:
    return call._replace(state=(call.state or ())[::-1])


def of_lengths(layer: Recurrent, call: Call) -> Iterator[Fault]:
    if call.lengths is None:
        return
    fix = "pack_padded_sequence(x, lengths, ...) in PyTorch, mask=tf.sequence_mask(lengths) in Keras"
    for name, row, change in (
        ("the lengths ignored: runs on through the padding", "padded state", lambda n, time: None),
        ("the lengths a step too short", "padded state", lambda n, time: np.maximum(n - 1, 1)),
        ("the lengths a step too long", "padded state", lambda n, time: np.minimum(n + 1, time)),
        ("the lengths frozen at the longest", "padded state", lambda n, time: np.full_like(n, n.max())),
    ):
        if "frozen" in name and call.lengths.max() == call.x.shape[1]:
            continue  # which is to ignore them
        yield Fault(name, "lengths", row, fix, run=_of_call(_with_lengths(change)))
    yield Fault("the padding taken to be in front", "lengths", "padding in front", fix, run=_padded_in_front)
    if len(layer.directions) == 2:
        yield Fault(
            "the backward half started in the padding",
            "lengths",
            "unmasked backward",
            fix,
            run=_backward_without_lengths,
        )


def _holding(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        ran = run(layer, call, dtype)
        if call.lengths is None or layer.backwards or len(layer.directions) == 2:
            return ran
        outputs = ran.outputs.copy()
        for row, length in zip(outputs, call.lengths, strict=True):
            row[length:] = row[length - 1]
        return ran._replace(outputs=outputs)

    return changed


# No fault, but what Keras does: where a sequence has ended its last output stands, not 0, of a layer in one direction, forwards.
# It is seen where a fault brings it to where the sequence has not ended.
HOLDS = Fault("the last output held where a sequence has ended", "padding", "padded state", "", run=_holding)


def _with_lengths(change: Callable[[Array, int], Array | None]) -> Callable[[Call], Call]:
    def changed(call: Call) -> Call:
        return (
            call if call.lengths is None else call._replace(lengths=change(np.asarray(call.lengths), call.x.shape[1]))
        )

    return changed


def _padded_in_front(run: Run) -> Run:
    """The last `length` steps are the sequence: they are brought to the front, and their outputs back."""

    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        if call.lengths is None:
            return run(layer, call, dtype)
        time = call.x.shape[1]
        places = (np.arange(time) + time - np.asarray(call.lengths)[:, None]) % time
        ran = run(layer, call._replace(x=np.take_along_axis(call.x, places[..., None], 1)), dtype)
        outputs = np.zeros_like(ran.outputs)
        inside = np.arange(time) < np.asarray(call.lengths)[:, None]
        np.put_along_axis(outputs, places[..., None], np.where(inside[..., None], ran.outputs, 0), 1)
        return ran._replace(outputs=outputs)

    return changed


def _backward_without_lengths(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        states = call.state or (None, None)
        forward = run(
            replace(layer, directions=layer.directions[:1]),
            call._replace(state=None if states[0] is None else (states[0],)),
            dtype,
        )
        backward = run(
            replace(layer, directions=layer.directions[1:], backwards=True),
            call._replace(state=None if states[1] is None else (states[1],), lengths=None),
            dtype,
        )
        return both(layer, [forward, backward])

    return changed


def of_axes(layer: Recurrent, call: Call) -> Iterator[Fault]:
    """Batch and time exchanged, or mixed; where they are exchanged no state or length has the right shape."""
    batch, time = call.x.shape[:2]
    fix = "batch_first=True in PyTorch, x.transpose(0, 1) and not x.view"
    if call.lengths is None and (call.state is None or batch == time):
        yield Fault("the axes of batch and time exchanged", "axes", "axes", fix, run=_transposed, undo=_transposed_back)
    yield Fault(
        "x brought into (time, batch, …) by view, not by transpose", "axes", "axes", fix, run=_viewed(as_input=True)
    )
    yield Fault(
        "outputs brought from (time, batch, …) by view, not by transpose",
        "axes",
        "axes",
        fix,
        run=_viewed(as_input=False),
    )
    if call.lengths is None:
        yield Fault(
            "each step by itself, from the initial state",
            "axes",
            "axes",
            "call the layer on the whole sequence, or hand the state on",
            run=_each_step_alone,
        )


def _transposed_back(does: Does) -> Does:
    def done(call: Call) -> Seen:
        given = does(Call(np.ascontiguousarray(call.x.swapaxes(0, 1))))
        return Seen(given.outputs.swapaxes(0, 1))

    return done


def _transposed(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        state = call.state if call.x.shape[0] == call.x.shape[1] else None
        ran = run(layer, Call(call.x.swapaxes(0, 1), state), dtype)
        return ran._replace(outputs=ran.outputs.swapaxes(0, 1))

    return changed


def _viewed(as_input: bool) -> Callable[[Run], Run]:
    """A layer over `(time, batch, …)` whose input, or whose output, was reshaped."""

    def wrapped(run: Run) -> Run:
        def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
            batch, time, _ = call.x.shape
            if as_input:
                x = call.x.reshape(time, batch, -1).swapaxes(0, 1)
                return run(layer, call._replace(x=x), dtype)
            ran = run(layer, call, dtype)
            viewed = np.ascontiguousarray(ran.outputs.swapaxes(0, 1)).reshape(ran.outputs.shape)
            return ran._replace(outputs=viewed)

        return changed

    return wrapped


def _each_step_alone(run: Run) -> Run:
    def changed(layer: Recurrent, call: Call, dtype: DTypeLike) -> Ran:
        steps = [run(layer, call._replace(x=call.x[:, t : t + 1]), dtype) for t in range(call.x.shape[1])]
        return steps[-1]._replace(outputs=np.concatenate([each.outputs for each in steps], 1))

    return changed
