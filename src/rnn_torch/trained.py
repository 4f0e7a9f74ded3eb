"""A module and its optimiser as one of two that are trained."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rnn_common import packings
from rnn_common.doctor.training import DIRECTIONS, Arrays, Rule, Trained, below, both_apart, for_two, of_function
from rnn_torch import doctor, exchange, twin

Array = Any


def trained(
    module: nn.Module, optimiser: torch.optim.Optimizer, loss: Callable[[Any, Any], Any], clip_norm: float = 0.0
) -> Trained:
    """A module as it is trained, for `rnn_common.doctor.diagnose_training`; what is done with it is done with copies.

    Args:
        module: a recurrent layer or a network.
        optimiser: of its parameters: SGD, Adam, AdamW or RMSprop, with one group.
        loss: of outputs and targets, as PyTorch's are.
        clip_norm: the limit of `torch.nn.utils.clip_grad_norm_` between the gradients and the step. Default 0: there is none.

    Raises:
        ValueError: the optimiser has several groups.
    """
    if len(optimiser.param_groups) != 1:
        raise ValueError(f"optimiser should have one group of parameters, got {len(optimiser.param_groups)}")

    def loss_of(module: nn.Module, x: Array, targets: Array) -> Tensor:
        given = torch.from_numpy(np.ascontiguousarray(x))
        weight = next(module.parameters())
        outputs = module(given.to(weight.dtype) if given.is_floating_point() else given)
        value: Tensor = loss(outputs[0] if isinstance(outputs, tuple) else outputs, torch.from_numpy(targets))
        return value

    def gradients(x: Array, targets: Array) -> Arrays:
        copy = deepcopy(module).eval()
        copy.zero_grad()
        loss_of(copy, x, targets).backward()  # type: ignore[no-untyped-call]
        return _by_name(copy, lambda weight: _array(weight.grad, weight), of_function)

    def step(gradients: Arrays, from_zero: bool) -> Arrays:
        copy, fresh = deepcopy((module, optimiser))
        fresh.state.clear()
        if from_zero:
            copy.load_state_dict({name: torch.zeros_like(each) for name, each in copy.state_dict().items()})
        before = _by_name(copy, _array, packings.merged)
        _give(copy, gradients)
        if clip_norm:
            nn.utils.clip_grad_norm_(copy.parameters(), clip_norm)
        fresh.step()
        after = _by_name(copy, _array, packings.merged)
        return {name: after[name] - before[name] for name in before}

    return Trained(
        doctor.side(module, type(module).__name__),
        lambda x, targets: float(loss_of(deepcopy(module).eval(), x, targets).detach()),
        gradients,
        step,
        lambda: _by_name(module, _array, both_apart),
        _rule(optimiser, clip_norm),
    )


def _array(weight: Tensor | None, like: Tensor | None = None) -> Array:
    """In float64; zeros where there is none."""
    if weight is None:
        assert like is not None
        return np.zeros(like.shape)
    return weight.detach().to(torch.float64).numpy(force=True)


def _by_name(module: nn.Module, of: Callable[[Any], Array], reduced: Callable[..., Arrays]) -> Arrays:
    """An array for every weight by its layer's place and its name; of a recurrent layer what is made of both biases apart."""
    found: dict[str, Array] = {}
    place = 0
    for each, layers in doctor.known(module):
        holder = each.layer if isinstance(each, exchange.Run) else each
        if not doctor.is_recurrent(holder):
            names = {"weight": "E"} if isinstance(each, nn.Embedding) else {"weight": "W", "bias": "b"}
            found |= {f"{place}/{names[name]}": of(weight) for name, weight in each.named_parameters()}
        else:
            state = {name: of(weight) for name, weight in holder.named_parameters()}
            for n, directions in enumerate(twin.parts(holder)):
                for direction, part in zip(DIRECTIONS, directions, strict=False):
                    unpacked = packings.unpack_torch(part.cell, state, suffix=part.suffix)
                    arrays = reduced(part.cell, unpacked)
                    found |= {f"{place + n}/{direction}/{name}": array for name, array in arrays.items()}
        place += len(layers)
    return found


def _give(module: nn.Module, gradients: Arrays) -> None:
    """Give every weight its gradient."""
    place = 0
    for each, layers in doctor.known(module):
        holder = each.layer if isinstance(each, exchange.Run) else each
        own = dict(holder.named_parameters())
        packed: dict[str, Array] = {}
        if not doctor.is_recurrent(holder):
            names = {"E": "weight"} if isinstance(each, nn.Embedding) else {"W": "weight", "b": "bias"}
            packed = {names[name]: array for name, array in below(gradients, f"{place}/").items()}
        else:
            for n, directions in enumerate(twin.parts(holder)):
                for direction, part in zip(DIRECTIONS, directions, strict=False):
                    of_part = for_two(part.cell, below(gradients, f"{place + n}/{direction}/"))
                    packed |= packings.pack_torch(part.cell, of_part, part.suffix)
        for name, array in packed.items():
            own[name].grad = torch.from_numpy(np.ascontiguousarray(array)).to(own[name].dtype)
        place += len(layers)


def _rule(optimiser: torch.optim.Optimizer, clip_norm: float) -> Rule:
    """What the optimiser says that it does."""
    (group,) = optimiser.param_groups
    kind = type(optimiser).__name__.lower()
    return Rule(
        {"adamw": "adam"}.get(kind, kind),
        float(group["lr"]),
        momentum=float(group.get("momentum", 0)) if group.get("nesterov") else 0.0,
        rho=float(group.get("alpha", 0)),
        epsilon=float(group.get("eps", 0)),
        decay=float(group.get("weight_decay", 0)),
        decay_apart=kind == "adamw" and bool(group["weight_decay"]),
        clip="all" if clip_norm else "none",
        clip_norm=clip_norm,
    )
