"""Graphs around a layer, in PyTorch: each builds a number from calls of a layer `(batch, time, width)` as wide as its input.

Twin of `graphs_tf`.
"""

import torch
from torch.func import functional_call

N = 3  # how many steps a part of a sequence has


def tensor(array):
    return torch.tensor(array, requires_grad=True)


def weights(layer):
    return list(layer.parameters())


def call(layer, x, state=None, given=None):
    """Outputs and the states, each `(batch, width)`; with `given` weights instead of the layer's own."""
    hx = None if state is None else tuple(h.unsqueeze(0) for h in state)
    arguments = (x, hx[0] if hx is not None and len(hx) == 1 else hx)
    if given is None:
        outputs, final = layer(*arguments)
    else:
        names = [name for name, _ in layer.named_parameters()]
        outputs, final = functional_call(layer, dict(zip(names, given, strict=True)), arguments)
    return outputs, tuple(h.squeeze(0) for h in (final if isinstance(final, tuple) else (final,)))


def total(*tensors):
    """A number that weighs every entry differently."""
    return sum((t * torch.arange(1, t.numel() + 1, dtype=t.dtype).reshape(t.shape).cos()).sum() for t in tensors)


def two_calls(layer, x, states):
    _, state = call(layer, x[:, :N])
    outputs, final = call(layer, x[:, N:], state)
    return total(outputs, *final)


def state_from_the_input(layer, x, states):
    outputs, final = call(layer, x, (x.mean(1),) * states)
    return total(outputs, *final)


def states_that_are_one_tensor(layer, x, states):
    outputs, final = call(layer, x, (x[:, 0],) * states)
    return total(outputs, *final)


def on_its_own_outputs(layer, x, states):
    return total(call(layer, call(layer, x)[0])[0])


def generated_weights(layer, x, states):
    return total(call(layer, x, given=[w * (1 + x.mean()) for w in weights(layer)])[0])


def weights_from_outputs(layer, x, states):
    outputs, final = call(layer, x)
    return total(call(layer, x, final, [w + outputs.mean() for w in weights(layer)])[0])


def a_decoder_fed_its_own_output(layer, x, states):
    outputs, state = call(layer, x[:, :N])
    step, decoded = outputs[:, -1:], []
    for _ in range(N):
        step, state = call(layer, step, state)
        decoded.append(step)
    return total(torch.cat(decoded, 1))


def a_gradient_step(layer, x, states):
    """The loss after a step of gradient descent on another: meta-learning's."""
    own = weights(layer)
    inner = call(layer, x[:, :N], given=own)[0].square().mean()
    gradients = torch.autograd.grad(inner, own, create_graph=True)
    return total(call(layer, x[:, N:], given=[w - 0.5 * d for w, d in zip(own, gradients, strict=True)])[0])


def gathered(layer, x, states):
    """Some entries, some of them twice."""
    outputs, final = call(layer, x)
    return total(outputs[:, [0, 2, 2]], *(h[[0, 1, 1]] for h in final))


def changed_in_place(layer, x, states):
    outputs, final = call(layer, x)
    outputs.mul_(2)[:, 1].relu_()
    return total(outputs, *(h.clone().neg_() for h in final))


def one_step(layer, x, states):
    return total(call(layer, x)[0][:, 1])


def the_last_state(layer, x, states):
    return total(call(layer, x)[1][-1])


GRAPHS = (
    two_calls,
    state_from_the_input,
    states_that_are_one_tensor,
    on_its_own_outputs,
    generated_weights,
    weights_from_outputs,
    a_decoder_fed_its_own_output,
    a_gradient_step,
    gathered,
    changed_in_place,
    one_step,
    the_last_state,
)


def first(layer, graph, x, states, again):
    """The gradients with respect to the input and the weights; taken so that they could be differentiated `again`, or not."""
    x = tensor(x)
    gradients = torch.autograd.grad(graph(layer, x, states), [x, *weights(layer)], create_graph=again)
    return [d.detach().numpy() for d in gradients]


def second(layer, graph, x, states):
    """The derivatives of the sum of what `first` returns, its entries weighed."""
    x = tensor(x)
    wanted = [x, *weights(layer)]
    gradients = torch.autograd.grad(graph(layer, x, states), wanted, create_graph=True)
    return [d.numpy() for d in torch.autograd.grad(total(*gradients), wanted)]
