"""What the two twins share: the equations, the weights, the data and the comparison. NumPy only.

Importing `rnn_common` imports neither PyTorch nor TensorFlow; `rnn_common.twins.get` does that, by name, when asked.
"""

from rnn_common.loading import load_triton

__version__ = "0.1.0"  # the one place; pyproject.toml reads it here

load_triton()
