"""The README and the pages of docs/: examples run, figures are those of the reports, and what is named or linked exists."""

import json
import re
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from statistics import median

import pytest

from rnn_common import differences
from rnn_common.cells import IN_BOTH

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS)
}
README, BENCHMARKS, TASKS, TRAINING = (
    PAGES[name] for name in ("README.md", "docs/benchmarks.md", "docs/tasks.md", "docs/training.md")
)
EXAMPLES = [
    (name, example) for name, page in PAGES.items() for example in re.findall(r"```python\n(.*?)```", page, re.S)
]


def prose(page):
    """A page in one line."""
    return " ".join(page.split())


def between(page, name):
    """What stands between a page's marks of that name."""
    return page.split(f"<!-- {name} -->\n")[1].split(f"<!-- /{name} -->")[0]


def without_code(page):
    """A page without its blocks of code, indented ones too."""
    return re.sub(r"^    .*$", "", re.sub(r"^```.*?^```$", "", page, flags=re.S | re.M), flags=re.M)


# Examples, names, links


@pytest.mark.parametrize(("page", "example"), EXAMPLES, ids=[f"{page} {i}" for i, (page, _) in enumerate(EXAMPLES)])
def test_example(page, example):
    for package in ("torch", "keras", "aeon"):
        if package in example or (package == "aeon" and "vowels" in example):
            pytest.importorskip(package)
    namespace = {"__name__": "example"}
    if page == "docs/own-cell.md":  # one program, told in parts
        for before in [text for name, text in EXAMPLES if name == page]:
            exec(compile(before, page, "exec"), namespace)
        return
    exec(compile(example, page, "exec"), namespace)


def test_there_are_examples():
    pages = [page for page, _ in EXAMPLES]
    assert pages.count("README.md") >= 2
    assert {"docs/data.md", "docs/drop-in.md", "docs/porting.md", "docs/training.md"} <= set(pages)
    assert pages.count("docs/drop-in.md") >= 3


def test_the_readme_is_short_and_asks_nobody_to_type_the_shared_package():
    assert len(README.splitlines()) <= 200
    assert "rnn_common" not in README


def test_every_page_is_linked_from_the_readme():
    targets = set(re.findall(r"\]\(([^)#]+)", README))
    assert {name for name in PAGES if name != "README.md"} <= targets


def anchors(page):
    """What can be linked to in a page: its headings, by GitHub's rule, and what has an id."""
    text = re.sub(r"^```.*?^```$", "", page, flags=re.S | re.M)
    found = set(re.findall(r'<a id="([^"]+)"></a>', text))
    for heading in re.findall(r"^#+ (.*)$", text, re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_relative_links_and_anchors(name):
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(PAGES[name])):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), link
        assert path.resolve().is_relative_to(ROOT.resolve()), link
        if anchor:
            assert anchor in anchors(path.read_text()), link


def test_anchors_are_githubs():
    page = "# Where the two differ\n## `speech`: which of nine?\n```text\n# no heading\n```\n## A, b – c\n## A, b – c\n"
    page += '| <a id="forget-bias"></a>forget bias | 1 |\n'
    assert anchors(page) == {"where-the-two-differ", "speech-which-of-nine", "a-b--c", "a-b--c-1", "forget-bias"}


@pytest.mark.parametrize("name", PAGES)
def test_the_files_it_names_exist(name):
    """In code marks: what has a folder and an ending that are this repository's."""
    for path in re.findall(r"`([\w./-]+/[\w-]+\.(?:py|md|json|svg|txt|toml))`", without_code(PAGES[name])):
        places = (ROOT, ROOT / "src", (ROOT / name).parent)
        assert any((place / path).exists() for place in places), path


