"""PyTorch's own module samples and error samples, with rnn_torch's classes in the place of `torch.nn`'s."""

from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.testing._internal import common_modules

import rnn_torch
from rnn_common.parity.contract import FEW_UNITS, GRADIENT_BOUND, OUTPUT_BOUND, deviation

CLASSES = {
    nn.RNN: rnn_torch.SimpleRNN,
    nn.LSTM: rnn_torch.LSTM,
    nn.GRU: rnn_torch.GRU,
    nn.RNNCell: rnn_torch.SimpleRNNCell,
    nn.LSTMCell: rnn_torch.LSTMCell,
    nn.GRUCell: rnn_torch.GRUCell,
}
INFOS = {info.module_cls: info for info in common_modules.module_db if info.module_cls in CLASSES}

each_class = pytest.mark.parametrize("builtin", list(CLASSES), ids=lambda cls: cls.__name__)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
each_mode = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def samples(builtin, dtype, training, packed):
    """The samples of the module database, twice with the same random numbers if called twice."""
    torch.manual_seed(0)
    options = {"with_packed_sequence": True} if packed else {}
    return INFOS[builtin].module_inputs_func(
        INFOS[builtin], device="cpu", dtype=dtype, requires_grad=True, training=training, **options
    )


def tensors(nested):
    """Every tensor of nested arguments or results, in order."""
    if isinstance(nested, PackedSequence):
        return [nested.data]
    if isinstance(nested, torch.Tensor):
        return [nested]
    return [tensor for part in nested if part is not None for tensor in tensors(part)]


def build(cls, sample, dtype, training):
    args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
    torch.manual_seed(1)
    return cls(*args, **kwargs).to(dtype).train(training)


def outcome(module, sample):
    """Outputs and gradients with respect to the inputs and every parameter, for one random cotangent."""
    args, kwargs = sample.forward_input.args, sample.forward_input.kwargs
    outputs = tensors(module(*args, **kwargs))
    leaves = [t for t in tensors([*args, *kwargs.values()]) if t.is_floating_point() and t.requires_grad]
    torch.manual_seed(2)
    cotangents = [torch.randn_like(output) for output in outputs]
    gradients = torch.autograd.grad(outputs, [*leaves, *module.parameters()], cotangents)
    return outputs, gradients, len(leaves)


def errors(found, expected):
    """The worst deviation of some tensors from others."""
    pairs = zip(found, expected, strict=True)
    return max(deviation(a.detach().numpy(), b.detach().numpy()) for a, b in pairs)


def widened(nested):
    """Arguments in float64."""
    if isinstance(nested, PackedSequence):
        return nested._replace(data=widened(nested.data))
    if isinstance(nested, torch.Tensor):
        return nested.detach().double().requires_grad_(nested.requires_grad)
    return nested if nested is None else type(nested)(widened(part) for part in nested)


def exact(module, sample):
    """The outcome in float64."""
    args, kwargs = sample.forward_input.args, sample.forward_input.kwargs
    wide = common_modules.FunctionInput(*map(widened, args), **{key: widened(value) for key, value in kwargs.items()})
    return outcome(module.double(), common_modules.ModuleInput(sample.constructor_input, wide))


def test_every_module_is_in_the_database():
    assert INFOS.keys() == CLASSES.keys()


# The database has packed samples of these two only; LSTM's are in the drop-in tests.
PACKED = [(cls, False) for cls in CLASSES] + [(nn.RNN, True), (nn.GRU, True)]


@pytest.mark.parametrize(("builtin", "packed"), PACKED, ids=lambda value: getattr(value, "__name__", str(value)))
@each_mode
@each_dtype
def test_samples(builtin, dtype, training, packed):
    found = list(samples(builtin, dtype, training, packed))
    assert found
    ours_worst, theirs_worst = [], []
    for sample in found:
        ours, theirs = (build(cls, sample, dtype, training) for cls in (CLASSES[builtin], builtin))
        expected, expected_gradients, inputs = outcome(theirs, sample)
        outputs, gradients, _ = outcome(ours, sample)
        assert inputs >= 1
        assert [o.shape for o in outputs] == [o.shape for o in expected]
        assert [o.dtype for o in outputs] == [o.dtype for o in expected]
        truth, true_gradients, _ = exact(theirs, sample)
        ours_worst.append((errors(outputs, truth), errors(gradients, true_gradients)))
        theirs_worst.append((errors(expected, truth), errors(expected_gradients, true_gradients)))
    bounds = OUTPUT_BOUND, GRADIENT_BOUND
    if (
        dtype == torch.float32
    ):  # over the samples, as far from float64 as nn is, twice, and a few units in the last place
        bounds = tuple(2 * max(each) + FEW_UNITS * 2**-23 for each in zip(*theirs_worst, strict=True))
    assert all(max(each) <= bound for each, bound in zip(zip(*ours_worst, strict=True), bounds, strict=True))


@each_mode
@each_dtype
@each_class
def test_reference_functions(builtin, dtype, training):
    """The database's own references: one sequence without batch dimension is a batch of one."""
    compared = 0
    for sample in samples(builtin, dtype, training, packed=False):
        module = build(CLASSES[builtin], sample, dtype, training)
        args, kwargs = sample.forward_input.args, sample.forward_input.kwargs
        outputs = module(*args, **kwargs)
        reference = sample.reference_fn(module, *args, **kwargs)
        torch.testing.assert_close(outputs, reference)
        compared += 1
    assert compared > 0


@each_mode
@each_dtype
@each_class
def test_error_samples(builtin, dtype, training):
    info = INFOS[builtin]
    found = list(info.module_error_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=training))
    assert found
    for error in found:
        constructor, forward = error.module_error_input.constructor_input, error.module_error_input.forward_input
        make = partial(CLASSES[builtin], *constructor.args, **constructor.kwargs)
        if error.error_on is common_modules.ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(error.error_type, match=error.error_regex):
                make()
        else:
            module = make().train(training)
            with pytest.raises(error.error_type, match=error.error_regex):
                module(*forward.args, **forward.kwargs)
