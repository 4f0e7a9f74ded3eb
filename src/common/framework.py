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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from common.parameters import CELLS, CellName, Parameters, form_name, one_of

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


@dataclass(frozen=True)
class Part:
    """One direction of one layer: what `copy_weights` reads and fills.

    Attributes:
        layer: what the user made: a layer or cell, or a wrapper or network around it.
        holder: the layer or cell that has the weights.
        cell: `"SimpleRNN"`, `"LSTM"` or `"GRU"`.
        bias: whether there are biases.
        options: all else that decides the function, by name: sizes, form, activations, directions. None says that it is
            not decided, as the input size of a layer without weights and the direction of a cell that is run by hand.
        suffix: how PyTorch's names of these weights end, empty for a cell.
    """

    layer: Any
    holder: Any
    cell: CellName
    bias: bool
    options: dict[str, Any]
    suffix: str = ""

    @property
    def reset_after(self) -> bool:
        """The form of the GRU, of no meaning to the other cells."""
        return bool(self.options.get("reset_after", True))


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
    raise TypeError(f"layer should be a PyTorch module or a Keras layer, got {full_name(layer)}")


# What would work, where an option of the target is not the source's.
WAYS_OUT = {
    "reset_after": "rnn_torch.GRU, rnn_tf.GRU and keras.layers.GRU take it, torch.nn.GRU has reset_after=True alone",
    "input size": "make the target for inputs of that width",
    "hidden size": "make the target with it: hidden_size in PyTorch, units in Keras",
    "projection": "PyTorch's LSTMs alone have one, proj_size",
    "activation": "Keras's layers take any, PyTorch's SimpleRNN and RNN nonlinearity='tanh' or 'relu', its others tanh alone",
    "recurrent_activation": "Keras's layers take any, PyTorch's sigmoid alone",
    "go_backwards": "Keras's layers take it; elsewhere copy from the layer's cell and reverse the inputs' time axis",
    "merge_mode": "PyTorch concatenates two directions, as merge_mode='concat' does in Keras",
}


