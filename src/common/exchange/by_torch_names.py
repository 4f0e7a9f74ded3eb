"""Layers by the names that PyTorch or TensorFlow 1 gives their weights: recurrent ones, embeddings, dense ones, the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from rnn_common.cells import Cell
from rnn_common.exchange import own_cells
from rnn_common.exchange.contents import Array, Contents
from rnn_common.exchange.description import Dense, Embedding, Foreign, Layer, Recurrent
from rnn_common.exchange.tf1_cells import cells
from rnn_common.exchange.torch_stacks import stacks

OPTIMISER = "optimiser state"  # the kind of layer that it is listed as
SHOWN = 4  # arrays of a foreign layer, that are named in words

# `fc.weight` beside `fc.bias`; in short `fc_w` beside `fc_b`. (`attention.in_proj_weight` is three layers in one.)
_WEIGHT = re.compile(r"(?P<stem>(?:.*[./])?)weight|(?P<short>(?:.*[./_])?)[wW]")
_TABLE = re.compile(r"(?<![a-z])emb|embed", re.IGNORECASE)
_SETTING = re.compile(r"(?P<prefix>(?:.*/)?)param_groups/0/.*")
_MOMENTS = re.compile(r"(?P<prefix>.*[./])?[^./]+[./](?:exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer)")


def find(contents: Contents, own: Sequence[Cell] = ()) -> list[Layer]:
    """The layers of a file whose arrays are named as PyTorch's are, or TensorFlow 1's, in the file's order, a stack's in theirs.

    The weights of an optimiser are foreign, and so is what is neither a recurrent layer, nor a dense one with a bias, nor an
    embedding: a matrix called so, or one right before a recurrent layer that reads vectors of its width.

    Args:
        contents: of the file.
        own: cells of the user's own, whose weights are there by the cells' names. Default none.

    Raises:
        NotUnderstood: the arrays of a recurrent layer do not fit one another; names the one that does not.
    """
    order = {name: index for index, name in enumerate(contents.arrays)}
    found: list[tuple[int, Layer]] = []
    rest = dict(contents.arrays)

    def take(layers: list[Layer]) -> None:
        """Layers that stand where the first array of any of them does."""
        names = [name for layer in layers for name in layer.arrays]
        found.extend((min(order[name] for name in names), layer) for layer in layers)
        for name in names:
            del rest[name]

    for optimiser in list(_optimisers(rest, contents.config or {})):
        take([optimiser])
    for layer in list(own_cells.layers(rest, own)):
        take([layer])
    for stack in list(stacks(rest)):
        take([*stack.described(contents.config or {})])
    for cell in list(cells(rest)):
        take([cell])
    readers = {name: layer for _, layer in found if isinstance(layer, Recurrent) for name in layer.arrays}
    for dense in list(_dense(rest)):
        take([dense])
    following = dict(zip(contents.arrays, [*contents.arrays][1:], strict=False))
    for name, array in list(rest.items()):
        if _is_table(name, array, readers.get(following.get(name, ""))):
            take([Embedding(_stem(name), array, masks=None, arrays=(name,))])
    for foreign in list(_foreign(rest)):
        take([foreign])
    return [layer for _, layer in sorted(found, key=lambda each: each[0])]


def _optimisers(arrays: Mapping[str, Array], config: Mapping[str, object]) -> Iterator[Foreign]:
    """What an optimiser remembers: known by the settings beside it, or by the names of Adam's and SGD's moments."""
    settings = {match["prefix"] for key in config if (match := _SETTING.fullmatch(key))}
    groups: dict[str, list[str]] = {}
    for name in arrays:
        states = (match.start() for match in re.finditer(r"(?<![^/])state/", name))
        prefix = next((name[:start] for start in states if name[:start] in settings), None)
        if prefix is None and (match := _MOMENTS.fullmatch(name)):
            prefix = (match["prefix"] or "").removesuffix("state/")
        if prefix is not None:
            groups.setdefault(prefix, []).append(name)
    for prefix, names in groups.items():
        yield Foreign(prefix.rstrip("./") or "optimiser", OPTIMISER, changes=False, arrays=tuple(names))


def _dense(arrays: Mapping[str, Array]) -> Iterator[Dense]:
    for name, W in arrays.items():
        match = _WEIGHT.fullmatch(name)
        if match is None or not _is_matrix(W):
            continue
        bias = f"{match['stem']}bias" if match["stem"] is not None else f"{match['short']}b"
        b = arrays.get(bias)
        if b is not None and b.shape == W.shape[:1] and b.dtype == W.dtype:
            yield Dense(_stem(name), W, b, arrays=(name, bias), said=False)


def _is_table(name: str, array: Array, reader: Recurrent | None) -> bool:
    """Whether a matrix that has no bias is an embedding: called so, or read by a recurrent layer, and not by mistake."""
    if not _is_matrix(array):
        return False
    words = [word for word in re.split("[./]", _stem(name)) if not word.isdecimal()]
    if words and _TABLE.search(words[-1]):
        return True
    rows, columns = array.shape
    return reader is not None and reader.input_size == columns != rows and _WEIGHT.fullmatch(name) is not None


def _foreign(arrays: Mapping[str, Array]) -> Iterator[Foreign]:
    """What is left, by what the names begin with."""
    groups: dict[str, list[str]] = {}
    for name in arrays:
        prefix = re.sub(r"[./][^./]*$", "", name)
        groups.setdefault(prefix, []).append(name)
    for prefix, names in groups.items():
        words = [f"{name.removeprefix(prefix).lstrip('./') or name} {arrays[name].shape}" for name in names[:SHOWN]]
        more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
        yield Foreign(prefix, ", ".join(words + more), arrays=tuple(names))


def _stem(name: str) -> str:
    """What a matrix belongs to: `fc` of `fc.weight` and of `fc_w`; itself where it is called nothing else."""
    match = _WEIGHT.fullmatch(name)
    stem = (match["stem"] if match["stem"] is not None else match["short"]) if match else name
    return stem.rstrip("._/") or name


def _is_matrix(array: Array) -> bool:
    return array.ndim == 2 and array.dtype.kind == "f"
