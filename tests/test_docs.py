"""The README's examples run, and what it says of the house is true."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split("\n")[0])
def test_example(example):
    for package in ("torch", "keras", "aeon"):
        if package in example or (package == "aeon" and "vowels" in example):
            pytest.importorskip(package)
    exec(compile(example, "README.md", "exec"), {})


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


def test_the_rooms_it_names_exist():
    house = README.split("## Layout")[1].split("## Data")[0]
    for room in ("cells", "weights", "equations", "twins", "parity/", "data/", "cli/"):
        assert f"\n      {room}" in house
        assert (ROOT / "src/common" / room).is_dir() or (ROOT / "src/common" / f"{room}.py").is_file()
    for twin in ("rnn_torch", "rnn_tf"):
        rooms = {path.stem for path in (ROOT / "src" / twin).glob("*.py")} - {"__init__"}
        named = house.split("src/rnn_torch/")[1]
        assert rooms <= set(re.findall(r"\w+", named))


def test_its_benchmarks_are_those_of_the_report_beside_it():
    pytest.importorskip("scipy")
    from rnn_benchmarks import comparing, tables
    from rnn_benchmarks.runs import Report, Settings

    report = comparing.load(ROOT / "docs/benchmarks/benchmarks.json")
    assert report.pop("passed") is True
    del report["format"]
    report = Report.from_dict(report)
    assert tables.summary(report) in README
    assert not report.environment["commit"].endswith("-dirty")
    assert report.settings.workloads == Settings().workloads
    # The floors below which an engine would be a step back.
    means = {(mean.measure, mean.contender, mean.cell): mean.ratio.value for mean in report.means}
    for cell, inference, training in (("SimpleRNN", 0.5, 1.1), ("LSTM", 0.5, 0.6), ("GRU", 0.8, 1.2)):
        assert means["inference", "rnn_torch", cell] >= inference
        assert means["training", "rnn_torch", cell] >= training
        assert means["inference", "rnn_tf", cell] >= 1.0
        assert means["training", "rnn_tf", cell] >= 1.3


def test_what_it_says_of_xla_is_in_the_report_beside_it():
    report = json.loads((ROOT / "docs/benchmarks/benchmarks.json").read_text())
    means = {(m["measure"], m["cell"], m["contender"]): m["ratio"][0] for m in report["means"]}
    said = {
        measure: [
            f"{means[measure, cell, 'rnn_tf, XLA'] / means[measure, cell, 'keras.layers, XLA']:.2f}" for cell in CELLS
        ]
        for measure in ("inference", "training")
    }
    first, second, third = said["inference"]
    assert f"is {first}, {second} and {third} times as fast in inference, " in README
    first, second, third = said["training"]
    assert f"{first}, {second} and {third} times in training (SimpleRNN, LSTM, GRU)" in README


def layer_of(package, cell):
    from importlib import import_module

    return getattr(import_module(package), cell)(4)


def model_of(layer):
    import keras

    model = keras.Sequential([keras.Input((3, 2)), layer])
    model.compile("sgd", "mse")
    return model


LAYERS = [(package, cell) for package in ("keras.layers", "rnn_tf") for cell in ("SimpleRNN", "LSTM", "GRU")]


@pytest.mark.parametrize(("package", "cell"), LAYERS)
def test_keras_leaves_xla_off_without_a_gpu(package, cell, monkeypatch):
    tf = pytest.importorskip("tensorflow")
    assert "On a machine without a GPU `Model.compile` in Keras leaves XLA off" in README
    cpu = tf.config.list_physical_devices("CPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [] if kind == "GPU" else cpu)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [] if kind == "GPU" else cpu)
    assert model_of(layer_of(package, cell)).jit_compile is False


@pytest.mark.parametrize(("package", "cell"), LAYERS)
def test_keras_turns_xla_on_with_a_gpu_but_for_layers_that_run_in_cudnn(package, cell, monkeypatch):
    """The rule is Keras's, and is asked for here with a GPU that is none."""
    tf = pytest.importorskip("tensorflow")
    assert "`keras.layers.LSTM` or `GRU` runs without it on a GPU, in cuDNN" in " ".join(README.split())
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    in_cudnn = package == "keras.layers" and cell != "SimpleRNN"
    model = model_of(layer_of(package, cell))  # built before, for nothing can run on that GPU
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu])
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [gpu])
    if in_cudnn:
        monkeypatch.setattr(model.layers[0], "supports_jit", layer_of(package, cell).supports_jit)
    model.compile("sgd", "mse")
    assert model.jit_compile is not in_cudnn


def test_the_benchmark_runs_what_users_of_fit_get(monkeypatch):
    """`Model.fit` and the contenders that are not called XLA: graphs, and none of them compiled."""
    tf = pytest.importorskip("tensorflow")
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    import numpy as np

    from rnn_common import twins
    from rnn_common.parity.case import make_case
    from rnn_common.weights import initialise

    made = []
    function = tf.function

    def recorded(*arguments, **options):
        made.append(options.get("jit_compile"))
        return function(*arguments, **options)

    twin = twins.get("tf")
    parameters = initialise("LSTM", 2, 4, dtype="float32")
    case = make_case(parameters, np.ones((5, 3, 2)))
    model = model_of(layer_of("keras.layers", "LSTM"))
    monkeypatch.setattr(tf, "function", recorded)
    model.fit(np.ones((5, 3, 2)), np.ones((5, 4)), verbose=0)
    by_fit, made = made, []
    for builtin in (False, True):
        layer = twin.make(parameters, builtin=builtin)
        for make in (twin.inference, twin.training_step):
            make(layer, case)()
            make(layer, case, compiled=True)
    assert by_fit
    assert not any(by_fit)
    assert len(made) == 8
    assert not any(made[::2])
    assert all(made[1::2])


