"""Training the way PyTorch's users do it: a loop and `torch.optim`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rnn_common.data.batches import Batch
from rnn_common.networks import Array, Weights
from rnn_common.training.checkpoint import BadCheckpoint
from rnn_common.training.recipe import Recipe
from rnn_common.training.run import Run, Snapshot
from rnn_torch import networks

name = "torch"


class SGD(torch.optim.Optimizer):
    """Momentum as Keras has it: v ← μ v − α g, w ← w + v.

    PyTorch's own keeps −v / α, which would have to follow every change of the learning rate α.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": learning_rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in trained:
                v = parameter.grad * -group["lr"]
                if group["momentum"]:
                    v = v.add_(self.state[parameter].get("velocity", torch.zeros(())) * group["momentum"])
                    self.state[parameter]["velocity"] = v
                parameter.add_(v)


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser of the network's trained parameters."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if recipe.optimizer == "sgd":
        return SGD(trained, recipe.learning_rate, recipe.momentum)
    betas = (recipe.beta_1, recipe.beta_2)
    return torch.optim.Adam(trained, recipe.learning_rate, betas, recipe.epsilon)


def loss(network: Any, batch: Batch) -> Tensor:
    """Cross-entropy in nats, or squared error: the mean over all targets; steps whose target is −1 do not count."""
    x, lengths, targets = networks.inputs(network, batch)
    outputs = network(x, lengths, targets)
    if network.described.head == "forecast":
        return nn.functional.mse_loss(outputs, targets)
    return nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten(), ignore_index=-1)


def clip(gradients: list[Tensor], limit: float) -> Tensor:
    """The gradients' norm; they are multiplied by min(1, limit / norm), in place, unless the limit is 0.

    `nn.utils.clip_grad_norm_` divides by norm + 1e-6, so what it leaves is a little shorter.
    """
    norm = nn.utils.get_total_norm(gradients)
    if limit:
        torch._foreach_mul_(gradients, torch.clamp(limit / norm, max=1.0))
    return norm


class Trainer:
    """A network and its optimiser."""

    def __init__(self, run: Run, device: str = "cpu") -> None:
        self.run = run
        self.network = networks.build(run.model, run.weights, dtype=run.recipe.dtype, device=device)
        self.optimizer = make_optimizer(self.network, run.recipe)
        torch.manual_seed(run.recipe.seed)
        self._restore(run)

    def update(self, batch: Batch) -> tuple[float, float]:
        """One update of the weights: the loss before it, and the norm of the gradients before they are clipped."""
        self.network.train()
        self.optimizer.param_groups[0]["lr"] = self.run.rate
        self.optimizer.zero_grad()
        value = loss(self.network, batch)
        torch.autograd.backward(value)
        gradients = [parameter.grad for parameter in self._trained() if parameter.grad is not None]
        norm = clip(gradients, self.run.recipe.clip_norm)
        self.optimizer.step()
        return value.item(), norm.item()

    def _trained(self) -> list[nn.Parameter]:
        trained: list[nn.Parameter] = self.optimizer.param_groups[0]["params"]
        return trained

    def _moments(self) -> dict[str, str]:
        """The optimiser's memories: their names in a checkpoint, and PyTorch's."""
        if self.run.recipe.optimizer == "sgd":
            return {"velocity": "velocity"} if self.run.recipe.momentum else {}
        return {"m": "exp_avg", "v": "exp_avg_sq"}

    def _random(self) -> dict[str, torch.Generator]:
        """The random numbers that dropout draws from: the device's."""
        if not any(stack.dropout for stack in self.run.model.stacks().values()):
            return {}
        device = self.network.output.weight.device
        on_cpu = device.type == "cpu"
        return {
            f"torch {device.type}": torch.default_generator if on_cpu else torch.cuda.default_generators[device.index]
        }

    def snapshot(self) -> Snapshot:
        """What the run's next update depends on."""
        moments = {name: self._moment(key) for name, key in self._moments().items()} if self.optimizer.state else {}
        random = {name: generator.get_state().numpy().copy() for name, generator in self._random().items()}
        return Snapshot(networks.weights(self.network), moments, random)

    def _moment(self, key: str) -> Weights:
        arrays: dict[str, Array] = {}
        for name, parameter in self.network.named_parameters():
            state = self.optimizer.state.get(parameter, {})
            arrays[name] = state.get(key, torch.zeros_like(parameter)).numpy(force=True).copy()
        return networks.named(self.network, arrays)

    def _restore(self, run: Run) -> None:
        if run.resume is None:
            return
        moments = run.moments
        for name, key in self._moments().items():
            if not moments.get(name):
                continue
            arrays = networks.packed(self.network, moments[name])
            for place, parameter in self.network.named_parameters():
                if parameter.requires_grad:
                    value = torch.from_numpy(arrays[place].copy()).to(parameter)
                    self.optimizer.state[parameter][key] = value
                    if run.recipe.optimizer == "adam":
                        self.optimizer.state[parameter]["step"] = torch.tensor(float(run.position.update))
        for name, generator in self._random().items():
            if name in run.resume.random:
                try:
                    generator.set_state(torch.from_numpy(run.resume.random[name].copy()))
                except (RuntimeError, TypeError) as error:
                    raise BadCheckpoint(f"random {name} should be a state of PyTorch's: {error}") from None


def train(run: Run, *, device: str = "cpu") -> Any:
    with torch.random.fork_rng(devices=[] if device == "cpu" else [device]):
        trainer = Trainer(run, device)
        while not run.finished:
            for batch in run.remaining():
                run.record(*trainer.update(batch), trainer.snapshot, name)
            run.end_epoch(lambda batch: networks.predict(trainer.network, batch), trainer.snapshot, name)
    if run.best:
        networks.fill(trainer.network, run.best)
    trainer.network.eval()
    return trainer.network
