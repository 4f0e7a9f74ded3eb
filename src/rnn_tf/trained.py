"""A model and its optimiser as one of two that are trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rnn_common import packings
from rnn_common.doctor.training import DIRECTIONS, Arrays, Rule, Trained, below, both_apart, for_two, of_function
from rnn_common.exchange.description import Embedding, Recurrent
from rnn_tf import doctor, twin

Array = Any
Tensor = Any


def trained(model: Any, optimiser: Any = None, loss: Any = None) -> Trained:
    """A model as it is trained, for `rnn_common.doctor.diagnose_training`; it has its weights again when that is done.

    Args:
        model: a recurrent layer or a network, with weights.
        optimiser: SGD, Adam, AdamW or RMSprop. Default that with which the model is compiled.
        loss: of targets and outputs, as Keras's are, or its name. Default that with which the model is compiled.

    Raises:
        ValueError: there is none, and the model is not compiled.
    """
    optimiser = optimiser or getattr(model, "optimizer", None)
    loss = loss or getattr(model, "loss", None)
    for name, given in (("optimiser", optimiser), ("loss", loss)):
        if given is None:
            raise ValueError(f"{name} should be given, or the model compiled with one, got neither")
    function = keras.losses.get(loss)

    def loss_of(x: Array, targets: Array) -> Tensor:
        given = tf.cast(x, model.compute_dtype) if np.issubdtype(x.dtype, np.floating) else tf.constant(x)
        outputs = model(given, training=False)
        value = function(targets, outputs[0] if isinstance(outputs, (list, tuple)) else outputs)
        return value if isinstance(function, keras.losses.Loss) else tf.reduce_mean(value)

    def gradients(x: Array, targets: Array) -> Arrays:
        variables = [variable.value for variable in model.trainable_variables]
        with tf.GradientTape() as tape:
            value = loss_of(x, targets)
        found = tape.gradient(value, variables)
        by_id = {
            id(variable): _array(tf.convert_to_tensor(gradient), variable)
            for variable, gradient in zip(model.trainable_variables, found, strict=True)
        }
        return _by_name(model, lambda variable: by_id[id(variable)], of_function)

    def step(gradients: Arrays, from_zero: bool) -> Arrays:
        fresh = type(optimiser).from_config(optimiser.get_config())
        kept = [variable.numpy() for variable in model.trainable_variables]
        try:
            for variable in model.trainable_variables if from_zero else ():
                variable.assign(tf.zeros_like(variable.value))
            before = _by_name(model, _array, packings.merged)
            given = _given(model, gradients)
            fresh.apply([given[id(variable)] for variable in model.trainable_variables], model.trainable_variables)
            after = _by_name(model, _array, packings.merged)
        finally:
            for variable, value in zip(model.trainable_variables, kept, strict=True):
                variable.assign(value)
        return {name: after[name] - before[name] for name in before}

    return Trained(
        doctor.side(model, type(model).__name__),
        lambda x, targets: float(loss_of(x, targets)),
        gradients,
        step,
        lambda: _by_name(model, _array, both_apart),
        _rule(optimiser),
    )


def _array(weight: Any, like: Any = None) -> Array:
    """In float64; zeros where there is none."""
    if weight is None:
        return np.zeros(like.shape)
    return np.asarray(tf.cast(getattr(weight, "value", weight), tf.float64))


def _by_name(model: Any, of: Callable[[Any], Array], reduced: Callable[..., Arrays]) -> Arrays:
    """An array for every weight by its layer's place and its name; of a recurrent layer what is made of both biases apart."""
    found: dict[str, Array] = {}
    for place, (layer, about) in enumerate(doctor.known(model)):
        if not isinstance(about, Recurrent):
            for name, variable in _named(layer, about).items():
                found[f"{place}/{name}"] = of(variable).T if name == "W" else of(variable)
            continue
        (directions,) = twin.parts(layer)
        for direction, part in zip(DIRECTIONS, directions, strict=False):
            unpacked = packings.unpack_keras(part.cell, [of(variable) for variable in _variables(part)])
            found |= {f"{place}/{direction}/{name}": array for name, array in reduced(part.cell, unpacked).items()}
    return found


def _named(layer: Any, about: Any) -> dict[str, Any]:
    if isinstance(about, Embedding):
        return {"E": layer.embeddings}
    return {"W": layer.kernel} | ({"b": layer.bias} if layer.use_bias else {})


def _variables(part: Any) -> list[Any]:
    return [part.holder.kernel, part.holder.recurrent_kernel] + [part.holder.bias] * bool(part.bias)


def _given(model: Any, gradients: Arrays) -> dict[int, Tensor]:
    """The gradient of every variable."""
    packed: dict[int, Array] = {}
    for place, (layer, about) in enumerate(doctor.known(model)):
        if not isinstance(about, Recurrent):
            for name, variable in _named(layer, about).items():
                array = gradients[f"{place}/{name}"]
                packed[id(variable)] = array.T if name == "W" else array
            continue
        (directions,) = twin.parts(layer)
        for direction, part in zip(DIRECTIONS, directions, strict=False):
            of_part = below(gradients, f"{place}/{direction}/")
            of_part = for_two(part.cell, of_part) if part.cell.apart else of_part
            for variable, array in zip(_variables(part), packings.pack_keras(part.cell, of_part), strict=True):
                packed[id(variable)] = array
    variables = {id(variable): variable for variable in model.trainable_variables}
    return {key: tf.cast(array, variables[key].dtype) for key, array in packed.items()}


def _rule(optimiser: Any) -> Rule:
    """What the optimiser says that it does."""
    config = optimiser.get_config()
    kind = type(optimiser).__name__.lower()
    epsilon = float(config.get("epsilon") or 0)
    if kind in ("adam", "adamw"):
        epsilon /= float(np.sqrt(1 - config["beta_2"]))
    limits = {"all": config.get("global_clipnorm"), "each": config.get("clipnorm")}
    clip = next((how for how, limit in limits.items() if limit), "none")
    return Rule(
        {"adamw": "adam"}.get(kind, kind),
        float(config["learning_rate"]),
        momentum=float(config.get("momentum") or 0) if config.get("nesterov") else 0.0,
        rho=float(config.get("rho") or 0),
        epsilon=epsilon,
        epsilon_inside=kind == "rmsprop",
        decay=float(config.get("weight_decay") or 0),
        decay_apart=bool(config.get("weight_decay")),
        clip=clip,
        clip_norm=float(limits.get(clip) or 0),
    )