CELLS = ("SimpleRNN", "LSTM", "GRU")


def test_what_it_says_of_gradients_is_in_the_report_beside_it():
    report = json.loads((ROOT / "docs/training/gradients.json").read_text())
    assert all(row["agreement"] < row["bound"] for row in report["rows"])
    flows = {
        (row["cell"], row["scale"], row["when"]): dict(
            zip(row["lags"], zip(row["gradients"], row["jacobians"], strict=True), strict=True)
        )
        for row in report["rows"]
        if row["by"] == "oracle"
    }
    start, end = "at initialisation", "after training"

    def left(cell, scale, when, lag=50):
        return flows[cell, scale, when][lag][0]

    assert 1e-9 < left("SimpleRNN", 0.7, end) < left("SimpleRNN", 0.7, start) < 5e-9
    assert max(norm for _, norm in flows["SimpleRNN", 0.7, start].values()) < 1
    assert left("SimpleRNN", 2, start) == pytest.approx(500, rel=0.05)
    assert left("SimpleRNN", 2, end) == pytest.approx(70, rel=0.05)
    assert left("LSTM", 1, end, 8) == pytest.approx(1 / 6, rel=0.05)
    assert min(left("LSTM", 1, end, lag) for lag in flows["LSTM", 1, end]) > 0.15
    assert left("LSTM", 1, end) == pytest.approx(1 / 4, rel=0.05)
    assert left("LSTM", 1, start) == pytest.approx(1 / 60, rel=0.05)
    assert left("GRU", 1, start) == pytest.approx(left("GRU", 1, end), rel=0.1) == pytest.approx(1.5e-7, rel=0.1)
    clipped, free = report["clipping"]
    assert clipped["clip_norm"] == 0.25
    assert sum(clipped["losses"][-30:]) / 30 == pytest.approx(
        1 / 6 / 3, rel=0.1
    )  # 1/6: of the sum of two uniform numbers
    assert free["losses"][-1] > 1e100


def between(name):
    return README.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]


TRAININGS = re.findall(r"<!-- training (\S+) -->", README)


def test_every_task_has_its_table():
    from rnn_common.tasks import TASKS

    assert set(TASKS) <= set(TRAININGS)


@pytest.mark.parametrize("name", TRAININGS)
def test_its_tables_of_tasks_are_those_of_the_reports_beside_it(name):
    from rnn_common.reports import tables
    from rnn_common.tasks.translation import PUBLISHED

    found = json.loads((ROOT / f"docs/training/{name}.json").read_text())
    assert between(f"training {name}") == tables.markdown(found)
    scores = {
        (problem["name"], row["framework"], row["cell"]): {m: s["mean"] for m, s in row["scores"].items()}
        for problem in found["problems"]
        for row in problem["rows"]
    }
    assert {framework for _, framework, _ in scores} == {"torch", "tf"}
    assert {cell for _, _, cell in scores} == set(CELLS)
    for (problem, framework, cell), measured in scores.items():
        if name == "speech" and cell != "SimpleRNN":
            assert measured["accuracy"] >= 0.96
        if name == "text":
            ngrams = found["problems"][0]["baselines"].values()
            margin = 1 if cell == "SimpleRNN" else 0.95
            assert measured["bits per character"] < margin * min(s["bits per character"] for s in ngrams)
        if name == "translation-full" and cell != "SimpleRNN":
            for rates in (
                *found["problems"][0]["baselines"].values(),
                PUBLISHED["Yao & Zweig 2015, encoder–decoder LSTM"],
            ):
                assert all(measured[name] < rate for name, rate in rates.items())
        if name == "adding" and cell != "SimpleRNN":
            assert measured["mean squared error"] < 0.2 * scores[problem, framework, "SimpleRNN"]["mean squared error"]
        if name.startswith("copying") and cell != "SimpleRNN":
            assert measured["symbols right"] > 0.9 > scores[problem, framework, "SimpleRNN"]["symbols right"]


def test_its_lockstep_is_that_of_the_report_beside_it():
    pytest.importorskip("torch")
    from rnn_common.parity import lockstep

    found = json.loads((ROOT / "docs/training/lockstep.json").read_text())
    assert between("lockstep") == lockstep.markdown(found)
    assert found["updates"] == 1000
    assert all(lockstep.holds(row) for row in found["rows"] if row["dtype"] == "float64")


def test_the_files_it_links_to_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_its_commands_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    for command in re.findall(r"^    make (\w+)", README, re.M):
        assert command in targets


@pytest.mark.parametrize("module", ["rnn_torch.layers", "rnn_tf.layers"])
def test_the_examples_in_docstrings(module):
    """Each layer's docstring has an example; run as a doctest."""
    import doctest
    import importlib

    pytest.importorskip("torch" if "torch" in module else "tensorflow")
    found = importlib.import_module(module)
    scope = {"torch": __import__("torch")} if "torch" in module else {"keras": __import__("keras")}
    result = doctest.testmod(found, extraglobs=scope)
    assert result.attempted >= 9
    assert result.failed == 0
