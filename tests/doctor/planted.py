"""The table of plants: all that users do wrong with a recurrent layer, done to real layers of both frameworks.

Nothing here is made by the doctor's own catalogue: weights go wrong in the arrays that users move, those of a `state_dict` or of
`get_weights`; configuration in the constructors' arguments; behaviour in functions around a layer, or in cells written by hand.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import permutations
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import rnn_tf
import rnn_torch
from rnn_common.doctor import Call, Report, Seen, Side, diagnose, sides

Array = NDArray[Any]
Arrays = list[Array]  # one direction's, as PyTorch has them: weight_ih, weight_hh, bias_ih, bias_hh
Run = Callable[[Call], Seen]

GATES = {"SimpleRNN": "h", "LSTM": "ifco", "GRU": "rzn", "GRU v3": "rzn"}  # in PyTorch's order
INPUTS, HIDDEN = 3, 5
BATCH = 4  # of the probe: unlike the sizes


# A layer as it is to be made


@dataclass(frozen=True)
class Made:
    """A layer that is to be made, right or with faults.

    Attributes:
        cell: which cell it is.
        arrays: of each direction those of a `state_dict`, whatever framework it is of.
        framework: `"torch"` or `"tf"`.
        own: whether it is of our layers or the framework's own, where that has it.
        options: of the constructor, by Keras's names.
        late: what is done to the arrays of `get_weights`, direction by direction.
        wrong: what is done wrong at run time.
        alone: whether it is called with an input alone, no state and no lengths.
    """

    cell: str
    arrays: tuple[Arrays, ...]
    framework: str
    own: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    late: tuple[Callable[[Made, Arrays], Arrays], ...] = ()
    wrong: tuple[Callable[[Made, Run], Run], ...] = ()
    alone: bool = False

    @property
    def hidden(self) -> int:
        return self.arrays[0][1].shape[1]

    @property
    def inputs(self) -> int:
        return self.arrays[0][0].shape[1]

    def layer(self) -> Any:
        return _in_torch(self) if self.framework == "torch" else _in_keras(self)

    def side(self, hides: bool = False) -> Side:
        """The layer with all that is done wrong around it.

        Args:
            hides: whether it does not say what it is. Default no.
        """
        found = sides.side(self.layer(), "layer")
        run = found.run
        for wrong in self.wrong:
            run = wrong(self, run)
        takes: dict[str, Any] = {"takes_state": False, "takes_lengths": False} if self.alone else {}
        if self.wrong:
            takes["evaluated"] = None  # it is no module that could be taken out of training
        return replace(found, run=run, layers=() if hides else found.layers, **takes)


def right(cell: str, directions: int, framework: str, own: bool, square: bool, seed: int = 0, **options: Any) -> Made:
    random = np.random.default_rng(seed)
    rows, inputs = len(GATES[cell]) * HIDDEN, HIDDEN if square else INPUTS
    shapes = ((rows, inputs), (rows, HIDDEN), (rows,), (rows,))
    arrays = tuple([random.uniform(-0.7, 0.7, shape).astype(np.float32) for shape in shapes] for _ in range(directions))
    return Made(cell, arrays, framework, own, options)


TORCH: dict[str, tuple[Any, Any]] = {
    "SimpleRNN": (nn.RNN, rnn_torch.SimpleRNN),
    "LSTM": (nn.LSTM, rnn_torch.LSTM),
    "GRU": (nn.GRU, rnn_torch.GRU),
    "GRU v3": (None, partial(rnn_torch.GRU, reset_after=False)),
}
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def _in_torch(made: Made) -> Any:
    options = {name: each for name, each in made.options.items() if name != "return_sequences"}
    own = made.own or made.cell == "GRU v3" or bool(options)
    if made.cell == "SimpleRNN" and "activation" in options:
        options["nonlinearity"] = options.pop("activation")
    layer = TORCH[made.cell][own](
        made.inputs, made.hidden, batch_first=True, bidirectional=len(made.arrays) == 2, **options
    )
    state = {
        name + tail: torch.from_numpy(np.ascontiguousarray(array))
        for tail, arrays in zip(("", "_reverse"), made.arrays, strict=False)
        for name, array in zip(NAMES, arrays, strict=True)
    }
    layer.load_state_dict(state)
    return layer


def _in_keras(made: Made) -> Any:
    package = rnn_tf if made.own else keras.layers
    options = {"return_sequences": True, **made.options}
    merge = options.pop("merge_mode", "concat")
    if made.cell.startswith("GRU"):
        options = {"reset_after": made.cell == "GRU", **options}
    if options.get("recurrent_activation") == "hard_sigmoid_keras2":
        options["recurrent_activation"] = rnn_tf.hard_sigmoid_keras2
    layer = getattr(package, made.cell.split()[0])(made.hidden, return_state=True, **options)
    if len(made.arrays) == 2:
        layer = keras.layers.Bidirectional(layer, merge_mode=merge)
    layer.build((BATCH if made.options.get("stateful") else None, None, made.inputs))
    found: Arrays = []
    for arrays in made.arrays:
        each = as_keras(made.cell, arrays)
        for late in made.late:
            each = late(made, each)
        found += each
    layer.set_weights(found)
    return layer


def as_keras(cell: str, arrays: Arrays) -> Arrays:
    """A direction's arrays as Keras has them: columns for rows, z before r, one bias or two rows of biases."""
    order = (1, 0, 2) if cell.startswith("GRU") else range(len(GATES[cell]))
    w_ih, w_hh, b_ih, b_hh = (_ordered(array, order, 0) for array in arrays)
    return [w_ih.T, w_hh.T, np.stack([b_ih, b_hh]) if cell == "GRU" else b_ih + b_hh]


