"""What an optimiser remembers, from one framework to the other: Adam's moments are the same in both, SGD's are not.

PyTorch keeps v = μ v + g and subtracts α v; Keras, and `Optimiser.moments`, have v = μ v − α g and add it: −α times PyTorch's.

Two biases that PyTorch adds have equal gradients, and so equal moments as long as both are trained alike; each takes a step.
Keras has one bias there, with the moments of either, and it takes one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import Dense, Direction, Embedding, Found, Layer, Optimiser, Recurrent
from rnn_common.reader import checked, number

LEFT_OUT = "the optimiser's state is left out: "
HOLDERS = {".keras": "tf", ".pt": "torch"}  # files that have a place for it, and whose they are
ALIKE = 1e-4  # of the largest, how far the moments of two added biases may be apart: their gradients are sums in another order
ROUNDING = 4 * float(np.finfo(np.float32).eps)


class LeftOut(ValueError):
    """An optimiser, or its state, that cannot be taken along; says why."""


def made(
    name: str,
    settings: Mapping[str, Any],
    updates: Any,
    moments: Mapping[str, Iterable[Layer]],
    notes: Iterable[str] = (),
) -> Optimiser:
    """An optimiser out of what a file says, checked.

    Raises:
        ValueError: a setting or a moment is none.
    """
    check_settings(settings)
    if updates is not None and not (0 <= updates < 2**53 and updates == int(updates)):
        raise LeftOut(f"its updates should be a whole number, got {updates}")
    found = Optimiser(
        name,
        settings,
        None if updates is None else int(updates),
        {moment: tuple(layers) for moment, layers in moments.items()},
        tuple(notes),
    )
    for moment, layers in found.moments.items():
        for where, array in (each for layer in layers for each in arrays_of(layer)):
            if not np.isfinite(array).all() or (moment == "v" and (array < 0).any()):
                raise LeftOut(f"{moment} of {where} should be finite{', and at least 0' if moment == 'v' else ''}")
    return found


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings that are none.

    Raises:
        ValueError: one is no number, or out of range.
    """
    for setting, value in settings.items():
        if setting == "nesterov":
            checked(setting, value, bool)
        elif number(setting, value) < 0 or (setting == "learning_rate" and not value):
            raise LeftOut(f"its {setting} should be above 0, got {value}")
        elif setting in ("beta_1", "beta_2", "momentum") and value >= 1:
            raise LeftOut(f"its {setting} should be below 1, got {value}")


def arrays_of(layer: Layer) -> Iterator[tuple[str, Array]]:
    """Each array of a layer, and what it is."""
    if isinstance(layer, Recurrent):
        for n, direction in enumerate(layer.directions):
            yield from ((f"{layer.name}, direction {n}, {name}", array) for name, array in direction.weights.items())
    elif isinstance(layer, Embedding):
        yield f"{layer.name}, E", layer.E
    elif isinstance(layer, Dense):
        yield f"{layer.name}, W", layer.W
        if layer.b is not None:
            yield f"{layer.name}, b", layer.b


def fitted(found: Found, twin: str) -> Optimiser:
    """The optimiser of what was found, its moments of as many biases as a framework has.

    Args:
        found: what was found.
        twin: `"torch"` or `"tf"`.

    Raises:
        LeftOut: there is none; or two biases that are one in Keras were not trained alike.
    """
    if found.optimiser is None:
        said = (note.removeprefix(LEFT_OUT) for note in found.notes if note.startswith(LEFT_OUT))
        raise LeftOut(f"{found.path.name} should hold an optimiser's state: {next(said, 'there is none in it')}")
    moments = {
        moment: tuple(_with_biases(layer, twin) for layer in layers)
        for moment, layers in found.optimiser.moments.items()
    }
    return replace(found.optimiser, moments=moments)


def _with_biases(layer: Layer, twin: str) -> Layer:
    if not isinstance(layer, Recurrent) or not layer.bias:
        return layer
    one = twin == "tf" and not layer.cell.apart
    each = (
        Direction((_one_bias if one else _two_biases)(layer, direction.weights), direction.activations)
        for direction in layer.directions
    )
    return replace(layer, directions=tuple(each))


