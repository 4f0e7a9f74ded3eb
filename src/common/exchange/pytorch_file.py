"""What `torch.save` writes: state dicts, checkpoints that hold them somewhere, and whole models, of which the arrays are read.

Since PyTorch 1.6 such a file is a zip file: `data.pkl` describes tensors as views of storages, each a member `data/N`. Before, it
was five pickles (a magic number, a version, the machine's ways, the object, the storages' keys), then the storages, whose first
byte of a number is the smallest whatever the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from rnn_common import reader
from rnn_common.exchange.archive import Archive, check_regular, opened
from rnn_common.exchange.contents import LARGEST, MOST, Array, Budget, Contents, NotUnderstood
from rnn_common.exchange.leaves import is_model, joined, leaves
from rnn_common.exchange.pickles import LARGEST as LARGEST_PICKLE
from rnn_common.exchange.pickles import Pairs, load
from rnn_common.exchange.plain import BFLOAT16, checked_name, is_name, numbers, width
from rnn_common.exchange.torch_objects import Storage, Tensor, TorchObjects, Unread, array
from rnn_common.reader import shown

MAGIC = 0x1950A86A20F9469CFC6C  # of the form before 1.6
NAMED = 10  # things of a kind that a note names

Row = Callable[[Storage], Array]  # all numbers of the row that a storage is of, or is a part of


def read(path: Path) -> Contents:
    """What a file of `torch.save` holds, without PyTorch, and without unpickling.

    Args:
        path: of the file, `.pt` or `.pth`.

    Returns:
        The tensors as arrays that cannot be written to; as `config` the numbers and words beside them, by names alike. What
        the file would have had made besides, or called, is named in `notes`.

    Raises:
        OSError: it is not there, or cannot be read.
        NotUnderstood: it is no such file, damaged, TorchScript, or claims what it does not hold.
    """
    check_regular(path)
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        with opened(path) as archive:
            return _zipped(path, archive)
    return _before_1_6(path)


def _zipped(path: Path, archive: Archive) -> Contents:
    roots = [name.removesuffix("data.pkl") for name in archive.members if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise NotUnderstood(f"{path.name} should hold one data.pkl, as torch.save writes it, got {len(roots)}")
    root = roots[0]
    if any(name.startswith((f"{root}constants.pkl", f"{root}code/")) for name in archive.members):
        raise NotUnderstood(
            f"{path.name} is TorchScript, which is a program: "
            "its weights are read from a file of torch.save(torch.jit.load(…).state_dict(), …)"
        )
    if archive.size(f"{root}data.pkl") > LARGEST_PICKLE:
        raise NotUnderstood(f"{root}data.pkl should have at most {LARGEST_PICKLE:,} bytes")
    objects = TorchObjects()
    found = load(BytesIO(archive.content(f"{root}data.pkl")), objects)
    order = archive.start(f"{root}byteorder", 8) if f"{root}byteorder" in archive.members else b"little"
    if order not in (b"little", b"big"):
        raise NotUnderstood(f"{root}byteorder should be little or big, got {shown(order)}")

    def row(storage: Storage) -> Array:
        name, expected = f"{root}data/{storage.key}", storage.count * width(storage.kind)
        if archive.size(name) != expected or storage.start:
            raise NotUnderstood(f"{name} should have {expected:,} bytes, as data.pkl says, got {archive.size(name):,}")
        return numbers(archive.content(name), storage.kind, storage.count, big=order == b"big")

    return _contents(path, found, objects, "", row)


def _before_1_6(path: Path) -> Contents:
    content = reader.read(path, LARGEST)
    if content[257:262] == b"ustar":
        raise NotUnderstood(
            f"{path.name} is of PyTorch before 0.1.10: a later one before 1.6 loads it, and saves what can be read"
        )
    objects, stream = TorchObjects(), BytesIO(content)
    if not _is_magic(stream):
        raise NotUnderstood(
            f"{path.name} should be a file of torch.save, got another pickle, or none: "
            "arrays by themselves are read from .npz and .safetensors"
        )
    _version, _system, found, keys = (load(stream, objects) for _ in range(4))
    places = _places(content, stream.tell(), keys, objects.widths)

    def row(storage: Storage) -> Array:
        first, size = places.get(storage.key, (0, 0))
        return numbers(content, storage.kind, size // width(storage.kind), first)

    return _contents(path, found, objects, ", in the form before 1.6", row)


def _is_magic(stream: BytesIO) -> bool:
    try:
        first = load(stream, TorchObjects())
    except NotUnderstood:
        return False
    return type(first) is int and first == MAGIC


def _places(content: bytes, place: int, keys: Any, widths: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Where each storage begins and how many bytes it has: one behind another, each behind the count of its numbers."""
    places: dict[str, tuple[int, int]] = {}
    for key in keys if isinstance(keys, list) else [keys]:
        if not isinstance(key, str) or not widths.get(key) or key in places:
            raise NotUnderstood(
                f"the storages should be the tensors', each once and of a type that is known, got {shown(key)}"
            )
        count = int.from_bytes(content[place : place + 8], "little", signed=True)
        place, size = place + 8, count * widths[key]
        if not 0 <= size <= len(content) - place:
            raise NotUnderstood(f"storage {shown(key)} should be within the file, got {count:,} numbers: truncated?")
        places[key] = place, size
        place += size
    return places


def _contents(path: Path, root: Any, objects: TorchObjects, form: str, row: Row) -> Contents:
    """The arrays at the ends of what a file describes. Of tensors that share a storage it is read once."""
    budget = Budget()
    rows: dict[tuple[str, str], Array] = {}

    def read_once(storage: Storage) -> Array:
        place = storage.key, storage.kind
        if place not in rows:
            rows[place] = row(storage)
            rows[place].flags.writeable = False
        part = rows[place][storage.start : storage.start + storage.count]
        if len(part) != storage.count:
            raise NotUnderstood(
                f"storage {shown(storage.key)} should have {storage.start + storage.count:,} numbers, got {len(rows[place]):,}"
            )
        return part

    arrays: dict[str, Array] = {}
    config: dict[str, Any] = {}
    unread: list[str] = []
    for way, value in leaves(root):
        name = "tensor" if way is None else joined(way)
        if isinstance(value, Tensor):
            if name is None or checked_name(name) in arrays:
                raise NotUnderstood(f"{shown(name)} should be the name of one tensor, and not too long")
            arrays[name] = array(name, value, read_once, budget)
        elif isinstance(value, Unread):
            unread.append(f"{shown(name)} ({value.kind})")
        elif name is not None and is_name(name) and _is_setting(value) and len(config) < MOST:
            config[name] = value
    notes = [
        *_note("left out, for these are no plain arrays: ", unread),
        *_note("named in the file, and neither called nor made: ", objects.unknown),
        *([BFLOAT16] if any(kind == "bfloat16" for _, kind in rows) else []),
    ]
    return Contents(path, f"PyTorch {_kind(root)}{form}", arrays, config or None, notes=tuple(notes))


def _note(what: str, names: Iterable[str]) -> list[str]:
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return [what + ", ".join(listed[:NAMED]) + more] if listed else []


def _kind(root: Any) -> str:
    if is_model(root):
        return "model"
    if isinstance(root, Pairs) and root and all(isinstance(value, (Tensor, Unread)) for _, value in root):
        return "state dict"
    return "tensor" if isinstance(root, Tensor) else "checkpoint"


def _is_setting(value: Any) -> bool:
    """Whether a value is a word or a number, of a size that can be shown."""
    if isinstance(value, str):
        return is_name(value)
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)
