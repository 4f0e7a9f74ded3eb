"""ONNX files of a few nodes."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def save(path, nodes, constants=(), inputs=("x",), outputs=("y",), opset=17, kinds=None):
    """A file of nodes; its inputs and outputs are of float32, the outputs of `kinds` where given, and of no stated shape."""
    kinds = dict.fromkeys(outputs, TensorProto.FLOAT) | (kinds or {})
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
    given = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()]
    graph = helper.make_graph(nodes, "g", values, given, tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


def node(operator, inputs, outputs, name="", **attributes):
    """A node whose inputs and outputs stand in one string each; `_` is one that is left out."""
    return helper.make_node(operator, [each.strip("_") for each in inputs.split()], outputs.split(), name, **attributes)
