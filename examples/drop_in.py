"""Swap the import in PyTorch: the same training, with `nn.LSTM` and with `rnn_torch.LSTM`, gives the same numbers.

The task is small: say whether the sum of a sequence's first feature is positive. Both networks start from the same seed, and
so from the same weights, since ours draws them as the built-in layer does.
"""

import torch
from torch import nn

import rnn_torch


class Classifier(nn.Module):
    """An LSTM over the sequence, and one number from its last hidden state."""

    def __init__(self, lstm):
        super().__init__()
        self.lstm = lstm(3, 16, num_layers=2, batch_first=True, dtype=torch.float64)
        self.head = nn.Linear(16, 1, dtype=torch.float64)

    def forward(self, x):
        _, (h_n, _) = self.lstm(x)
        return self.head(h_n[-1]).squeeze(-1)


def train(lstm, updates=30):
    """The loss before every update."""
    torch.manual_seed(0)
    x = torch.randn(64, 12, 3, dtype=torch.float64)
    y = (x[..., 0].sum(1) > 0).double()
    model = Classifier(lstm)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(updates):
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


if __name__ == "__main__":
    theirs, ours = train(nn.LSTM), train(rnn_torch.LSTM)
    print(f"nn.LSTM          loss {theirs[0]:.6f} to {theirs[-1]:.6f}")
    print(f"rnn_torch.LSTM   loss {ours[0]:.6f} to {ours[-1]:.6f}")
    print(f"largest relative difference over {len(ours)} updates: {((ours - theirs) / theirs).abs().max():.1e}")
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)
    assert ours[-1] < ours[0]
