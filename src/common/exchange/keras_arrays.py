"""Which arrays of a file are which layer's: Keras's order of a layer's arrays, whether they are kept by layer or by path.

By path the layers of one class are numbered in the network's order, whatever they are called: `layers/lstm`, `layers/lstm_1`.
TensorFlow's Keras leaves out every other number, and has another name for `layers`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rnn_common.exchange.contents import Contents, NotUnderstood
from rnn_common.exchange.hdf5_file import OPTIMISER, natural
from rnn_common.exchange.keras_network import NETWORKS, Configured, layer, network_of
from rnn_common.reader import shown

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
# Where a layer ends and the parts begin that its arrays are in.
PARTS = re.compile(
    r"(/(?P<direction>forward_layer|backward_layer))?(/layer)?(/cell(/cells/(?P<stacked>[^/]+))?)?(/seed_generator)?/vars/\d+$"
)


def by_layer(contents: Contents, layers: Sequence[Configured], listed: Sequence[Configured]) -> list[tuple[str, ...]]:
    """The names of each layer's arrays.

    Args:
        contents: of the file.
        layers: whose arrays are asked for.
        listed: the same layers in the order in which the configuration lists them.

    Raises:
        NotUnderstood: the file has other layers than the configuration.
    """
    said = (contents.config or {}).get("layers")
    if said is not None:
        return [tuple(said.get(each.name, ())) for each in layers]
    container = next((each for each in CONTAINERS if any(name.startswith(f"{each}/") for name in contents.arrays)), "")
    arrays = [name for name in contents.arrays if "/seed_generator/" not in name]
    found = dict(zip((each.name for each in listed), _numbered(arrays, container, listed), strict=True))
    return [found[each.name] for each in layers]


def _numbered(arrays: Sequence[str], container: str, layers: Sequence[Configured]) -> list[tuple[str, ...]]:
    """The arrays of layers in one container, where those of a class are numbered."""
    depth = container.count("/") + 2
    held: dict[str, list[str]] = {}
    for name in arrays:
        if name.startswith(f"{container}/"):
            held.setdefault("/".join(name.split("/")[:depth]), []).append(name)
    by_kind: dict[str, list[str]] = {}
    for folder in sorted(held, key=natural):
        by_kind.setdefault(re.sub(r"_\d+$", "", folder.rpartition("/")[2]), []).append(folder)
    counts = Counter(snake(each.kind) for each in layers)
    folders = {kind: iter(_in_turn(container, kind, by_kind.get(kind, []), count)) for kind, count in counts.items()}
    found = []
    for each in layers:
        folder = next(folders[snake(each.kind)])
        found.append(tuple(_within(held.get(folder, []), folder, each)))
    return found


def _in_turn(container: str, kind: str, there: Sequence[str], count: int) -> Sequence[str]:
    """The folders of a class's layers in turn. A layer without arrays may have none."""
    each = [f"{container}/{kind}" + (f"_{index}" if index else "") for index in range(count)]
    if set(there) <= set(each):
        return each
    if len(there) != count:
        raise NotUnderstood(
            f"{shown(container)} should have the arrays of {count} layers called {kind}, as the configuration has,"
            f" got {len(there)}"
        )
    return there


def _within(arrays: Sequence[str], path: str, each: Configured) -> Sequence[str]:
    """A layer's arrays in Keras's order."""
    if each.kind == "Bidirectional":
        return sorted(arrays, key=lambda name: name.startswith(f"{path}/backward_layer/"))
    if cells := stacked_cells(each):
        return [name for names in _numbered(arrays, f"{path}/cell/cells", cells) for name in names]
    if each.kind in NETWORKS and not each.own:
        inner = network_of(each)[1]
        return [name for names in _numbered(arrays, f"{path}/layers", inner) for name in names]
    return arrays


def stacked_cells(each: Configured) -> list[Configured]:
    """The cells of an `RNN` around `StackedRNNCells`; none of any other layer."""
    cell = each.options.get("cell") if each.kind == "RNN" else None
    if not isinstance(cell, dict) or cell.get("class_name") != "StackedRNNCells":
        return []
    cells = layer(cell).options.get("cells")
    if not isinstance(cells, list) or not cells:
        raise NotUnderstood(f"{shown(each.name)} should have cells, got {shown(cells)}")
    return [layer(said, f"cell_{index}") for index, said in enumerate(cells)]


def snake(kind: str) -> str:
    """A class's name as Keras writes it in a path: `time_distributed`."""
    kind = re.sub(r"\W+", "", kind)
    kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()


def groups(contents: Contents) -> dict[str, tuple[str, ...]]:
    """The arrays that belong together where the file says nothing of the network, by what they are called together."""
    said = (contents.config or {}).get("layers")
    if said is not None:
        return {name: tuple(arrays) for name, arrays in said.items() if arrays}
    found: dict[str, list[str]] = {}
    for name in contents.arrays:
        match = PARTS.search(name)
        if "/seed_generator/" not in name and not name.startswith(OPTIMISER):
            stacked = f"/cell/cells/{match['stacked']}" if match and match["stacked"] else ""
            found.setdefault((name[: match.start()] if match else name) + stacked, []).append(name)
    return {name: tuple(sorted(arrays, key=_forward_first)) for name, arrays in found.items()}


def _forward_first(name: str) -> tuple[bool, list[tuple[str, int]]]:
    return "/backward_layer/" in name, natural(name)