@pytest.mark.parametrize("name", PAGES)
def test_the_tests_it_names_exist(name):
    defined = {
        test
        for path in (ROOT / "tests").rglob("test_*.py")
        for test in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    for test in re.findall(r"`(test_\w+)`", without_code(PAGES[name])):
        assert test in defined


@pytest.mark.parametrize("name", PAGES)
def test_its_commands_exist(name):
    pytest.importorskip("typer")
    from typer.main import get_command

    from rnn_common.cli.app import app

    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    commands = {*get_command(app).commands, "bench"}  # `bench` is what rnn_benchmarks adds
    for command in re.findall(r"(?:^    |`)make (\w+)", PAGES[name], re.M):
        assert command in targets
    for command in re.findall(r"(?:^    |`|bin/)rnn-parity (\w+)", PAGES[name], re.M):
        assert command in commands


def test_the_rooms_it_names_exist():
    house = PAGES["docs/layout.md"]
    for room in ("cells", "weights", "equations", "twins", "parity/", "data/", "cli/"):
        assert f"\n      {room}" in house
        assert (ROOT / "src/common" / room).is_dir() or (ROOT / "src/common" / f"{room}.py").is_file()
    for twin in ("rnn_torch", "rnn_tf"):
        rooms = {path.stem for path in (ROOT / "src" / twin).glob("*.py")} - {"__init__"}
        named = house.split("src/rnn_torch/")[1]
        assert rooms <= set(re.findall(r"\w+", named))


def test_what_the_readme_shows_of_compare_is_part_of_what_parity_shows():
    first, whole = (
        re.search(r"```text\n(vowels.*?)```", page, re.S)[1].splitlines() for page in (README, PAGES["docs/parity.md"])
    )
    lines = iter(whole)
    assert all(line in lines for line in first if line.strip() not in ("", "…"))


def test_its_bounds_are_those_of_the_contract():
    from rnn_common.parity.contract import FEW_UNITS, GRADIENT_BOUND, OUTPUT_BOUND

    assert (OUTPUT_BOUND, GRADIENT_BOUND, FEW_UNITS) == (1e-13, 1e-12, 4)
    for name in ("docs/parity.md", "CONTRIBUTING.md"):
        assert "1e-13 for outputs and states and 1e-12 for gradients" in prose(PAGES[name])
        assert "four units in the last place" in prose(PAGES[name])


def test_the_version_of_the_changelog_is_the_packages():
    from rnn_common import __version__ as version

    assert re.findall(r"^## (\S+)", PAGES["CHANGELOG.md"], re.M)[0] == version


# Differences


def test_the_table_of_differences_is_that_of_its_rows():
    page = PAGES["docs/differences.md"]
    assert between(page, "rows") == differences.table(), "`make docs` writes it again"
    assert differences.page(page) == page
    assert len(differences.ROWS) >= 40
    assert page.count("\n| <a id=") == len(differences.ROWS)


def test_the_tests_that_differences_name_exist():
    """Each row names at least one, and each in `tests/parity/test_differences.py` is named by a row."""
    shown = set()
    for row in differences.ROWS:
        defined = re.findall(r"^def (test_\w+)", (ROOT / row.file).read_text(), re.M)
        assert row.tests, row.key
        for name in row.tests:
            matching = {test for test in defined if fnmatchcase(test, name)}
            assert matching, name
            shown |= {(row.file, test) for test in matching}
    file = "tests/parity/test_differences.py"
    for test in re.findall(r"^def (test_\w+)", (ROOT / file).read_text(), re.M):
        assert (file, test) in shown, test


def test_rows_of_differences_can_be_linked_to():
    ids = [row.id for row in differences.ROWS]
    assert len(set(ids)) == len(ids)
    for row in differences.ROWS:
        assert re.fullmatch(r"[a-z0-9_]+( [a-z0-9_]+){0,2}", row.key)
        assert not any(
            character in field for field in (row.what, row.torch, row.keras, row.porting) for character in "|\n"
        )
        assert differences.row(row.key) is row
        page, _, anchor = differences.anchor(row.key).partition("#")
        assert anchor in anchors(PAGES[page])
    assert differences.anchor("forget bias") == "docs/differences.md#forget-bias"
    groups = [group for group, _ in groupby(row.group for row in differences.ROWS)]
    assert len(set(groups)) == len(groups)


def test_a_row_that_is_not_there_is_refused():
    for call in (differences.row, differences.anchor):
        with pytest.raises(ValueError, match=r"key should be one of gates, biases, .*, got 'gate'; did you mean gates"):
            call("gate")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("no table", 0),
        ("<!-- rows -->\nnever closed", 0),
        ("<!-- rows -->\n<!-- /rows -->\n" * 2, 2),
    ],
)
def test_a_page_without_its_place_for_the_rows_is_refused(text, pairs):
    with pytest.raises(ValueError, match=f"text should have <!-- rows --> and <!-- /rows --> once, got {pairs} pairs"):
        differences.page(text)


