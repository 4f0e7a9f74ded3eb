"""What the axes are behind a recurrent layer of an ONNX graph: whether the next reads them as what they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rnn_common.exchange.description import Dense, Recurrent
from rnn_common.exchange.onnx_constants import Constants, axes_of
from rnn_common.exchange.onnx_layers import Place
from rnn_common.exchange.onnx_proto import Node

Axes = tuple[str, ...]  # of "time", "batch", "directions", "features", and "one" of size 1


def are_read_as_they_are(nodes: Iterable[Node], places: Mapping[int, Place], constants: Constants) -> bool:
    """Whether no layer takes the steps for the sequences of a batch, nor either for features, as far as is known.

    Unknown are the axes of the graph's inputs and those that a shape makes that is computed from the data.

    Args:
        nodes: of the graph.
        places: of the layers in it, by the index of their node.
        constants: of the graph.
    """
    known: dict[str, Axes] = {}
    for index, node in enumerate(nodes):
        place = places.get(index)
        if place is None:
            axes = _arranged(node, known[node.input(0)], constants) if node.input(0) in known else None
            known |= {} if axes is None else dict.fromkeys(node.outputs[:1], axes)
            continue
        read = known.get(place.reads[0]) if place.reads else None
        if isinstance(place.layer, Recurrent):
            order = ("batch", "time") if node.get("layout", 0) else ("time", "batch")
            if read not in (None, (*order, "features")):
                return False
            known |= _given(place, place.layer, node)
        elif isinstance(place.layer, Dense) and read is not None:
            if read[-1] != "features":
                return False
            known |= dict.fromkeys(place.gives, read)
    return True


def _given(place: Place, layer: Recurrent, node: Node) -> dict[str, Axes]:
    """The axes of every step's output, and of the last; of those that a node behind has merged nothing is said."""
    directions = "directions" if len(layer.directions) == 2 else "one"
    steps: Axes = ("time", directions, "batch", "features")
    last: Axes = (directions, "batch", "features")
    if node.get("layout", 0):
        steps, last = ("batch", "time", directions, "features"), ("batch", directions, "features")
    if layer.merge != "concat":
        return {}
    return dict.fromkeys(place.steps, steps) | dict.fromkeys(place.last, last)


def _arranged(node: Node, axes: Axes, constants: Constants) -> Axes | None:
    """The axes behind a node that arranges; None where they are not known."""
    rank = len(axes)
    if node.operator in ("Identity", "Cast", "Dropout"):
        return axes
    if node.operator == "Transpose":
        perm = node.get("perm", ()) or tuple(reversed(range(rank)))
        whole = all(type(each) is int for each in perm) and sorted(perm) == list(range(rank))
        return tuple(axes[each] for each in perm) if whole else None
    if node.operator == "Squeeze":
        where = [i for i, each in enumerate(axes) if each == "one"]
        if node.input(1) or "axes" in node.attributes:
            where = [each % rank for each in axes_of(node, 1, constants) or (0,)]
        fits = all(axes[each] == "one" for each in where)
        return tuple(each for i, each in enumerate(axes) if i not in where) if fits else None
    if node.operator == "Unsqueeze":
        new = axes_of(node, 1, constants) or ()
        where = [each % (rank + len(new)) for each in new]
        rest = iter(axes)
        return tuple("one" if i in where else next(rest, "one") for i in range(rank + len(new))) if new else None
    if node.operator in ("Reshape", "Flatten") and axes[-2:] in (("directions", "features"), ("one", "features")):
        shape = constants.whole(node.input(1)) if node.operator == "Reshape" else ()
        flat = rank == 3 and node.operator == "Flatten" and node.get("axis", 1) == 1
        return (*axes[:-2], "features") if flat or (shape and len(shape) == rank - 1) else None
    return None