def _one_bias(layer: Recurrent, moments: Mapping[str, Array]) -> dict[str, Array]:
    found = dict(moments)
    for gate in layer.cell.gates:
        second = found.pop(f"b_h{gate}", None)
        first = found[layer.cell.bias(gate)]
        if second is not None and np.abs(first - second).max() > ALIKE * np.abs(first).max():
            raise LeftOut(
                f"the two biases of gate {gate} in {layer.name} have moments of their own, for which Keras's one has no place"
            )
    return found


def _two_biases(layer: Recurrent, moments: Mapping[str, Array]) -> dict[str, Array]:
    return {f"b_h{gate}": moments[layer.cell.bias(gate)] for gate in layer.cell.gates} | dict(moments)


def carried(found: Found, kind: str) -> tuple[Found, tuple[str, ...]]:
    """What was found, with its optimiser if it can go into a kind of file; and what is to be said of that.

    Args:
        found: what was found.
        kind: the end of the file's name.
    """
    if found.optimiser is None:
        return found, tuple(note for note in found.notes if note.startswith(LEFT_OUT))
    try:
        if kind not in HOLDERS:
            raise LeftOut(f"{kind} has no place for it, {' and '.join(HOLDERS)} have")
        if found.in_the_way:
            raise LeftOut(f"{found.in_the_way[0].name} is left out, too, so that training cannot go on")
        optimiser = fitted(found, HOLDERS[kind])
    except LeftOut as error:
        return replace(found, optimiser=None), (f"{LEFT_OUT}{error}",)
    return found, (f"The optimiser goes with it: {optimiser}", *optimiser.notes, *_differences(found, optimiser))


def _differences(found: Found, optimiser: Optimiser) -> Iterator[str]:
    """What is not the same in the other framework."""
    if optimiser.name == "adam":
        yield "ε is taken as it is: Keras adds it to √v, PyTorch to √v̂, which is the same after many updates"
    if "velocity" in optimiser.moments:
        yield (
            f"the velocity is of the learning rate {optimiser.settings['learning_rate']:.6g}: "
            "when that changes, PyTorch's scales with it, Keras's does not"
        )
    if any(layer.bias and set(layer.cell.gates) - set(layer.cell.apart) for layer in found.recurrent):
        yield "of two biases that PyTorch adds each takes a step, where Keras has one it takes one"


def check_alike(found: Found, again: Found, twin: str) -> str:
    """What is different between the optimiser that was to be written and the one that is in the file; nothing if it is the same.

    Args:
        found: what was to be written.
        again: what was read again.
        twin: whose file it is.
    """
    if again.optimiser is None:
        return "there is none"
    expected, got = fitted(found, twin), fitted(again, twin)
    if expected.name != got.name or (expected.moments and expected.moments.keys() != got.moments.keys()):
        return f"it is {got}"
    for name, value in expected.settings.items():
        if abs(got.settings[name] - value) > ROUNDING * abs(value):
            return f"its {name} is {got.settings[name]}, not {value}"
    if got.updates is not None and got.updates != (expected.updates or 0):
        return f"it is after {got.updates} updates, not {expected.updates}"
    if not expected.moments and any(array.any() for _, array in _in_turn(sum(got.moments.values(), ()))):
        return "it remembers something"
    for moment, layers in expected.moments.items():
        pairs = zip(_in_turn(layers), _in_turn(got.moments[moment]), strict=True)
        for (where, array), (_, other) in pairs:
            if array.shape != other.shape or (np.abs(array - other) > ROUNDING * np.abs(array).max()).any():
                return f"its {moment} of {where} is another"
    return ""


def _in_turn(layers: Iterable[Layer]) -> list[tuple[str, Array]]:
    """The arrays of layers, those of a layer by their names."""
    return [each for layer in layers for each in sorted(arrays_of(layer), key=lambda pair: pair[0].rpartition(", ")[2])]
