"""PyTorch's tensors as its files describe them: views of rows of numbers, checked before they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_common.exchange.contents import RANK, Array, Budget, NotUnderstood
from rnn_common.exchange.pickles import Global, Inert, Objects
from rnn_common.exchange.plain import CODES, dtype_of, width
from rnn_common.reader import shown

# Storages by their classes; what has no class of its own is bytes, and the tensor names its type.
KINDS = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
# Bytes of a number that NumPy has not, or that means another: what is behind it in a file begins so much later.
OTHERS = {
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QInt32Storage": 4,
}


@dataclass(frozen=True, repr=False)
class Storage:
    """A row of numbers in the file, or a part of it.

    Attributes:
        key: of the row.
        kind: of its numbers.
        count: how many this part has.
        start: before which number of the row it begins. Default 0.
    """

    key: str
    kind: str
    count: int
    start: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Tensor:
    """A view of a storage, as the file claims it: nothing of it is checked yet."""

    storage: Storage
    start: Any
    shape: Any
    strides: Any


@dataclass(frozen=True, eq=False, repr=False)
class Unread:
    """A tensor, or its storage, of numbers that NumPy has not, or of another make: sparse, quantised."""

    kind: str


class TorchObjects(Objects):
    """What PyTorch's files have made: tensors, and references to storages.

    Attributes:
        kinds: of the storages that were referred to, by their keys.
        widths: how many bytes a number of each has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[str, str] = {}
        self.widths: dict[str, int] = {}

    @property
    def unknown(self) -> list[str]:
        """What was named and is none of PyTorch's own plain things."""
        return [name for name in self.named if name not in _PLAIN]

    def make(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "torch._tensor._rebuild_from_type_v2" and len(arguments) == 4:  # a tensor that has attributes
            function, _, arguments, _ = arguments
            name = function.name if isinstance(function, Global) else ""
        if name not in _KNOWN or not isinstance(arguments, tuple):
            return Unread(name) if name.startswith("torch._utils._rebuild_") else Inert(name)
        if len(arguments) < _KNOWN[name][0]:
            raise NotUnderstood(f"{name} should have {_KNOWN[name][0]} arguments, got {len(arguments)}")
        return _KNOWN[name][1](*arguments)

    def refer(self, reference: Any) -> Any:
        """A storage: `("storage", class, key, place, count)`, and in old files what part of it, or None."""
        if not isinstance(reference, tuple) or len(reference) < 2 or reference[0] not in ("storage", "module"):
            raise NotUnderstood(f"a storage should be referred to by class, key and size, got {shown(reference)}")
        if reference[0] == "module":  # before 1.6, a class with its source
            return reference[1]
        if len(reference) not in (5, 6) or not isinstance(reference[1], Global) or not isinstance(reference[2], str):
            raise NotUnderstood(f"a storage should be referred to by class, key and size, got {shown(reference)}")
        _, made, key, _, count, *part = reference
        own = made.name.rpartition(".")[2]
        kind = KINDS.get(own, made.name)
        if self.kinds.setdefault(key, kind) != kind:
            raise NotUnderstood(f"storage {shown(key)} should be of one type, got {self.kinds[key]} and {kind}")
        if own not in KINDS:
            self.widths[key] = OTHERS.get(own, 0)
            return Unread(made.name)
        self.widths[key] = width(kind)
        start = 0
        if part and isinstance(part[0], tuple) and len(part[0]) == 3:
            _, start, count = part[0]
        return Storage(key, kind, _whole("a storage's size", count), _whole("a storage's start", start))


def array(name: str, tensor: Tensor, row: Callable[[Storage], Array], budget: Budget) -> Array:
    """The array that a tensor is: a view, that cannot be written to, of the numbers of its storage.

    Args:
        name: of the tensor.
        tensor: as the file claims it.
        row: gives the numbers of a storage.
        budget: what the file may still ask for.

    Raises:
        NotUnderstood: the shape, the strides or the start is none, or it goes beyond its storage.
    """
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= RANK):
        raise NotUnderstood(f"{name} should have a shape and strides, got {shown(shape)} and {shown(strides)}")
    kind = dtype_of(storage.kind)
    shape = budget.take(name, shape, kind)
    strides = tuple(_whole(f"a stride of {name}", stride) for stride in strides)
    start = _whole(f"the start of {name}", tensor.start)
    if 0 in shape:
        return np.zeros(shape, kind)
    last = start + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if last >= storage.count:
        raise NotUnderstood(
            f"{name} should be within its storage of {storage.count:,} numbers, "
            f"got shape {shape} with strides {strides} from {start:,}"
        )
    item = kind.itemsize
    found: Array = np.ndarray(shape, kind, row(storage), start * item, [stride * item for stride in strides])
    return found


def _whole(what: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**40:
        raise NotUnderstood(f"{what} should be a whole number from 0 to 2**40, got {shown(value)}")
    return value


def _tensor(storage: Any, start: Any, shape: Any, strides: Any, *_: Any) -> Any:
    if isinstance(storage, Unread):
        return storage
    if not isinstance(storage, Storage):
        raise NotUnderstood(f"a tensor should be of a storage, got {shown(storage)}")
    return Tensor(storage, start, shape, strides)


def _typed_tensor(
    storage: Any, start: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, kind: Any, *_: Any
) -> Any:
    """Of bytes that are numbers of a type which the tensor names."""
    name = kind.name.removeprefix("torch.") if isinstance(kind, Global) else ""
    if name not in CODES:
        return Unread(name or "an unknown type")
    if not isinstance(storage, Storage) or storage.kind != "uint8" or storage.count % width(name):
        raise NotUnderstood(f"a tensor of {name} should be of a storage of whole such numbers")
    return Tensor(Storage(storage.key, name, storage.count // width(name)), start, shape, strides)


# By name: how many arguments there are at least, and what is made of them.
_KNOWN: dict[str, tuple[int, Callable[..., Any]]] = {
    "torch._utils._rebuild_tensor": (4, _tensor),
    "torch._utils._rebuild_tensor_v2": (4, _tensor),
    "torch._utils._rebuild_tensor_v3": (7, _typed_tensor),
    "torch._utils._rebuild_parameter": (1, lambda tensor, *_: tensor),
    "torch._utils._rebuild_parameter_with_state": (1, lambda tensor, *_: tensor),
    "torch.Size": (1, lambda sizes, *_: sizes),
}
_PLAIN = {
    *_KNOWN,
    *(f"torch.{kind}" for kind in CODES),
    "collections.OrderedDict",
    "torch._tensor._rebuild_from_type_v2",
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "torch.device",
    *(f"torch.{place}{kind}" for kind in (*KINDS, *OTHERS) for place in ("", "cuda.", "storage.")),
}
