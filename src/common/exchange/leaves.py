"""What nested dictionaries, lists and models hold at their ends, each under a name that is the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

from rnn_common.exchange.contents import NotUnderstood
from rnn_common.exchange.pickles import Inert, Pairs
from rnn_common.exchange.plain import LONGEST_NAME
from rnn_common.reader import shown

DEEPEST = 64  # levels of one within another
MOST = 500_000  # ends and holders; what is reached by several ways counts each time

FIRST = 16  # attributes of a module, among which `_parameters` is

# A way: the one before it, what stands between them, and the last key. Joined only where it ends in something that is read.
Way = tuple[Any, str, str] | None


def leaves(root: Any) -> Iterator[tuple[Way, Any]]:
    """What is neither a dictionary, a list, a tuple nor an object, and the way to it. What holds itself is not gone round.

    Raises:
        NotUnderstood: it is nested too deep, or has too many ends.
    """
    return _Walk().at(None, root)


def joined(way: Way) -> str | None:
    """The name that a way is, `"model_state/lstm.weight_ih_l0"`; None of one that is too long."""
    parts: list[str] = []
    length = 0
    while way is not None:
        way, separator, key = way
        length += len(key) + 1
        if length > LONGEST_NAME:
            return None
        parts += [key, separator if way is not None else ""]
    return "".join(reversed(parts))


def is_model(value: Any) -> TypeGuard[Inert]:
    """Whether a value is a whole `torch.nn.Module`, and not its weights alone: it is known by its first attributes."""
    state = value.state if isinstance(value, Inert) else None
    return isinstance(state, Pairs) and any(key == "_parameters" for key, _ in state[:FIRST])


class _Walk:
    def __init__(self) -> None:
        self.seen = 0
        self.around: set[int] = set()  # what the present value is within

    def count(self) -> None:
        self.seen += 1
        if self.seen > MOST:
            raise NotUnderstood(f"the file should hold at most {MOST:,} values")

    def at(self, way: Way, value: Any, *, in_model: bool = False) -> Iterator[tuple[Way, Any]]:
        self.count()
        if not isinstance(value, (list, tuple, Inert)):
            yield way, value
        elif id(value) not in self.around:
            if len(self.around) == DEEPEST:
                raise NotUnderstood(f"{shown(joined(way))} should be nested at most {DEEPEST} deep")
            self.around.add(id(value))
            yield from self.model(way, value, "." if in_model else "/") if is_model(value) else self.within(way, value)
            self.around.remove(id(value))

    def within(self, way: Way, value: Any) -> Iterator[tuple[Way, Any]]:
        if isinstance(value, Inert):
            yield from self.within(way, value.inside)
            if value.state is not None:
                yield from self.at(way, value.state)
            return
        for index, (key, each) in enumerate(value if isinstance(value, Pairs) else enumerate(value)):
            yield from self.at((way, "/", _key(key, index)), each)

    def model(self, way: Way, value: Inert, separator: str) -> Iterator[tuple[Way, Any]]:
        """A module's parameters, buffers, modules and settings, named as its `state_dict` names them."""
        for key, each in value.state:
            self.count()
            if key in ("_parameters", "_buffers", "_modules") and isinstance(each, Pairs):
                for index, (name, inner) in enumerate(each):
                    yield from self.at((way, separator, _key(name, index)), inner, in_model=True)
            elif isinstance(key, str) and not isinstance(each, (list, tuple, Inert)):
                yield (way, separator, key), each


def _key(key: Any, index: int) -> str:
    """A key in words; of one that is no word and no number, its place."""
    if isinstance(key, str):
        return key
    return str(key) if isinstance(key, (int, float)) and abs(key) < 2**63 else f"[{index}]"
