"""What a pickle describes, without unpickling it: nothing is imported, called or made but plain data.

A pickle is a program for a machine with a stack and a memo. The one here knows the instructions that build dictionaries, lists,
tuples, strings and numbers. Where a program asks for a function to be called or an object to be made, it does so only of the
few functions that `Objects` knows; of any other it leaves an `Inert` in the place, which says what was asked for.

A dictionary is a list of pairs here: to look up keys of a stranger's choice can take as long as the stranger likes. For the
same reason nothing is copied that the memo could hand out again and again, and nothing is shown in full.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pickletools import genops
from typing import IO, Any

from rnn_common.exchange.contents import NotUnderstood
from rnn_common.exchange.plain import is_name
from rnn_common.reader import shown

LARGEST = 2**26  # bytes of a pickle
STEPS = 2_000_000  # instructions, and pairs that are copied


class Pairs(list[tuple[Any, Any]]):
    """The keys and values of a dictionary, in order; a key that comes again replaces the one before."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<dictionary of {len(self)}>"


@dataclass(frozen=True, eq=False, slots=True)
class Global:
    """A function or class, by its name alone: `"torch.FloatStorage"`."""

    name: str

    def __repr__(self) -> str:
        return self.name


@dataclass(eq=False, slots=True)
class Inert:
    """What would have been an object, or a call's result.

    Attributes:
        name: of the class or function.
        inside: what was put into it: pairs, or values with their index as key.
        state: what its attributes would have been set to.
    """

    name: str
    inside: Pairs = field(default_factory=Pairs)
    state: Any = None

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Objects:
    """What a pickle may have made besides plain data: here nothing.

    Attributes:
        named: the functions and classes that were named, in order, whether or not they were to be called.
    """

    def __init__(self) -> None:
        self.named: dict[str, None] = {}

    def make(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """What stands for the result of a function, or for an object of a class."""
        return Inert(name)

    def refer(self, reference: Any) -> Any:
        """What stands for an object outside of the pickle."""
        return Inert("an object elsewhere")


def load(stream: IO[bytes], objects: Objects) -> Any:
    """What the next pickle of a stream describes.

    Args:
        stream: at its start; afterwards behind its end.
        objects: what it may have made besides plain data.

    Returns:
        None, a number, a string, bytes, a list, a tuple, `Pairs`, a `Global`, an `Inert`, or what `objects` made.

    Raises:
        NotUnderstood: it is no pickle, not whole, too long, or does what is not known.
    """
    machine = _Machine(objects)
    try:
        for instruction, argument, _ in genops(stream):
            machine.step(instruction.name, argument)
        return machine.stack.pop()
    except NotUnderstood:
        raise
    except IndexError:
        raise NotUnderstood("the pickle should be whole, but asks for a value that is not there") from None
    except (ValueError, OverflowError) as error:
        raise NotUnderstood(f"the pickle should be whole, got {shown(str(error))}") from None


class _Machine:
    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}
        self.left = STEPS

    def step(self, name: str, argument: Any) -> None:
        """One instruction, by its name in `pickletools`."""
        self.spend(1)
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "POP":
                self.stack.pop() if self.stack else self.to_mark()
            case "POP_MARK":
                self.to_mark()
            case "DUP":
                self.stack.append(self.stack[-1])
            case "BINPUT" | "LONG_BINPUT" | "PUT" | "MEMOIZE":
                self.remember(len(self.memo) if name == "MEMOIZE" else argument)
            case "BINGET" | "LONG_BINGET" | "GET":
                self.recall(argument)
            case "BINPERSID":
                self.stack.append(self.objects.refer(self.stack.pop()))
            case "SETITEM" | "SETITEMS":
                self.put(_pairs(self.take(2) if name == "SETITEM" else self.to_mark()))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                self.append(self.take(1) if name == "APPEND" else self.to_mark())
            case "BUILD":
                holder, state = self.take(2)
                self.stack.append(holder)
                if isinstance(holder, Inert):
                    holder.state = state
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT" | "NONE":
                self.stack.append(argument)
            case _ if name.endswith(("STRING", "UNICODE", "UNICODE8", "BYTES", "BYTES8", "BYTEARRAY8")):
                self.stack.append(argument)
            case _ if name in _MADE:
                made = _MADE[name](self, argument)
                self.stack.append(made)  # onto what is the stack by now
            case _:
                raise NotUnderstood(f"the pickle should hold plain data and tensors, got the instruction {name}")

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise NotUnderstood(f"a pickle should have at most {STEPS:,} steps")

    def take(self, count: int) -> list[Any]:
        """The uppermost values, off the stack."""
        if len(self.stack) < count:
            raise IndexError
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def to_mark(self) -> list[Any]:
        """The values above the last mark, off the stack."""
        found, self.stack = self.stack, self.below.pop()
        return found

    def remember(self, index: Any) -> None:
        if type(index) is not int or not 0 <= index < 2**32:
            raise NotUnderstood(f"a pickle's memo should be numbered from 0 to 2**32, got {shown(index)}")
        self.memo[index] = self.stack[-1]

    def recall(self, index: Any) -> None:
        if index not in self.memo:
            raise NotUnderstood(f"the pickle should be whole, but asks for value {shown(index)}, which is not there")
        self.stack.append(self.memo[index])

    def put(self, pairs: Pairs) -> None:
        holder = self.stack[-1]
        if not isinstance(holder, (Pairs, Inert)):
            raise NotUnderstood(f"the pickle should put pairs into a dictionary, got {shown(holder)}")
        (holder.inside if isinstance(holder, Inert) else holder).extend(pairs)

    def append(self, values: list[Any]) -> None:
        holder = self.stack[-1]
        if isinstance(holder, Inert):
            holder.inside.extend(enumerate(values, len(holder.inside)))
        elif isinstance(holder, list) and not isinstance(holder, Pairs):
            holder.extend(values)
        else:
            raise NotUnderstood(f"the pickle should append to a list, got {shown(holder)}")

    def make(self, function: Any, arguments: Any) -> Any:
        """What stands for a call's result, or for a new object."""
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            return Inert(function.name if isinstance(function, (Global, Inert)) else "an object")
        if function.name == "collections.OrderedDict":
            return self.dictionary(arguments)
        return self.objects.make(function.name, arguments)

    def dictionary(self, arguments: tuple[Any, ...]) -> Pairs:
        """An OrderedDict, which Python 2 makes of a list of its pairs."""
        pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
        self.spend(len(pairs))
        if any(not isinstance(pair, (list, tuple)) or len(pair) != 2 for pair in pairs):
            raise NotUnderstood(f"an OrderedDict should be of pairs, got {shown(pairs)}")
        return Pairs((key, value) for key, value in pairs)

    def named(self, module: Any, name: Any) -> Global:
        if not (isinstance(module, str) and isinstance(name, str) and is_name(module) and is_name(name)):
            raise NotUnderstood(f"a pickle should name what it calls in few words, got {shown(module)}, {shown(name)}")
        found = Global(f"{module}.{name}")
        self.objects.named[found.name] = None
        return found

    def new(self) -> Any:
        """Of a class and the values after it, above a mark."""
        function, *arguments = self.to_mark() or [None]
        return self.make(function, tuple(arguments))


