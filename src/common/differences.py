"""Where the two frameworks differ: the table of docs/differences.md, a row a difference, for pages, tests and messages."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rnn_common.checks import one_of
from rnn_common.files import write_text

PAGE = "docs/differences.md"
MARKED = re.compile("(<!-- rows -->\n).*?(<!-- /rows -->)", re.S)
HEAD = ("what", "PyTorch (`torch.nn`, `torch.optim`)", "Keras (`keras.layers`, `keras.optimizers`)", "when porting")


class Row(NamedTuple):
    """A difference; texts are Markdown, of one line.

    Attributes:
        key: what it is called in links and messages: lower case, short; stays, whatever the texts become.
        group: of the rows that it stands among, in the order of the table.
        what: what differs.
        tests: that show it, by name; `*` stands for any part of a name.
        torch, keras: what each framework does; – where it has no such thing.
        porting: what to do about it.
        file: that the tests are in. Default tests/parity/test_differences.py.
    """

    key: str
    group: str
    what: str
    tests: tuple[str, ...]
    torch: str
    keras: str
    porting: str
    file: str = "tests/parity/test_differences.py"

    @property
    def id(self) -> str:
        """What the row is called in a link to the page: `forget-bias`."""
        return self.key.replace(" ", "-")


ROWS = (
    Row(
        key="gates",
        group="Weights",
        what="gates and matrices",
        tests=("test_gate_order_and_packing", "test_gru_reset_and_update_gate_change_places"),
        torch="LSTM i f c̃ o, GRU r z ñ; `(gates · hidden, input)`",
        keras="LSTM i f c̃ o, GRU z r ñ; `(input, gates · hidden)`",
        porting=(
            "Transpose; in a GRU swap the first two blocks. Without the swap nothing complains. `copy_weights` does "
            "both."
        ),
    ),
    Row(
        key="biases",
        group="Weights",
        what="biases",
        tests=("test_gate_order_and_packing", "test_gru_has_two_biases_in_both"),
        torch="two, `bias_ih` and `bias_hh`, added; a GRU's `b_hn` stays apart",
        keras="one; a GRU with `reset_after` has two, `(2, 3 · hidden)`",
        porting=(
            "SimpleRNN, LSTM: `bias = bias_ih + bias_hh`; back: the sum and zeros. GRU: row 0 is `bias_ih`, row 1 is "
            "`bias_hh`, gates swapped."
        ),
    ),
    Row(
        key="training of biases",
        group="Weights",
        what="training of biases",
        tests=("test_two_added_biases_*",),
        torch="two added biases each take the step: SGD's learning rate is doubled on the bias of SimpleRNN and LSTM",
        keras="one step",
        porting=(
            "In torch, zero `bias_hh` and freeze it (`requires_grad_(False)`). GRU: the same in both, nothing to do."
        ),
    ),
    Row(
        key="initialisation",
        group="Weights",
        what="initialisation",
        tests=("test_default_initialisation_*",),
        torch="everything from U(−1/√hidden, 1/√hidden), biases too",
        keras="`glorot_uniform` of the packed kernel, `orthogonal`, zeros",
        porting=(
            "torch like Keras: `xavier_uniform_(weight_ih)`, `orthogonal_(weight_hh)`, zeros. Keras like torch: "
            "`RandomUniform(-k, k)` for all three, k = 1/√hidden, `unit_forget_bias=False`."
        ),
    ),
    Row(
        key="forget bias",
        group="Weights",
        what="forget bias",
        tests=("test_default_initialisation_of_keras",),
        torch="drawn as the rest",
        keras="`unit_forget_bias=True`: b_f = 1",
        porting="torch like Keras: `bias_ih[hidden:2*hidden] = 1`.",
    ),
    Row(
        key="gru form",
        group="Equations",
        what="form of the GRU",
        tests=("test_gru_form", "test_gru_form_of_ours_in_torch"),
        torch="v1 only",
        keras="v1; v3 with `reset_after=False`",
        porting="A v3 model has no `nn.GRU`: use `rnn_torch.GRU(reset_after=False)`.",
    ),
    Row(
        key="activations",
        group="Equations",
        what="activations",
        tests=("test_simple_rnn_relu", "test_activation_of_lstm_and_gru"),
        torch='`nn.RNN`: `nonlinearity="tanh"` or `"relu"`; none to choose in LSTM, GRU',
        keras="`activation`, `recurrent_activation`: any function",
        porting=(
            '`nonlinearity="relu"` is `activation="relu"`. `rnn_torch.LSTM` and `GRU` take `activation` and '
            "`recurrent_activation`."
        ),
    ),
    Row(
        key="hard_sigmoid",
        group="Equations",
        what="hard_sigmoid",
        tests=("test_hard_sigmoid_of_old_keras",),
        torch="relu6(x + 3) / 6",
        keras=(
            "since version 3 the same; **before, max(0, min(1, 0.2 x + 0.5)) under the same name**, the default "
            "`recurrent_activation` of LSTM and GRU before 2.3"
        ),
        porting=(
            'A model of Keras 2: `recurrent_activation="hard_sigmoid_keras2"` in `rnn_torch` and `rnn_tf`; '
            "`rnn_tf.hard_sigmoid_keras2` in Keras's own layers."
        ),
    ),
    Row(
        key="leaky_relu",
        group="Equations",
        what="leaky_relu",
        tests=("test_slope_of_leaky_relu",),
        torch="slope 0.01",
        keras="slope 0.2, which TensorFlow rounds to float32",
        porting='`activation="leaky_relu"` has Keras\'s slope in `rnn_torch`, too.',
    ),
    Row(
        key="axes",
        group="Shapes",
        what="axes",
        tests=("test_time_major_or_batch_major",),
        torch="`(time, batch, features)`",
        keras="`(batch, time, features)`",
        porting="`batch_first=True`. The wrong order runs without an error.",
    ),
    Row(
        key="returned",
        group="Shapes",
        what="what comes back",
        tests=("test_what_a_layer_returns",),
        torch="all outputs and the final state",
        keras="the last output",
        porting="`return_sequences=True, return_state=True`; or `outputs[:, -1]` in torch.",
    ),
    Row(
        key="state",
        group="Shapes",
        what="state",
        tests=("test_shape_of_the_state",),
        torch="`h` or `(h, c)`, each `(layers · directions, batch, hidden)`, also with `batch_first`",
        keras="`[h]` or `[h, c]`, each `(batch, hidden)`, returned flat after the outputs",
        porting="`h[0]`, `h[None]`.",
    ),
    Row(
        key="dropout",
        group="Dropout",
        what="`dropout`",
        tests=("test_dropout_of_torch_*", "test_dropout_of_keras_*"),
        torch="between stacked layers; a new mask every step; with one layer nothing but a warning",
        keras="on the inputs x_t; one mask a sequence, shared by all steps",
        porting=(
            "No equal setting. Keras like torch: `Dropout` layers between the layers. torch like Keras: multiply x "
            "by one mask a sequence."
        ),
    ),
    Row(
        key="recurrent_dropout",
        group="Dropout",
        what="`recurrent_dropout`",
        tests=("test_recurrent_dropout_*",),
        torch="none",
        keras="on h_{t−1}; one mask a sequence",
        porting="`rnn_torch` takes `recurrent_dropout`.",
    ),
    Row(
        key="dropout of 1",
        group="Dropout",
        what="a rate of 1",
        tests=("test_dropout_of_one_in_keras",),
        torch="–",
        keras=(
            "SimpleRNN drops everything; **LSTM and GRU drop nothing, silently**, for either kind. `rnn_tf` drops "
            "everything"
        ),
        porting="Keep the rate below 1.",
    ),
    Row(
        key="mode",
        group="Dropout",
        what="mode",
        tests=("test_dropout_outside_of_training",),
        torch="a new layer is in training mode and drops",
        keras="a layer that is called directly does not drop",
        porting="torch: `eval()`. Keras: `training=True` in one's own training loop.",
    ),
    Row(
        key="padded outputs",
        group="Padded sequences",
        what="outputs after the end",
        tests=("test_padded_outputs",),
        torch="packed: zeros, after `pad_packed_sequence`",
        keras="masked: the last valid output again; zeros with `zero_output_for_mask=True`",
        porting="Compare at valid steps only, or set `zero_output_for_mask=True`.",
    ),
    Row(
        key="padded state",
        group="Padded sequences",
        what="final state",
        tests=("test_padded_final_state",),
        torch="packed: after each sequence's own last step",
        keras="masked: the same",
        porting="Without packing or mask both run on through the padding.",
    ),
    Row(
        key="padding in front",
        group="Padded sequences",
        what="padding in front",
        tests=("test_padding_in_front",),
        torch="cannot be packed",
        keras="masked: skipped; outputs there are zeros",
        porting="torch: move the padding to the end.",
    ),
    Row(
        key="masked loss",
        group="Padded sequences",
        what="loss",
        tests=("test_mask_reaches_the_loss_in_keras",),
        torch="averages over padding too",
        keras="the mask travels with the outputs, the loss leaves masked steps out",
        porting="torch: `loss(outputs[mask], target[mask])`.",
    ),
    Row(
        key="padded backward",
        group="Both directions",
        what="backward half, padded",
        tests=("test_backward_direction_of_padded_sequences",),
        torch="packed: reverses each sequence",
        keras="reverses the whole time axis and skips masked steps",
        porting="The same numbers at valid steps.",
    ),
    Row(
        key="unmasked backward",
        group="Both directions",
        what="backward half, neither packed nor masked",
        tests=("test_backward_direction_without_packing_or_mask",),
        torch="starts in the padding",
        keras="starts in the padding",
        porting="Pack or mask: every valid step is spoilt.",
    ),
    Row(
        key="backward outputs",
        group="Both directions",
        what="place of the backward outputs",
        tests=("test_where_backward_outputs_are_placed",),
        torch="at their input's step",
        keras="`Bidirectional`: at their input's step; `go_backwards=True` alone: in running order",
        porting="Flip the outputs of `go_backwards`.",
    ),
    Row(
        key="last output",
        group="Both directions",
        what="last output",
        tests=("test_last_output_of_both_directions",),
        torch="`outputs[:, -1]` holds the backward half's **first** output",
        keras="each direction's last",
        porting="torch: `cat([h_n[-2], h_n[-1]], -1)`.",
    ),
    Row(
        key="merge",
        group="Both directions",
        what="merge",
        tests=("test_merge_of_both_directions",),
        torch="concatenation",
        keras="concatenation by default; `sum`, `mul`, `ave`, None",
        porting="torch: cut the outputs in two and merge.",
    ),
    Row(
        key="masked outputs",
        group="Both directions",
        what="masked outputs",
        tests=("test_bidirectional_zeroes_masked_outputs",),
        torch="zeros",
        keras="`Bidirectional` sets `zero_output_for_mask` to `return_sequences`, whatever the layer was given",
        porting="Outputs agree everywhere; a single direction's do not.",
    ),
    Row(
        key="unrolled mask",
        group="Both directions",
        what="unrolled and masked",
        tests=("test_unrolled_*_mask_of_keras",),
        torch="–",
        keras=(
            "**wrong** with `unroll`, `go_backwards`, `zero_output_for_mask` and a mask: zeroed by the mask "
            "unreversed, so valid outputs are lost. `Bidirectional` over an unrolled layer has it too. `rnn_tf` "
            "returns what Keras returns without `unroll`"
        ),
        porting="Leave `unroll=False`.",
    ),
    Row(
        key="learning rates",
        group="Optimisers",
        what="learning rates",
        tests=("test_default_learning_rates",),
        torch="SGD 1e-3, Adam 1e-3, RMSprop 1e-2",
        keras="SGD 1e-2, Adam 1e-3, RMSprop 1e-3",
        porting="Pass it.",
    ),
    Row(
        key="adam",
        group="Optimisers",
        what="Adam's ε",
        tests=("test_adam_formula", "test_adam_translation*", "test_adam_defaults"),
        torch="lr m̂ / (√v̂ + ε), ε = 1e-8",
        keras="α_t m / (√v + ε), α_t = lr √(1 − β2^t) / (1 − β1^t), ε = 1e-7",
        porting=(
            "Exact with ε_Keras = ε_torch √(1 − β2^t), anew at every step t. At t = 1 the factor is 0.03, later 1. "
            "Felt where gradients are as small as ε."
        ),
    ),
    Row(
        key="rounding",
        group="Optimisers",
        what="rounding",
        tests=("test_keras_rounds_*",),
        torch="scalars in float64",
        keras=(
            "in every dtype the learning rate is rounded to float32, and so are the β in α_t: Adam's first step is "
            "6.6e-6 shorter"
        ),
        porting="For an exact comparison take values that float32 holds: lr = 2^−10, β1 = 0.875, β2 = 1 − 2^−10.",
    ),
    Row(
        key="rmsprop",
        group="Optimisers",
        what="RMSprop",
        tests=("test_rmsprop_formula", "test_rmsprop_with_epsilon_squared"),
        torch="√v + ε, ε = 1e-8; `alpha=0.99`",
        keras="√(v + ε), ε = 1e-7; `rho=0.9`",
        porting=(
            "`rho = alpha`. No exact translation of ε: ε_Keras = ε_torch² agrees where √v is far from ε_torch on "
            "either side."
        ),
    ),
    Row(
        key="momentum",
        group="Optimisers",
        what="SGD's momentum",
        tests=("test_sgd_momentum_*",),
        torch="v = μ v + g, p −= lr v",
        keras="v = μ v − lr g, p += v",
        porting=(
            "The same at a constant rate, with Nesterov too. When it goes from lr to lr', multiply torch's "
            "`momentum_buffer` by lr / lr'."
        ),
    ),
    Row(
        key="weight decay",
        group="Optimisers",
        what="weight decay",
        tests=("test_weight_decay",),
        torch="`Adam`: added to the gradient. `AdamW`: apart, default 0.01",
        keras="`Adam`, `AdamW`: apart; `AdamW` default 0.004",
        porting="Keras's `Adam(weight_decay=w)` is `torch.optim.AdamW(weight_decay=w)`.",
    ),
    Row(
        key="global norm",
        group="Optimisers",
        what="clipping by global norm",
        tests=("test_clipping_by_global_norm", "test_clipping_of_small_gradients"),
        torch="`clip_grad_norm_`: times min(1, max / (norm + 1e-6))",
        keras="`global_clipnorm`: times min(1, max / norm)",
        porting="Differs by 1e-6 / norm.",
    ),
    Row(
        key="clipnorm",
        group="Optimisers",
        what="clipping by variable",
        tests=("test_clipnorm_of_keras_is_each_variables_own",),
        torch="`clip_grad_norm_` of all parameters is one norm",
        keras="`clipnorm` is **each variable's own**",
        porting="Keras: use `global_clipnorm`. torch: one call a parameter.",
    ),
    Row(
        key="norm of biases",
        group="Optimisers",
        what="norm with two biases",
        tests=("test_clipping_counts_two_added_biases_twice",),
        torch="both count",
        keras="one counts",
        porting="Freeze `bias_hh`, as above.",
    ),
    Row(
        key="norm of embedding",
        group="Optimisers",
        what="norm with an embedding",
        tests=("test_clipping_counts_rows_of_an_embedding_*",),
        torch="of the summed gradient",
        keras=(
            "of the rows as they come, one for each time a symbol was read: **n readings of one symbol are clipped "
            "to √n times the limit**"
        ),
        porting="Keras: pass the gradients through `tf.convert_to_tensor` in one's own `train_step`.",
    ),
    Row(
        key="updates",
        group="Training loops",
        what="updates counted by `fit`",
        tests=("test_fit_counts_an_update_too_many_*",),
        torch="–",
        keras=(
            "with a data set of unknown size, such as a generator's, `optimizer.iterations` counts **one more every "
            "epoch**: Adam's t and learning-rate schedules run ahead"
        ),
        porting="`assert_cardinality`.",
    ),
    Row(
        key="regulariser",
        group="Training loops",
        what="a regulariser",
        tests=("test_regularizers_constraints_and_initializers",),
        torch="–",
        keras="`SimpleRNN` takes `activity_regularizer` and **forgets it**. `rnn_tf` applies it",
        porting="–",
        file="tests/layers/test_keras_dropin.py",
    ),
    Row(
        key="one curve",
        group="Training loops",
        what="Adam and momentum in one curve",
        tests=("test_many_updates_in_lockstep", "test_a_run_goes_on_in_the_other_framework"),
        torch="as in their papers",
        keras="ε and the momentum as above",
        porting=(
            "`rnn_tf.training.Adam` has torch's ε; `rnn_torch.training` carries Keras's momentum over a change of rate."
        ),
        file="tests/training/test_training.py",
    ),
)


def row(key: str) -> Row:
    """The row that is called so.

    Raises:
        ValueError: there is none; names those that there are.
    """
    rows = {each.key: each for each in ROWS}
    return rows[one_of("key", key, list(rows))]


def anchor(key: str) -> str:
    """The row's place in the repository: `docs/differences.md#forget-bias`; raises as `row` does."""
    return f"{PAGE}#{row(key).id}"


