"""The Protocols that each twin implements, in NumPy arrays, and the twins by name.

A twin is reached as `get("torch")` or `get("tf")`, which imports it then and not before. Its layers,
ours and the framework's own, are opaque here: they are made, filled, read and run by the functions of `Layers`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rnn_common.cells import Cell
from rnn_common.checks import one_of
from rnn_common.parity.case import Array, Case, Result, State
from rnn_common.weights import Parameters

if TYPE_CHECKING:
    from rnn_common.data.batches import Batch
    from rnn_common.networks import Model
    from rnn_common.training.run import Run

NetworkState = list[State]


@dataclass(frozen=True)
class Part:
    """One direction of one layer: what `copy_weights` reads and fills.

    Attributes:
        layer: what the user made: a layer or cell, or a wrapper or network around it.
        holder: the layer or cell that has the weights.
        cell: its cell.
        bias: whether there are biases.
        options: all else that decides the function, by name: sizes, directions, activations by what they compute. None says
            that it is not decided, as the input size of a layer without weights and the direction of a cell that is run by hand.
        suffix: how PyTorch's names of these weights end, empty for a cell.
    """

    layer: Any
    holder: Any
    cell: Cell
    bias: bool
    options: dict[str, Any]
    suffix: str = ""


class Clock(Protocol):
    """A framework on its machine: what it is, what it runs on, and how long that takes."""

    def versions(self) -> dict[str, str]:
        """The versions of the framework's packages, by name."""

    def devices(self) -> tuple[str, ...]:
        """Where layers can run: `"cpu"` and, where there is a GPU, `"cuda"`."""

    def forget_compiled(self) -> None:
        """Drop what was compiled, so that many layers compiled one after another do not count as one that keeps changing."""

    def set_threads(self, count: int) -> None:
        """How many threads an operation may use. TensorFlow takes it before its first operation only.

        Raises:
            RuntimeError: too late.
        """

    def seconds(self, function: Callable[[], Any], calls: int = 1, device: str = "cpu") -> float:
        """The time of one of `calls` calls, until all that they have started is done; by the device's own clock on CUDA."""

    def peak_memory(self, function: Callable[[], Any], device: str = "cuda") -> int:
        """By how many bytes a call raises the most that is in use on a CUDA device at once."""

    def device_name(self, device: str) -> str:
        """What the device is called by its maker, `"cpu"` for the CPU."""

    def matrix_product(self, size: int, device: str = "cpu", dtype: str = "float32") -> Callable[[], Any]:
        """A function that multiplies two square matrices of that size: what the machine is capable of."""


class Layers(Protocol):
    """Layers and cells, ours and the framework's own: made, filled, read, run."""

    def engines(self) -> tuple[str, ...]:
        """The names of this twin's engines, without `"auto"`."""

    def has_builtin(self, parameters: Parameters) -> bool:
        """Whether the framework itself has a layer of this form."""

    def make(
        self,
        parameters: Parameters,
        *,
        builtin: bool = False,
        engine: str = "auto",
        device: str = "cpu",
        dtype: str | None = None,
    ) -> Any:
        """A layer, ours or the framework's own, with these weights.

        Args:
            parameters: the weights.
            builtin: whether it is to be the framework's own layer. Default False.
            engine: how ours is run over time. Default `"auto"`.
            device: `"cpu"` (default) or `"cuda"`.
            dtype: `"float64"`, `"float32"` or `"bfloat16"`. Default that of the weights.

        Raises:
            ValueError: an unknown or absent device or engine, or a form that the framework's own layer lacks.
        """

    def parts(self, layer: Any) -> list[list[Part]]:
        """The directions of every layer in a layer, cell, wrapper or network of this framework, from the input upwards.

        A layer without weights, such as dropout, has none.

        Raises:
            TypeError: something that is no recurrent layer.
            ValueError: a layer that computes something of its own.
        """

    def unpack(self, part: Part) -> dict[str, Array]:
        """The weights in force by the document's names, both biases apart; bfloat16 as float32.

        Raises:
            ValueError: there are none yet.
        """

    def pack(self, part: Part, weights: Mapping[str, Array]) -> list[tuple[Any, Any]]:
        """Each variable with the value that it is to have, for `put`; makes the variables where there are none yet.

        Raises:
            ValueError: a variable is computed from others, or of a dtype that cannot hold the value.
        """

    def values(self, holder: Any, arrays: Mapping[str, Array]) -> list[tuple[Any, Any]]:
        """The same for any layer, of arrays by its variables' names."""

    def current(self, variable: Any) -> Any:
        """A copy of a variable's value, for `put`."""

    def put(self, variable: Any, value: Any) -> None:
        """Give a variable its value."""

    def read(self, layer: Any) -> Parameters:
        """The weights in force of a layer or cell, ours or the framework's own; bfloat16 as float32.

        The weights alone: activations and direction are what `copy_weights` compares.
        """

    def write(self, layer: Any, parameters: Parameters) -> None:
        """Fill a layer or cell, ours or the framework's own.

        Raises:
            ValueError: the weights are of another cell, form or size than the layer.
        """

    def explain(self, layer: Any, case: Case) -> tuple[str, dict[str, str]]:
        """Which engine runs one of our layers on a case, and why those do not that were asked before it, by name."""

    def run(self, layer: Any, case: Case) -> Result:
        """Forward and backward through a layer made by `make`."""

    def inference(self, layer: Any, case: Case, *, compiled: bool = False) -> Callable[[], Any]:
        """A function that runs a layer forward without gradients, as users call it: eagerly in PyTorch, as a graph in Keras.

        Args:
            layer: made by `make`.
            case: what it is run on.
            compiled: by `torch.compile`, or XLA. Default False.

        Returns:
            A function of no arguments; `outputs` reads what it returns.
        """

    def outputs(self, returned: Any) -> Array:
        """The outputs `(batch, time, hidden)` in what a function made by `inference` returned, up to the longest sequence."""

    def training_step(self, layer: Any, case: Case, *, compiled: bool = False) -> Callable[[], Any]:
        """A function that runs a layer forward and backward to the gradients of its weights; see `inference`.

        `gradients` reads what it returns.
        """

    def gradients(self, layer: Any, returned: Any) -> dict[str, Array]:
        """The gradients by the document's names, in what a function made by `training_step` returned."""


