"""A network layer by layer: what each was given and gave, and what goes on from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rnn_common.doctor.calls import Call, Seen, seen
from rnn_common.doctor.sides import Side, Step, of_description
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import FUNCTIONS, Activation, Layer, Recurrent
from rnn_common.parity.contract import deviation

# What goes on is the same to the rounding of float32, which other sums are off by.
SAME = 1e-5
LAST, EVERY, SOMETHING_ELSE = "the last output", "every output", "something else"


def steps(side: Side, call: Call) -> list[Step]:
    """What each layer of a side was given and gave: as it was heard, or by the equations of what it is declared to be."""
    if side.steps is not None:
        return side.steps(call)
    found = []
    given = call
    for place, layer in enumerate(side.layers):
        gave = seen(side.layers[: place + 1], call, np.float32)
        found.append(Step(of_description((layer,), layer.name), given, gave))
        given = Call(gave.outputs, None, call.lengths if gave.outputs.ndim == 3 else None)
    return found


def layers(found: Sequence[Step]) -> tuple[Layer, ...]:
    """All layers in the order of their calls."""
    return tuple(layer for step in found for layer in step.side.layers)


def links(found: Sequence[Step], outputs: Array) -> list[str]:
    """What of each layer's output goes on to the next one, and from the last out of the network, in words."""
    said = []
    nexts = [*(step.call.x for step in found[1:]), outputs]
    for step, given in zip(found, nexts, strict=True):
        said += [EVERY] * (len(step.side.layers) - 1)
        said.append(_link(step, given))
    return said


def _link(step: Step, given: Array) -> str:
    y, layer = step.seen.outputs, step.side.layers[-1]
    ways = _ways(layer, y)
    for name, way in ways.items():
        made = way(y)
        if made.shape == given.shape and deviation(given.astype(np.float64), made.astype(np.float64)) <= SAME:
            return name
    return SOMETHING_ELSE


def _ways(layer: Layer, y: Array) -> dict[str, Callable[[Array], Array]]:
    """What can go on of a layer's output, by its name; what a layer hands on by itself goes by the same name."""
    functions: dict[str, Callable[[Array], Array]] = {
        f"{name} of the output": Activation(name, 1 / 6, 0.5) for name in ("softmax", "sigmoid", "tanh", "relu")
    }
    functions["log softmax of the output"] = lambda y: np.log(FUNCTIONS["softmax"](y, 0.0, 0.0))
    if y.ndim == 2 or not isinstance(layer, Recurrent):
        whole = LAST if isinstance(layer, Recurrent) else EVERY
        return {whole: lambda y: y, **functions, **(_of_time("the output ") if y.ndim == 3 else {})}
    last: dict[str, Callable[[Array], Array]] = {}
    if len(layer.directions) == 2 and layer.merge == "concat":
        half = layer.hidden_size
        last[LAST] = lambda y: np.concatenate([y[:, -1, :half], y[:, 0, half:]], -1)
        last["outputs[:, -1], the backward half's first step"] = lambda y: y[:, -1]
    else:
        last[LAST] = lambda y: y[:, 0 if layer.backwards and not layer.flipped else -1]
    return {EVERY: lambda y: y, **last, **_of_time("the outputs "), **functions}


def _of_time(what: str) -> dict[str, Callable[[Array], Array]]:
    return {
        f"{what}at the first step": lambda y: y[:, 0],
        f"{what}at the last step": lambda y: y[:, -1],
        f"the mean of {what.strip()}": lambda y: y.mean(1),
        f"the sum of {what.strip()}": lambda y: y.sum(1),
        f"the largest of {what.strip()}": lambda y: y.max(1),
        f"{what}from the last step to the first": lambda y: y[:, ::-1],
        f"{what}with the axes of batch and time exchanged": lambda y: y.swapaxes(0, 1),
        f"{what}with time and features in one": lambda y: y.reshape(len(y), -1),
        f"{what}viewed as (time, batch, …)": lambda y: y.reshape(y.shape[1], y.shape[0], -1),
    }


def completed(side: Side, other: Side, call: Call) -> Side:
    """A side whose layers do not say what they hand on, as weights alone do not, with what the other's do in their places."""
    unsaid = [isinstance(each, Recurrent) and each.returns_sequences is None for each in side.layers]
    if not any(unsaid) or [type(each) for each in side.layers] != [type(each) for each in other.layers]:
        return side
    try:
        found = links(steps(other, call), other.run(call).outputs)
    except Exception:  # whatever a model of the user's own raises; it is said where it is run
        return side
    if len(found) != len(side.layers):
        return side
    said = tuple(
        replace(layer, returns_sequences=link != LAST) if each and isinstance(layer, Recurrent) else layer
        for layer, each, link in zip(side.layers, unsaid, found, strict=True)
    )
    return of_description(said, side.name, side.origin)


def first_apart(a: Sequence[Step], b: Sequence[Step], bound: float) -> int | None:
    """The place of the first layer whose outputs differ, of those that both sides have a step for; None where there is none."""
    ends_a, ends_b = _ends(a), _ends(b)
    for place in sorted(ends_a.keys() & ends_b.keys()):
        one, other = ends_a[place], ends_b[place]
        if one.outputs.ndim == other.outputs.ndim and (
            one.outputs.shape != other.outputs.shape
            or deviation(other.outputs.astype(np.float64), one.outputs.astype(np.float64)) > bound
        ):
            return place
    return None


def _ends(found: Sequence[Step]) -> dict[int, Seen]:
    """What each step gave, by the place of its last layer."""
    places = np.cumsum([len(step.side.layers) for step in found]) - 1
    return {int(place): step.seen for place, step in zip(places, found, strict=True)}