def _ordered(array: Array, order: Sequence[int], axis: int) -> Array:
    blocks = np.split(array, len(order), axis)
    return np.concatenate([blocks[i] for i in order], axis)


# The table


@dataclass(frozen=True)
class Plant:
    """Something done wrong.

    Attributes:
        name: what, in few words.
        plant: makes a layer of it that is wrong.
        says: a pattern that a cause's name has, or several of which each has one.
        undone: a pattern that it may have instead where the other side is wrong: what would make it right. Default none.
        cells: the cells that it fits. Default all.
        directions: how many. Default one.
        group: what it is about; two of one group cannot be together.
        frameworks: those that the wrong layer can be of. Default both.
        beside: those that the right layer can be of: one of Keras has one bias where PyTorch's has two. Default both.
        square: whether input and state are of one size. Default no.
        verdict: what the report says. Default "explained".
        runs: whether the layer is declared right and does something else. Default no.
        options: of both layers.
        moved: the gates in which it shows at first, where that is sure.
    """

    name: str
    plant: Callable[[Made], Made]
    says: str | tuple[str, ...]
    undone: str = "(?!)"
    cells: tuple[str, ...] = tuple(GATES)
    directions: tuple[int, ...] = (1,)
    group: str = ""
    frameworks: tuple[str, ...] = ("torch", "tf")
    beside: tuple[str, ...] = ("torch", "tf")
    square: bool = False
    verdict: str = "explained"
    runs: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    moved: str = ""

    @property
    def patterns(self) -> tuple[str, ...]:
        return (self.says,) if isinstance(self.says, str) else self.says


TWO_BIASES = ("torch",)
GATED = ("LSTM", "GRU", "GRU v3")
BOTH = (1, 2)
TF = ("tf",)


# Weights: in the arrays of a state_dict, or in those of get_weights


def in_arrays(change: Callable[[Made, Arrays], Sequence[Array]]) -> Callable[[Made], Made]:
    return lambda made: replace(made, arrays=tuple(list(change(made, each)) for each in made.arrays))


def in_keras(change: Callable[[Made, Arrays], Arrays]) -> Callable[[Made], Made]:
    return lambda made: replace(made, late=(*made.late, change))


ALL, MATRICES, BIASES = range(4), range(2), range(2, 4)


def exchanged(order: str, which: Sequence[int]) -> Callable[[Made], Made]:
    def change(made: Made, arrays: Arrays) -> Arrays:
        places = [GATES[made.cell].index(gate) for gate in order]
        return [_ordered(each, places, 0) if n in which else each for n, each in enumerate(arrays)]

    return in_arrays(change)


def gates() -> list[Plant]:
    plants = []
    for cells in (("LSTM",), ("GRU",), ("GRU v3",)):
        right_order = GATES[cells[0]]
        for order in map("".join, permutations(right_order)):
            moved = [gate for gate, other in zip(right_order, order, strict=True) if gate != other]
            if not moved or (len(moved) > 2 and order not in ("fcio", "iocf", "znr", "ocfi")):
                continue
            said = " and ".join(moved) + " exchanged" if len(moved) == 2 else "the gates .* taken as"
            for which, where in ((ALL, ""), (MATRICES, " in the matrices alone"), (BIASES, " in the biases alone")):
                shows = "" if cells != ("LSTM",) else "".join(sorted(moved))
                says = f"{said}{where}" if len(moved) == 2 else f"{said} [a-z ]{{5,7}}{where}"
                says += r"(?! in the)"
                plants.append(
                    Plant(
                        f"{right_order} as {order}{where}",
                        exchanged(order, which),
                        says,
                        cells=cells,
                        directions=BOTH if order in ("zrn", "ficod") else (1,),
                        group="gates",
                        moved=shows,
                    )
                )
    return plants


def without_swap(made: Made, arrays: Arrays) -> Arrays:
    return [_ordered(each, (1, 0, 2), -1) for each in arrays]


def per_gate(change: Callable[[Array], Array], which: int) -> Callable[[Made], Made]:
    def changed(made: Made, arrays: Arrays) -> Arrays:
        blocks = np.split(arrays[which], len(GATES[made.cell]))
        return [np.concatenate(list(map(change, blocks))) if n == which else each for n, each in enumerate(arrays)]

    return in_arrays(changed)


