"""Training the way Keras's users do it: `compile`, `fit`, callbacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rnn_common.data.batches import Batch, batches
from rnn_common.networks import Weights
from rnn_common.training.checkpoint import BadCheckpoint
from rnn_common.training.recipe import Recipe
from rnn_common.training.run import Run, Snapshot
from rnn_tf import clock, networks, private

Tensor = Any

name = "tf"


class Adam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam with ε where algorithm 1 of the paper has it, as in PyTorch: α m̂ / (√v̂ + ε).

    Keras computes α_t m / (√v + ε'), α_t = α √(1 − β2^t) / (1 − β1^t): the same for ε' = ε √(1 − β2^t).
    """

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        epsilon = self.epsilon  # type: ignore[has-type]
        t = tf.cast(self.iterations + 1, variable.dtype)
        self.epsilon = epsilon * tf.sqrt(1 - tf.cast(self.beta_2, variable.dtype) ** t)
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = epsilon


def make_optimizer(network: Any, recipe: Recipe) -> Any:
    """The recipe's optimiser of the network's trained variables."""
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(recipe.learning_rate, recipe.momentum)
    else:
        optimizer = Adam(recipe.learning_rate, recipe.beta_1, recipe.beta_2, recipe.epsilon)
    optimizer.build(networks.variables(network))
    return optimizer


def loss(network: Any, x: Tensor, lengths: Tensor | None, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, or squared error: the mean over all targets; steps whose target is −1 do not count."""
    outputs = network(x, lengths, targets, training=True)
    if network.described.head == "forecast":
        return tf.reduce_mean(tf.square(outputs - targets))
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(targets, 0), outputs)
    counted = tf.cast(targets >= 0, nats.dtype)
    return tf.reduce_sum(nats * counted) / tf.reduce_sum(counted)


def clip(gradients: list[Tensor], limit: float) -> tuple[list[Tensor], Tensor]:
    """The gradients times min(1, limit / norm), unless the limit is 0, and their norm."""
    norm = tf.linalg.global_norm(gradients)
    if limit:
        factor = tf.minimum(limit / norm, tf.ones_like(norm))
        gradients = [gradient * factor for gradient in gradients]
    return gradients, norm


class Update(keras.Model):  # type: ignore[misc]
    """A network with the step that `fit` takes."""

    def __init__(self, network: Any, recipe: Recipe, padded: bool) -> None:
        super().__init__(dtype=network.dtype_policy)
        self.network = network
        self.recipe = recipe
        self.padded = padded
        self.bias_masks = networks.bias_masks(network)
        self.built = True
        self.compile(make_optimizer(network, recipe), jit_compile=False)

    def train_step(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """One update of the weights: the loss before it, and the norm of the gradients before they are clipped."""
        trained = networks.variables(self.network)
        with tf.GradientTape() as tape:
            value = loss(self.network, data["x"], data["lengths"] if self.padded else None, data["targets"])
        # An embedding's gradient comes as rows, one for each time its symbol was read: their norm is not that of their sum.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(value, [variable.value for variable in trained])]
        masked = [g if m is None else g * m for g, m in zip(gradients, self.bias_masks, strict=True)]
        clipped, norm = clip(masked, self.recipe.clip_norm)
        self.optimizer.apply(clipped, trained)
        return {"loss": value, "norm": norm}


class Record(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the learning rate of each update and reports to the run."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.trainer = trainer

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = self.trainer.run.rate

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.trainer.run.record(float(logs["loss"]), float(logs["norm"]), self.trainer.snapshot, name)


class Trainer:
    """A network and its optimiser."""

    def __init__(self, run: Run, device: str = "cpu") -> None:
        self.run = run
        self.network = networks.build(run.model, run.weights, dtype=run.recipe.dtype, device=device)
        self.update = Update(self.network, run.recipe, padded=len(set(run.train.lengths)) > 1)
        self.optimizer = self.update.optimizer
        self.remaining: Iterable[Batch] = ()
        with clock.on("cpu"):
            signature = networks.signature(self.network, next(batches(run.train, 1)))
            self.batches = tf.data.Dataset.from_generator(self._inputs, output_signature=signature)
        for index, variable in enumerate(self._random().values()):
            variable.assign(np.array([run.recipe.seed, index], variable.dtype))
        self._restore(run)

    def _inputs(self) -> Iterable[Any]:
        """What is left of an epoch, as the network takes it."""
        return (networks.inputs(self.network, batch) for batch in self.remaining)

    def epoch(self, remaining: Iterable[Batch], count: int) -> None:
        """The updates of an epoch, or of what is left of it."""
        self.remaining = remaining
        with clock.on("cpu"):
            # Without the count `fit` asks for one batch too many, and the step that fails for it still counts in Adam's t.
            data = self.batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(1)
        self.update.fit(data, shuffle=False, callbacks=[Record(self)], verbose=0)

    def _moments(self) -> dict[str, list[Any]]:
        """The optimiser's memories: their names in a checkpoint, and Keras's variables."""
        if self.run.recipe.optimizer == "sgd":
            return {"velocity": self.optimizer.momentums} if self.run.recipe.momentum else {}
        return dict(zip(("m", "v"), private.moments(self.optimizer), strict=True))

    def _random(self) -> dict[str, Any]:
        """The states of the random numbers that dropout draws from."""
        found = {prefix: stack.dropout for prefix, stack in networks.stacks(self.network) if stack.described.dropout}
        return {f"tf {prefix}": dropout.seed_generator.state for prefix, dropout in found.items()}

    def snapshot(self) -> Snapshot:
        """What the run's next update depends on."""
        moments = {name: self._moment(memory) for name, memory in self._moments().items()}
        random = {name: variable.numpy() for name, variable in self._random().items()}
        return Snapshot(networks.weights(self.network), moments, random)

    def _moment(self, memory: list[Any]) -> Weights:
        return networks.named(self.network, [variable.numpy() for variable in memory])

    def _restore(self, run: Run) -> None:
        if run.resume is None:
            return
        self.optimizer.iterations.assign(run.position.update)
        moments = run.moments
        for name, memory in self._moments().items():
            if not moments.get(name):
                continue
            for variable, array in zip(memory, networks.packed(self.network, moments[name]), strict=True):
                variable.assign(array)
        for name, variable in self._random().items():
            if name in run.resume.random:
                try:
                    variable.assign(run.resume.random[name])
                except ValueError as error:
                    raise BadCheckpoint(f"random {name} should be a state of Keras's: {error}") from None


def train(run: Run, *, device: str = "cpu") -> Any:
    with clock.on(device):
        trainer = Trainer(run, device)
        while not run.finished:
            trainer.epoch(run.remaining(), run.left)
            run.end_epoch(lambda batch: networks.predict(trainer.network, batch), trainer.snapshot, name)
    if run.best:
        networks.fill(trainer.network, run.best)
    return trainer.network
