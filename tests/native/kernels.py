"""The kernels on NumPy's arrays, without a framework: one case forwards and backwards."""

import ctypes
import threading

import numpy as np

from rnn_common import packings
from rnn_common.native import calls
from rnn_common.native.calls import Call, Host, Matrix, Rows
from rnn_common.parity.case import Result


def rows(array):
    """Of `(batch, time, features)`, or of a state `(batch, features)`."""
    strides = [stride // array.itemsize for stride in array.strides]
    return Rows(array.ctypes.data, strides[1] if array.ndim == 3 else 0, strides[0])


class Team:
    """Threads of Python's, each of which runs the body once: a host as GNU's OpenMP is one."""

    def __init__(self):
        self.own = threading.local()
        self.most = 0

        def parallel(body, context, count, _):
            self.most = max(self.most, count)

            def member(number):
                self.own.number, self.own.count = number, count
                body(context)

            threads = [threading.Thread(target=member, args=(i,)) for i in range(1, count)]
            for thread in threads:
                thread.start()
            member(0)
            for thread in threads:
                thread.join()

        body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        self.functions = (
            ctypes.CFUNCTYPE(None, body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)(parallel),
            ctypes.CFUNCTYPE(ctypes.c_int)(lambda: self.own.number),
            ctypes.CFUNCTYPE(ctypes.c_int)(lambda: self.own.count),
        )
        self.host = Host(*(ctypes.cast(function, ctypes.c_void_p).value for function in self.functions))


def run(case, packing="torch", team=None, threads=1, apart=False):
    """What comes of a case, by the packing of either framework.

    The gradient of x comes with the others, or `apart` from what the backward pass leaves where the gates stood.
    """
    parameters, dtype = case.parameters, case.parameters.dtype
    cell = parameters.cell
    batch, steps, _ = case.x.shape

    def filled(*shape):
        return np.full(shape, np.nan, dtype)  # so that what is not written shows

    kernel = calls.kernel_of(cell, cell.activations)
    sizes = (steps, batch, parameters.input_size, parameters.hidden_size)
    call = Call.of(kernel, cell, packing, np.dtype(dtype).itemsize, sizes)
    if case.lengths is not None:
        counts = np.array([(case.lengths > t).sum() for t in range(steps)], np.int64)
        order = np.argsort(-case.lengths, kind="stable").astype(np.int64)
        call.sizes, call.order = counts.ctypes.data, order.ctypes.data
    if team is not None:
        call.threads, call.host = threads, ctypes.addressof(team.host)
    if packing == "torch":
        packed = packings.to_torch(parameters)
        W, R, *biases = (packed.get(f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        biases = [bias for bias in biases if bias is not None]
    else:
        W, R, *bias = packings.to_keras(parameters)
        biases = [each.copy() for each in (bias[0] if bias and bias[0].ndim == 2 else bias)]

    def matrix(array):
        return Matrix(array.ctypes.data, *([array.shape[1], 1] if packing == "torch" else [1, array.shape[1]]))

    W, R = (np.ascontiguousarray(each) for each in (W, R))
    state = [np.ascontiguousarray(h) for h in case.state]
    history, final = [filled(batch, steps, h.shape[1]) for h in state], [filled(*h.shape) for h in state]
    shape = calls.layout(kernel, batch * steps, parameters.hidden_size, np.dtype(dtype).itemsize)
    gates = filled(*shape) if calls.keeps(kernel) else filled(0)
    call.x, call.W, call.R = rows(case.x), matrix(W), matrix(R)
    call.gates = gates.ctypes.data if gates.size else None
    for i, bias in enumerate(biases):
        call.bias[i] = bias.ctypes.data
    for i in range(len(state)):
        call.state[i], call.history[i], call.final[i] = rows(state[i]), rows(history[i]), rows(final[i])
    calls.forward(call)
    d_x, d_W, d_R = np.zeros_like(case.x), filled(*W.shape), filled(*R.shape)
    d_biases, d_state = [filled(*bias.shape) for bias in biases], [filled(*h.shape) for h in state]
    d_final = [np.ascontiguousarray(d) for d in case.d_final]
    call.d_history[0], call.d_x, call.d_W, call.d_R = rows(case.d_outputs), rows(d_x), matrix(d_W), matrix(d_R)
    for i, d_bias in enumerate(d_biases):
        call.d_bias[i] = d_bias.ctypes.data
    for i in range(len(state)):
        call.d_final[i], call.d_state[i] = rows(d_final[i]), rows(d_state[i])
    if apart:
        d_gates = gates if gates.size and cell.name != "GRU v3" else filled(*shape)
        call.d_gates, call.d_x = d_gates.ctypes.data, Rows()
        calls.backward(call)
        call.d_x = rows(d_x)
        calls.input_gradient(call)
    else:
        calls.backward(call)
    outputs = history[0]
    if case.lengths is not None:
        outputs = np.where((np.arange(steps) < case.lengths[:, None])[:, :, None], outputs, 0)
    if packing == "torch":
        names = [f"{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        found = packings.gradients_from_torch(cell, dict(zip(names, (d_W, d_R, *d_biases), strict=False)))
    else:
        bias = [np.stack(d_biases)] if len(d_biases) == 2 else d_biases
        found = packings.gradients_from_keras(cell, [d_W, d_R, *bias])
    states = {f"{name}_0": d for name, d in zip(cell.states, d_state, strict=True)}
    return Result(outputs, tuple(final), {"x": d_x, **states, **found})
