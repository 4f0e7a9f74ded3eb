"""This twin, and PyTorch's own layers, behind `rnn_common.twins.Framework`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from rnn_common import packings
from rnn_common.cells import Cell, cell_in
from rnn_common.checks import one_of
from rnn_common.copying import only_part, require_fit
from rnn_common.parity.case import Array, Case, Result
from rnn_common.twins import Part, full_name
from rnn_common.weights import Parameters
from rnn_torch import cells, layers
from rnn_torch.activations import Gated, described
from rnn_torch.clock import device_name as device_name
from rnn_torch.clock import devices as devices
from rnn_torch.clock import forget_compiled as forget_compiled
from rnn_torch.clock import matrix_product as matrix_product
from rnn_torch.clock import peak_memory as peak_memory
from rnn_torch.clock import seconds as seconds
from rnn_torch.clock import set_threads as set_threads
from rnn_torch.clock import versions as versions
from rnn_torch.engines import ENGINES
from rnn_torch.networks import build as build
from rnn_torch.networks import encode as encode
from rnn_torch.networks import fill as fill
from rnn_torch.networks import predict as predict
from rnn_torch.networks import step as step
from rnn_torch.networks import weights as weights
from rnn_torch.own import OwnLayer, layer_of
from rnn_torch.training import train as train

name = "torch"
package = "rnn_torch"
builtin_package = "torch.nn"

# The classes of each cell's layer and of its cell, ours and the framework's own.
CLASSES: dict[str, tuple[Any, ...]] = {
    "SimpleRNN": (layers.SimpleRNN, cells.SimpleRNNCell, nn.RNN, nn.RNNCell),
    "LSTM": (layers.LSTM, cells.LSTMCell, nn.LSTM, nn.LSTMCell),
    "GRU": (layers.GRU, cells.GRUCell, nn.GRU, nn.GRUCell),
}


def engines() -> tuple[str, ...]:
    return tuple(ENGINES)


def has_builtin(parameters: Parameters) -> bool:
    return name in parameters.cell.builtin


def make(
    parameters: Parameters,
    *,
    builtin: bool = False,
    engine: str = "auto",
    device: str = "cpu",
    dtype: str | None = None,
) -> nn.Module:
    one_of("device", device, devices())
    if builtin and not has_builtin(parameters):
        raise ValueError(f"torch.nn has no {parameters.cell.name}")
    options: dict[str, Any] = {} if builtin else {"engine": engine, **parameters.cell.options}
    layer: nn.Module = _layer_class(parameters.cell, builtin)(
        parameters.input_size,
        parameters.hidden_size,
        bias=parameters.bias,
        batch_first=True,
        device=device,
        dtype=getattr(torch, dtype or parameters.dtype.name),
        **options,
    )
    write(layer, parameters)
    return layer


def _layer_class(cell: Cell, builtin: bool) -> Any:
    if not cell.in_table:
        return layer_of(cell)
    return CLASSES[cell.layer_class][2 if builtin else 0]


# What may stand between the layers of a stack: it has no weights.
BETWEEN = (nn.Dropout,)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def parts(layer: Any) -> list[list[Part]]:
    if isinstance(layer, BETWEEN):
        return []
    kind = next((kind for kind, classes in CLASSES.items() if isinstance(layer, classes)), None)
    if kind is None and not isinstance(layer, OwnLayer):
        raise TypeError(f"layer should be a recurrent layer or cell, got {full_name(layer)}")
    known = OwnLayer if kind is None else next(each for each in CLASSES[kind] if isinstance(layer, each))
    cell = layer.cell if kind is None else cell_in(kind, layer)
    if type(layer).forward is not known.forward:
        raise ValueError(
            f"layer should compute what {known.__name__} does, got {type(layer).__name__}, whose forward is its own: "
            f"copy by way of a {known.__name__} with its weights"
        )
    if not hasattr(layer, "num_layers"):
        return [[_part(layer, cell, layer.input_size)]]
    width = (1 + layer.bidirectional) * (layer.proj_size or layer.hidden_size)
    return [_directions(layer, cell, f"_l{i}", width if i else layer.input_size) for i in range(layer.num_layers)]


def _directions(layer: Any, cell: Cell, suffix: str, input_size: int) -> list[Part]:
    forward = {"go_backwards": False}
    if not layer.bidirectional:
        return [_part(layer, cell, input_size, suffix, forward)]
    backward, merge = {"go_backwards": True}, {"merge_mode": "concat"}
    return [
        _part(layer, cell, input_size, suffix, forward | merge),
        _part(layer, cell, input_size, f"{suffix}_reverse", backward | merge),
    ]


def _part(layer: Any, cell: Cell, input_size: int, suffix: str = "", direction: Any = None) -> Part:
    options: dict[str, Any] = {"input size": input_size, "hidden size": layer.hidden_size}
    options["projection"] = getattr(layer, "proj_size", 0)
    options |= _activations(layer, cell)
    return Part(layer, layer, cell, bool(layer.bias), options | (direction or {"go_backwards": None}), suffix)


def _activations(layer: Any, cell: Cell) -> dict[str, Any]:
    """What stands for tanh and for σ, by what it computes; a cell of the user's own says so itself."""
    arguments, names = ("activation", "recurrent_activation"), cell.activations if cell.gates else ()
    if isinstance(layer, Gated):
        return {argument: described(getattr(layer, argument)) for argument in arguments}
    names = (layer.nonlinearity,) if hasattr(layer, "nonlinearity") else names
    return {argument: described(name) for argument, name in zip(arguments, names, strict=False)}


