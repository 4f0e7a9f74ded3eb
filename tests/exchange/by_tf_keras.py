"""A program, run where tf_keras is: what Keras 2 as TensorFlow still has it makes of an old file.

    python by_tf_keras.py FILE LAYERS PROBES OUTPUTS

FILE is a whole model, of which LAYERS is `{}`, or has weights alone, and LAYERS is JSON with a layer's arguments by its name.
PROBES is an `.npz` with inputs by the layers' names, and by `WHOLE` that of the model; OUTPUTS is written with what came of them.
"""

import json
import sys

import numpy as np

WHOLE = "the whole model"


def built(name, cell, sizes, directions, recurrent_activation):
    """A model of one layer, which finds its weights by its name; sizes are of input and state."""
    from tf_keras import Model, layers

    options = {"return_sequences": True, "recurrent_activation": recurrent_activation}
    layer = getattr(layers, cell)(sizes[1], **options, name=name)
    if directions == 2:
        layer = layers.Bidirectional(layer, name=name)
    x = layers.Input((None, sizes[0]))
    return Model(x, layer(x))


def main(file, described, probes, outputs):
    import tensorflow as tf
    from tf_keras.models import load_model

    inputs = dict(np.load(probes))
    runs = {name: built(name, **options) for name, options in json.loads(described).items()}
    for model in runs.values():
        model.load_weights(file, by_name=True)
    if not runs:
        model = load_model(file, compile=False)
        # `call`, for a model may ask for a number of steps that it does not need.
        runs = {name: model.call if name == WHOLE else model.get_layer(name) for name in inputs}
    np.savez(outputs, **{name: np.asarray(runs[name](tf.constant(x))) for name, x in inputs.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
