"""Second derivatives: a gradient penalty through `rnn_torch.LSTM`, and a Hessian-vector product, beside those of `nn.LSTM`.

A gradient penalty adds ‖∂score/∂x‖ to the loss, so that training differentiates a gradient. Ours has its back-propagation
written by hand, and can still be differentiated again. In float64 on a CPU `nn.LSTM` can too, so the two are compared there.
"""

import torch
from torch import nn

import rnn_torch


def penalty(lstm, x):
    """(‖∂score/∂x‖ − 1)² over the batch, where the score is the sum of the last outputs."""
    x = x.clone().requires_grad_()
    score = lstm(x)[0][:, -1].sum()
    (slope,) = torch.autograd.grad(score, x, create_graph=True)
    return ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()


def gradients(lstm, x):
    """The penalty's derivative by every weight: a second derivative of the layer."""
    return torch.autograd.grad(penalty(lstm, x), list(lstm.parameters()))


def hessian_vector_product(lstm, x, vector):
    """∂²loss/∂x² times a vector, where the loss is the mean of the squared outputs."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(lstm(x)[0].square().mean(), x, create_graph=True)
    return torch.autograd.grad(slope, x, vector)[0]


def deviation(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


if __name__ == "__main__":
    torch.manual_seed(0)
    theirs = nn.LSTM(5, 8, batch_first=True, dtype=torch.float64)
    ours = rnn_torch.LSTM(5, 8, batch_first=True, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x, vector = torch.randn(2, 3, 10, 5, dtype=torch.float64)

    print(f"gradient penalty: ours {penalty(ours, x).item():.12f}, nn.LSTM {penalty(theirs, x).item():.12f}")
    for (name, _), found, expected in zip(
        ours.named_parameters(), gradients(ours, x), gradients(theirs, x), strict=True
    ):
        print(f"  its derivative by {name:<12} differs by {deviation(found, expected):.1e}")
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)

    found, expected = (hessian_vector_product(lstm, x, vector) for lstm in (ours, theirs))
    print(f"Hessian-vector product: differs by {deviation(found, expected):.1e}")
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
