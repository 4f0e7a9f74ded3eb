"""What can be filled in a live network: what decides what each layer computes, and what it gives by itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnn_common.exchange import Array, Dense, Embedding
from rnn_common.exchange.fill import Live, of_recurrent
from rnn_common.twins import Part, full_name
from rnn_torch import twin
from rnn_torch.exchange import Affine, Run, Table


def inside(module: nn.Module) -> list[Live]:
    """What can be filled in a live network, in the order of its modules.

    Raises:
        TypeError: it is no module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module should be a PyTorch module, got {full_name(module)}")
    within = {id(each.layer) for each in module.modules() if isinstance(each, Run)}
    named = [(name or type(each).__name__, each) for name, each in module.named_modules() if id(each) not in within]
    return [live for name, each in named for live in _live(name, each)]


def _live(name: str, module: nn.Module) -> list[Live]:
    """A layer that can be filled, the several that a module has, or none."""
    if isinstance(module, (Run, nn.RNNBase, nn.RNNCellBase)):
        return of_recurrent(name, module, partial(_parts, module), _flipped(module))
    if isinstance(module, nn.Embedding):
        masks = module.masks if isinstance(module, Table) else None
        options: dict[str, Any] = {"symbols": module.num_embeddings, "width": module.embedding_dim, "masking": masks}
        return [Live(name, Embedding, module, options=options, odd=_odd(module, nn.Embedding))]
    if isinstance(module, nn.Linear):
        options = {"input size": module.in_features, "output size": module.out_features}
        options["activation"] = module.activation if isinstance(module, Affine) else None
        odd = _odd(module, Affine if isinstance(module, Affine) else nn.Linear)
        return [Live(name, Dense, module, bias=module.bias is not None, options=options, odd=odd)]
    return []


def _odd(module: nn.Module, known: type[nn.Module]) -> str:
    """Why a module does not compute what its class says."""
    if type(module).forward is not known.forward:
        return f"layer should compute what {known.__name__} does, got {type(module).__name__}, whose forward is its own"
    if getattr(module, "max_norm", None) is not None:
        return f"layer should leave its vectors as they are, got max_norm={module.max_norm}"
    return ""


def _parts(module: nn.Module) -> list[list[Part]]:
    """The directions of a recurrent module's layers, of a `Run` as it runs them."""
    parts = twin.parts(module.layer if isinstance(module, Run) else module)
    if isinstance(module, Run):
        ((one, *two),) = parts
        merge = {"merge_mode": module.merge}
        if two:
            return [[replace(part, options=part.options | merge) for part in (one, *two)]]
        return [[replace(one, options=one.options | {"go_backwards": module.backwards})]]
    return parts


def _flipped(module: nn.Module) -> bool | None:
    """Whether outputs are handed on in the order in which they ran backwards; None where none are, or none ran so."""
    return module.flipped if isinstance(module, Run) and module.backwards and module.returns_sequences else None


def alone(layer: nn.Module, x: Array) -> tuple[Array, str]:
    """What a layer of a live network gives by itself, without dropout, hooks and traces; and in which dtype.

    Args:
        layer: of `inside`.
        x: features `(batch, time, input)`, or symbols `(batch, time)`.
    """
    weight = next(layer.parameters())
    given = torch.from_numpy(np.ascontiguousarray(x)).to(weight.device)
    modes = {each: each.training for each in layer.modules()}
    try:
        with torch.no_grad():
            y = _steps(layer.eval(), given.to(weight.dtype) if given.is_floating_point() else given)
    finally:
        for each, mode in modes.items():
            each.training = mode
    dtype = str(y.dtype).removeprefix("torch.")
    return y.to(torch.promote_types(y.dtype, torch.float32)).numpy(force=True), (
        "tf32" if y.is_cuda and dtype == "float32" else dtype
    )


def _steps(layer: nn.Module, x: Tensor) -> Tensor:
    """Every output, `(batch, time, width)`, of a module or of a cell run by hand."""
    if isinstance(layer, nn.RNNCellBase):
        state: Any = None
        outputs = []
        for x_t in x.unbind(1):
            state = layer.forward(x_t, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)
    if not isinstance(layer, nn.RNNBase):
        y: Tensor = layer.forward(x)
        return y
    return layer.forward(x)[0] if layer.batch_first else layer.forward(x.transpose(0, 1))[0].transpose(0, 1)
