"""PyTorch's layers and networks as sides of a diagnosis: what they are declared to be, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from rnn_common.doctor.calls import Call, Seen, coarser
from rnn_common.doctor.sides import OwnActivation, Side, Step
from rnn_common.exchange.contents import Array
from rnn_common.exchange.description import LINEAR, Activation, Dense, Direction, Embedding, Layer, Recurrent
from rnn_torch import exchange, twin


def side(module: nn.Module, name: str) -> Side:
    """A layer or a network as a side.

    Raises:
        ValueError: it has no recurrent layer.
    """
    if is_recurrent(module):
        return _of_layer(module, name)
    found = list(known(module))
    if not any(isinstance(each, Recurrent) for _, layers in found for each in layers):
        raise ValueError(f"{name} should hold a recurrent layer, got {type(module).__name__}")
    return Side(
        name,
        lambda call: _seen(_called(module, call)),
        tuple(layer for _, layers in found for layer in layers),
        _dtype(module),
        framework="torch",
        evaluated=lambda: side(deepcopy(module).eval(), name),
        steps=lambda call: _steps(module, call),
        untouched=lambda: _untouched(module),
        origin=type(module).__name__,
    )


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Buffers, as of a batch norm in training, and the random numbers that come next, are put back behind it."""
    devices = {each.device for each in (*module.parameters(), *module.buffers()) if each.is_cuda}
    buffers = [(each, each.clone()) for each in module.buffers()]
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for each, before in buffers:
                    each.copy_(before)


def is_recurrent(module: Any) -> bool:
    try:
        return bool(twin.parts(module)) and hasattr(module, "num_layers")
    except (TypeError, ValueError):
        return False


def _of_layer(module: Any, name: str) -> Side:
    layers = recurrent(module, name)
    return Side(
        name,
        lambda call: _run(module, call),
        layers,
        _dtype(module),
        takes_state=len(layers) == 1,
        takes_lengths=True,
        framework="torch",
        evaluated=lambda: side(deepcopy(module).eval(), name),
        untouched=lambda: _untouched(module),
        origin=type(module).__name__,
    )


def recurrent(module: nn.Module, name: str) -> tuple[Recurrent, ...]:
    """The layers of a recurrent module, described.

    Raises:
        ValueError: it has a projection.
    """
    layers = []
    parts = twin.parts(module)
    for i, directions in enumerate(parts):
        first = directions[0]
        if first.options["projection"]:
            raise ValueError(f"{name} should have no projection, got proj_size={first.options['projection']}")
        layers.append(
            Recurrent(
                f"{name}, layer {i + 1}" if len(parts) > 1 else name,
                first.cell,
                tuple(Direction(twin.unpack(part), _activations(part)) for part in directions),
                "torch",
                returns_sequences=True,
            )
        )
    return tuple(layers)


def _activations(part: Any) -> tuple[Any, ...]:
    names = ("activation", "recurrent_activation")[: len(part.cell.activations)]
    return tuple(_in_numpy(part.options[name]) for name in names if name in part.options)


def _in_numpy(activation: Any) -> Any:
    """A function of the user's own as one of arrays."""
    if isinstance(activation, Activation):
        return activation

    def in_numpy(a: Array) -> Array:
        with torch.no_grad():
            return np.asarray(activation(torch.from_numpy(np.array(a))))

    return OwnActivation(activation, in_numpy)


def _dtype(module: nn.Module) -> str:
    """The coarsest in it."""
    return coarser(
        *(str(each.dtype).removeprefix("torch.") for each in module.parameters() if each.is_floating_point())
    )


def _tensor(array: Array, module: nn.Module) -> Tensor:
    weight = next(module.parameters())
    given = torch.from_numpy(np.array(array))  # which may be read-only
    return given.to(weight.device, weight.dtype if given.is_floating_point() else given.dtype)


def _array(tensor: Tensor) -> Array:
    return tensor.to(torch.float64).numpy(force=True)


def _run(module: Any, call: Call) -> Seen:
    """A recurrent module on batch-first arrays, whatever order of axes it takes."""
    x: Any = _tensor(call.x, module)
    if call.lengths is not None:
        x = pack_padded_sequence(x, torch.from_numpy(np.asarray(call.lengths)), True, enforce_sorted=False)
    elif not module.batch_first:
        x = x.transpose(0, 1)
    with torch.no_grad():
        outputs, final = module(x) if call.state is None else module(x, _stacked(module, call.state))
    if isinstance(outputs, PackedSequence):
        outputs, _ = pad_packed_sequence(outputs, True, total_length=call.x.shape[1])
    elif not module.batch_first:
        outputs = outputs.transpose(0, 1)
    states = final if isinstance(final, tuple) else (final,)
    directions = 1 + module.bidirectional
    ends = tuple(tuple(_array(h[n - directions]) for h in states) for n in range(directions))
    return Seen(_array(outputs), ends)


