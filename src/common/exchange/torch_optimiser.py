"""Adam and SGD as PyTorch's checkpoints hold them: parameters go by number, in the order of the state dict beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rnn_common.cells import Cell
from rnn_common.exchange import by_torch_names
from rnn_common.exchange.contents import Array, Contents
from rnn_common.exchange.description import Foreign, Layer, Optimiser, Recurrent
from rnn_common.exchange.optimisers import LeftOut, check_settings, made
from rnn_common.reader import number, shown

_SETTING = re.compile(r"(?P<prefix>(?:.*/)?)param_groups/(?P<group>\d+)/(?P<name>.+)")
# Of each optimiser the settings, by PyTorch's names and ours; the settings that have to be off, for Keras's has them not; and the
# moments.
SETTINGS = {
    "adam": {"lr": "learning_rate", "betas/0": "beta_1", "betas/1": "beta_2", "eps": "epsilon"},
    "sgd": {"lr": "learning_rate", "momentum": "momentum", "nesterov": "nesterov"},
}
OFF = {
    "adam": ("weight_decay", "amsgrad", "maximize"),
    "sgd": ("weight_decay", "dampening", "maximize"),
}
MOMENTS = {"adam": {"exp_avg": "m", "exp_avg_sq": "v"}, "sgd": {"momentum_buffer": "velocity"}}
ALL_SAME = (
    "foreach",
    "fused",
    "capturable",
    "differentiable",
    "decoupled_weight_decay",
    "initial_lr",
)  # in what is computed
NEEDED = {"adam": "amsgrad", "sgd": "dampening"}  # by which they are known


def find(contents: Contents, layers: Sequence[Layer], own: Sequence[Cell] = ()) -> Optimiser | None:
    """The optimiser that a checkpoint holds; None where there is none.

    Args:
        contents: of the file.
        layers: that were found in it.
        own: cells of the user's own, see `by_torch_names.find`. Default none.

    Raises:
        ValueError: it is another than Adam and SGD, or cannot be told which of its parameters is which weight.
    """
    values = dict(contents.config or {}) | {
        name: array.item() for name, array in contents.arrays.items() if not array.ndim
    }
    said = _said(values)
    if not said:
        if any(isinstance(layer, Foreign) and layer.kind == by_torch_names.OPTIMISER for layer in layers):
            raise LeftOut("which optimiser it is of is not in the file")
        return None
    if len(said) > 1:
        raise LeftOut(f"there are {len(said)}, {', '.join(shown(prefix.rstrip('/')) for prefix in list(said)[:3])}")
    if old := [layer for layer in layers if isinstance(layer, Recurrent) and layer.packing == "tf1"]:
        raise LeftOut(f"{old[0].name} is packed as TensorFlow 1 does, whose optimisers are others")
    ((prefix, groups),) = said.items()
    if groups.keys() != {"0"}:
        raise LeftOut(f"it has {len(groups)} groups of parameters, whose order in the network is not in the file")
    name = _kind(groups["0"])
    settings = {ours: groups["0"][theirs] for theirs, ours in SETTINGS[name].items() if theirs in groups["0"]}
    if len(settings) < len(SETTINGS[name]):
        raise LeftOut(f"it should have the settings {', '.join(SETTINGS[name])}")
    check_settings(settings)
    states = _states(name, prefix, _numbers(groups["0"]), contents.arrays, values)
    if name == "sgd" and not settings["momentum"]:
        states = [{} for _ in states]
    weights = _weights(prefix, states, contents.arrays)
    moments: dict[str, list[Layer]] = {}
    for theirs, ours in MOMENTS[name].items() if any(states) else ():
        factor = -settings["learning_rate"] if ours == "velocity" else 1
        arrays = {weight: state[theirs] * factor for weight, state in zip(weights, states, strict=True)}
        moments[ours] = _in_place(replace(contents, arrays=arrays), layers, own)
    return made(name, settings, _updates(states) if name == "adam" else None, moments)


def _said(values: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The settings of each group of parameters of each optimiser, by what their names begin with."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, value in values.items():
        if match := _SETTING.fullmatch(name):
            found.setdefault(match["prefix"], {}).setdefault(match["group"], {})[match["name"]] = value
    return found


def _kind(group: Mapping[str, Any]) -> str:
    """`"adam"` or `"sgd"`, by its settings."""
    own = [name for name in group if not name.startswith(("params/", "param_names/")) and name not in ALL_SAME]
    for name, needed in NEEDED.items():
        if needed in group and set(own) <= {*SETTINGS[name], *OFF[name]}:
            if on := [each for each in OFF[name] if group.get(each)]:
                raise LeftOut(f"its {on[0]} is {shown(group[on[0]])}, which is not the same in both frameworks")
            return name
    raise LeftOut(f"it should be Adam or SGD, got one with {', '.join(map(shown, own[:8]))}")


def _numbers(group: Mapping[str, Any]) -> list[str]:
    """By what its parameters go, in order."""
    found: list[str] = []
    while f"params/{len(found)}" in group:
        found.append(str(group[f"params/{len(found)}"]))
    return found


def _states(
    name: str, prefix: str, numbers: Sequence[str], arrays: Mapping[str, Array], values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What is remembered of each parameter, all of it or of none any."""
    known = {*MOMENTS[name], "step"}
    by_number: dict[str, dict[str, Any]] = {number: {} for number in numbers}
    for key, value in (*values.items(), *arrays.items()):
        match = re.fullmatch(r"state/([^/]+)/(.+)", key.removeprefix(prefix)) if key.startswith(prefix) else None
        if match is None:
            continue
        if match[1] not in by_number or match[2] not in known:
            raise LeftOut(f"it should hold {', '.join(sorted(known))} of each of its parameters, got {shown(key)}")
        by_number[match[1]].setdefault(match[2], value)
    needed = set(MOMENTS[name]) | ({"step"} if name == "adam" else set())
    lacking = [f"{each} of parameter {n}" for n, state in by_number.items() for each in sorted(needed - state.keys())]
    if lacking and any(by_number.values()):
        raise LeftOut(f"it should hold {', '.join(sorted(needed))} of each of its parameters, but lacks {lacking[0]}")
    for n, state in by_number.items():
        if isinstance(state.get("step"), np.ndarray):
            raise LeftOut(f"step of parameter {n} should be one number")
        for each in MOMENTS[name]:
            if state and (not isinstance(state[each], np.ndarray) or state[each].dtype.kind != "f"):
                raise LeftOut(f"{each} of parameter {n} should be floating-point numbers")
    return list(by_number.values())


