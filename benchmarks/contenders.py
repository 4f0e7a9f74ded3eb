"""Who runs a workload: our engines, the frameworks' own layers, and what a user might pick instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from rnn_benchmarks import rivals
from rnn_benchmarks.runner import Conditions, Contender, Refused, Runner
from rnn_common import twins
from rnn_common.parity.case import Case

Array = NDArray[Any]


@dataclass(frozen=True)
class _Layer:
    """A layer of a twin or a framework's own, behind the Protocol."""

    twin: twins.Framework
    layer: Any
    case: Case
    compiled: bool

    def inference(self) -> Callable[[], Any]:
        return self.twin.inference(self.layer, self.case, compiled=self.compiled)

    def training(self) -> Callable[[], Any]:
        return self.twin.training_step(self.layer, self.case, compiled=self.compiled)

    def outputs(self, returned: Any) -> Array:
        return self.twin.outputs(returned)

    def gradients(self, returned: Any) -> dict[str, Array]:
        return self.twin.gradients(self.layer, returned)


def _layer(
    name: str, *, builtin: bool = False, engine: str = "auto", compiled: bool = False
) -> Callable[[Case, Conditions], Runner]:
    def prepare(case: Case, conditions: Conditions) -> Runner:
        if (
            compiled and case.lengths is not None
        ):  # to compile it takes many times as long as to run it, or that takes minutes
            raise Refused("is not given sequences of several lengths here")
        twin, (device, dtype, _) = twins.get(name), conditions
        layer = twin.make(case.parameters, builtin=builtin, engine=engine, device=device, dtype=dtype)
        if engine != "auto":
            _require(engine, *twin.explain(layer, case))
        return _Layer(twin, layer, case, compiled)

    return prepare


def _require(engine: str, runs: str, refused: Mapping[str, str]) -> None:
    """Refuse to time one engine under the name of another.

    Raises:
        Refused: it is not the one that runs the case; says why.
    """
    if runs != engine:
        raise Refused(refused.get(engine, f"{runs} runs it"))


# What each framework's figures are compared with, and ours in either.
BUILTIN = {"torch": "torch.nn", "tf": "keras.layers"}
OURS = {"torch": "rnn_torch", "tf": "rnn_tf"}

# All but our engines by name, which the twins know: see `everybody`.
CONTENDERS = [
    Contender("torch.nn", "torch", _layer("torch", builtin=True)),
    Contender("torch.nn, compiled", "torch", _layer("torch", builtin=True, compiled=True)),
    Contender("rnn_torch", "torch", _layer("torch"), any_cell=True),
    Contender("rnn_torch, compiled", "torch", _layer("torch", compiled=True), any_cell=True, by_default=False),
    Contender("keras.layers", "tf", _layer("tf", builtin=True)),
    Contender("keras.layers, XLA", "tf", _layer("tf", builtin=True, compiled=True), shows_memory=False),
    Contender("rnn_tf", "tf", _layer("tf"), any_cell=True),
    Contender("rnn_tf, XLA", "tf", _layer("tf", compiled=True), any_cell=True, shows_memory=False),
    # Not trained: the gradient that TensorFlow registers for it is wrong.
    Contender("BlockLSTMV2", "tf", rivals.BlockLSTM, cells=("LSTM",), measures=("inference",), dtypes=("float32",)),
    Contender(
        "ONNX Runtime",
        "torch",
        rivals.OnnxRuntime,
        measures=("inference",),
        needs=("onnxruntime", "onnx"),
        dtypes=("float32",),
        devices=("cpu",),
    ),
]


def of_engines(twin: twins.Framework) -> list[Contender]:
    """Our layers by each engine that a twin has. Two do not take part by default: `reference`, which is for reading, and
    `fused`, which is what the layers fall back to."""
    return [
        Contender(
            f"{OURS[twin.name]} {engine}",
            twin.name,
            _layer(twin.name, engine=engine),
            any_cell=True,
            by_default=engine not in ("reference", "fused"),
        )
        for engine in twin.engines()
    ]


def everybody(frameworks: Iterable[twins.Framework], own: Iterable[Contender] = ()) -> list[Contender]:
    """Everybody who could be timed: `CONTENDERS`, our engines behind the layers that choose among them, the user's own.

    Args:
        frameworks: the twins whose engines are asked for.
        own: contenders of the user's own. Default none.

    Raises:
        ValueError: one of the user's own is called as another.
    """
    engines = {OURS[twin.name]: of_engines(twin) for twin in frameworks}
    found: list[Contender] = []
    for contender in CONTENDERS:
        found.append(contender)
        found += engines.get(contender.name, [])
    for contender in own:
        if contender.name in {each.name for each in found}:
            raise ValueError(f"contender should have a name of its own, got a file or function called {contender.name}")
        found.append(contender)
    return found


def framework_of(name: str) -> str | None:
    """The framework of a contender; None where there is none of that name. An engine may be any: the twins alone know them."""
    for contender in CONTENDERS:
        if contender.name == name:
            return contender.framework
    return next((framework for framework, ours in OURS.items() if name.startswith(f"{ours} ")), None)


def names() -> list[str]:
    """Who can be asked for by name, the engines aside."""
    return [contender.name for contender in CONTENDERS]