def _arrays(part: Part) -> dict[str, Array]:
    """The weights in force by PyTorch's names; bfloat16 as float32."""
    kinds = ["weight_ih", "weight_hh"] + ["bias_ih", "bias_hh"] * part.bias
    kinds += ["weight_hr"] * bool(part.options["projection"])
    if not part.cell.gates:
        kinds = [name for name, role in part.cell.roles.items() if part.bias or role != "bias"]
    arrays = {}
    for name in (kind + part.suffix for kind in kinds):
        tensor = _in_force(part.holder, name)
        _require_floats(name, tensor)
        arrays[name] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy(force=True)
    return arrays


@torch.no_grad()
def _in_force(layer: nn.Module, name: str) -> Tensor:
    """A weight as evaluation computes it, from whatever parameters, and without a change to the layer."""
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return hook.apply_mask(layer)  # type: ignore[no-untyped-call]
        if isinstance(hook, WeightNorm) and hook.name == name:
            return hook.compute_weight(layer)
        if isinstance(hook, SpectralNorm) and hook.name == name:
            return hook.compute_weight(layer, do_power_iteration=False)
    if not is_parametrized(layer, name):
        return getattr(layer, name)
    parametrization: Any = layer.parametrizations[name]  # type: ignore[index]
    training = parametrization.training
    try:
        parametrization.eval()  # a spectral norm would move on, a dropout draw
        return getattr(layer, name)
    finally:
        parametrization.train(training)


