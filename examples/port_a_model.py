"""Port a model: a stack of `torch.nn.GRU` in both directions goes to Keras by `copy_weights`, and back again.

The outputs are equal, to rounding; the weights that come back are the ones that went.
"""

import keras
import torch
from torch import nn

from rnn_torch import copy_weights

if __name__ == "__main__":
    torch.manual_seed(0)
    trained = nn.GRU(12, 32, num_layers=2, bidirectional=True, batch_first=True)

    # PyTorch's one module of two layers in both directions is two wrapped layers in Keras.
    ported = keras.Sequential(
        [keras.layers.Bidirectional(keras.layers.GRU(32, return_sequences=True)) for _ in range(2)]
    )
    copy_weights(trained, ported)

    x = torch.randn(4, 20, 12)
    with torch.no_grad():
        expected, _ = trained(x)
    found = torch.from_numpy(keras.ops.convert_to_numpy(ported(x.numpy())))
    print(f"Keras beside PyTorch: outputs differ by at most {(found - expected).abs().max():.1e}")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)

    back = nn.GRU(12, 32, num_layers=2, bidirectional=True, batch_first=True)
    copy_weights(ported, back)
    same = all(torch.equal(a, b) for a, b in zip(trained.parameters(), back.parameters(), strict=True))
    print(f"back in PyTorch: every weight {'is the same' if same else 'DIFFERS'}")
    assert same

    # What would change the function is refused, and nothing is written.
    try:
        copy_weights(trained, nn.GRU(12, 32, num_layers=2))
    except ValueError as refused:
        print(f"refused: {refused}")
    else:
        raise AssertionError("a copy that loses a direction should have been refused")
