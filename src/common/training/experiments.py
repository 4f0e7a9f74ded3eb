"""A task's networks trained in either framework and scored: what `rnn-parity train` does, but for what it prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from rnn_common import networks, tasks
from rnn_common.cells import IN_BOTH
from rnn_common.checks import one_of
from rnn_common.data.batches import batches
from rnn_common.data.sequences import Sequences
from rnn_common.networks import Array, EncoderDecoder, Model
from rnn_common.networks.decoding import beam_search
from rnn_common.reader import shown
from rnn_common.tasks import Problem, Setting, problems
from rnn_common.training import checkpoint as checkpoints
from rnn_common.training.checkpoint import BadCheckpoint, Checkpoint
from rnn_common.training.run import EVALUATION_BATCH, Diverged, Run
from rnn_common.twins import Framework, installed

Watch = Callable[[Run], None]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one network's training.

    Args:
        problem, framework, cell, seed: which one.
        parameters: how many numbers are trained.
        scores: the problem's measures on the test data; empty if it failed.
        seconds: of training and validation, in this process and before it was stopped.
        updates: done in all.
        losses, norms, epochs: see `rnn_common.training.run.Run`.
        failed: why it ended early, or None.
    """

    problem: str
    framework: str
    cell: str
    seed: int
    parameters: int
    scores: Mapping[str, float]
    seconds: float
    updates: int
    losses: Sequence[float]
    norms: Sequence[float]
    epochs: Sequence[Mapping[str, float]]
    failed: str | None = None


def run_folder(output: Path, problem: Problem, framework: str, cell: str, seed: int) -> Path:
    """Where a network's checkpoints go."""
    return output / f"{problem.name.replace(' ', '-')}-{framework}-{cell}-{seed}"


def make_run(
    problem: Problem,
    cell: str,
    seed: int,
    *,
    task: str,
    setting: Setting,
    dtype: str | None = None,
    folder: Path | None = None,
    resume: Checkpoint | None = None,
    watch: Watch | None = None,
) -> Run:
    """The training of one cell's network on a problem.

    Args:
        problem: of the task in the setting.
        cell: whose network.
        seed: of the weights and the order of the data.
        task, setting: what a checkpoint says of where it belongs.
        dtype: instead of the recipe's.
        folder, resume, watch: see `rnn_common.training.run.Run`.

    Raises:
        ValueError: `resume` belongs to something else.
    """
    model, recipe = problem.model(cell), replace(problem.recipe(cell), seed=seed)
    if dtype is not None:
        recipe = replace(recipe, dtype=dtype)  # type: ignore[arg-type]
    about = {"task": task, "setting": setting, "problem": problem.name, "cell": cell, "seed": seed}
    for name, value in about.items():
        if resume is not None and resume.about.get(name) != value:
            raise ValueError(f"resume should be of {name} {value}, got {resume.about.get(name)}")
    for name, value in problem.about.items():
        if resume is not None and resume.about.get(name) != value:
            raise ValueError(f"resume should be of the data's {name}, got {shown(resume.about.get(name))}")
    validation = problem.validation
    if validation is None and not recipe.patience:
        validation = problem.train  # to show a metric
    return Run(
        model,
        recipe,
        problem.train,
        networks.initial_weights(model, seed, recipe.dtype, memory=problem.memory),
        validation=validation,
        folder=folder,
        about={**about, **problem.about},
        resume=resume,
        watch=watch,
    )


def train(twin: Framework, problem: Problem, run: Run, *, device: str = "cpu") -> Outcome:
    """Train a network, or go on with it, and score it on the test data."""
    scores: Mapping[str, float] = {}
    failed = None
    try:
        network = twin.train(run, device=device)
    except (Diverged, BadCheckpoint) as error:
        failed = str(error)
    seconds = run.seconds
    if failed is None:
        scores = problem.score(answers(twin, network, run.model, problem.test, beam=problem.beam))
    return Outcome(
        problem=problem.name,
        framework=twin.name,
        cell=run.about["cell"],
        seed=run.recipe.seed,
        parameters=sum(int(np.prod(shape)) for shape in networks.shapes(run.model).values()),
        scores=scores,
        seconds=seconds,
        updates=run.position.update,
        losses=run.losses,
        norms=run.norms,
        epochs=run.epochs,
        failed=failed,
    )


