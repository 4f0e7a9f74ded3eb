"""Why two that are trained alike do not stay alike: the loss, the gradients by name, and one step of each optimiser.

A step is taken from equal weights and equal gradients, at the beginning, where the optimisers remember nothing. There

    SGD       Δ = −α g, with Nesterov's momentum −α (1 + μ) g
    Adam      Δ = −α g / (|g| + ε′), ε′ = ε in PyTorch, ε / √(1 − β2) in Keras
    RMSprop   Δ = −α g / (√((1 − ρ) g²) + ε) in PyTorch, −α g / √((1 − ρ) g² + ε) in Keras

with g + λ w in the place of g where weight decay is part of the gradient, and −α λ w added where it is apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from rnn_common.cells import CELLS, Cell
from rnn_common.doctor import probe
from rnn_common.doctor.calls import UNITS
from rnn_common.doctor.diagnosis import diagnose
from rnn_common.doctor.report import Cause, Report
from rnn_common.doctor.sides import Side
from rnn_common.exchange.contents import Array

Arrays = Mapping[str, Array]  # a weight, or its gradient or step, by its layer's place and its name: "0/forward/W_ii"

RECURRENT = {name for cell in CELLS.values() for name in cell.recurrent_matrices}
KINDS = ("sgd", "adam", "rmsprop")
NEAR = 1e-4  # what float32 makes of a loss, a gradient or a step: Keras rounds the rate and Adam's β


@dataclass(frozen=True)
class Rule:
    """An optimiser's first step.

    Attributes:
        kind: among `KINDS`, or another name, whose step is not known here.
        rate: α.
        momentum: μ where it is Nesterov's, which the first step feels; else 0.
        rho: of RMSprop.
        epsilon: ε, of Adam ε′.
        epsilon_inside: whether it stands under the root.
        decay: λ.
        decay_apart: whether weight decay is apart from the gradient.
        clip: `"all"`: the norm of all gradients is kept to `clip_norm`; `"each"`: that of each variable; `"none"`.
        clip_norm: the limit.
    """

    kind: str
    rate: float
    momentum: float = 0.0
    rho: float = 0.0
    epsilon: float = 0.0
    epsilon_inside: bool = False
    decay: float = 0.0
    decay_apart: bool = False
    clip: str = "none"
    clip_norm: float = 0.0


# What mends each setting of a rule that is another, and the row of the table of differences.
SETTINGS: dict[str, tuple[str, str, str]] = {
    "kind": ("the optimiser", "take the same one", ""),
    "rate": ("the learning rate", "pass it to both: the defaults differ", "learning rates"),
    "momentum": ("Nesterov's momentum", "nesterov=True and the same momentum in both", "momentum"),
    "rho": ("RMSprop's ρ", "rho = alpha", "rmsprop"),
    "epsilon": ("ε", "pass it to both; exact with ε_Keras = ε_torch √(1 − β2^t)", "adam"),
    "epsilon_inside": ("ε", "no exact translation: take ε_Keras = ε_torch²", "rmsprop"),
    "decay": ("weight decay", "pass it to both", "weight decay"),
    "decay_apart": (
        "weight decay",
        "torch.optim.AdamW is what Keras's weight_decay does",
        "weight decay",
    ),
    "clip": ("clipped", "clip_grad_norm_ in PyTorch, global_clipnorm in Keras", "clipnorm"),
    "clip_norm": ("the limit of clipping", "pass the same to both", "global norm"),
}

WORDS: dict[tuple[str, Any], str] = {
    ("epsilon_inside", True): "under the root",
    ("epsilon_inside", False): "beside the root",
    ("decay_apart", True): "apart from the gradient",
    ("decay_apart", False): "added to the gradient",
    ("clip", "all"): "the norm of all gradients",
    ("clip", "each"): "the norm of each variable's gradient",
    ("clip", "none"): "nothing",
}


@dataclass(frozen=True, eq=False)
class Trained:
    """One of two that are trained.

    Attributes:
        side: what it is and does.
        loss: of x and targets.
        gradients: of that loss, of every weight by name.
        step: the weights' change by one step from given gradients, of biases that are added that of their sum; from zeros, where
            that is asked for, which loses nothing to rounding. The model stays as it is.
        weights: by name, both biases of a gate apart where there are two.
        rule: what its optimiser says that it does.
    """

    side: Side
    loss: Callable[[Array, Array], float]
    gradients: Callable[[Array, Array], Arrays]
    step: Callable[[Arrays, bool], Arrays]
    weights: Callable[[], Arrays]
    rule: Rule


def diagnose_training(a: Trained, b: Trained, x: Array | None = None, targets: Array | None = None) -> Report:
    """Say whether two models are trained alike, and if not, why.

    Args:
        a, b: see `rnn_torch.doctor.trained` and `rnn_tf.doctor.trained`.
        x: `(batch, time, input)`, or symbols. Default drawn.
        targets: what the losses take. Default numbers of the outputs' shape, drawn.

    Returns:
        A report whose causes are of the first of these that differs: outputs (see `diagnose`), the losses, the gradients, the
        steps. Its deviation is that of the steps' worst weight where all before is equal.
    """
    x = probe.calls(a.side, b.side, x)[0].x if x is None else x
    forward = diagnose(a.side, b.side, x=x)
    if forward.verdict != "equal":
        return replace(forward, notes=(*forward.notes, "Training was not looked at: their outputs differ already."))
    if targets is None:
        outputs = a.side.run(probe.calls(a.side, b.side, x)[0]).outputs
        targets = np.random.default_rng(0).standard_normal(outputs.shape).astype(np.float32)
    losses = a.loss(x, targets), b.loss(x, targets)
    if _differ(np.asarray(losses[0]), np.asarray(losses[1])):
        return _of_losses(forward, *losses, a.side.run(probe.calls(a.side, b.side, x)[0]).outputs.shape)
    mine, theirs = a.gradients(x, targets), b.gradients(x, targets)
    if worst := _worst(mine, theirs):
        return _unexplained(forward, "gradient", worst, mine, theirs)
    return _of_steps(forward, a, b, mine)


def _differ(a: Array, b: Array, slack: float = 0.0) -> bool:
    return float(np.abs(a - b).max()) > NEAR * _largest(a, b) + slack


def _apart(a: Array, b: Array) -> float:
    return float(np.abs(a - b).max()) / _largest(a, b)


def _largest(a: Array, b: Array) -> float:
    return max(float(np.abs(a).max()), float(np.abs(b).max()), 1e-30)


def _worst(a: Arrays, b: Arrays, slack: Mapping[str, float] | None = None) -> list[str]:
    """The names of those that differ, worst first, by more than rounding and a slack."""
    if a.keys() != b.keys():
        raise ValueError(f"b should have the weights {', '.join(a)}, got {', '.join(b)}")
    names = [name for name in a if _differ(a[name], b[name], (slack or {}).get(name, 0.0))]
    return sorted(names, key=lambda name: -_apart(a[name], b[name]))


# The loss


def _of_losses(base: Report, a: float, b: float, shape: Sequence[int]) -> Report:
    """A loss that is another by as much as there are sequences, steps or outputs is a sum and not a mean."""
    ratio = b / a if a else np.inf
    names = ("the batch", "time", "the outputs") if len(shape) == 3 else ("the batch", "the outputs")
    counts = {"half or double": 2.0}
    for picked in range(1, 2 ** len(shape)):
        axes = [n for n in range(len(shape)) if picked >> n & 1]
        counts[" and ".join(names[n] for n in axes)] = float(np.prod([shape[n] for n in axes]))
    found = [
        (f"the sum over {over}, not the mean" if ratio > 1 else f"the mean over {over}, not the sum", over)
        for over, count in counts.items()
        if over != "half or double" and _near(max(ratio, 1 / ratio), count)
    ]
    if not found:
        note = f"a's loss is {a:.6g}, b's {b:.6g}: {ratio:.6g} times; it is another one, or something is masked."
        return replace(base, verdict="unexplained", deviation=abs(ratio - 1), bound=NEAR, notes=(note,))
    first, *others = (name for name, _ in found)
    cause = Cause(
        f"a loss that is {first} ({ratio:.4g} times a's)",
        "b",
        True,
        "",
        "masked loss",
        "take the same reduction",
        tuple(others),
    )
    return replace(base, verdict="explained", deviation=abs(ratio - 1), bound=NEAR, causes=(cause,))


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= NEAR * abs(b)


def _unexplained(base: Report, what: str, worst: Sequence[str], a: Arrays, b: Arrays) -> Report:
    notes = tuple(f"The {what} of {name} is {_ratio(a[name], b[name])} times a's." for name in worst)
    return replace(base, verdict="unexplained", deviation=_apart(a[worst[0]], b[worst[0]]), bound=NEAR, notes=notes)


def _ratio(a: Array, b: Array) -> str:
    """By how much one is the other, where it is by a number."""
    ratio = float((a * b).sum() / (a * a).sum()) if np.any(a) else float("inf")
    return f"{ratio:.4g}" if _apart(ratio * a, b) <= 10 * NEAR else f"about {ratio:.2g}, not everywhere the same,"


# The step


def _of_steps(base: Report, a: Trained, b: Trained, gradients: Arrays) -> Report:
    """Each step against its rule, and the settings by which the rules differ."""
    from_zero = a.rule.decay == 0 == b.rule.decay
    mine, theirs = a.step(gradients, from_zero), b.step(gradients, from_zero)
    weights = [{name: 0 * w for name, w in each.weights().items()} if from_zero else each.weights() for each in (a, b)]
    # What float32 loses where a small step is added to a large weight.
    slack = {name: 4 * UNITS["float32"] * float(np.abs(weights[1].get(name, 0.0)).max()) for name in mine}
    worst = _worst(mine, theirs, slack)
    base = replace(base, deviation=max(_apart(mine[name], theirs[name]) for name in mine), bound=NEAR)
    if not worst:
        return replace(base, notes=("Loss, gradients and one step of the optimisers are equal.",))
    for each, taken, of in zip((a, b), (mine, theirs), weights, strict=True):
        off = [] if each.rule.kind in KINDS else ["not known here"]
        if off := off or _worst(first_step(each.rule, gradients, of), taken, slack):
            note = f"{each.side.name} does not step as {each.rule} says: {', '.join(off)}."
            return replace(_unexplained(base, "step", worst, mine, theirs), notes=(note,))
    causes = (*_otherwise(a.rule, b.rule, gradients, weights[0]), *_two_biases(*weights))
    ratios = tuple(f"The step of {name} is {_ratio(mine[name], theirs[name])} times a's." for name in worst[:6])
    return replace(base, verdict="explained" if causes else "unexplained", causes=causes, notes=ratios)


def _otherwise(a: Rule, b: Rule, gradients: Arrays, weights: Arrays) -> list[Cause]:
    """The settings by which one rule differs from the other, of those that this step feels."""
    causes = []
    steps = [first_step(rule, gradients, weights) for rule in (a, b)]
    for each in fields(Rule):
        one, other = getattr(a, each.name), getattr(b, each.name)
        changed = [replace(a, **{each.name: other}), replace(b, **{each.name: one})]
        alone = [first_step(rule, gradients, weights) for rule in changed]
        if one != other and any(_worst(*pair) for pair in zip(steps, alone, strict=True)):
            what, fix, row = SETTINGS[each.name]
            said = f"{what} {_said(each.name, other)}, not {_said(each.name, one)}"
            causes.append(Cause(said, "b", True, "", row, fix))
    return causes


def _two_biases(a: Arrays, b: Arrays) -> list[Cause]:
    """Where one has two biases that are added, and the other one."""
    if a.keys() == b.keys():
        return []
    one, two = ("one bias a gate", "two, of which each takes the step")
    names = (one, two) if len(a) > len(b) else (two, one)
    fix = "in PyTorch zero bias_hh and freeze it: requires_grad_(False)"
    return [Cause(f"{names[0]}, not {names[1]}", "b", True, "", "training of biases", fix)]


def _said(name: str, value: Any) -> str:
    """A setting in words."""
    if (name, value) in WORDS:
        return WORDS[name, value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def first_step(rule: Rule, gradients: Arrays, weights: Arrays) -> Arrays:
    """The change of every weight by the first step of an optimiser; see the top of this page.

    Of a bias that is two the change of their sum: each has the gradient of the sum, and in a norm both count.
    """
    parts = {name: [weights[each] for each in (name, _second(name)) if each in weights] for name in gradients}
    return {
        name: np.asarray(sum(_step(rule, g, w.astype(np.float64)) for w in parts[name]))
        for name, g in _clipped(rule, gradients, {name: len(each) for name, each in parts.items()}).items()
    }


def _second(name: str) -> str:
    """The name of the bias that is added to one: of `0/forward/b_i` it is `0/forward/b_hi`; of a candidate's none is."""
    head, _, last = name.rpartition("b_")
    return f"{head}b_h{last}" if head.endswith("/") and last not in ("n", "hn") else ""