# Benchmarks


def measured(name="benchmarks"):
    """The report, its figures those at the most threads alone."""
    pytest.importorskip("scipy")
    from rnn_benchmarks import comparing
    from rnn_benchmarks.report import Report

    report = Report.from_dict(comparing.load(ROOT / f"docs/benchmarks/{name}.json"))
    most = max(report.settings.threads)
    rows, means = ([each for each in part if each.threads == most] for part in (report.rows, report.means))
    return report, rows, means


def means_table(found, ratio, packages=("rnn_torch", "rnn_tf")):
    """The geometric means in Markdown, as the README shows them."""
    means = {(mean.contender, mean.measure, mean.cell): ratio(mean.ratio) for mean in found}
    lines = ["| | " + " | ".join(IN_BOTH) + " |\n| --- |" + " ---: |" * len(IN_BOTH)]
    for package in packages:
        for measure in ("inference", "training"):
            lines.append(
                f"| `{package}`, {measure} | " + " | ".join(means[package, measure, c] for c in IN_BOTH) + " |"
            )
    return "\n".join(lines) + "\n"


def test_its_benchmarks_are_those_of_the_report_beside_it():
    report, _, means = measured()
    from rnn_benchmarks import tables, words
    from rnn_benchmarks.settings import Settings
    from rnn_benchmarks.workloads import QUOTED

    assert report.passed is True
    assert report.stopped is None
    assert between(BENCHMARKS, "benchmarks") == tables.summary(report)
    assert not report.environment["commit"].endswith("-dirty")
    assert report.settings.workloads == Settings().workloads
    assert report.settings.threads == Settings().threads
    assert report.settings.quoted == list(report.settings.workloads[:6]) == list(QUOTED)
    assert between(README, "means") == means_table(means, words.ratio)
    assert "over six published workloads, in float32 on two cores of an AMD EPYC" in prose(README)
    found = report.environment
    assert (len(report.settings.quoted), report.settings.dtype) == (6, "float32")
    assert (found["processor"], found["cores"]) == ("AMD EPYC", 2)
    # The floors below which an engine would be a step back.
    ratios = {(mean.measure, mean.contender, mean.cell): mean.ratio.value for mean in means}
    for cell, inference, training in (("SimpleRNN", 1.3, 1.7), ("LSTM", 1.0, 1.1), ("GRU", 1.5, 1.9)):
        assert ratios["inference", "rnn_torch", cell] >= inference
        assert ratios["training", "rnn_torch", cell] >= training
        assert ratios["inference", "rnn_tf", cell] >= 1.5
        assert ratios["training", "rnn_tf", cell] >= 2.0


def test_what_it_says_of_a_gpu_is_in_the_report_beside_it():
    report, rows, means = measured("h200")
    from rnn_benchmarks import words

    assert (report.settings.device, *report.environment["device"].values()) == ("cuda", "NVIDIA H200")
    assert report.passed
    assert between(BENCHMARKS, "h200") == means_table(means, words.ratio, ("rnn_torch",))
    found = [mean.ratio.value for mean in means if mean.contender == "rnn_torch"]
    assert f"{min(found):.2f} to {max(found):.2f} of its speed" in prose(README)
    ours = [row for row in rows if row.contender == "rnn_torch"]
    ratios = [row.ratio.value for row in ours]
    assert f"up to {1 / min(ratios):.1f} times as slow" in prose(BENCHMARKS)
    ragged = [row.ratio.value for row in ours if row.workload == "ragged-600x1"]
    assert f"{min(ragged):.2f} to {max(ragged):.2f} on `ragged-600x1`" in prose(BENCHMARKS)
    theirs = {(row.measure, row.cell, row.workload): row.median for row in rows if row.contender == "torch.nn"}

    def around(measure):
        """In milliseconds."""
        return 1e3 * median(r.median - theirs[measure, r.cell, r.workload] for r in ours if r.measure == measure)

    said = f"{around('inference'):.2f} ms a call in inference and {around('training'):.1f} ms a training step"
    assert said in prose(BENCHMARKS)