def reshaped_to_keras(which: int) -> Callable[[Made], Made]:
    """PyTorch's array brought into Keras's shape by reshape; the gates' order is right."""

    def change(made: Made, arrays: Arrays) -> Arrays:
        return [each.T.reshape(each.shape) if n == which else each for n, each in enumerate(arrays)]

    return in_keras(change)


def reshaped_to_torch(which: int) -> Callable[[Made], Made]:
    def change(made: Made, arrays: Arrays) -> Arrays:
        return [each.T.reshape(each.shape) if n == which else each for n, each in enumerate(arrays)]

    return in_arrays(change)


def with_biases(change: Callable[[Array, Array], tuple[Array, Array]]) -> Callable[[Made], Made]:
    """Both biases changed, in every gate."""
    return in_arrays(lambda made, arrays: [*arrays[:2], *change(arrays[2], arrays[3])])


def in_gate(gate: str, change: Callable[[Array, Array], tuple[Array, Array]]) -> Callable[[Made], Made]:
    """Both biases of a gate changed."""

    def changed(made: Made, arrays: Arrays) -> Arrays:
        place = GATES[made.cell].index(gate) * made.hidden
        rows = slice(place, place + made.hidden)
        b_ih, b_hh = arrays[2].copy(), arrays[3].copy()
        b_ih[rows], b_hh[rows] = change(b_ih[rows].copy(), b_hh[rows].copy())
        return [*arrays[:2], b_ih, b_hh]

    return in_arrays(changed)


def negated(gate: str) -> Callable[[Made], Made]:
    def change(made: Made, arrays: Arrays) -> Arrays:
        place = GATES[made.cell].index(gate) * made.hidden
        found = [each.copy() for each in arrays]
        for each in found:
            each[place : place + made.hidden] *= -1
        return found

    return in_arrays(change)


def weights() -> list[Plant]:
    zero = np.zeros_like
    return [
        *gates(),
        Plant("no r/z swap", in_keras(without_swap), "r and z exchanged(?! in)", cells=("GRU", "GRU v3"),
              directions=BOTH, group="gates", frameworks=TF),
        Plant("recurrent blocks transposed", per_gate(np.transpose, 1), "the recurrent kernel transposed",
              directions=BOTH, group="W_h"),
        Plant("square blocks transposed", per_gate(np.transpose, 0), "the kernel transposed", group="W_x", square=True),
        Plant("kernel reshaped", reshaped_to_keras(0), "the kernel brought from PyTorch's.*by reshape",
              "the kernel brought from Keras's", group="W_x", frameworks=TF),
        Plant("recurrent kernel reshaped", reshaped_to_keras(1), "the recurrent kernel (brought from PyTorch's|transposed)",
              "the recurrent kernel brought from Keras's", group="W_h", frameworks=TF),
        Plant("weight_ih reshaped", reshaped_to_torch(0), "the kernel brought from Keras's.*by reshape",
              "the kernel brought from PyTorch's", group="W_x", frameworks=("torch",)),
        Plant("weight_hh reshaped", reshaped_to_torch(1), "the recurrent kernel (brought from Keras's|transposed)",
              "the recurrent kernel brought from PyTorch's", group="W_h", frameworks=("torch",)),
        Plant("kernel in CuDNN's order", per_gate(lambda W: W.T.reshape(W.shape), 0),
              "the kernel (of each gate in the other order of memory|brought from Keras's)",
              "the kernel (of each gate in the other order of memory|brought from PyTorch's)", group="W_x"),
        Plant("bias_hh lost", with_biases(lambda b, c: (b, zero(c))), "the input biases alone",
              cells=("SimpleRNN", "LSTM", "GRU"), directions=BOTH, beside=TWO_BIASES, group="biases"),
        Plant("bias_ih lost", with_biases(lambda b, c: (zero(b), c)), "the recurrent biases alone",
              cells=("SimpleRNN", "LSTM", "GRU"), beside=TWO_BIASES, group="biases"),
        Plant("bias_ih in both", with_biases(lambda b, c: (b, b)), "the input biases in the place of the recurrent",
              cells=("SimpleRNN", "LSTM", "GRU"), beside=TWO_BIASES, group="biases"),
        Plant("biases doubled", with_biases(lambda b, c: (b * 2, c * 2)), "the biases twice", "half of the biases",
              directions=BOTH, group="biases"),
        Plant("biases halved", with_biases(lambda b, c: (b / 2, c / 2)), "half of the biases", "the biases twice",
              group="biases"),
        Plant("no biases", with_biases(lambda b, c: (zero(b), zero(c))), "no biases", directions=BOTH, group="biases"),
        Plant("b_hn lost", in_gate("n", lambda b, c: (b, zero(c))), "b_hn left out", cells=("GRU",), group="biases",
              moved="n"),
        Plant("b_hn outside", in_gate("n", lambda b, c: (b + c, zero(c))), "b_hn outside of the reset gate",
              cells=("GRU",), directions=BOTH, group="biases", moved="n"),
        Plant("one bias of two rows", in_keras(lambda made, a: [*a[:2], np.stack([a[2].sum(0), 0 * a[2][0]])]),
              "b_hn outside of the reset gate", cells=("GRU",), group="biases", frameworks=TF, moved="n"),
        Plant("b_n inside", in_gate("n", lambda b, c: (zero(b), b + c)), "b_n inside of the reset gate",
              cells=("GRU",), group="biases", moved="n"),
        Plant("rows of the bias exchanged", in_keras(lambda made, a: [*a[:2], a[2][::-1]]), "b_n and b_hn exchanged",
              cells=("GRU",), group="biases", frameworks=TF, moved="n"),
        Plant("forget bias +1", in_gate("f", lambda b, c: (b + 1, c)), r"\+1 on the forget", "-1 on the forget",
              cells=("LSTM",), directions=BOTH, group="forget bias", moved="f"),
        Plant("forget bias -1", in_gate("f", lambda b, c: (b, c - 1)), "-1 on the forget", r"\+1 on the forget",
              cells=("LSTM",), group="forget bias", moved="f"),
        Plant("z negated", negated("z"), "z in the place of 1 − z", cells=("GRU", "GRU v3"), group="form"),
        Plant("directions exchanged", lambda made: replace(made, arrays=made.arrays[::-1]),
              "the directions' weights exchanged", directions=(2,), group="directions"),
        Plant("forward weights in both", lambda made: replace(made, arrays=made.arrays[:1] * 2),
              "the forward direction's weights in both", directions=(2,), group="directions"),
        Plant("backward weights in both", lambda made: replace(made, arrays=made.arrays[1:] * 2),
              "the backward direction's weights in both", directions=(2,), group="directions"),
    ]  # fmt: skip