def table() -> str:
    """All rows in Markdown, group by group, each with the anchor that `anchor` names."""
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    group = ""
    for each in ROWS:
        if each.group != group:
            group = each.group
            lines.append(_line([f"**{group}**", "", "", ""]))
        lines.append(_line([_first(each), each.torch, each.keras, each.porting]))
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """A page with the table as it is now between its marks, `<!-- rows -->` and `<!-- /rows -->`.

    Raises:
        ValueError: it has not one pair of them.
    """
    written, count = MARKED.subn(lambda found: found[1] + table() + found[2], text)
    if count != 1:
        raise ValueError(f"text should have <!-- rows --> and <!-- /rows --> once, got {count} pairs of them")
    return written


def _first(each: Row) -> str:
    """A row's first field: what differs, and below it the tests."""
    shown = ", ".join(f"`{test}`" for test in each.tests)
    elsewhere = "" if each.file == Row._field_defaults["file"] else f" (`{each.file}`)"
    return f'<a id="{each.id}"></a>{each.what}<br>{shown}{elsewhere}'


def _line(fields: Sequence[str]) -> str:
    return f"| {' | '.join(fields)} |"


if __name__ == "__main__":  # python -m rnn_common.differences docs/differences.md
    path = Path(sys.argv[1])
    write_text(page(path.read_text()), path)