def test_what_it_says_of_the_slower_ones_is_in_the_report_beside_it():
    report, rows, _ = measured()
    ours = [row for row in report.rows if row.contender in ("rnn_torch", "rnn_tf") and row.ratio]
    assert [row for row in ours if row.ratio.high < 1] == []
    assert "On one thread as on two, none of 96 rows is slower than the built-in layer beyond its interval" in prose(
        BENCHMARKS
    )
    assert len(ours) == 2 * 96

    def ragged(contender):
        found = [row.ratio.value for row in rows if row.contender == contender and row.workload == "ragged-600x1"]
        return f"{min(found):.0f} to {max(found):.0f} times as fast as"

    assert f"runs {ragged('rnn_torch')} PyTorch's packed sequences" in prose(BENCHMARKS)
    assert f"and {ragged('rnn_tf')} Keras's with a mask" in prose(BENCHMARKS)


def test_its_benchmarks_say_how_they_are_measured():
    pytest.importorskip("scipy")
    from rnn_benchmarks import tables

    assert prose(between(BENCHMARKS, "method")) == prose(tables.method())


def test_what_it_says_of_xla_is_in_the_report_beside_it():
    _, _, found = measured()
    means = {(m.measure, m.cell, m.contender): m.ratio.value for m in found}
    said = {
        measure: [
            f"{means[measure, cell, 'rnn_tf, XLA'] / means[measure, cell, 'keras.layers, XLA']:.2f}" for cell in IN_BOTH
        ]
        for measure in ("inference", "training")
    }
    first, second, third = said["inference"]
    assert f"is {first}, {second} and {third} times as fast in inference, " in prose(BENCHMARKS)
    first, second, third = said["training"]
    assert f"{first}, {second} and {third} times in training (SimpleRNN, LSTM, GRU)" in prose(BENCHMARKS)


def test_what_it_says_of_memory_is_in_the_report_beside_it():
    _, rows, _ = measured()
    peaks = {(row.measure, row.cell, row.contender, row.workload): row.memory for row in rows if row.memory}

    ratios = [
        peak / peaks[measure, cell, builtin, workload]
        for (measure, cell, contender, workload), peak in peaks.items()
        for package, builtin in (("rnn_torch", "torch.nn"), ("rnn_tf", "keras.layers"))
        if contender == package and (measure, cell, builtin, workload) in peaks
    ]
    assert len(ratios) == 96
    assert max(ratios) < 1
    assert f"on each of the eight workloads: by at most {max(ratios):.2f} times as much" in prose(BENCHMARKS)
    assert "On two threads neither package needs more memory than the layers that it replaces" in prose(README)


def layer_of(package, cell):
    from importlib import import_module

    return getattr(import_module(package), cell)(4)


def model_of(layer):
    import keras

    model = keras.Sequential([keras.Input((3, 2)), layer])
    model.compile("sgd", "mse")
    return model


LAYERS = [(package, cell) for package in ("keras.layers", "rnn_tf") for cell in IN_BOTH]


