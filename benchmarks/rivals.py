"""What a user might pick instead of a framework's layer: TensorFlow's kernel of the whole LSTM, and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_benchmarks.runner import Conditions, Refused
from rnn_common import packings
from rnn_common.parity.case import Case

Array = NDArray[Any]


class BlockLSTM:
    """TensorFlow's kernel of the whole LSTM, called as a graph."""

    def __init__(self, case: Case, conditions: Conditions) -> None:
        if case.lengths is not None:
            raise Refused("is not given sequences of several lengths here")
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


class OnnxRuntime:
    """ONNX Runtime on a model of the one operator."""

    def __init__(self, case: Case, conditions: Conditions) -> None:
        if case.lengths is not None:
            raise Refused("is not given sequences of several lengths here")
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
