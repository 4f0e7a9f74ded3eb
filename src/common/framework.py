"""The Protocol that each twin implements, in NumPy arrays, and the twins by name.

A twin is reached as `framework.get("torch")` or `framework.get("tf")`, which imports it then and not before. Its layers,
ours and the framework's own, are opaque here: they are made, filled, read and run by the functions of the Protocol.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from numpy.typing import NDArray

from common.parameters import Parameters, one_of

if TYPE_CHECKING:
    from common.data.batches import Batch
    from common.models import Model
    from common.training import Run

Array = NDArray[Any]
State = tuple[Array, ...]
NetworkState = list[State]


class Case(NamedTuple):
    """One thing to run: a layer's weights, its inputs, and a cotangent for its outputs and final state.

    Attributes:
        parameters: the layer's weights.
        x: `(batch, time, input)`, of the parameters' dtype.
        state: the initial `(h,)`, or `(h, c)` for an LSTM, each `(batch, hidden)`.
        lengths: `(batch,)`, or None where every sequence fills the time axis.
        d_outputs: ∂L/∂outputs, `(batch, time, hidden)`; 0 where a sequence has ended.
        d_final: ∂L/∂ the final state, arranged as `state`.
    """

    parameters: Parameters
    x: Array
    state: State
    lengths: Array | None
    d_outputs: Array
    d_final: State


class Result(NamedTuple):
    """What comes of a case.

    Attributes:
        outputs: h_t for every step, `(batch, time, hidden)`; 0 where a sequence has ended, whatever the framework puts there.
        final: the state after each sequence's own last step.
        gradients: ∂L/∂ `x`, `h_0` (and `c_0`) and every weight by the document's name; where a packing holds two biases
            that are added, of both: `b_i` and `b_hi`.
    """

    outputs: Array
    final: State
    gradients: dict[str, Array]


class Framework(Protocol):
    """A twin, seen from outside."""

    name: str
    package: str
    builtin_package: str

    def versions(self) -> dict[str, str]:
        """The versions of the framework's packages, by name."""

    def devices(self) -> tuple[str, ...]:
        """Where layers can run: `"cpu"` and, where there is a GPU, `"cuda"`."""

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

    def read(self, layer: Any) -> Parameters:
        """The weights of a layer or cell, ours or the framework's own."""

    def write(self, layer: Any, parameters: Parameters) -> None:
        """Fill a layer or cell, ours or the framework's own.

        Raises:
            ValueError: the weights are of another cell, form or size than the layer.
        """

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
        """The outputs `(batch, time, hidden)` in what a function made by `inference` returned."""

    def training_step(self, layer: Any, case: Case, *, compiled: bool = False) -> Callable[[], Any]:
        """A function that runs a layer forward and backward to the gradients of its weights; see `inference`.

        `gradients` reads what it returns.
        """

    def gradients(self, layer: Any, returned: Any) -> dict[str, Array]:
        """The gradients by the document's names, in what a function made by `training_step` returned."""

    def build(self, model: Model, weights: Mapping[str, Array], *, dtype: str = "float32", device: str = "cpu") -> Any:
        """A network with these weights, see `common.models`.

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


TWINS = {"torch": "rnn_torch.framework", "tf": "rnn_tf.framework"}
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
        return cast(Framework, sys.modules[module])
    with _quiet_start():
        return cast(Framework, importlib.import_module(module))


def installed() -> tuple[str, ...]:
    """The names of the twins whose framework is installed; imports neither."""
    return tuple(name for name in TWINS if all(importlib.util.find_spec(package) for package in _REQUIRED[name]))


def of(layer: Any) -> Framework:
    """The twin that a layer or cell, ours or a framework's own, belongs to.

    Raises:
        TypeError: it is neither a PyTorch module nor a Keras layer.
    """
    roots = {base.__module__.partition(".")[0] for base in type(layer).__mro__}
    for root, name in (("torch", "torch"), ("keras", "tf")):
        if root in roots:
            return get(name)
    raise TypeError(f"layer should be a PyTorch module or a Keras layer, got {type(layer).__name__}")


def copy_weights(source: Any, target: Any) -> None:
    """Fill a layer or cell from another: any of rnn_torch's, rnn_tf's, `torch.nn`'s and `keras.layers`'.

    Raises:
        TypeError: one of the two is no layer of either framework.
        ValueError: the two differ in cell, form or size.
    """
    of(target).write(target, of(source).read(source))