class Networks(Protocol):
    """Networks of our layers: built from a description, trained, asked."""

    def build(self, model: Model, weights: Mapping[str, Array], *, dtype: str = "float32", device: str = "cpu") -> Any:
        """A network with these weights, see `rnn_common.networks`.

        Raises:
            ValueError: they are not the model's.
        """

    def weights(self, network: Any) -> dict[str, Array]:
        """A network's weights by name."""

    def fill(self, network: Any, weights: Mapping[str, Array]) -> None:
        """Give a network other weights.

        Raises:
            ValueError: they are not the model's.
        """

    def train(self, run: Run, *, device: str = "cpu") -> Any:
        """Do a run's updates, from where it is to its end.

        Returns:
            The network, with the weights of the lowest validation loss where the recipe has patience, else the last.

        Raises:
            Diverged: the loss is no longer finite.
        """

    def predict(self, network: Any, batch: Batch) -> Array:
        """A network's outputs, without dropout: `(batch, outputs)`, or at every step `(batch, time, outputs)`.

        Those of an encoder–decoder are the scores of each target symbol after the targets before it.
        """

    def encode(self, network: Any, batch: Batch) -> NetworkState:
        """The state in which an encoder–decoder's decoder starts: of each layer `(h,)` or `(h, c)`, each `(batch, width)`."""

    def step(self, network: Any, symbols: Array, state: NetworkState | None) -> tuple[Array, NetworkState]:
        """One step of a network over symbols in one direction, or of a decoder.

        Args:
            network: from `build` or `train`.
            symbols: `(batch,)`.
            state: of each layer `(h,)` or `(h, c)`, each `(batch, width)`; None is zeros.

        Returns:
            The scores of the next symbol, `(batch, outputs)`, and the state after the step.
        """


class Framework(Clock, Layers, Networks, Protocol):
    """A twin, seen from outside: the module `twin` of its package."""

    @property
    def name(self) -> str:
        """`"torch"` or `"tf"`."""

    @property
    def package(self) -> str:
        """The name of the twin's package."""

    @property
    def builtin_package(self) -> str:
        """The name of the package with the framework's own layers."""


TWINS = {"torch": "rnn_torch.twin", "tf": "rnn_tf.twin"}
TITLES = {"torch": "PyTorch", "tf": "TensorFlow"}
_REQUIRED = {"torch": ("torch",), "tf": ("tensorflow", "keras")}


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Keep TensorFlow's start-up chatter, which its C++ writes to file descriptor 2, from the user.

    Whatever is written there meanwhile is dropped; an exception still travels.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as sink:
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def get(name: str) -> Framework:
    """The twin of that name, imported when first asked for.

    Args:
        name: `"torch"` or `"tf"`.

    Raises:
        ValueError: an unknown name.
        ModuleNotFoundError: its framework is not installed.
    """
    module = TWINS[one_of("framework", name, list(TWINS))]
    if module in sys.modules:
        found: Any = sys.modules[module]
    else:
        with _quiet_start():
            found = importlib.import_module(module)
    return found


def page(name: str, room: str = "exchange") -> Any:
    """A module of a twin: of files (`"exchange"`, default), or of live networks that are filled (`"live"`)."""
    return importlib.import_module(f"{get(name).package}.{room}")


def get_each(names: Iterable[str], progress: Callable[[str, float], None]) -> dict[str, Framework]:
    """The twins of these names; says which framework is being imported, for that takes seconds."""
    twins = {}
    for name in names:
        progress(f"importing {TITLES[name]}", 0.0)
        twins[name] = get(name)
    return twins


def installed() -> tuple[str, ...]:
    """The names of the twins whose framework is installed; imports neither."""
    return tuple(name for name in TWINS if all(importlib.util.find_spec(package) for package in _REQUIRED[name]))


def full_name(layer: Any) -> str:
    """A layer's class with its module, since many modules have an LSTM."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def of(layer: Any) -> Framework:
    """The twin that a layer or cell, ours or a framework's own, belongs to.

    Raises:
        TypeError: it is neither a PyTorch module nor a Keras layer.
    """
    roots = {base.__module__.partition(".")[0] for base in type(layer).__mro__}
    for root, name in (("torch", "torch"), ("keras", "tf")):
        if root in roots:
            return get(name)
    raise TypeError(f"layer should be a PyTorch module or a Keras layer, got {full_name(layer)}")