# Configuration: by the constructor's arguments


def given(**options: Any) -> Callable[[Made], Made]:
    return lambda made: replace(made, options={**made.options, **options})


def third_form(made: Made) -> Made:
    return replace(made, cell="GRU v3")


def first_form(made: Made) -> Made:
    return replace(in_arrays(lambda _, a: [*a[:2], a[2] + a[3], 0 * a[3]])(made), cell="GRU")


def configuration() -> list[Plant]:
    hard, hard_2 = r"hard_sigmoid 0\.1667", r"hard_sigmoid 0\.2"
    relu = "activation relu, not tanh"
    return [
        Plant("activation relu", given(activation="relu"), f"^{relu}", "^activation tanh, not relu", directions=BOTH,
              group="activation", moved=""),
        Plant("activation linear", given(activation="linear"), "^activation linear, not tanh",
              "^activation tanh, not linear", cells=GATED, group="activation"),
        Plant("recurrent activation hard", given(recurrent_activation="hard_sigmoid"),
              f"recurrent_activation {hard}.*, not sigmoid", f"recurrent_activation sigmoid, not {hard}", cells=GATED,
              directions=BOTH, group="recurrent activation"),
        Plant("recurrent activation hard, Keras 2", given(recurrent_activation="hard_sigmoid_keras2"),
              f"recurrent_activation {hard_2}.*, not sigmoid", f"recurrent_activation sigmoid, not {hard_2}",
              cells=GATED, group="recurrent activation"),
        Plant("hard sigmoid of Keras 2 for that of 3", given(recurrent_activation="hard_sigmoid_keras2"),
              f"recurrent_activation {hard_2}.*, not {hard}", f"recurrent_activation {hard}.*, not {hard_2}",
              cells=GATED, group="recurrent activation", options={"recurrent_activation": "hard_sigmoid"}),
        Plant("recurrent activation relu", given(recurrent_activation="relu"),
              "recurrent_activation relu, not sigmoid", "recurrent_activation sigmoid, not relu", cells=GATED,
              group="recurrent activation"),
        Plant("activations exchanged", given(activation="sigmoid", recurrent_activation="tanh"),
              ("activation and recurrent_activation exchanged|^activation sigmoid, not tanh|^activation tanh",
               "activation and recurrent_activation exchanged|recurrent_activation"), cells=GATED,
              group="activation"),
        Plant("GRU in its third form", third_form, r"reset_after=False", "reset_after=True", cells=("GRU",),
              directions=BOTH, group="form"),
        Plant("third form in a GRU", first_form, r"reset_after=True", "reset_after=False", cells=("GRU v3",),
              directions=BOTH, group="form"),
        Plant("backwards", given(go_backwards=True), "backwards.*, not forwards|outputs from the last step",
              "forwards, not backwards", group="order", frameworks=TF),
        *(
            Plant(f"merged by {how}", given(merge_mode=how), f"merged by {how}, not concat",
                  f"merged by concat, not {how}|halves", directions=(2,), group="merge", frameworks=TF)
            for how in ("sum", "ave", "mul")
        ),
        Plant("sum for ave", given(merge_mode="sum"), "merged by sum, not ave", "merged by ave, not sum",
              directions=(2,), group="merge", frameworks=TF, options={"merge_mode": "ave"}),
        Plant("the last output alone", given(return_sequences=False), "the last output alone", "every output handed on",
              directions=BOTH, group="last", frameworks=TF),
    ]  # fmt: skip