def _weights(prefix: str, states: Sequence[Mapping[str, Any]], arrays: Mapping[str, Array]) -> list[str]:
    """The names of the weights whose parameters these are: those of the one state dict that has as many, of the same shapes."""
    folders: dict[str, list[str]] = {}
    for name in arrays:
        if not name.startswith((f"{prefix}state/", f"{prefix}param_groups/")):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
    fitting = [names for names in folders.values() if _fits([arrays[name] for name in names], states)]
    if len(fitting) != 1:
        counts = ", ".join(str(len(names)) for names in folders.values()) or "none"
        raise LeftOut(
            f"its {len(states)} parameters should be the weights of one state dict in the file, in its order, got "
            + (f"{len(fitting)} that would fit" if fitting else f"{counts} weights, or of other shapes")
        )
    return fitting[0]


def _fits(weights: Sequence[Array], states: Sequence[Mapping[str, Any]]) -> bool:
    return len(weights) == len(states) and all(
        value.shape == weight.shape
        for weight, state in zip(weights, states, strict=True)
        for key, value in state.items()
        if key != "step"
    )


def _updates(states: Sequence[Mapping[str, Any]]) -> float:
    steps = {number("step", state["step"]) if state else 0.0 for state in states}
    if len(steps) != 1:
        raise LeftOut(
            f"all of its parameters should have done as many updates, got {min(steps, default=0):g} to {max(steps):g}"
        )
    return steps.pop()


def _in_place(contents: Contents, layers: Sequence[Layer], own: Sequence[Cell]) -> list[Layer]:
    """The layers with the moments in the place of the weights."""
    found = {layer.arrays: layer for layer in by_torch_names.find(contents, own)}
    for layer in layers:
        if layer.arrays not in found and not isinstance(layer, Foreign):
            raise LeftOut(f"it should be of all layers, but is not of {layer.name}")
    return [found.get(layer.arrays, layer) for layer in layers]
