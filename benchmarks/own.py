"""A contender of the user's own, from a file of the user's own, which is run because it was named.

The file says `FRAMEWORK = "torch"` or `"tf"`, and has a function:

    contender(cell, workload) -> layer

`cell` is a name such as `"LSTM"`, and `workload` has the sizes: `batch`, `time`, `input`, `hidden`, and `lengths`, a tuple or
None. The layer is a module, a Keras layer or any function, with weights of its own. It is called as `layer(x)` with `x (batch,
time, input)`, on the device and of the dtype that are asked for, and returns the outputs `(batch, time, hidden)`, or a tuple of
which they are the first. Where there are `lengths`, PyTorch's is given a `PackedSequence` and returns one, and Keras's is called
as `layer(x, mask=mask)`. A cell or workload that it does not take it answers by `NotImplementedError` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_benchmarks.runner import Conditions, Contender, Refused, Runner
from rnn_benchmarks.workloads import GIVEN, Workload
from rnn_common.checks import one_of
from rnn_common.files import run_file
from rnn_common.parity.case import Case
from rnn_common.twins import TWINS

Array = NDArray[Any]
FUNCTION = "contender"


def is_file(name: str) -> bool:
    """Whether a contender's name is that of a file: `FILE.py`, or `FILE.py:FUNCTION`."""
    return name.endswith(".py") or ".py:" in name


def load(name: str) -> Contender:
    """The contender in a file, which is run as an import would.

    Args:
        name: `FILE.py`, or `FILE.py:FUNCTION` where the function is not called `contender`. It is called in reports as the
            file is without its ending, or as the function.

    Raises:
        ValueError: the file is not there, cannot be run, or lacks the function or FRAMEWORK; says which.
    """
    path, _, function = name.partition(".py:") if ".py:" in name else (name.removesuffix(".py"), "", FUNCTION)
    file = Path(f"{path}.py")
    if not file.is_file():
        raise ValueError(f"contender should be of a file that is there, got {file}")
    try:
        module = run_file("contender", file)
    except Exception as error:
        raise ValueError(f"contender should be of a file that runs, got {file}: {_in_words(error)}") from error
    make = getattr(module, function, None)
    if not callable(make):
        raise ValueError(f"contender should be a function in {file}, got {function}, which it has not")
    framework = one_of(f"FRAMEWORK in {file}", getattr(module, "FRAMEWORK", None), list(TWINS))
    called = file.stem if function == FUNCTION else function
    return Contender(called, framework, partial(_prepare, module, make, framework), any_cell=True, checked=False)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def _prepare(
    module: ModuleType, make: Callable[..., Any], framework: str, case: Case, conditions: Conditions
) -> Runner:
    batch, time, width = case.x.shape
    lengths = None if case.lengths is None else tuple(case.lengths.tolist())
    workload = Workload("own", batch, time, width, case.parameters.hidden_size, GIVEN, lengths)
    try:
        layer = make(case.parameters.cell.name, workload)
    except NotImplementedError as reason:
        raise Refused(str(reason) or "does not take it") from None
    return (_Torch if framework == "torch" else _TensorFlow)(layer, case, conditions)


def _first(returned: Any) -> Any:
    """The outputs, in what a layer returned; a PackedSequence is a tuple, too."""
    return returned[0] if isinstance(returned, (tuple, list)) and not hasattr(returned, "batch_sizes") else returned


class _Torch:
    """A module or function of PyTorch's tensors."""

    def __init__(self, layer: Any, case: Case, conditions: Conditions) -> None:
        import torch
        from torch.nn.utils import rnn

        self.torch, self.rnn, self.layer = torch, rnn, layer
        on = {"device": conditions.device, "dtype": getattr(torch, conditions.dtype)}
        if isinstance(layer, torch.nn.Module):
            layer.to(**on)
        self.x, self.d_outputs = (self._packed(torch.tensor(a, **on), case) for a in (case.x, case.d_outputs))

    def _packed(self, x: Any, case: Case) -> Any:
        if case.lengths is None:
            return x
        return self.rnn.pack_padded_sequence(x, self.torch.from_numpy(case.lengths), True, enforce_sorted=False)

    def inference(self) -> Callable[[], Any]:
        def infer() -> Any:
            with self.torch.no_grad():
                return _first(self.layer(self.x))

        return infer

    def training(self) -> Callable[[], Any]:
        if not any(each.requires_grad for each in getattr(self.layer, "parameters", tuple)()):
            raise Refused("has no weights to train")

        def step() -> Any:
            self.layer.zero_grad()
            outputs = _first(self.layer(self.x))
            packed = hasattr(outputs, "batch_sizes")
            given, d_given = (outputs.data, self.d_outputs.data) if packed else (outputs, self.d_outputs)
            given.backward(d_given)
            return [each.grad for each in self.layer.parameters() if each.grad is not None]

        return step

    def outputs(self, returned: Any) -> Array:
        if hasattr(returned, "batch_sizes"):
            returned = self.rnn.pad_packed_sequence(returned, batch_first=True)[0]
        return returned.float().numpy(force=True)

    def gradients(self, returned: Any) -> dict[str, Array]:
        return {str(i): each.float().numpy(force=True) for i, each in enumerate(returned)}


class _TensorFlow:
    """A Keras layer or function of TensorFlow's tensors, called in a graph, as Keras's models do."""

    def __init__(self, layer: Any, case: Case, conditions: Conditions) -> None:
        import tensorflow as tf

        self.tf, self.layer = tf, layer
        with tf.device({"cpu": "/CPU:0", "cuda": "/GPU:0"}[conditions.device]):
            self.x, self.d_outputs = (tf.cast(array, conditions.dtype) for array in (case.x, case.d_outputs))
            mask = None if case.lengths is None else tf.sequence_mask(case.lengths, case.x.shape[1])
        self.options = {} if mask is None else {"mask": mask}
        _first(layer(self.x[:1, :1]))  # makes the weights, which a graph could not

    def inference(self) -> Callable[[], Any]:
        return self.tf.function(lambda: _first(self.layer(self.x, **self.options)), autograph=False)

    def training(self) -> Callable[[], Any]:
        variables = [each.value for each in getattr(self.layer, "trainable_variables", [])]
        if not variables:
            raise Refused("has no weights to train")

        def step() -> Any:
            with self.tf.GradientTape() as tape:
                outputs = _first(self.layer(self.x, **self.options))
            return tape.gradient(outputs, variables, self.d_outputs)

        return self.tf.function(step, autograph=False)

    def outputs(self, returned: Any) -> Array:
        return np.asarray(self.tf.cast(returned, self.tf.float32))

    def gradients(self, returned: Any) -> dict[str, Array]:
        return {str(i): np.asarray(self.tf.cast(each, self.tf.float32)) for i, each in enumerate(returned)}