# Behaviour: around a layer that is declared right


def around(change: Callable[[Made, Run, Call], Seen], alone: bool = False) -> Callable[[Made], Made]:
    """A layer that is called so, `change(made, run, call)`."""

    def wrong(made: Made, run: Run) -> Run:
        return lambda call: change(made, run, call)

    return lambda made: replace(made, wrong=(*made.wrong, wrong), alone=made.alone or alone)


def asked(change: Callable[[Call], Call]) -> Callable[[Made], Made]:
    return around(lambda made, run, call: run(change(call)))


def answered(change: Callable[[Array], Array]) -> Callable[[Made], Made]:
    def changed(made: Made, run: Run, call: Call) -> Seen:
        seen = run(call)
        return seen._replace(outputs=change(seen.outputs))

    return around(changed)


def time_major(made: Made, run: Run, call: Call) -> Seen:
    seen = run(Call(call.x.swapaxes(0, 1)))
    return Seen(seen.outputs.swapaxes(0, 1))


def viewed(x: Array) -> Array:
    """`x.view(time, batch, -1)` of `(batch, time, …)`, read by a time-major layer."""
    batch, time, width = x.shape
    return x.reshape(time, batch, width).transpose(1, 0, 2)


def viewed_back(y: Array) -> Array:
    """A time-major layer's outputs, `view(batch, time, -1)`."""
    batch, time, width = y.shape
    return np.ascontiguousarray(y.transpose(1, 0, 2)).reshape(batch, time, width)


def outputs_viewed(made: Made, run: Run, call: Call) -> Seen:
    return Seen(viewed_back(run(call).outputs))


def step_by_step(made: Made, run: Run, call: Call) -> Seen:
    steps = [run(call._replace(x=call.x[:, t : t + 1])) for t in range(call.x.shape[1])]
    return Seen(np.concatenate([each.outputs for each in steps], 1), steps[-1].final)


def in_front(made: Made, run: Run, call: Call) -> Seen:
    """Each sequence by itself: its valid steps are taken to be the last ones."""
    if call.lengths is None:
        return run(call)
    seen = run(call._replace(lengths=None))
    outputs, final = np.zeros_like(seen.outputs), [[h.copy() for h in each] for each in seen.final or ()]
    time = call.x.shape[1]
    for n, length in enumerate(call.lengths):
        state = call.state and tuple(tuple(h[n : n + 1] for h in each) for each in call.state)
        alone = run(Call(call.x[n : n + 1, time - length :], state))
        outputs[n, time - length :] = alone.outputs[0]
        for each, ends in zip(final, alone.final or (), strict=True):
            for h, end in zip(each, ends, strict=True):
                h[n] = end[0]
    return Seen(outputs, tuple(map(tuple, final)) or None)


def unmasked_backwards(made: Made, run: Run, call: Call) -> Seen:
    heeding, heedless = run(call), run(call._replace(lengths=None))
    outputs = np.concatenate([heeding.outputs[..., : made.hidden], heedless.outputs[..., made.hidden :]], -1)
    return Seen(outputs, (heeding.final[0], heedless.final[1]) if heeding.final and heedless.final else None)


def one_way(made: Made, direction: int) -> Run:
    """A layer of one direction's weights, forwards."""
    return replace(made, arrays=(made.arrays[direction],), wrong=()).side().run


def both_forwards(made: Made, run: Run, call: Call) -> Seen:
    halves = [one_way(made, n)(call._replace(state=call.state and (call.state[n],))) for n in range(2)]
    final = halves[0].final + halves[1].final if halves[0].final and halves[1].final else None
    return Seen(np.concatenate([each.outputs for each in halves], -1), final)