def _require_floats(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES:
        raise ValueError(f"{name} should be of {', '.join(map(str, DTYPES))}, got {tensor.dtype}")
    if tensor.is_meta:
        raise ValueError(f"{name} should hold numbers, got one on the meta device: to_empty(device=...) first")


def unpack(part: Part) -> dict[str, Array]:
    return packings.unpack_torch(part.cell, _arrays(part), suffix=part.suffix)


def pack(part: Part, weights: Mapping[str, Array]) -> list[tuple[Any, Any]]:
    return values(part.holder, packings.pack_torch(part.cell, weights, part.suffix))


def values(holder: nn.Module, arrays: Mapping[str, Array]) -> list[tuple[Any, Any]]:
    own = dict(holder.named_parameters(recurse=False, remove_duplicate=False))
    pairs = []
    for name, array in arrays.items():
        if name not in own:
            raise ValueError(
                f"{name} of the target should be a parameter, got one that is pruned, normed or parametrized otherwise: "
                "make it one by torch.nn.utils.prune.remove or torch.nn.utils.parametrize.remove_parametrizations"
            )
        _require_floats(name, own[name])
        value = torch.from_numpy(np.ascontiguousarray(array)).to(own[name].dtype)
        if not value.isfinite().all():
            raise ValueError(f"{name} should be in the range of {value.dtype}, got {np.abs(array).max():.3g}")
        pairs.append((own[name], value))
    return pairs


def current(variable: Tensor) -> Tensor:
    return variable.detach().clone()


@torch.no_grad()
def put(variable: Tensor, value: Tensor) -> None:
    variable.copy_(value)


def read(layer: nn.Module) -> Parameters:
    part = only_part(parts(layer))
    return packings.from_torch(part.cell, _arrays(part), suffix=part.suffix)


def write(layer: nn.Module, parameters: Parameters) -> None:
    part = only_part(parts(layer))
    require_fit(part, parameters)
    for variable, value in pack(part, parameters):
        put(variable, value)


def explain(layer: Any, case: Case) -> tuple[str, dict[str, str]]:
    x, _, _ = _tensors(layer, case)
    chosen = layer.explain(_packed(x, case.lengths))
    return chosen.engine, chosen.refused


def _packed(x: Tensor, lengths: Any) -> Tensor | PackedSequence:
    """Sequences `(batch, time, …)` as the layer takes them: packed, where they are of several lengths."""
    return x if lengths is None else pack_padded_sequence(x, torch.from_numpy(lengths), True, enforce_sorted=False)


def _forward(
    layer: Callable[..., Any], x: Tensor | PackedSequence, state: tuple[Tensor, ...]
) -> tuple[Any, tuple[Tensor, ...]]:
    """Outputs, in the form of the input, and the final state, each `(batch, hidden)`."""
    hx = tuple(h.unsqueeze(0) for h in state)
    outputs, final = layer(x, hx if len(hx) == 2 else hx[0])
    return outputs, tuple(h.squeeze(0) for h in (final if len(hx) == 2 else (final,)))


def _tensors(layer: nn.Module, case: Case) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The case's input, state and cotangents, where the layer is and of its dtype."""
    weight = next(layer.parameters())
    arrays = (case.x, *case.state, case.d_outputs, *case.d_final)
    tensors = [torch.tensor(array, device=weight.device, dtype=weight.dtype) for array in arrays]
    states = len(case.state)
    return tensors[0], tuple(tensors[1 : 1 + states]), tuple(tensors[1 + states :])


def run(layer: nn.Module, case: Case) -> Result:
    x, state, cotangents = _tensors(layer, case)
    inputs = [tensor.requires_grad_() for tensor in (x, *state)]
    outputs, final = _forward(layer, _packed(x, case.lengths), state)
    if case.lengths is not None:
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.size(1))
    names = [key for key, _ in layer.named_parameters()]
    gradients = torch.autograd.grad(
        [outputs, *final], [*inputs, *layer.parameters()], cotangents, materialize_grads=True
    )
    arrays = [gradient.numpy(force=True) for gradient in gradients]
    cell = case.parameters.cell
    by_name = {"x": arrays[0]}
    by_name |= {f"{s}_0": array for s, array in zip(cell.states, arrays[1 : len(inputs)], strict=True)}
    by_name |= packings.gradients_from_torch(cell, dict(zip(names, arrays[len(inputs) :], strict=True)))
    return Result(outputs.numpy(force=True), tuple(h.numpy(force=True) for h in final), by_name)


def inference(layer: nn.Module, case: Case, *, compiled: bool = False) -> Callable[[], Any]:
    x, state, _ = _tensors(layer, case)
    given, called = _packed(x, case.lengths), torch.compile(layer) if compiled else layer

    def infer() -> Any:
        with torch.no_grad():
            return _forward(called, given, state)[0]

    return infer


def outputs(returned: Any) -> Array:
    padded = pad_packed_sequence(returned, batch_first=True)[0] if isinstance(returned, PackedSequence) else returned
    return padded.to(torch.float32 if padded.dtype == torch.bfloat16 else padded.dtype).numpy(force=True)


def training_step(layer: nn.Module, case: Case, *, compiled: bool = False) -> Callable[[], list[Tensor]]:
    x, state, (d_outputs, *d_final) = _tensors(layer, case)
    given, d_given = (_packed(tensor, case.lengths) for tensor in (x, d_outputs))
    called = torch.compile(layer) if compiled else layer
    parameters = list(layer.parameters())

    def step() -> list[Tensor]:
        layer.zero_grad()
        outputs, final = _forward(called, given, state)
        heads = [each.data if isinstance(each, PackedSequence) else each for each in (outputs, d_given)]
        torch.autograd.backward([heads[0], *final], [heads[1], *d_final])
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    return step


def gradients(layer: nn.Module, returned: list[Tensor]) -> dict[str, Array]:
    part = only_part(parts(layer))
    arrays = map(outputs, returned)
    packed = dict(zip((key for key, _ in layer.named_parameters()), arrays, strict=True))
    return packings.gradients_from_torch(part.cell, packed, suffix=part.suffix)


if TYPE_CHECKING:  # that this module is what `Framework` asks for
    from rnn_common.twins import Framework
    from rnn_torch import twin

    _checked: Framework = twin
