"""The layers, drop-in for `nn.RNN`, `nn.LSTM` and `nn.GRU`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rnn_common.cells import CELLS, Cell
from rnn_torch.activations import Activation, Gated
from rnn_torch.cells.simple_rnn import NONLINEARITIES
from rnn_torch.layer import Layer


class SimpleRNN(Layer):
    """A simple RNN over a sequence: drop-in for `nn.RNN`.

    h_t = tanh(W_hh h_{t−1} + W_xh x_t + b_h), with `b_h = bias_ih + bias_hh` (document, "Simple RNN")

    Args:
        input_size: width of x_t.
        hidden_size: width of h_t.
        num_layers: layers stacked, each fed the outputs of the one below. Default 1.
        nonlinearity: `"tanh"` (default) or `"relu"`.
        bias: with `bias_ih` and `bias_hh`. Default True.
        batch_first: input and output are `(batch, time, …)`, not `(time, batch, …)`. Default False.
        dropout: of every layer's outputs but the last's, in [0, 1], in training. Default 0.
        bidirectional: run over the sequence both ways and concatenate the outputs. Default False.
        device, dtype: of the parameters.
        recurrent_dropout: of the hidden state on its way into the gates, in [0, 1], in training; one mask a sequence,
            as in Keras. Default 0.
        return_all_states: return every state at every step besides. Default False.
        engine: how the cell is run over time, a name in `rnn_torch.ENGINES` or `"auto"` (default).

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.

    Example:
        >>> layer = SimpleRNN(10, 20, batch_first=True)
        >>> output, h_n = layer(torch.randn(3, 5, 10))
        >>> output.shape, h_n.shape
        (torch.Size([3, 5, 20]), torch.Size([1, 3, 20]))
    """

    cell = CELLS["SimpleRNN"]
    builtin = nn.RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        _refuse_projection(options)
        if nonlinearity not in NONLINEARITIES:
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        sizes = (input_size, hidden_size, num_layers)
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(mode, *sizes, bias, batch_first, dropout, bidirectional, 0, device, dtype, **options)
        self.nonlinearity = nonlinearity

    def _activations(self) -> tuple[Activation, ...]:
        return (NONLINEARITIES[self.nonlinearity],)


class LSTM(Gated, Layer):
    """An LSTM over a sequence: drop-in for `nn.LSTM`.

    i_t, f_t, o_t = σ(W_i· x_t + W_h· h_{t−1} + b_·);  c̃_t = tanh(W_ic x_t + W_hc h_{t−1} + b_c)
    c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t;  h_t = o_t ⊙ tanh(c_t)  (document, "LSTM")

    Args:
        input_size: width of x_t.
        hidden_size: width of h_t and c_t.
        num_layers: layers stacked, each fed the outputs of the one below. Default 1.
        bias: with `bias_ih` and `bias_hh`. Default True.
        batch_first: input and output are `(batch, time, …)`, not `(time, batch, …)`. Default False.
        dropout: of every layer's outputs but the last's, in [0, 1], in training. Default 0.
        bidirectional: run over the sequence both ways and concatenate the outputs. Default False.
        proj_size: if above 0, h_t = W_hr (o_t ⊙ tanh(c_t)) of this width (Sak et al. 2014, arXiv 1402.1128). Default 0.
        device, dtype: of the parameters.
        activation, recurrent_activation: what stands for tanh and for σ. A function of a tensor, or a name as in Keras 3:
            `"tanh"`, `"sigmoid"`, `"relu"`, `"linear"`, `"hard_sigmoid"`, `"softsign"`, `"softplus"`, `"elu"`, `"leaky_relu"`;
            besides `"hard_sigmoid_keras2"`, Keras 2's. All but the default, `"tanh"` and `"sigmoid"`, are run by the engine
            `reference`.
        recurrent_dropout: of the hidden state on its way into the gates, in [0, 1], in training; one mask a gate and
            sequence, as in Keras. Default 0.
        return_all_states: return every state at every step besides. Default False.
        engine: how the cell is run over time, a name in `rnn_torch.ENGINES` or `"auto"` (default).

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.

    Example:
        >>> layer = LSTM(10, 20, batch_first=True)
        >>> output, (h_n, c_n) = layer(torch.randn(3, 5, 10))
        >>> output.shape, c_n.shape
        (torch.Size([3, 5, 20]), torch.Size([1, 3, 20]))
    """

    cell = CELLS["LSTM"]
    builtin = nn.LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        **options: Any,
    ) -> None:
        sizes = (input_size, hidden_size, num_layers)
        super().__init__("LSTM", *sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype, **options)
        self._set_activations(activation, recurrent_activation)

    def _state_shapes(self, batch: int) -> tuple[tuple[int, int, int], ...]:
        ((runs, _, hidden_size),) = super()._state_shapes(batch)
        return (runs, batch, self.proj_size or hidden_size), (runs, batch, hidden_size)


class GRU(Gated, Layer):
    """A GRU over a sequence: drop-in for `nn.GRU`.

    r_t, z_t = σ(W_i· x_t + W_h· h_{t−1} + b_·)
    ñ_t = tanh(W_in x_t + b_n + r_t ⊙ (W_hn h_{t−1} + b_hn)), or
    ñ_t = tanh(W_in x_t + b_n + W_hn (r_t ⊙ h_{t−1})) without `reset_after`
    h_t = (1 − z_t) ⊙ ñ_t + z_t ⊙ h_{t−1}  (Cho et al. 2014, arXiv 1406.1078)

    Args:
        input_size: width of x_t.
        hidden_size: width of h_t.
        num_layers: layers stacked, each fed the outputs of the one below. Default 1.
        bias: with `bias_ih` and `bias_hh`. Default True.
        batch_first: input and output are `(batch, time, …)`, not `(time, batch, …)`. Default False.
        dropout: of every layer's outputs but the last's, in [0, 1], in training. Default 0.
        bidirectional: run over the sequence both ways and concatenate the outputs. Default False.
        device, dtype: of the parameters.
        reset_after: whether the reset gate acts after the recurrent product (default, `nn`'s form) or before it, in
            which case both biases of every gate are added.
        activation, recurrent_activation: what stands for tanh and for σ. A function of a tensor, or a name as in Keras 3:
            `"tanh"`, `"sigmoid"`, `"relu"`, `"linear"`, `"hard_sigmoid"`, `"softsign"`, `"softplus"`, `"elu"`, `"leaky_relu"`;
            besides `"hard_sigmoid_keras2"`, Keras 2's. All but the default, `"tanh"` and `"sigmoid"`, are run by the engine
            `reference`.
        recurrent_dropout: of the hidden state on its way into the gates, in [0, 1], in training; one mask a gate and
            sequence, as in Keras. Default 0.
        return_all_states: return every state at every step besides. Default False.
        engine: how the cell is run over time, a name in `rnn_torch.ENGINES` or `"auto"` (default).

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range.

    Example:
        >>> layer = GRU(10, 20, batch_first=True)
        >>> output, h_n = layer(torch.randn(3, 5, 10))
        >>> output.shape, h_n.shape
        (torch.Size([3, 5, 20]), torch.Size([1, 3, 20]))
    """

    builtin = nn.GRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        reset_after: bool = True,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        **options: Any,
    ) -> None:
        _refuse_projection(options)
        sizes = (input_size, hidden_size, num_layers)
        self.reset_after = reset_after
        super().__init__("GRU", *sizes, bias, batch_first, dropout, bidirectional, 0, device, dtype, **options)
        self._set_activations(activation, recurrent_activation)

    @property
    def cell(self) -> Cell:
        return CELLS["GRU" if self.reset_after else "GRU v3"]

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.reset_after else ", reset_after=False")


def _refuse_projection(options: dict[str, Any]) -> None:
    if "proj_size" in options:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