def second_half(change: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def changed(y: Array) -> Array:
        forward, backward = np.split(y, 2, -1)
        return np.concatenate([forward, change(backward)], -1)

    return changed


def taken(step: int) -> Callable[[Made], Made]:
    """Of a layer that hands on the last output: that of a step of the whole time axis."""

    def changed(made: Made, run: Run, call: Call) -> Seen:
        every = replace(made, options={**made.options, "return_sequences": True}, wrong=()).side().run(call)
        return Seen(every.outputs[:, step], every.final)

    return around(changed)


# Cells written by hand


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def by_hand(cell: str, wrong: str = "") -> Callable[[Made], Made]:
    """The layer's own weights in a loop in float32 as users write it, with something wrong."""
    steps = {"LSTM": lstm_step, "GRU": gru_step, "GRU v3": gru_step}

    def changed(made: Made, run: Run, call: Call) -> Seen:
        (arrays,) = made.arrays
        x = call.x.astype(np.float32)
        batch, time, _ = x.shape
        count = 2 if cell == "LSTM" else 1
        state = [np.zeros((batch, made.hidden), np.float32)] * count
        if call.state is not None:
            state = [h.astype(np.float32) for h in call.state[0]]
        lengths = np.full(batch, time) if call.lengths is None else call.lengths
        outputs = []
        for t in range(time):
            new = steps[cell](arrays, x[:, t], state, wrong or made.cell)
            on = (t < lengths)[:, None]
            state = [np.where(on, after, before) for after, before in zip(new, state, strict=True)]
            outputs.append(np.where(on, state[0], 0))
        return Seen(np.stack(outputs, 1), (tuple(state),))

    return around(changed)


def lstm_step(arrays: Arrays, x: Array, state: list[Array], wrong: str) -> list[Array]:
    w_ih, w_hh, b_ih, b_hh = arrays
    h, c = state
    i, f, g, o = np.split(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, -1)
    squash, gate = (sigmoid, np.tanh) if wrong == "exchanged" else (np.tanh, sigmoid)
    f = f + 1 if wrong == "forget" else f
    c = gate(f) * c + gate(i) * squash(g)
    if wrong == "coupled":
        c = (1 - gate(i)) * state[1] + gate(i) * squash(g)
    return [gate(o) * (c if wrong == "o ⊙ c" else squash(c)), c]


def gru_step(arrays: Arrays, x: Array, state: list[Array], wrong: str) -> list[Array]:
    w_ih, w_hh, b_ih, b_hh = arrays
    (h,) = state
    i_r, i_z, i_n = np.split(x @ w_ih.T + b_ih, 3, -1)
    h_r, h_z, _ = np.split(h @ w_hh.T + b_hh, 3, -1)
    r, z = sigmoid(i_r + h_r), sigmoid(i_z + h_z)
    W, b = w_hh[2 * h.shape[1] :], b_hh[2 * h.shape[1] :]
    n = np.tanh(i_n + r * (h @ W.T + b))
    if wrong in ("before", "GRU v3", "z for 1 − z, v3"):
        n = np.tanh(i_n + (r * h) @ W.T + b)
    elif wrong == "outside":
        n = np.tanh(i_n + r * (h @ W.T) + b)
    elif wrong == "after":
        n = np.tanh(i_n + b + r * (h @ W.T))
    elif wrong == "exchanged":
        r, z = np.tanh(i_r + h_r), np.tanh(i_z + h_z)
        n = sigmoid(i_n + r * (h @ W.T + b))
    if wrong.startswith("z for 1 − z"):
        z = 1 - z
    return [(1 - z) * n + z * h]


def behaviour() -> list[Plant]:
    state, lengths, axes, order = ({"group": each, "runs": True} for each in ("state", "lengths", "axes", "order"))
    two: dict[str, Any] = {"directions": (2,)}
    hand: dict[str, Any] = {"group": "hand", "runs": True}
    last: dict[str, Any] = {"group": "last", "runs": True, "beside": TF, "options": {"return_sequences": False}}
    return [
        Plant("batch and time exchanged", around(time_major, alone=True), "the axes of batch and time exchanged", directions=BOTH,
              **axes),
        Plant("input viewed", asked(lambda call: call._replace(x=viewed(call.x))), "x brought into .* by view", **axes),
        Plant("outputs viewed", around(outputs_viewed, alone=True), "outputs brought from .* by view", **axes),
        Plant("each step by itself", around(step_by_step, alone=True), "each step by itself", **axes),
        Plant("initial state ignored", asked(lambda call: call._replace(state=None)), "an initial state of zeros",
              directions=BOTH, **state),
        Plant("h and c exchanged", asked(lambda call: call._replace(
              state=call.state and tuple((c, h) for h, c in call.state))), "h and c of the initial state exchanged",
              cells=("LSTM",), directions=BOTH, **state),
        Plant("directions' states exchanged", asked(lambda call: call._replace(state=call.state and call.state[::-1])),
              "the initial states of the two directions exchanged", **two, **state),
        Plant("lengths ignored", asked(lambda call: call._replace(lengths=None)), "the lengths ignored",
              directions=BOTH, **lengths),
        Plant("lengths too short", asked(lambda call: call if call.lengths is None else call._replace(
              lengths=np.maximum(call.lengths - 1, 1))), "the lengths a step too short", directions=BOTH, **lengths),
        Plant("lengths too long", asked(lambda call: call if call.lengths is None else call._replace(
              lengths=np.minimum(call.lengths + 1, call.x.shape[1]))), "the lengths a step too long", **lengths),
        Plant("padding in front", around(in_front), "the padding taken to be in front", **lengths),
        Plant("backward half in the padding", around(unmasked_backwards),
              "the backward half started in the padding", **two, **lengths),
        Plant("outputs flipped", answered(lambda y: y[:, ::-1]), "outputs from the last step to the first", **order),
        Plant("backward outputs in running order", answered(second_half(lambda y: y[:, ::-1])),
              "the backward half's outputs in running order", **two, **order),
        Plant("halves exchanged", answered(lambda y: np.concatenate(np.split(y, 2, -1)[::-1], -1)),
              "the halves of the outputs exchanged", directions=(2,), group="merge", runs=True),
        Plant("halves added", answered(lambda y: np.add(*np.split(y, 2, -1))), "merged by sum", directions=(2,),
              group="merge", runs=True),
        Plant("both halves forwards", around(both_forwards), "both halves forwards", **two, **order),
        Plant("batch reversed", asked(lambda call: call._replace(x=call.x[::-1])),
              "the sequences of the batch from the last to the first", **order),
        Plant("outputs[:, -1] of two directions", taken(-1), r"outputs\[:, -1\], which holds the backward", **two,
              **last),
        Plant("the end of the time axis", taken(-1), "the output at the end of the time axis",
              frameworks=("torch",), **last),
        Plant("the first output", taken(0), "the first output, not the last", directions=BOTH, **last),
        Plant("h = o ⊙ c", by_hand("LSTM", "o ⊙ c"), "linear of c_t, not tanh", cells=("LSTM",), **hand),
        Plant("forget bias by hand", by_hand("LSTM", "forget"), r"\+1 on the forget", cells=("LSTM",), **hand),
        Plant("coupled by hand", by_hand("LSTM", "coupled"), "f coupled to i", cells=("LSTM",), **hand),
        Plant("activations by hand", by_hand("LSTM", "exchanged"), "activation and recurrent_activation exchanged",
              cells=("LSTM",), **hand),
        Plant("GRU's activations by hand", by_hand("GRU", "exchanged"),
              "activation and recurrent_activation exchanged", cells=("GRU",), **hand),
        Plant("z by hand", by_hand("GRU", "z for 1 − z"), "z in the place of 1 − z", cells=("GRU",), **hand),
        Plant("z by hand, third form", by_hand("GRU", "z for 1 − z, v3"), "z in the place of 1 − z", cells=("GRU v3",),
              **hand),
        Plant("reset before by hand", by_hand("GRU", "before"), r"reset_after=False.*b_hn added to b_n",
              cells=("GRU",), **hand),
        Plant("b_hn outside by hand", by_hand("GRU", "outside"), "b_hn outside of the reset gate", cells=("GRU",),
              **hand),
        Plant("reset after by hand", by_hand("GRU", "after"), "reset_after=True", cells=("GRU v3",), **hand),
    ]  # fmt: skip


# What gives something else each time, and weights that no fault makes of others


def drawn_state(made: Made, run: Run, call: Call) -> Seen:
    """Each call starts with a state of its own."""
    state = tuple(
        tuple(np.random.standard_normal((len(call.x), made.hidden)) for _ in range(1 + (made.cell == "LSTM")))
        for _ in made.arrays
    )
    return run(call if call.state is not None else call._replace(state=state))


def drawn_anew(*which: int, direction: int | None = None) -> Callable[[Made], Made]:
    """Some of the arrays left as they were drawn when the layer was made."""

    def plant(made: Made) -> Made:
        fresh = right(made.cell, len(made.arrays), made.framework, made.own, made.inputs == made.hidden, 99)
        arrays = tuple(
            [
                new if k in which and direction in (None, n) else old
                for k, (old, new) in enumerate(zip(*each, strict=True))
            ]
            for n, each in enumerate(zip(made.arrays, fresh.arrays, strict=True))
        )
        return replace(made, arrays=arrays)

    return plant


def others() -> list[Plant]:
    random: dict[str, Any] = {"verdict": "random", "runs": True}
    strange: dict[str, Any] = {"verdict": "different weights"}
    kept = "a state that is kept from call to call"
    return [
        Plant("stateful", given(stateful=True), kept, frameworks=TF, **random),
        Plant("a state drawn anew", around(drawn_state), kept, **random),
        Plant("noise", around(lambda made, run, call: run(call._replace(
              x=call.x * (1 + 0.1 * np.random.standard_normal(call.x.shape))))), "something that is drawn anew", **random),
        Plant("other weights", drawn_anew(0, 1, 2, 3), "", directions=BOTH, **strange),
        Plant("one matrix not loaded", drawn_anew(1), "", **strange),
        Plant("one direction not loaded", drawn_anew(0, 1, 2, 3, direction=1), "", directions=(2,), **strange),
    ]  # fmt: skip


OTHERS = others()
PLANTS = [*weights(), *configuration(), *behaviour()]


# Singles and pairs


@dataclass(frozen=True)
class Planting:
    """Faults in one or both of two layers that should be equal.

    Attributes:
        cell, directions: of both.
        faults: each with the side that has it, `"a"` or `"b"`.
        hides: the side that does not say what it is, or none.
        flavour: which frameworks' layers and whose, a number.
    """

    cell: str
    directions: int
    faults: tuple[tuple[Plant, str], ...]
    hides: str = ""
    flavour: int = 0

    def __str__(self) -> str:
        faults = " & ".join(f"{plant.name} in {side}" for plant, side in self.faults)
        return f"{self.cell}{' both ways' * (self.directions == 2)}: {faults}{', hidden' if self.hides else ''}"

    def sides(self, seed: int = 0) -> tuple[Side, Side]:
        made = self.made(seed)
        return tuple(made[name].side(self.hides == name) for name in "ab")  # type: ignore[return-value]

    def made(self, seed: int = 0) -> dict[str, Made]:
        options = {name: each for plant, _ in self.faults for name, each in plant.options.items()}
        square = any(plant.square for plant, _ in self.faults)
        frameworks = self._frameworks(options)
        made = {
            name: right(self.cell, self.directions, frameworks[name], bool((self.flavour >> n) & 1), square, seed,
                        **options)
            for n, name in enumerate("ab", 1)
        }  # fmt: skip
        for plant, name in sorted(self.faults, key=lambda each: each[0].group != "hand"):
            made[name] = plant.plant(made[name])
        return made

    def _frameworks(self, options: Mapping[str, Any]) -> dict[str, str]:
        """Each side's: one that its faults can be in, unlike the other's where that can be."""
        able = {
            name: [
                each
                for each in (("torch", "tf"), ("tf", "torch"))[(self.flavour + (name == "b")) % 2]
                if all(each in (plant.frameworks if side == name else plant.beside) for plant, side in self.faults)
                and (each == "tf" or "merge_mode" not in options)
            ]
            for name in "ab"
        }
        first = able["a"][0]
        return {"a": first, "b": next((each for each in able["b"] if each != first), able["b"][0])}

    def report(self, seconds: float = 30.0) -> Report:
        a, b = self.sides()
        return diagnose(a, b, seconds=seconds)

    def missed(self, report: Report) -> list[str]:
        """What the report should say and does not."""
        said = [report.verdict] if report.verdict != self.faults[0][0].verdict else []
        names = [name for cause in report.causes for name in (cause.name, *cause.ties)]
        for plant, side in self.faults:
            if not plant.says:
                continue
            turned = side == "a" and not self.hides and not plant.runs
            turned |= self.hides not in ("", side)
            for pattern in plant.patterns:
                pattern = f"{pattern}|{plant.undone}" if turned else pattern
                if not any(re.search(pattern, part) for name in names for part in name.split(" and then ")):
                    said.append(pattern)
        return said

    def unique(self, report: Report) -> bool:
        return not self.missed(report) and not any(cause.ties for cause in report.causes)


def singles() -> list[Planting]:
    """Each plant in each cell on each side; what it does with weights that it shows, and with hidden ones."""
    found = [
        Planting(cell, directions, ((plant, side),), hides)
        for plant in (*PLANTS, *OTHERS)
        for cell in plant.cells
        for directions in plant.directions
        for side in "ab"
        for hides in (("", side) if plant.verdict == "explained" else ("",))
    ]
    return [replace(each, flavour=n) for n, each in enumerate(found)]


def pairs(count: int, seed: int = 0) -> list[Planting]:
    """Some of all pairs that can be together."""
    random = np.random.default_rng(seed)
    found: list[Planting] = []
    while len(found) < count:
        first, second = (PLANTS[n] for n in random.integers(0, len(PLANTS), 2))
        where = ("a", "b")[random.integers(2)], ("a", "b")[random.integers(2)]
        cells = [each for each in first.cells if each in second.cells]
        directions = [each for each in first.directions if each in second.directions]
        flavour, hidden = int(random.integers(8)), bool(random.integers(2))
        if not cells or not directions or not _together(first, second, where):
            continue
        cell = cells[random.integers(len(cells))]
        many = directions[random.integers(len(directions))]
        hides = where[1] if hidden and where[0] == where[1] else ""  # what one has lost cannot be told by the other
        found.append(Planting(cell, many, ((first, where[0]), (second, where[1])), hides, flavour))
    return found


def _together(first: Plant, second: Plant, where: tuple[str, str]) -> bool:
    """Whether two faults are about different things, and leave each other's thing there."""
    groups = {first.group, second.group}
    if len(groups) == 1 or first.options or second.options:
        return False
    if "hand" in groups and groups & {"activation", "recurrent activation", "form", "order", "biases", "forget bias"}:
        return False
    for side in "ab":
        found = [
            each.frameworks if its == side else each.beside for each, its in zip((first, second), where, strict=True)
        ]
        if not set(found[0]) & set(found[1]):
            return False
    if "last" in groups and groups & {"axes", "order", "merge", "lengths"}:
        return False
    if "form" in groups and groups & {"biases", "hand"}:
        return False
    if "axes" in groups and groups & {"state", "lengths"}:
        return False
    return first.square == second.square or first.square or second.square


def letter(symbol: str) -> str:
    """A gate's symbol without what is above it."""
    return unicodedata.normalize("NFD", symbol)[0]
