"""This twin, and PyTorch's own layers, behind `common.framework.Framework`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from common import layouts
from common.framework import Array, Case, Result
from common.parameters import CELLS, CellName, Parameters, form_name, one_of
from rnn_torch import cells, layers
from rnn_torch.engines import ENGINES
from rnn_torch.models import build, devices, encode, fill, predict, step, weights
from rnn_torch.training import train

__all__ = ["build", "devices", "encode", "fill", "predict", "step", "train", "weights"]  # what comes from other rooms

name = "torch"
package = "rnn_torch"
builtin_package = "torch.nn"

OURS: dict[CellName, Any] = {"SimpleRNN": layers.SimpleRNN, "LSTM": layers.LSTM, "GRU": layers.GRU}
BUILTIN: dict[CellName, Any] = {"SimpleRNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
CLASSES: dict[CellName, tuple[Any, ...]] = {
    "SimpleRNN": (layers.SimpleRNN, cells.SimpleRNNCell, nn.RNN, nn.RNNCell),
    "LSTM": (layers.LSTM, cells.LSTMCell, nn.LSTM, nn.LSTMCell),
    "GRU": (layers.GRU, cells.GRUCell, nn.GRU, nn.GRUCell),
}


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def engines() -> tuple[str, ...]:
    return tuple(ENGINES)


def has_builtin(parameters: Parameters) -> bool:
    return parameters.reset_after or parameters.cell != "GRU"


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
        raise ValueError("torch.nn has no GRU with reset_after=False")
    options: dict[str, Any] = {} if builtin else {"engine": engine}
    if parameters.cell == "GRU" and not builtin:
        options["reset_after"] = parameters.reset_after
    layer: nn.Module = (BUILTIN if builtin else OURS)[parameters.cell](
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


def _identify(layer: Any) -> tuple[CellName, bool, str]:
    """Cell, form and the suffix of the parameters' names."""
    cell = next((cell for cell, classes in CLASSES.items() if isinstance(layer, classes)), None)
    if cell is None:
        raise TypeError(f"layer should be a recurrent layer or cell, got {type(layer).__name__}")
    if getattr(layer, "num_layers", 1) != 1 or getattr(layer, "bidirectional", False):
        raise ValueError("layer should have one layer and one direction; read its state_dict with common.layouts")
    if getattr(layer, "proj_size", 0):
        raise ValueError(f"layer should have no projection, got proj_size={layer.proj_size}")
    return cell, getattr(layer, "reset_after", True), "_l0" if hasattr(layer, "num_layers") else ""


def read(layer: nn.Module) -> Parameters:
    cell, reset_after, suffix = _identify(layer)
    state = {key: value.numpy(force=True) for key, value in layer.state_dict().items()}
    return layouts.from_torch(cell, state, reset_after=reset_after, suffix=suffix)


def write(layer: nn.Module, parameters: Parameters) -> None:
    cell, reset_after, suffix = _identify(layer)
    if parameters.form != form_name(cell, reset_after):
        raise ValueError(f"parameters should be of {form_name(cell, reset_after)}, got {parameters.form}")
    state = {key: torch.from_numpy(array) for key, array in layouts.to_torch(parameters, suffix).items()}
    expected = {key: tuple(value.shape) for key, value in layer.state_dict().items()}
    if expected != {key: tuple(value.shape) for key, value in state.items()}:
        raise ValueError(f"parameters should fill {expected}, got { {k: tuple(v.shape) for k, v in state.items()} }")
    layer.load_state_dict(state)


def _forward(
    layer: Callable[..., Any], x: Tensor, state: tuple[Tensor, ...], lengths: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs `(batch, time, hidden)` and the final state, each `(batch, hidden)`."""
    hx = tuple(h.unsqueeze(0) for h in state)
    packed = x if lengths is None else pack_padded_sequence(x, torch.from_numpy(lengths), True, enforce_sorted=False)
    outputs, final = layer(packed, hx if len(hx) == 2 else hx[0])
    if lengths is not None:
        outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.size(1))
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
    outputs, final = _forward(layer, x, state, case.lengths)
    names = [key for key, _ in layer.named_parameters()]
    gradients = torch.autograd.grad([outputs, *final], [*inputs, *layer.parameters()], cotangents)
    arrays = [gradient.numpy(force=True) for gradient in gradients]
    cell = case.parameters.cell
    by_name = {"x": arrays[0]}
    by_name |= {f"{s}_0": array for s, array in zip(CELLS[cell].states, arrays[1 : len(inputs)], strict=True)}
    by_name |= layouts.gradients_from_torch(cell, dict(zip(names, arrays[len(inputs) :], strict=True)))
    return Result(outputs.numpy(force=True), tuple(h.numpy(force=True) for h in final), by_name)


def inference(layer: nn.Module, case: Case, *, compiled: bool = False) -> Callable[[], Tensor]:
    x, state, _ = _tensors(layer, case)
    called = torch.compile(layer) if compiled else layer

    def infer() -> Tensor:
        with torch.no_grad():
            return _forward(called, x, state, case.lengths)[0]

    return infer


def outputs(returned: Tensor) -> Array:
    return returned.to(torch.float32 if returned.dtype == torch.bfloat16 else returned.dtype).numpy(force=True)


def training_step(layer: nn.Module, case: Case, *, compiled: bool = False) -> Callable[[], list[Tensor]]:
    x, state, cotangents = _tensors(layer, case)
    called = torch.compile(layer) if compiled else layer
    parameters = list(layer.parameters())

    def step() -> list[Tensor]:
        layer.zero_grad()
        outputs, final = _forward(called, x, state, case.lengths)
        torch.autograd.backward([outputs, *final], cotangents)
        return [parameter.grad for parameter in parameters if parameter.grad is not None]

    return step


def gradients(layer: nn.Module, returned: list[Tensor]) -> dict[str, Array]:
    cell, _, suffix = _identify(layer)
    arrays = map(outputs, returned)
    packed = dict(zip((key for key, _ in layer.named_parameters()), arrays, strict=True))
    return layouts.gradients_from_torch(cell, packed, suffix=suffix)


def forget_compiled() -> None:
    torch.compiler.reset()


def set_threads(count: int) -> None:
    torch.set_num_threads(count)


def seconds(function: Callable[[], Any], calls: int = 1, device: str = "cpu") -> float:
    if device == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            function()
        end.record()
        torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / calls
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def peak_memory(function: Callable[[], Any], device: str = "cuda") -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


def matrix_product(size: int, device: str = "cpu", dtype: str = "float32") -> Callable[[], Tensor]:
    a, b = torch.rand((2, size, size), device=device, dtype=getattr(torch, dtype))
    return lambda: a @ b
