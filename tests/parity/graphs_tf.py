"""Graphs around a layer, in TensorFlow: each builds a number from calls of a layer `(batch, time, width)` as wide as its input.

Twin of `graphs_torch`.
"""

import tensorflow as tf

N = 3  # how many steps a part of a sequence has


def tensor(array):
    return tf.constant(array)


def weights(layer):
    return [variable.value for variable in layer.trainable_variables]


def call(layer, x, state=None, given=None):
    """Outputs and the states, each `(batch, width)`; with `given` weights instead of the layer's own."""
    arguments = {"initial_state": None if state is None else list(state)}
    if given is None:
        outputs, *final = layer(x, **arguments)
    else:
        (outputs, *final), _ = layer.stateless_call(given, layer.non_trainable_variables, x, **arguments)
    return outputs, tuple(final)


def total(*tensors):
    """A number that weighs every entry differently."""
    return tf.add_n(
        [
            tf.reduce_sum(t * tf.cos(tf.reshape(tf.range(1, tf.size(t) + 1, dtype=t.dtype), tf.shape(t))))
            for t in tensors
        ]
    )


def two_calls(layer, x, states):
    _, state = call(layer, x[:, :N])
    outputs, final = call(layer, x[:, N:], state)
    return total(outputs, *final)


def state_from_the_input(layer, x, states):
    outputs, final = call(layer, x, (tf.reduce_mean(x, 1),) * states)
    return total(outputs, *final)


def states_that_are_one_tensor(layer, x, states):
    outputs, final = call(layer, x, (x[:, 0],) * states)
    return total(outputs, *final)


def on_its_own_outputs(layer, x, states):
    return total(call(layer, call(layer, x)[0])[0])


def generated_weights(layer, x, states):
    return total(call(layer, x, given=[w * (1 + tf.reduce_mean(x)) for w in weights(layer)])[0])


def weights_from_outputs(layer, x, states):
    outputs, final = call(layer, x)
    return total(call(layer, x, final, [w + tf.reduce_mean(outputs) for w in weights(layer)])[0])


def a_decoder_fed_its_own_output(layer, x, states):
    outputs, state = call(layer, x[:, :N])
    step, decoded = outputs[:, -1:], []
    for _ in range(N):
        step, state = call(layer, step, state)
        decoded.append(step)
    return total(tf.concat(decoded, 1))


def a_gradient_step(layer, x, states):
    """The loss after a step of gradient descent on another: meta-learning's."""
    own = [tf.identity(w) for w in weights(layer)]
    with tf.GradientTape() as tape:
        tape.watch(own)
        inner = tf.reduce_mean(call(layer, x[:, :N], given=own)[0] ** 2)
    gradients = tape.gradient(inner, own)
    return total(call(layer, x[:, N:], given=[w - 0.5 * d for w, d in zip(own, gradients, strict=True)])[0])


def gathered(layer, x, states):
    """Some entries, some of them twice; the gradients are sparse."""
    outputs, final = call(layer, x)
    return total(tf.gather(outputs, [0, 2, 2], axis=1), *(tf.gather(h, [0, 1, 1]) for h in final))


def changed_in_place(layer, x, states):
    """As near to it as TensorFlow comes."""
    outputs, final = call(layer, x)
    changed = tf.tensor_scatter_nd_update(2 * outputs, [[0]], tf.nn.relu(2 * outputs[:1]))
    return total(changed, *(-h for h in final))


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
    wanted = [x, *weights(layer)]
    with tf.GradientTape() as outer:
        outer.watch(wanted)
        with tf.GradientTape() as tape:
            tape.watch(wanted)
            number = graph(layer, x, states)
        if again:
            gradients = tape.gradient(number, wanted)
    if not again:
        gradients = tape.gradient(number, wanted)
    return [tf.convert_to_tensor(d).numpy() for d in gradients]


def second(layer, graph, x, states):
    """The derivatives of the sum of what `first` returns, its entries weighed."""
    x = tensor(x)
    wanted = [x, *weights(layer)]
    with tf.GradientTape() as outer:
        outer.watch(wanted)
        with tf.GradientTape() as tape:
            tape.watch(wanted)
            number = graph(layer, x, states)
        weighed = total(*map(tf.convert_to_tensor, tape.gradient(number, wanted)))
    return [tf.convert_to_tensor(d).numpy() for d in outer.gradient(weighed, wanted)]
