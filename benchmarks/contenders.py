"""Who runs a workload: our engines, the frameworks' own layers, and what a user might pick instead."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rnn_common import packings, twins
from rnn_common.cells import IN_BOTH
from rnn_common.parity.case import Case

Array = NDArray[Any]


class Conditions(NamedTuple):
    """Where and how everybody runs.

    Attributes:
        device: `"cpu"` or `"cuda"`.
        dtype: `"float64"`, `"float32"` or `"bfloat16"`.
        threads: that an operation may use.
    """

    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1


class Runner(Protocol):
    """A contender with a case: what is timed, and how to read what comes of it."""

    def inference(self) -> Callable[[], Any]:
        """A function that runs the layer forward."""

    def training(self) -> Callable[[], Any]:
        """A function that runs a training step, forward and backward."""

    def outputs(self, returned: Any) -> Array:
        """`(batch, time, hidden)`, from what the function of `inference` returned."""

    def gradients(self, returned: Any) -> dict[str, Array]:
        """Gradients of the weights by the document's names, from what the function of `training` returned."""


@dataclass(frozen=True)
class Contender:
    """Someone to time.

    Args:
        name: what it is called in a report.
        framework: `"torch"` or `"tf"`, for clock, device and the built-in layer that it is compared with.
        prepare: makes a runner of a case.
        cells: that it can run, by name. Default those that both frameworks have.
        any_cell: whether it can run the others, too, and cells of the user's own. Default False.
        measures: that it takes part in. Default both.
        needs: packages that have to be installed besides the framework. Default none.
        dtypes: that it can run. Default all.
        devices: that it can run on. Default both.
        by_default: whether it takes part if none is asked for by name. Default True.
        shows_memory: whether the memory of a call can be seen from outside: XLA keeps that of the last one. Default True.
    """

    name: str
    framework: str
    prepare: Callable[[Case, Conditions], Runner]
    cells: tuple[str, ...] = IN_BOTH
    any_cell: bool = False
    measures: tuple[str, ...] = ("inference", "training")
    needs: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16")
    devices: tuple[str, ...] = ("cpu", "cuda")
    by_default: bool = True
    shows_memory: bool = True

    def takes(self, cell: str) -> bool:
        return self.any_cell or cell in self.cells

    def absent(self) -> str | None:
        """What is not installed that this contender needs, or None."""
        if self.framework not in twins.installed():
            return f"{self.framework} is not installed"
        missing = [package for package in self.needs if importlib.util.find_spec(package) is None]
        return f"{missing[0]} is not installed" if missing else None


@dataclass(frozen=True)
class _Layer:
    """A layer of a twin or a framework's own, behind the Protocol."""

    twin: twins.Framework
    layer: Any
    case: Case
    compiled: bool

    def inference(self) -> Callable[[], Any]:
        return self.twin.inference(self.layer, self.case, compiled=self.compiled)

    def training(self) -> Callable[[], Any]:
        return self.twin.training_step(self.layer, self.case, compiled=self.compiled)

    def outputs(self, returned: Any) -> Array:
        return self.twin.outputs(returned)

    def gradients(self, returned: Any) -> dict[str, Array]:
        return self.twin.gradients(self.layer, returned)


def _layer(
    name: str, *, builtin: bool = False, engine: str = "auto", compiled: bool = False
) -> Callable[[Case, Conditions], Runner]:
    def prepare(case: Case, conditions: Conditions) -> Runner:
        twin, (device, dtype, _) = twins.get(name), conditions
        layer = twin.make(case.parameters, builtin=builtin, engine=engine, device=device, dtype=dtype)
        return _Layer(twin, layer, case, compiled)

    return prepare