def answers(twin: Framework, network: Any, model: Model, data: Sequences, *, beam: int = 4) -> list[Array]:
    """The answer of a model's network to every sequence, as `Problem.score` takes them."""
    found: list[Array] = []
    for batch in batches(data, EVALUATION_BATCH):
        if isinstance(model, EncoderDecoder):
            state = twin.encode(network, batch)
            longest = 2 * batch.x.shape[1] + 5
            found += beam_search(lambda symbols, h: twin.step(network, symbols, h), state, width=beam, longest=longest)
        elif model.head == "steps":
            outputs = twin.predict(network, batch)
            found += [row[:length] for row, length in zip(outputs, batch.lengths, strict=True)]
        else:
            found += list(twin.predict(network, batch))
    return found


def resume(path: Path) -> tuple[Problem, Checkpoint]:
    """A checkpoint, and the problem that it belongs to.

    Raises:
        FileNotFoundError, BadCheckpoint: see `rnn_common.training.checkpoint.load`.
        ValueError: there is no such problem, or it is trained by another recipe.
    """
    checkpoint = checkpoints.load(path)
    origin = tasks.check_about(checkpoint.about, checkpoint.model, checkpoint.recipe)
    recipe = replace(
        tasks.recipe(origin.task, origin.setting, origin.cell), seed=origin.seed, dtype=checkpoint.recipe.dtype
    )
    for name, value in recipe.as_dict().items():  # before the data are made, which may be large
        if (theirs := getattr(checkpoint.recipe, name)) != value:
            raise ValueError(
                f"{name} of the checkpoint should be {value} in {origin.setting} {origin.task}, got {theirs}"
            )
    ready = {problem.name: problem for problem in problems(origin.task, origin.setting)}
    return ready[one_of("problem of the checkpoint", origin.problem, list(ready))], checkpoint


def check_no_checkpoints(output: Path, advice: str) -> None:
    """Refuse to begin where another run's checkpoints are.

    Args:
        output: a folder, of checkpoints or of such folders.
        advice: what to do instead.

    Raises:
        FileExistsError: there are some.
    """
    found = sorted([*output.glob("checkpoint-*.json"), *output.glob("*/checkpoint-*.json")])
    if found:
        raise FileExistsError(f"output should be free of checkpoints, got {found[0]}: {advice}")


Job = tuple[Problem, str, str, int]


def jobs(
    ready: Sequence[Problem],
    frameworks: Sequence[str],
    cells: Sequence[str],
    seeds: int | None,
    folder: Path | None = None,
) -> list[Job]:
    """The networks to be trained: problem, framework, cell and seed of each.

    Args:
        ready: the problems.
        frameworks, cells: those asked for.
        seeds: how many of each. None: as many as the problem has.
        folder: one whose other networks are to be gone on with, too, so that none is missing in the report. Default none.
    """
    found: list[Job] = []
    for problem, framework, cell in product(ready, installed(), IN_BOTH):
        number = (seeds or problem.seeds) if framework in frameworks and cell in cells else 0
        while folder is not None and _has_checkpoints(run_folder(folder, problem, framework, cell, number)):
            number += 1
        found += [(problem, framework, cell, seed) for seed in range(number)]
    return found


def _has_checkpoints(folder: Path) -> bool:
    return any(folder.glob("checkpoint-*.json"))


def begun(folder: Path, framework: str) -> Checkpoint | None:
    """The checkpoint from which `train` goes on in a network's folder; None where there is none.

    Raises:
        BadCheckpoint: see `rnn_common.training.checkpoint.load`.
        ValueError: the other framework wrote it, so that what comes of it is not this one's.
    """
    if not _has_checkpoints(folder):
        return None
    checkpoint = checkpoints.load(folder)
    if checkpoint.framework != framework:
        raise ValueError(
            f"{folder} should hold checkpoints of rnn_{framework}, got one that rnn_{checkpoint.framework} wrote: "
            "rnn-parity resume goes on with it"
        )
    return checkpoint


def summary(problem: Problem, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for every framework and cell of a problem's outcomes: the measures' means over the seeds, and their spread."""
    rows = []
    for framework, cell in dict.fromkeys((each.framework, each.cell) for each in outcomes):
        own = [each for each in outcomes if (each.framework, each.cell) == (framework, cell)]
        scored = [each for each in own if each.failed is None]
        rows.append(
            {
                "framework": framework,
                "cell": cell,
                "parameters": own[0].parameters,
                "seeds": len(own),
                "scores": {
                    name: {
                        "mean": float(np.mean([each.scores[name] for each in scored])),
                        "low": min(each.scores[name] for each in scored),
                        "high": max(each.scores[name] for each in scored),
                    }
                    for name in problem.lower_is_better
                    if scored
                },
                "seconds": sum(each.seconds for each in own),
                "updates": sum(each.updates for each in own),
                "failed": [each.failed for each in own if each.failed],
            }
        )
    return rows
