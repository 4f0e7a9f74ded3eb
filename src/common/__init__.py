"""What the two twins share: the equations, the weights, the data and the comparison. NumPy only.

Importing `common` imports neither PyTorch nor TensorFlow; `rnn_common.twins.get` does that, by name, when asked.
"""

from rnn_common.loading import load_triton

load_triton()