@pytest.mark.parametrize(("package", "cell"), LAYERS)
def test_keras_leaves_xla_off_without_a_gpu(package, cell, monkeypatch):
    tf = pytest.importorskip("tensorflow")
    assert "On a machine without a GPU `Model.compile` in Keras leaves XLA off" in prose(BENCHMARKS)
    cpu = tf.config.list_physical_devices("CPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [] if kind == "GPU" else cpu)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [] if kind == "GPU" else cpu)
    assert model_of(layer_of(package, cell)).jit_compile is False


@pytest.mark.parametrize(("package", "cell"), LAYERS)
def test_keras_turns_xla_on_with_a_gpu_but_for_layers_that_run_in_cudnn(package, cell, monkeypatch):
    """The rule is Keras's, and is asked for here with a GPU that is none."""
    tf = pytest.importorskip("tensorflow")
    assert "`keras.layers.LSTM` or `GRU`, or with any of ours but" in prose(BENCHMARKS)
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    in_cudnn = package == "rnn_tf" or cell != "SimpleRNN"
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
    twin.training_step(twin.make(parameters), case)()  # the kernels make their graphs at first use
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


# Training


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


TRAININGS = re.findall(r"<!-- training (\S+) -->", TASKS)


def test_every_task_has_its_table():
    from rnn_common.tasks import TASKS as KNOWN

    assert set(KNOWN) <= set(TRAININGS)


@pytest.mark.parametrize("name", TRAININGS)
def test_its_tables_of_tasks_are_those_of_the_reports_beside_it(name):
    from rnn_common.reports import tables
    from rnn_common.tasks.translation import PUBLISHED

    found = json.loads((ROOT / f"docs/training/{name}.json").read_text())
    assert between(TASKS, f"training {name}") == tables.markdown(found)
    scores = {
        (problem["name"], row["framework"], row["cell"]): {m: s["mean"] for m, s in row["scores"].items()}
        for problem in found["problems"]
        for row in problem["rows"]
    }
    assert {framework for _, framework, _ in scores} == {"torch", "tf"}
    assert {cell for _, _, cell in scores} == set(IN_BOTH)
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
    assert between(TRAINING, "lockstep") == lockstep.markdown(found)
    assert found["updates"] == 1000
    assert all(lockstep.holds(row) for row in found["rows"] if row["dtype"] == "float64")


# The README's table of tasks: of each report its last problem, which is the longest, and its first measure.
SHOWN = {
    "speech": "`speech`: which of nine speakers",
    "text": "`text`: the next character",
    "names": "`names`: the language of a surname",
    "translation-full": "`translation`: spelling to pronunciation",
    "series": "`series`: a year of CO₂, in weeks",
    "adding": "`adding`: two numbers of 400",
    "copying-full": "`copying`: two symbols, 400 steps later",
}


def tasks_table():
    """Every task's figures in Markdown, as the README shows them: both packages, and the best baseline."""
    from rnn_common.reports import tables

    lines = ["| | measure | SimpleRNN | LSTM | GRU | best baseline |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    for name, label in SHOWN.items():
        problem = json.loads((ROOT / f"docs/training/{name}.json").read_text())["problems"][-1]
        measure, lower = next(iter(problem["lower is better"].items()))
        scores = {(row["framework"], row["cell"]): row["scores"][measure]["mean"] for row in problem["rows"]}
        best = (min if lower else max)(baseline[measure] for baseline in problem["baselines"].values())
        cells = [
            " / ".join(tables.number(scores[framework, cell]) for framework in ("torch", "tf")) for cell in IN_BOTH
        ]
        figures = [label, f"{measure} {'↓' if lower else '↑'}", *cells, tables.number(best)]
        lines.append("| " + " | ".join(figures) + " |")
    return "\n".join(lines) + "\n"


def margins(name):
    """By how much LSTM and GRU are better than the best baseline, in either framework."""
    problem = json.loads((ROOT / f"docs/training/{name}.json").read_text())["problems"][-1]
    measure, lower = next(iter(problem["lower is better"].items()))
    sign = -1 if lower else 1
    best = max(sign * baseline[measure] for baseline in problem["baselines"].values())
    return [sign * row["scores"][measure]["mean"] - best for row in problem["rows"] if row["cell"] != "SimpleRNN"]


def test_the_readmes_table_of_tasks_is_that_of_the_reports():
    from rnn_common.tasks import TASKS as KNOWN

    assert between(README, "tasks") == tasks_table()
    assert {name.removesuffix("-full") for name in SHOWN} == set(KNOWN)
    better = {name for name in SHOWN if all(gap > 0 for gap in margins(name))}
    worse = {name for name in SHOWN if all(gap < 0 for gap in margins(name))}
    assert better == {"text", "translation-full", "adding", "copying-full"}
    assert worse == {"names", "series"}
    assert max(map(abs, margins("speech"))) < 0.005


# Docstrings


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
