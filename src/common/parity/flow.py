"""Why gradients vanish or explode: how far back through time a loss reaches, in each cell.

∂L/∂h_{t−k} is ∂L/∂h_t times the Jacobians of the k steps between, so it has to shrink where their norms are below one, and
may grow where they are above (Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013, arXiv 1211.5063). Both are
measured here, by the oracle and by each framework: the gradient by back-propagation from the last step, the Jacobian
∂s_t/∂s_{t−1} of the whole state s, which is h or (h, c), a row at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_common import equations, networks
from rnn_common.cells import IN_BOTH
from rnn_common.data import Sequences, adding
from rnn_common.machine import environment
from rnn_common.networks import Network, Stack
from rnn_common.parity.case import Array, Case, Result, State, run_oracle
from rnn_common.parity.contract import GRADIENT_BOUND
from rnn_common.training.recipe import Recipe
from rnn_common.training.run import Diverged, Run
from rnn_common.twins import Framework
from rnn_common.weights import Parameters

Runner = Callable[[Case], Result]


@dataclass(frozen=True, eq=False)
class Flow:
    """How a gradient travels back.

    Attributes:
        lags: k, the number of steps back from the last.
        gradients: ‖∂L/∂h_{t−k}‖ for each lag, where L is a random direction of h_t; of an LSTM of h and c together, since
            both carry what is remembered. The mean over sequences of its logarithm, as a number.
        jacobians: the largest singular value of the step's Jacobian that ends at t − k, likewise.
    """

    lags: Array
    gradients: Array
    jacobians: Array


def scaled(parameters: Parameters, factor: float) -> Parameters:
    """A layer whose recurrent matrices are multiplied by a factor."""
    return parameters.replace({name: parameters[name] * factor for name in parameters.cell.recurrent_matrices})


def flow(parameters: Parameters, x: Array, lags: Sequence[int], twin: Framework | None = None, seed: int = 0) -> Flow:
    """Measure how a gradient travels back through a layer.

    Args:
        parameters: the layer.
        x: sequences `(batch, time, input)`, longer than the largest lag.
        lags: k, each from 0.
        twin: the framework that measures. Default None: the oracle.
        seed: of the direction. Default 0.

    Raises:
        ValueError: a lag that is out of range.
    """
    time = x.shape[1]
    if min(lags) < 0 or max(lags) >= time:
        raise ValueError(f"lags should be from 0 to {time - 1}, got {min(lags)} to {max(lags)}")
    states = _states(parameters, x)
    d_final = _direction(states[-1], seed)
    layer = None if twin is None else twin.make(parameters)
    gradients, jacobians = [], []

    def run(case: Case) -> Result:
        return run_oracle(case).result if twin is None else twin.run(layer, case)

    for k in lags:
        start = time - 1 - k
        gradients.append(_norms(_state_gradients(parameters, x[:, start + 1 :], states[start], d_final, run)))
        jacobians.append(_spectral_norms(parameters, x[:, start], _before(states, start), run))
    return Flow(np.array(lags), *(np.exp(np.log(np.array(each)).mean(1)) for each in (gradients, jacobians)))


def _states(parameters: Parameters, x: Array) -> list[State]:
    """The state after every step, from zeros."""
    states: list[State] = []
    state: State | None = None
    for t in range(x.shape[1]):
        state = equations.unroll(parameters, x[:, t : t + 1], state).final
        states.append(state)
    return states


def _before(states: Sequence[State], t: int) -> State:
    return states[t - 1] if t else tuple(np.zeros_like(array) for array in states[0])


def _direction(final: State, seed: int) -> State:
    """∂L/∂ the last state: a unit vector on h a sequence, nothing on c."""
    d_h = np.random.default_rng(seed).standard_normal(final[0].shape)
    d_h /= np.linalg.norm(d_h, axis=1, keepdims=True)
    return (d_h, *(np.zeros_like(array) for array in final[1:]))


def _state_gradients(parameters: Parameters, x: Array, state: State, d_final: State, run: Runner) -> list[Array]:
    """∂L/∂ the state from which the steps `x` start."""
    if x.shape[1] == 0:
        return list(d_final)
    d_outputs = np.zeros((*x.shape[:2], parameters.hidden_size))
    result = run(Case(parameters, x, state, None, d_outputs, d_final))
    return [result.gradients[f"{name}_0"] for name in parameters.cell.states]


def _norms(gradients: Sequence[Array]) -> Array:
    return np.asarray(np.linalg.norm(np.concatenate(gradients, 1), axis=1))


def _spectral_norms(parameters: Parameters, x_t: Array, state: State, run: Runner) -> Array:
    """The largest singular value of ∂s_t/∂s_{t−1}, for each sequence: every row is the gradient of one part of s_t."""
    batch, size = len(x_t), len(state) * parameters.hidden_size
    rows = np.tile(np.eye(size), (batch, 1))
    case = Case(
        parameters,
        np.repeat(x_t, size, 0)[:, None],
        tuple(np.repeat(array, size, 0) for array in state),
        None,
        np.zeros((batch * size, 1, parameters.hidden_size)),
        tuple(np.split(rows, len(state), 1)),
    )
    result = run(case)
    jacobian = np.concatenate([result.gradients[f"{name}_0"] for name in parameters.cell.states], 1)
    return np.asarray(np.linalg.norm(jacobian.reshape(batch, size, size), 2, axis=(1, 2)))


def agreement(flows: Mapping[str, Flow]) -> float:
    """The largest relative deviation of any flow from the first."""
    first, *others = flows.values()
    return max(
        float(np.max(np.abs(getattr(other, part) - getattr(first, part)) / getattr(first, part)))
        for other in others
        for part in ("gradients", "jacobians")
    )


# What `rnn-parity gradients` measures

LENGTH, COUNT, HIDDEN, SCALES = 60, 960, 24, (0.7, 1.0, 2.0)
LAGS = (0, 1, 2, 4, 8, 12, 20, 30, 40, 50)


def network(cell: str) -> Network:
    """The network whose gradients are looked at: one layer on the adding problem."""
    return Network(Stack(cell, 2, HIDDEN), 1, "forecast")


def trained(
    twin: Framework,
    cell: str,
    scale: float,
    *,
    recipe: Recipe | None = None,
    watch: Callable[[Run], None] | None = None,
) -> tuple[Parameters, Parameters]:
    """A layer before and after training on the adding problem, its recurrent weights scaled at the start.

    Args:
        twin: the framework that trains.
        cell: which.
        scale: of the recurrent matrices, orthogonal otherwise.
        recipe: how it is trained. Default Adam, clipped, 300 updates.
        watch: called after every update.

    Returns:
        The layer's weights at the start and at the end.
    """
    data = adding(COUNT, LENGTH, seed=1)
    data = Sequences("adding", data.sequences, np.asarray(data.targets)[:, None])
    model = network(cell)
    weights = networks.initial_weights(model, 0)
    start = scaled(networks.recurrent_parameters(model.stack, weights, "layer1/forward/"), scale)
    weights |= {f"layer1/forward/{name}": array for name, array in start.items()}
    recipe = recipe or Recipe(learning_rate=0.003, clip_norm=1.0, epochs=10, dtype="float64")
    run = Run(model, recipe, data, weights, watch=watch)
    end = networks.recurrent_parameters(model.stack, twin.weights(twin.train(run)), "layer1/forward/")
    return start, end


# A SimpleRNN whose gradients explode: large recurrent weights and plain gradient descent, at a rate at which the output layer
# itself diverges once the hidden units are at ±1, so that the end does not hang on how sums are rounded.
EXPLODING_SCALE, EXPLODING_RATE, CLIPPED_AT = 1.4, 0.2, 0.25


def clipping(twin: Framework, limits: Sequence[float] = (CLIPPED_AT, 0.0)) -> list[dict[str, Any]]:
    """How clipping changes training where gradients explode: the curves with each limit, 0 being none, as plain data."""
    found = []
    for limit in limits:
        recipe = Recipe("sgd", learning_rate=EXPLODING_RATE, momentum=0.0, clip_norm=limit, epochs=10, dtype="float64")
        losses: list[float] = []
        norms: list[float] = []

        def watch(run: Run, losses: list[float] = losses, norms: list[float] = norms) -> None:
            losses[:], norms[:] = run.losses, run.norms

        ended = ""
        try:
            trained(twin, "SimpleRNN", EXPLODING_SCALE, recipe=recipe, watch=watch)
        except Diverged:
            ended = f", until the loss was infinite after {len(losses)} updates"
        last = float(np.mean(losses[-30:]))
        said = (
            f"{'clipped at ' + format(limit, 'g') if limit else 'not clipped'}: largest ‖gradient‖ {max(norms):.2g}, "
        )
        said += f"last loss {last:.2g}{ended}"
        found.append({"clip_norm": limit, "losses": losses, "norms": norms, "said": said})
    return found


def measure(
    twins: Sequence[Framework], *, progress: Callable[[str, float], None] = lambda what, share: None
) -> dict[str, Any]:
    """Gradient flow of every cell, at the start and after training, by the oracle and each framework, as plain data.

    Args:
        twins: the frameworks; the first one trains.
        progress: told what is being done, and which share of the whole is.
    """
    x = np.stack(adding(8, LENGTH, seed=2).sequences)
    rows: list[dict[str, Any]] = []
    cases = [(cell, scale) for cell in IN_BOTH for scale in SCALES]
    for index, (cell, scale) in enumerate(cases):
        progress(f"{cell}, recurrent weights × {scale:g}", index / (len(cases) + 1))
        start, end = trained(twins[0], cell, scale)
        for when, parameters in (("at initialisation", start), ("after training", end)):
            # Rounding grows with the pre-activations, so the bound does.
            bound = GRADIENT_BOUND * max(1.0, equations.unroll(parameters, x).largest_pre_activation)
            flows = {"oracle": flow(parameters, x, LAGS)}
            flows |= {twin.name: flow(parameters, x, LAGS, twin) for twin in twins}
            about = {"cell": cell, "scale": scale, "when": when, "agreement": agreement(flows), "bound": bound}
            for by, found in flows.items():
                rows.append(
                    about
                    | {"by": by}
                    | {name: getattr(found, name).tolist() for name in ("lags", "gradients", "jacobians")}
                )
    progress("clipping", len(cases) / (len(cases) + 1))
    return {"environment": environment(twins), "rows": rows, "clipping": clipping(twins[0])}
