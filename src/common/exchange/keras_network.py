"""The network that a configuration of Keras's of any age says, as plain data: its layers, and whether each reads the one before.

Nothing is made of what a configuration names: no class is looked up, no function is deserialised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rnn_common.exchange.contents import NotUnderstood
from rnn_common.reader import checked, shown

NETWORKS = ("Sequential", "Model", "Functional")
KERAS = ("keras", "tf_keras", "tensorflow")  # what Keras's own modules' names begin with
TWIN = "rnn_tf>"  # and what rnn_tf's layers are registered as, whose options are Keras's
MERGES = ("Merge",)  # of Keras 1: a first layer that has networks of its own


@dataclass(frozen=True, eq=False)
class Configured:
    """A layer as the configuration says it.

    Attributes:
        name: of the layer.
        kind: its class's name.
        options: its configuration.
        own: whether the class is not Keras's.
        feeds: the layers that it reads, by name: of a network that is no sequence.
        calls: how often it is called in the network. Default once.
    """

    name: str
    kind: str
    options: Mapping[str, Any]
    own: bool = False
    feeds: tuple[str, ...] = ()
    calls: int = 1


def layer(said: Any, name: str = "") -> Configured:
    """A layer from `class_name` and `config`, or from Keras 3's mapping with a module besides.

    Raises:
        NotUnderstood: it is none.
    """
    if not isinstance(said, Mapping) or not isinstance(said.get("class_name"), str):
        raise NotUnderstood(f"a layer should have a class_name, got {shown(said)}")
    options = said.get("config")
    if said["class_name"] == "Sequential" and isinstance(options, list):
        options = {"layers": options}
    if not isinstance(options, Mapping):
        raise NotUnderstood(f"a layer's config should be a mapping, got {shown(options)}")
    module = said.get("module")
    ours = any(str(said.get(key)).startswith(TWIN) for key in ("class_name", "registered_name"))
    own = "module" in said and not ours and str(module).partition(".")[0] not in KERAS
    called = options.get("name", said.get("name", name))
    feeds, calls = _feeds(said.get("inbound_nodes"))
    kind = checked("class_name", said["class_name"], str).removeprefix(TWIN)
    return Configured(checked("a layer's name", called, str), kind, options, own, feeds, calls)


Layers = tuple[Configured, ...]


def network_of(whole: Configured) -> tuple[Layers, Layers, bool]:
    """A network's layers in its order and as they are listed, and whether each reads what the one before it gives, no more.

    Args:
        whole: a `Sequential`, a `Model` or a `Functional`.

    Raises:
        NotUnderstood: it has no layers, or two of one name.
    """
    said = whole.options.get("layers")
    if not isinstance(said, list):
        raise NotUnderstood(f"{shown(whole.name)} should have a list of layers, got {shown(said)}")
    listed = tuple(layer(each, f"layer_{index}") for index, each in enumerate(said))
    if len({each.name for each in listed}) != len(listed):
        raise NotUnderstood(f"the layers of {shown(whole.name)} should have names of their own, got one twice")
    if whole.kind == "Sequential":
        return listed, listed, not any(each.kind in MERGES for each in listed)
    layers, chain = _in_order(listed, whole.options)
    return layers, listed, chain


def _in_order(layers: Layers, options: Mapping[str, Any]) -> tuple[Layers, bool]:
    """The layers from the input to the output, if that is one way; else as they are listed.

    What is on no way to the output computes a mask, and is left out.
    """
    by_name = {each.name: each for each in layers}
    ends = list(_references(options.get("output_layers")))
    if len(ends) != 1 or len(list(_references(options.get("input_layers")))) != 1:
        return layers, False
    way: list[Configured] = []
    name = ends[0]
    while True:
        if name not in by_name or len(way) == len(layers):
            return layers, False
        way.append(by_name[name])
        if not way[-1].feeds:
            break
        if len(way[-1].feeds) != 1 or way[-1].calls != 1:
            return layers, False
        name = way[-1].feeds[0]
    left = set(by_name) - {each.name for each in way}
    return (tuple(reversed(way)), True) if all(by_name[name].kind == "NotEqual" for name in left) else (layers, False)


def _feeds(nodes: Any) -> tuple[tuple[str, ...], int]:
    """The layers that a layer reads, once for each tensor, and how often it is called.

    A tensor that is not its layer's first output, a state, counts twice: that is no way through.
    """
    if not isinstance(nodes, list):
        return (), 1
    return tuple(_references(nodes)), len(nodes)


def _references(said: Any) -> Iterator[str]:
    """Each reference `[layer, node, tensor]` in a configuration, but for masks."""
    waiting = [said]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            waiting += [value for key, value in each.items() if key != "mask"]
        elif isinstance(each, list):
            if len(each) in (3, 4) and isinstance(each[0], str) and all(type(index) is int for index in each[1:3]):
                yield from [each[0]] * (1 if each[2] == 0 else 2)
                waiting += each[3:]
            else:
                waiting += each