class _BlockLSTM:
    """TensorFlow's kernel of the whole LSTM, called as a graph."""

    def __init__(self, case: Case, conditions: Conditions) -> None:
        if case.lengths is not None:
            raise ValueError("is not given sequences of several lengths here")
        import tensorflow as tf

        self.tf = tf
        kernel, recurrent_kernel, bias = packings.to_keras(case.parameters)
        self.hidden = case.parameters.hidden_size
        with tf.device({"cpu": "/CPU:0", "cuda": "/GPU:0"}[conditions.device]):
            self.weights = [tf.Variable(np.concatenate([kernel, recurrent_kernel])), tf.Variable(bias)]
            self.x, self.h, self.c, self.d_outputs, *self.d_final = (
                tf.constant(array) for array in (case.x, *case.state, case.d_outputs, *case.d_final)
            )

    def _forward(self) -> tuple[Any, list[Any]]:
        """Outputs `(batch, time, hidden)`, and the final h and c."""
        tf, none = self.tf, self.tf.zeros([self.hidden])
        x = tf.transpose(self.x, [1, 0, 2])
        returned = tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.shape(x, tf.int64)[0],
            x=x,
            cs_prev=self.c,
            h_prev=self.h,
            w=self.weights[0],
            wci=none,
            wcf=none,
            wco=none,
            b=self.weights[1],
            cell_clip=0.0,
        )
        return tf.transpose(returned.h, [1, 0, 2]), [returned.h[-1], returned.cs[-1]]

    def inference(self) -> Callable[[], Any]:
        return self.tf.function(lambda: self._forward()[0], autograph=False)

    def training(self) -> Callable[[], Any]:
        def step() -> Any:
            with self.tf.GradientTape() as tape:
                outputs, final = self._forward()
            return tape.gradient([outputs, *final], self.weights, [self.d_outputs, *self.d_final])

        return self.tf.function(step, autograph=False)

    def outputs(self, returned: Any) -> Array:
        return np.asarray(returned)

    def gradients(self, returned: Any) -> dict[str, Array]:
        W, bias = map(np.asarray, returned)
        return packings.gradients_from_keras("LSTM", [W[: -self.hidden], W[-self.hidden :], bias])


class _OnnxRuntime:
    """ONNX Runtime on a model of the one operator."""

    def __init__(self, case: Case, conditions: Conditions) -> None:
        if case.lengths is not None:
            raise ValueError("is not given sequences of several lengths here")
        import onnx
        import onnxruntime

        p = case.parameters
        operator, attributes = packings.ONNX_OPERATORS[p.cell.name]
        weights = packings.to_onnx(p)
        inputs = {"X": np.ascontiguousarray(case.x.transpose(1, 0, 2))}
        inputs |= {name: part[None] for name, part in zip(p.cell.states, case.state, strict=True)}
        node = onnx.helper.make_node(
            operator,
            ["X", *weights, *([] if p.bias else [""]), "", *list(inputs)[1:]],
            ["Y"],
            hidden_size=p.hidden_size,
            **attributes,
        )
        graph = onnx.helper.make_graph(
            [node],
            operator,
            [onnx.helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, v.shape) for k, v in inputs.items()],
            [onnx.helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None)],
            [onnx.numpy_helper.from_array(v, k) for k, v in weights.items()],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = conditions.threads
        # Its threads spin while it runs, as by default, but not on into the next contender's turn.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        self.inputs = inputs

    def inference(self) -> Callable[[], Any]:
        return lambda: self.session.run(None, self.inputs)

    def training(self) -> Callable[[], Any]:
        raise NotImplementedError

    def outputs(self, returned: Any) -> Array:
        return returned[0][:, 0].transpose(1, 0, 2)

    def gradients(self, returned: Any) -> dict[str, Array]:
        raise NotImplementedError


# What each framework's figures are compared with.
BUILTIN = {"torch": "torch.nn", "tf": "keras.layers"}

CONTENDERS = [
    Contender("torch.nn", "torch", _layer("torch", builtin=True)),
    Contender("torch.nn, compiled", "torch", _layer("torch", builtin=True, compiled=True)),
    Contender("rnn_torch", "torch", _layer("torch"), any_cell=True),
    Contender("rnn_torch, compiled", "torch", _layer("torch", compiled=True), any_cell=True, by_default=False),
    Contender("rnn_torch reference", "torch", _layer("torch", engine="reference"), any_cell=True, by_default=False),
    Contender("keras.layers", "tf", _layer("tf", builtin=True)),
    Contender("keras.layers, XLA", "tf", _layer("tf", builtin=True, compiled=True), shows_memory=False),
    Contender("rnn_tf", "tf", _layer("tf"), any_cell=True),
    Contender("rnn_tf, XLA", "tf", _layer("tf", compiled=True), any_cell=True, shows_memory=False),
    Contender("rnn_tf reference", "tf", _layer("tf", engine="reference"), any_cell=True, by_default=False),
    Contender("BlockLSTMV2", "tf", _BlockLSTM, cells=("LSTM",), dtypes=("float32",)),
    Contender(
        "ONNX Runtime",
        "torch",
        _OnnxRuntime,
        measures=("inference",),
        needs=("onnxruntime", "onnx"),
        dtypes=("float32",),
        devices=("cpu",),
    ),
]
