"""Adam and SGD as Keras 3's `.keras` holds them: moments go by number, in the order of the network's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rnn_common.exchange import by_keras
from rnn_common.exchange.contents import Array, Contents
from rnn_common.exchange.description import Layer, Optimiser
from rnn_common.exchange.hdf5_file import OPTIMISER
from rnn_common.exchange.keras_arrays import by_layer
from rnn_common.exchange.keras_network import KERAS, layer, network_of
from rnn_common.exchange.optimisers import LeftOut, made
from rnn_common.reader import shown

# The settings and the moments of each optimiser, by Keras's name of its class.
NAMES = {"Adam": "adam", "SGD": "sgd"}
SETTINGS = {"adam": ("beta_1", "beta_2", "epsilon"), "sgd": ("momentum", "nesterov")}
MOMENTS = {"adam": ("m", "v"), "sgd": ("velocity",)}
# What has to be off, for PyTorch's has it not; what is no part of an optimiser there; and what says nothing by itself.
OFF = ("weight_decay", "use_ema", "loss_scale_factor", "gradient_accumulation_steps", "amsgrad")
CLIPS = ("clipnorm", "global_clipnorm", "clipvalue")
SILENT = ("name", "ema_momentum", "ema_overwrite_frequency", "learning_rate")


def find(contents: Contents, layers: Sequence[Layer]) -> Optimiser | None:
    """The optimiser that a file holds; None where there is none.

    Args:
        contents: of the file.
        layers: that were found in it.

    Raises:
        ValueError: it is another than Adam and SGD, or cannot be told which moment is of which weight.
    """
    held = [name for name in contents.arrays if name.startswith(OPTIMISER)]
    if not held:
        return None
    model = (contents.config or {}).get("model")
    if not isinstance(model, Mapping):
        raise LeftOut("which optimiser it is of is not in the file, as it is in .keras")
    if contents.version < (3,):
        raise LeftOut("it is read of Keras 3")
    name, config = _said(model.get("compile_config"))
    if held != [f"{OPTIMISER}vars/{n}" for n in range(len(held))]:
        raise LeftOut(f"its arrays should be called vars/0 to vars/{len(held) - 1}")
    updates, *rate = (contents.arrays[each] for each in held[:2])
    if updates.ndim or not rate or rate[0].ndim:
        raise LeftOut("its learning rate should be a number, got a schedule")
    settings = {"learning_rate": rate[0].item()} | {each: config.get(each) for each in SETTINGS[name]}
    kinds = MOMENTS[name] if name == "adam" or settings["momentum"] else ()
    notes = [
        f"{each} {config[each]} is left out: in PyTorch the training loop clips" for each in CLIPS if config.get(each)
    ]
    moments = _moments(kinds, [contents.arrays[each] for each in held[2:]], _weights(contents, model), contents)
    return made(
        name, settings, updates.item(), {kind: _in_place(each, layers) for kind, each in moments.items()}, notes
    )


def _moments(
    kinds: Sequence[str], arrays: Sequence[Array], names: Sequence[str], contents: Contents
) -> dict[str, Contents]:
    """The file's contents with each kind of moment in the place of the weights; none before the first update.

    Raises:
        LeftOut: there are not as many moments as weights, or of other shapes.
    """
    if not arrays:
        return {}
    if len(arrays) != len(kinds) * len(names):
        raise LeftOut(f"it should have {len(kinds)} moments of each of {len(names)} weights, got {len(arrays)} in all")
    found = {}
    for n, kind in enumerate(kinds):
        own = dict(zip(names, arrays[n :: len(kinds)], strict=True))
        for weight, array in own.items():
            if array.shape != contents.arrays[weight].shape or array.dtype.kind != "f":
                raise LeftOut(f"{kind} of {shown(weight)} should be numbers of its shape, got {array.shape}")
        found[kind] = replace(contents, arrays=own)
    return found


def _said(compiled: Any) -> tuple[str, Mapping[str, Any]]:
    """The optimiser's name and settings out of what a model was compiled with."""
    said = compiled.get("optimizer") if isinstance(compiled, Mapping) else None
    kind, config = (said.get("class_name"), said.get("config")) if isinstance(said, Mapping) else (said, None)
    own = isinstance(said, Mapping) and str(said.get("module")).partition(".")[0] not in KERAS
    if own or not isinstance(kind, str) or kind not in NAMES or not isinstance(config, Mapping):
        raise LeftOut(f"it should be Keras's Adam or SGD, got {shown(kind)}")
    name = NAMES[kind]
    if on := [each for each in OFF if config.get(each)]:
        raise LeftOut(f"its {on[0]} is {shown(config[on[0]])}, which is not the same in both frameworks")
    if unknown := config.keys() - {*SETTINGS[name], *OFF, *CLIPS, *SILENT}:
        raise LeftOut(f"it has a setting that is not known here, {shown(sorted(unknown)[0])}")
    return name, config


def _weights(contents: Contents, model: Mapping[str, Any]) -> list[str]:
    """The names of the network's weights, in the order in which its layers are listed."""
    _, listed, _ = network_of(layer(model, "model"))
    return [name for names in by_layer(contents, listed, listed) for name in names]


def _in_place(contents: Contents, layers: Sequence[Layer]) -> list[Layer]:
    """The layers with the moments in the place of the weights."""
    found, _, _ = by_keras.find(contents)
    if [each.arrays for each in found] != [each.arrays for each in layers]:
        raise LeftOut("its moments should make the layers that the weights make")
    return list(found)
