"""A network's weights: their shapes, where training starts, and whether they fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from rnn_common.cells import Role, cell_of
from rnn_common.networks.description import Array, Model, Stack, Weights
from rnn_common.reader import shown
from rnn_common.weights import Parameters


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """The shape of every weight, by name and in order."""
    found: dict[str, tuple[int, ...]] = {}
    for prefix, stack in model.stacks().items():
        if stack.embedding:
            found[f"{prefix}E"] = (stack.inputs, stack.embedding)
        for name, width in stack.recurrent():
            own = cell_of(stack.cell).shapes(width, stack.hidden)
            found |= {f"{prefix}{name}{weight}": shape for weight, shape in own.items()}
    return found | {"W_hy": (model.outputs, model.output_width), "b_y": (model.outputs,)}


def initial_weights(model: Model, seed: int = 0, dtype: DTypeLike = np.float64, *, memory: int = 0) -> Weights:
    """Fresh weights, the same for either framework.

    Matrices of inputs and of the output layer are drawn from U(−a, a), a = √(6 / (rows + columns)) (Glorot & Bengio 2010),
    recurrent ones are orthogonal (Saxe et al. 2014, arXiv 1312.6120), E is N(0, 1), biases are 0, the forget gate's 1 (Gers
    et al. 2000).

    Args:
        model: whose.
        seed: default 0.
        dtype: default float64.
        memory: a number of steps to be remembered, more than 1: the gates' biases then say so from the start: b_f = −b_i, or
            b_z, is the logarithm of a number drawn from U(1, memory − 1) (Tallec & Ollivier 2018, arXiv 1804.11188).
            Default 0: not.
    """
    random = np.random.default_rng(seed)
    cells = {
        prefix + place: cell_of(stack.cell)
        for prefix, stack in model.stacks().items()
        for place, _ in stack.recurrent()
    }
    weights: Weights = {}
    for name, shape in shapes(model).items():
        place, slash, last = name.rpartition("/")
        cell = cells.get(place + slash)
        if last == "E":
            weights[name] = random.standard_normal(shape)
        elif cell is None:  # of the output layer
            weights[name] = _start(random, "bias" if last == "b_y" else "input matrix", shape)
        else:
            weights[name] = _start(random, cell.roles[last], shape) + cell.start.get(last, 0.0)
    if memory > 1:
        for place, cell in cells.items():
            if cell.memory:
                log = np.log(random.uniform(1, max(2, memory - 1), weights[place + next(iter(cell.memory))].shape))
                weights |= {place + bias: sign * log for bias, sign in cell.memory.items()}
    return {name: array.astype(dtype) for name, array in weights.items()}


def _start(random: np.random.Generator, role: Role, shape: tuple[int, ...]) -> Array:
    """A weight of a role before it is trained."""
    if role == "recurrent matrix":
        q, r = np.linalg.qr(random.standard_normal(shape))
        return np.asarray(q * np.sign(np.diag(r)))
    if role == "bias":
        return np.zeros(shape)
    return random.uniform(-1, 1, shape) * np.sqrt(6 / sum(shape))


def check_weights(model: Model, weights: Mapping[str, Array]) -> None:
    """Whether these are a model's weights.

    Raises:
        ValueError: one is missing, superfluous, misshapen or not finite.
    """
    expected = shapes(model)
    if set(expected) != set(weights):
        lacking, unknown = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
        raise ValueError(f"weights should be those of the model: lacking {shown(lacking)}, unknown {shown(unknown)}")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ValueError(f"{name} should have shape {shape}, got {weights[name].shape}")
        if not np.isfinite(weights[name]).all():
            raise ValueError(f"{name} should be finite, got NaN or infinity")


def recurrent_parameters(stack: Stack, weights: Mapping[str, Array], prefix: str) -> Parameters:
    """One layer and direction's weights, out of all of a model's: those whose names begin with `prefix`."""
    own = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
    return Parameters(cell_of(stack.cell), own)