def _clipped(rule: Rule, gradients: Arrays, counts: Mapping[str, int]) -> dict[str, Array]:
    found = {name: g.astype(np.float64) for name, g in gradients.items()}
    if rule.clip == "none":
        return found
    squares = {name: float((g**2).sum()) * counts[name] for name, g in found.items()}
    whole = float(np.sqrt(sum(squares.values())))
    norms = dict.fromkeys(found, whole) if rule.clip == "all" else _of_variables(squares)
    return {name: g * min(1.0, rule.clip_norm / max(norms[name], 1e-30)) for name, g in found.items()}


def _of_variables(squares: Mapping[str, float]) -> dict[str, float]:
    """The norm of the variable that each weight is in: Keras has a kernel, a recurrent kernel and a bias for all gates."""
    sums: dict[str, float] = {}
    for name, square in squares.items():
        sums[_variable(name)] = sums.get(_variable(name), 0.0) + square
    return {name: float(np.sqrt(sums[_variable(name)])) for name in squares}


def _variable(name: str) -> str:
    head, _, last = name.rpartition("/")
    if head.count("/") == 0:  # of a dense layer or an embedding
        return name
    return f"{head}/{'bias' if last.startswith('b_') else 'recurrent' if last in RECURRENT else 'kernel'}"


def _step(rule: Rule, g: Array, w: Array) -> Array:
    g = g if rule.decay_apart else g + rule.decay * w
    apart = -rule.rate * rule.decay * w if rule.decay_apart else 0 * w
    if rule.kind == "sgd":
        return apart - rule.rate * (1 + rule.momentum) * g
    if rule.kind == "adam":
        return apart - rule.rate * g / (np.abs(g) + rule.epsilon)
    v = (1 - rule.rho) * g**2
    return apart - rule.rate * g / (np.sqrt(v + rule.epsilon) if rule.epsilon_inside else np.sqrt(v) + rule.epsilon)


# Weights, gradients and steps of packed weights, by the names of the equations


DIRECTIONS = ("forward", "backward")


def below(gradients: Arrays, prefix: str) -> dict[str, Array]:
    """Those of one layer and direction, by the names of the equations."""
    return {name.removeprefix(prefix): array for name, array in gradients.items() if name.startswith(prefix)}


def both_apart(cell: Cell, unpacked: Arrays) -> dict[str, Array]:
    """Weights as they are."""
    return dict(unpacked)


def of_function(cell: Cell, unpacked: Arrays) -> dict[str, Array]:
    """Gradients, both biases of a gate apart, as those of biases that are added as one: each has the gradient of the sum."""
    return {name: array for name, array in unpacked.items() if name in cell.roles}


def for_two(cell: Cell, gradients: Arrays) -> dict[str, Array]:
    """The same for a packing with two biases a gate."""
    found = dict(gradients)
    for gate in set(cell.gates) - set(cell.apart):
        if cell.bias(gate) in found:
            found[f"b_h{gate}"] = found[cell.bias(gate)]
    return found
