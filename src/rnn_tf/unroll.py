"""The driver: a cell over a sequence, by whichever engine takes the case. All that is not arithmetic is here.

- The order of axes: engines take data step by step.
- Padding and gaps, where an engine runs steps that are all valid.
- Automatic differentiation: an engine with a backward pass of its own is one function to it. Second derivatives are those of
  the operations that its two passes consist of.
- Without a graph the passes run as graphs of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import tensorflow as tf

from rnn_common.checks import one_of
from rnn_tf import call, private
from rnn_tf.cells.base import Recurrence, State, Tensor, swapped
from rnn_tf.engines import ENGINES, Engine, fused, native, order, vendor


def unroll(
    engine: str,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    sequences: Tensor,
    state: State,
    valid: Tensor | None = None,
    all_states: bool = False,
    unrolled: bool = False,
    use_cudnn: bool | str = "auto",
) -> tuple[State, State]:
    """Run a cell over `sequences (batch, time, input)`.

    Args:
        engine: a name in `rnn_tf.ENGINES`, or `"auto"`; what it does not take `reference` runs.
        recurrence: the cell and its options.
        weights: as Keras packs them.
        sequences: what it is run over.
        state: the initial one, a tuple of `(batch, hidden)`.
        valid: `(batch, time, 1)`, or for each unit `(batch, time, hidden)`: False where a step is skipped and the state stays
            as it is. Default None.
        all_states: whether an LSTM's every c_t is wanted, too. Default False.
        unrolled: write the loop out in the graph, once a step. Default False.
        use_cudnn: True for the engine `vendor` or an error, False for any other. Default `"auto"`.

    Returns:
        The history, a tuple of every h_t and, with `all_states`, every c_t, each `(batch, time, hidden)`; and the final state.
    """
    weights, state = [tf.convert_to_tensor(weight) for weight in weights], tuple(map(tf.convert_to_tensor, state))
    name = explain(engine, recurrence, weights, sequences, state, valid, all_states, use_cudnn).engine
    chosen = ENGINES[name]
    if chosen.batch_major:
        history, final, _ = chosen.forward(recurrence, weights, sequences, state, valid, all_states)
        return history if all_states else history[:1], final
    x, valid = swapped(sequences), None if valid is None else swapped(valid)
    if name == "reference":
        history, final, _ = chosen.forward(recurrence, weights, x, state, valid, all_states, unrolled)
    elif valid is None:
        history, final = call.run(chosen, recurrence, weights, x, state, all_states, unrolled)
    else:
        every = all_states or chosen is fused  # that one runs the padding, too

        def run(x: Tensor, lengths: Tensor) -> tuple[State, State]:
            return call.run(chosen, recurrence, weights, x, state, every, unrolled, lengths)

        history, final = call.over_valid(run, x, state, tf.squeeze(valid, -1))
    return tuple(map(swapped, history if all_states else history[:1])), final


# Which engine


class Choice(NamedTuple):
    """Which engine runs a call.

    Attributes:
        engine: its name.
        refused: why those do not that were asked before it, by name.
    """

    engine: str
    refused: dict[str, str]


def explain(
    engine: str,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    valid: Tensor | None = None,
    all_states: bool = False,
    use_cudnn: bool | str = "auto",
) -> Choice:
    """Which engine runs a call, and why not the others; see `unroll` for the arguments.

    Raises:
        ValueError: an unknown engine, or `use_cudnn=True` of what cuDNN does not run.
    """
    refused: dict[str, str] = {}
    engine = "vendor" if use_cudnn is True else engine
    device = "cuda" if tf.config.list_physical_devices("GPU") else "cpu"
    for name in order(device, recurrence.cell.name) if engine == "auto" else (check(engine), "reference"):
        reason = _reason(ENGINES[name], recurrence, weights, x, state, valid, all_states)
        if name == "vendor" and use_cudnn is False:
            reason = "use_cudnn=False"
        if reason is None:
            return Choice(name, refused)
        if use_cudnn is True:
            raise ValueError(
                "use_cudnn=True was specified, but cuDNN is not supported for this layer configuration with this backend: "
                f"{reason}. Pass use_cudnn='auto' to fall back to another engine."
            )
        refused[name] = reason
    raise AssertionError("reference takes every case")


def check(engine: str) -> str:
    """The name of an engine, or `"auto"`.

    Raises:
        ValueError: there is none.
    """
    return cast(str, one_of("engine", engine, ["auto", *ENGINES]))


def _reason(
    engine: Engine,
    recurrence: Recurrence,
    weights: Sequence[Tensor],
    x: Tensor,
    state: State,
    valid: Tensor | None,
    all_states: bool,
) -> str | None:
    """Why an engine does not take a case."""
    reason = engine.refuses(recurrence, x, valid, all_states)
    if reason is None and engine in (native, vendor) and private.have_tangents((x, *state, *weights)):
        return "forward-mode differentiation"
    return reason