def _stacked(module: Any, state: tuple[tuple[Array, ...], ...]) -> Any:
    stacked = tuple(torch.stack([_tensor(h, module) for h in each]) for each in zip(*state, strict=True))
    return stacked if len(stacked) == 2 else stacked[0]


def made(layer: Layer) -> Callable[[Array], Array]:
    """What a layer of ours does that is made as one is described; on plain operations, for there is nothing to wait for then.

    Raises:
        ValueError: none of ours computes it.
    """
    built: Any = exchange.built(layer)
    if isinstance(layer, Recurrent):
        built.layer.engine = "reference"
        return lambda x: exchange.run(built, x)

    def given(x: Array) -> Array:
        with torch.no_grad():
            return _array(built(torch.from_numpy(np.ascontiguousarray(x))))

    return given


# Networks


def known(module: nn.Module) -> Iterator[tuple[nn.Module, tuple[Layer, ...]]]:
    """The embeddings, recurrent and dense layers in a network, in the order in which it has them."""
    inside: set[nn.Module] = set()
    for name, each in module.named_modules():
        if each in inside:
            continue
        if isinstance(each, exchange.Run):
            inside.add(each.layer)
            yield each, (_as_run(each, name),)
        elif is_recurrent(each):
            yield each, recurrent(each, name)
        elif isinstance(each, nn.Embedding):
            masks = bool(getattr(each, "masks", False))
            yield each, (Embedding(name, _array(each.weight), masks),)
        elif isinstance(each, nn.Linear):
            bias = None if each.bias is None else _array(each.bias)
            yield each, (Dense(name, _array(each.weight), bias, getattr(each, "activation", LINEAR)),)


def _as_run(module: exchange.Run, name: str) -> Recurrent:
    """A layer out of a file, with its directions and outputs as the file has them."""
    (layer,) = recurrent(module.layer, name)
    about = {each: getattr(module, each) for each in ("backwards", "flipped", "merge", "returns_sequences")}
    return replace(layer, **about)


def _called(module: nn.Module, call: Call) -> Any:
    with torch.no_grad():
        given = _tensor(call.x, module)
        return module(given) if call.lengths is None else module(given, torch.from_numpy(call.lengths))


def _seen(outputs: Any) -> Seen:
    """Of several outputs the first."""
    several = outputs if isinstance(outputs, (list, tuple)) else (outputs,)
    return Seen(_array(several[0]), others=len(several) - 1)


def _steps(module: nn.Module, call: Call) -> list[Step]:
    """What each known layer of a network was given and gave, in the order of its calls."""
    steps: list[Step] = []
    hooks = []
    for each, layers in known(module):

        def heard(layer: nn.Module, inputs: tuple[Any, ...], outputs: Any, layers: tuple[Layer, ...] = layers) -> None:
            steps.append(_step(layer, layers, inputs, outputs))

        hooks.append(each.register_forward_hook(heard))
    try:
        _called(module, call)
    finally:
        for hook in hooks:
            hook.remove()
    return steps


def _step(module: nn.Module, layers: tuple[Layer, ...], inputs: tuple[Any, ...], outputs: Any) -> Step:
    name = layers[0].name
    if not is_recurrent(module):
        alone = Side(name, lambda call: _seen(_called(module, call)), layers, _dtype(module), framework="torch")
        return Step(alone, Call(inputs[0].numpy(force=True)), Seen(_array(outputs)))
    x, *state = inputs
    lengths = None
    if isinstance(x, PackedSequence):
        x, lengths = pad_packed_sequence(x, True)
        ran = outputs[0] if isinstance(outputs[0], PackedSequence) else None
        y = outputs[0] if ran is None else pad_packed_sequence(ran, True)[0]
    else:
        x, y = (each if module.batch_first else each.transpose(0, 1) for each in (x, outputs[0]))
    initial = _unstacked(module, state[0]) if state and state[0] is not None else None
    return Step(
        _of_layer(module, name),
        Call(_array(x), initial, None if lengths is None else lengths.numpy()),
        Seen(_array(y), None),
    )


def _unstacked(module: Any, state: Any) -> tuple[tuple[Array, ...], ...] | None:
    states = state if isinstance(state, tuple) else (state,)
    if module.num_layers > 1:
        return None
    return tuple(tuple(_array(h[n]) for h in states) for n in range(1 + module.bidirectional))