def _pairs(values: list[Any]) -> Pairs:
    if len(values) % 2:
        raise NotUnderstood("the pickle should be whole, but a key has no value")
    return Pairs(zip(values[::2], values[1::2], strict=True))


_MADE: dict[str, Callable[[_Machine, Any], Any]] = {
    "NEWTRUE": lambda *_: True,
    "NEWFALSE": lambda *_: False,
    "EMPTY_LIST": lambda *_: [],
    "EMPTY_TUPLE": lambda *_: (),
    "EMPTY_DICT": lambda *_: Pairs(),
    "EMPTY_SET": lambda *_: Inert("builtins.set"),
    "LIST": lambda machine, _: machine.to_mark(),
    "TUPLE": lambda machine, _: tuple(machine.to_mark()),
    "TUPLE1": lambda machine, _: tuple(machine.take(1)),
    "TUPLE2": lambda machine, _: tuple(machine.take(2)),
    "TUPLE3": lambda machine, _: tuple(machine.take(3)),
    "DICT": lambda machine, _: _pairs(machine.to_mark()),
    "FROZENSET": lambda machine, _: Inert("builtins.frozenset", Pairs(enumerate(machine.to_mark()))),
    "GLOBAL": lambda machine, words: machine.named(*words.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.named(*machine.take(2)),
    "REDUCE": lambda machine, _: machine.make(*machine.take(2)),
    "NEWOBJ": lambda machine, _: machine.make(*machine.take(2)),
    "NEWOBJ_EX": lambda machine, _: machine.make(*machine.take(3)[:2]),
    "OBJ": lambda machine, _: machine.new(),
    "INST": lambda machine, words: machine.make(machine.named(*words.split(" ", 1)), tuple(machine.to_mark())),
    "PERSID": lambda machine, reference: machine.objects.refer(reference),
}
