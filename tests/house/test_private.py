"""The private APIs that the twins lean on do what they are used for.

When one breaks: the room `private.py` of that twin is the only place that names it. Find the framework's new way there, or the
public one, and mend that function; nothing else has to change.
"""

import numpy as np
import pytest


def test_those_of_pytorch():
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from rnn_torch import private

    assert not private.transforms_are_active()
    seen = []
    torch.func.grad(lambda x: (seen.append(private.transforms_are_active()), x.sum())[1])(torch.ones(2))
    assert seen == [True]
    assert not private.modes_are_active()
    with FlopCounterMode(display=False):
        assert private.modes_are_active()
    x, batched = torch.ones(2, requires_grad=True), []
    y = x * 2
    y.register_hook(lambda gradient: batched.append(private.is_batched(gradient)))
    torch.autograd.grad(y, x, torch.eye(2), is_grads_batched=True)
    assert batched == [True]
    assert not private.is_batched(x)
    kept = []
    y = x * 2
    y.register_hook(lambda _: kept.append(private.graph_is_kept()))
    torch.autograd.grad(y.sum(), x, retain_graph=True)
    torch.autograd.grad(y.sum(), x)
    assert kept == [True, False]
    assert not private.tangents_are_possible()
    with torch.autograd.forward_ad.dual_level():
        assert private.tangents_are_possible()
    # What these do is tested on a GPU: test_vendor_torch.py
    assert all(map(callable, (torch._cudnn_rnn, torch._cudnn_rnn_flatten_weight, torch.ops.aten._cudnn_rnn_backward)))


def test_autograd_within_an_operation_of_pytorch():
    torch = pytest.importorskip("torch")
    from rnn_torch import private

    @torch.library.custom_op("rnn_tests::gradient_of_square", mutates_args=())
    def gradient_of_square(x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            assert not (x * x).requires_grad
            with private.above_autograd():
                return torch.autograd.grad((x * x).sum(), x)[0]

    assert gradient_of_square(torch.tensor([3.0])).tolist() == [6.0]


def test_those_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    import keras

    from rnn_tf import private

    x = tf.ones([2])
    assert not private.have_tangents((x,))
    with tf.autodiff.ForwardAccumulator(x, tf.ones([2])):
        assert private.have_tangents((x,))
    assert not private.a_tape_may_record()
    with tf.GradientTape():
        assert private.a_tape_may_record()
    compiled = [private.in_xla()]
    for jit in (False, True):

        def look(x):
            compiled.append(private.in_xla())
            return x

        inner = tf.function(look, autograph=False)
        tf.function(inner, jit_compile=jit, autograph=False)(x)
    assert compiled == [False, False, True]
    inner = keras.layers.Dense(1)
    assert private.sublayers(keras.layers.TimeDistributed(inner)) == [inner]
    variable = keras.Variable(np.ones(3, np.float32))
    optimizer = keras.optimizers.Adam(0.1, beta_1=0.5, beta_2=0.75)
    optimizer.build([variable])
    optimizer.apply([tf.constant([2.0, 0.0, -4.0])], [variable])
    (m,), (v,) = private.moments(optimizer)
    np.testing.assert_allclose(m, [1.0, 0.0, -2.0])
    np.testing.assert_allclose(v, [1.0, 0.0, 4.0])
    assert hasattr(private.DropoutRNNCell, "get_recurrent_dropout_mask")