def full_name(layer: Any) -> str:
    """A layer's class with its module, since many modules have an LSTM."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def only_part(layers: list[list[Part]]) -> Part:
    """The one part of a layer or cell that `Parameters` hold the weights of.

    Raises:
        ValueError: there are several, or a projection.
    """
    if [len(directions) for directions in layers] != [1]:
        raise ValueError("layer should have one layer and one direction, as `Parameters` have; copy_weights takes more")
    part = layers[0][0]
    if part.options["projection"]:
        raise ValueError(f"layer should have no projection, got proj_size={part.options['projection']}")
    return part


def require_fit(part: Part, parameters: Parameters) -> None:
    """Refuse weights that do not fill a layer or cell.

    Raises:
        ValueError: they are of another cell, form or size, or biases are missing or superfluous.
    """
    form = form_name(part.cell, part.reset_after)
    if parameters.form != form:
        raise ValueError(f"parameters should be of {form}, got {parameters.form}")
    got = {"input size": parameters.input_size, "hidden size": parameters.hidden_size, "bias": parameters.bias}
    expected = part.options | {"bias": part.bias}
    for name, value in got.items():
        if not _same(value, expected[name]):
            raise ValueError(f"parameters should fill a layer of {name} {expected[name]}, got {value}")


def copy_weights(source: Any, target: Any) -> None:
    """Give a target the source's weights, so that it computes the same function.

    Each of the two is a layer or cell of rnn_torch, rnn_tf, `torch.nn` or `keras.layers` (a `Bidirectional`, a
    `keras.layers.RNN` or `StackedRNNCells` of these cells, too), or a stack: a PyTorch layer of several layers and
    directions, a list or tuple of layers, or a `keras.Sequential`. Beside recurrent layers a stack may hold inputs,
    masking and dropout. A Keras target without weights is built.

    - The weights are those in force, also of a source that is pruned, weight-normed or parametrized otherwise (as it is
      in evaluation).
    - Between dtypes they are rounded: float16, bfloat16, float32 and float64 are all taken.
    - Both biases are kept where the target has two. A target with biases whose source has none gets zeros.
    - What does not change the weights' meaning is left as it is in the target: the engine, dropout, the order of axes,
      what is returned, masking.

    Nothing is written before all is checked.

    Args:
        source, target: as above.

    Raises:
        TypeError: one of the two is, or holds, no recurrent layer of either framework.
        ValueError: the target would compute another function: it differs in cell, form, activations, directions, layers,
            sizes, biases or projection, its weights are shared, pruned or parametrized, or its dtype cannot hold them;
            or the source has no weights yet, or none that are finite.

    Warns:
        MergedBiasesWarning: two biases were added, because the target has one. The function is the same, but a gradient
            step moves two added biases twice as far as one.
    """
    sources, targets = _stack("source", source), _stack("target", target)
    _require_same_layers(sources, targets)
    givers, takers = _named("source", sources), _named("target", targets)
    for (_, giver), (name, taker) in zip(givers, takers, strict=True):
        _require_same_function(name, giver, taker)
    fillings = [
        (taker, _weights(name, giver, taker.bias)) for (name, giver), (_, taker) in zip(givers, takers, strict=True)
    ]
    values: list[tuple[Framework, Any, Any]] = []
    for taker, weights in fillings:
        twin = of(taker.holder)
        values += [(twin, variable, value) for variable, value in twin.pack(taker, weights)]
    _require_one_value_each(values)
    for twin, variable, value in values:
        twin.put(variable, value)


def _stack(argument: str, layer: Any) -> list[list[Part]]:
    """The directions of every layer in a layer, a cell or a stack of them.

    Raises:
        TypeError: there is no recurrent layer, or something else.
        ValueError: a layer that computes something of its own.
    """
    layers = layer if isinstance(layer, (list, tuple)) else [layer]
    try:
        parts = [directions for each in layers for directions in of(each).parts(each)]
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument}: {error}") from None
    if not parts:
        raise TypeError(f"{argument} should hold a recurrent layer or cell, got none")
    return parts


def _named(argument: str, layers: list[list[Part]]) -> list[tuple[str, Part]]:
    """Every part with what to call it in a message."""
    named = []
    for i, directions in enumerate(layers):
        for part, direction in zip(directions, ("forward", "backward"), strict=False):
            words = [argument] + [f"layer {i}"] * (len(layers) > 1) + [direction] * (len(directions) > 1)
            named.append((", ".join(words), part))
    return named


def _require_same_layers(sources: list[list[Part]], targets: list[list[Part]]) -> None:
    expected, got = ([len(directions) for directions in layers] for layers in (sources, targets))
    if len(expected) != len(got):
        raise ValueError(
            f"target should have {_layers(len(expected))} as source has, got {_layers(len(got))}: "
            "num_layers in PyTorch, a list or keras.Sequential of layers in Keras"
        )
    if expected != got:
        raise ValueError(
            f"target should have {expected} directions, layer by layer, as source has, got {got}: "
            "bidirectional=True in PyTorch, Bidirectional in Keras"
        )


def _layers(count: int) -> str:
    return f"{count} layer" + "s" * (count > 1)


def _require_same_function(name: str, source: Part, target: Part) -> None:
    if source.cell != target.cell:
        raise ValueError(
            f"{name} should be of the source's cell, {source.cell}, got {target.cell}: no other computes the same"
        )
    for option, expected in source.options.items():
        got = target.options[option]
        if not _same(expected, got):
            raise ValueError(
                f"{name} should have the source's {option}, {_text(expected)}, got {_text(got)}: {WAYS_OUT[option]}"
            )
    if source.bias and not target.bias:
        raise ValueError(
            f"{name} should have biases as the source has, got none: bias=True in PyTorch, use_bias=True in Keras"
        )


def _same(a: Any, b: Any) -> bool:
    """Functions are the same if they are one object; what is not decided is the same as anything."""
    if a is b or a is None or b is None:
        return True
    return not callable(a) and not callable(b) and bool(a == b)


def _text(value: Any) -> str:
    """An option in words; a function of the user's own so that it is not taken for a framework's of that name."""
    if not callable(value):
        return str(value)
    return f"the function {value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else repr(value)


def _weights(name: str, source: Part, bias: bool) -> dict[str, Array]:
    """A source's weights in float32 at least, with zeros for biases that it lacks."""
    weights = {
        weight: array.astype(np.promote_types(array.dtype, np.float32))
        for weight, array in of(source.holder).unpack(source).items()
    }
    if wrong := [weight for weight, array in weights.items() if not np.isfinite(array).all()]:
        raise ValueError(f"{name} should have finite weights, got NaN or infinity in {', '.join(wrong)}")
    kind = CELLS[source.cell]
    if bias and not source.bias:
        hidden = len(weights[kind.input_weight(kind.gates[0])])
        weights |= {kind.bias(gate): np.zeros(hidden, np.float32) for gate in kind.gates}
    return weights


def _require_one_value_each(values: list[tuple[Framework, Any, Any]]) -> None:
    """Refuse to fill a variable that is used twice with two values, of which the first would be lost."""
    given: dict[int, Any] = {}
    for _, variable, value in values:
        before = given.setdefault(id(variable), value)
        if not bool((before == value).all()):
            raise ValueError(
                "target should have variables of its own for every layer and direction, got one that is shared "
                "where the source's weights differ"
            )
