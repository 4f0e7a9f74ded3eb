"""The benchmarks: their arithmetic against known answers, their contenders against the oracle, their reports."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from rnn_benchmarks import comparing, comparison, contenders, rounds, runs, tables, timing
from rnn_benchmarks.contenders import BUILTIN, CONTENDERS, everybody
from rnn_benchmarks.report import Report
from rnn_benchmarks.runner import Conditions, Contender
from rnn_benchmarks.settings import Settings
from rnn_benchmarks.workloads import DEFAULT, SWEEPS, WORKLOADS, Workload, sweep
from rnn_common import twins
from rnn_common.cells import IN_BOTH
from rnn_common.parity.case import run_oracle

ROOT = Path(__file__).parents[2]
TINY = Workload("tiny", 3, 6, 4, 5, "")


# Arithmetic


def test_a_ratio_without_noise_has_no_width():
    ours = np.linspace(1, 2, 11)
    assert timing.paired_ratio(3 * ours, ours) == pytest.approx((3, 3, 3))


def test_a_ratio_is_the_median_of_the_pairs():
    """Not the ratio of the medians: a slow round slows both."""
    found = timing.paired_ratio(np.array([2.0, 40.0, 3.0]), np.array([1.0, 10.0, 1.0]))
    assert found.value == pytest.approx(3.0)


def test_the_interval_of_a_ratio_covers_the_truth():
    """95 % of the intervals of a noisy ratio hold its true median; over 200 of them, more than 88 %, and not all."""
    random = np.random.default_rng(0)
    hits = 0
    for i in range(200):
        rival, ours = 2 * random.lognormal(0, 0.1, 25), random.lognormal(0, 0.1, 25)
        found = timing.paired_ratio(rival, ours, seed=i)
        hits += found.low <= 2 <= found.high
    assert 0.88 < hits / 200 < 1


def test_an_interval_narrows_with_the_square_root_of_the_rounds():
    random = np.random.default_rng(0)
    few, many = (timing.paired_ratio(random.lognormal(0, 0.1, n), np.ones(n)) for n in (50, 5000))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(10, rel=0.4)


def test_one_round_has_no_interval():
    found = timing.paired_ratio(np.array([2.0]), np.array([1.0]))
    assert found.value == 2.0
    assert np.isnan([found.low, found.high]).all()


def test_the_geometric_mean():
    found = timing.geometric_mean([np.full(9, 2.0), np.full(7, 8.0), np.array([1, 4, 100.0])])
    assert found.value == pytest.approx(4.0)  # of 2, 8 and the median 4
    assert found.low <= 4 <= found.high


def test_growth_of_a_power():
    sizes = [1, 2, 4, 8]
    assert timing.growth(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx((1.5, 1.5, 1.5))


def test_growth_with_noise():
    """By hand: logarithms (base 2) 0, 1, 2 and 0, 2, 3. Slope 3/2, residuals −1/6, 1/3, −1/6, one degree of freedom."""
    found = timing.growth([1, 2, 4], [1, 4, 8])
    margin = 12.706204736 * np.sqrt(1 / 6 / 2)
    assert found == pytest.approx((1.5, 1.5 - margin, 1.5 + margin))
    with pytest.raises(ValueError, match="sizes should number at least 3 to have an interval, got 2"):
        timing.growth([1, 2], [1, 2])


def test_operations():
    """Counted: a product of (m, k) and (k, n) takes 2 m k n."""
    workload = Workload("", batch=2, time=3, input=5, hidden=7, source="")
    x, h = 2 * 2 * 5 * 7, 2 * 2 * 7 * 7  # of one gate and step
    assert timing.operations(workload, "SimpleRNN", "inference") == 3 * (x + h)
    assert timing.operations(workload, "LSTM", "inference") == 3 * 4 * (x + h)
    assert timing.operations(workload, "GRU", "training") == 3 * 3 * (2 * x + 3 * h)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's figures")
def test_peak_memory():
    size = 2**26

    def peak():
        first = np.ones(size // 8)
        del first
        return np.ones(size // 16)  # smaller: the peak is behind

    for _ in range(2):
        assert timing.peak_memory(peak) == pytest.approx(size, rel=0.03)
    assert timing.peak_memory(lambda: None) < 2**21


def test_peak_memory_where_the_system_does_not_say(monkeypatch):
    monkeypatch.setattr(timing, "Path", lambda name: Path("/nowhere") / name.strip("/"))
    assert timing.peak_memory(lambda: None) is None


def test_numbers_that_bfloat16_holds():
    case = comparison.case_of(TINY, "GRU", Settings(dtype="bfloat16"))
    for array in (case.x, case.d_outputs, *case.state, *case.d_final, *case.parameters.values()):
        assert array.dtype == np.float32
        assert not (array.view(np.uint32) & 0xFFFF).any()
    exact = comparison.case_of(TINY, "GRU", Settings())
    assert np.abs(case.x - exact.x).max() <= 2.0**-7 * np.abs(exact.x).max()


# Workloads


def test_the_published_workloads_are_there():
    sizes = {(w.batch, w.time, w.input, w.hidden) for w in WORKLOADS.values()}
    published = {
        (64, 100, 123, 320),
        (16, 25, 512, 512),
        (64, 25, 1024, 1024),
        (16, 150, 256, 256),
        (16, 50, 1760, 1760),
    }
    published |= {
        (32, 1500, 1024, 1024),
        (32, 187, 2816, 2816),
        (1, 25, 512, 512),
        (2, 150, 256, 256),
        (1, 187, 1536, 1536),
    }
    published |= {(16, 1024, 768, 768)} | {(b, 50, w, w) for b in (1, 32, 64, 128) for w in (64, 128, 256, 512)}
    assert published <= sizes
    assert set(DEFAULT) <= set(WORKLOADS)
    assert all(workload.source for workload in WORKLOADS.values())


@pytest.mark.parametrize("variable", SWEEPS)
def test_a_sweep_changes_one_size(variable):
    found = [(w.batch, w.time, w.input, w.hidden) for w in sweep(variable).values()]
    changed = {"batch": [0], "time": [1], "width": [2, 3]}[variable]
    for i in range(4):
        assert len({sizes[i] for sizes in found}) == (len(found) if i in changed else 1)


# Contenders


ENGINES = [f"{ours} {engine}" for ours in ("rnn_torch", "rnn_tf") for engine in ("reference", "fused")]


def present(name):
    """A contender; our engines by name are known to the twins."""
    framework = contenders.framework_of(name)
    if framework not in twins.installed():
        pytest.skip(f"{framework} is not installed")
    contender = next(each for each in everybody([twins.get(framework)]) if each.name == name)
    if why := contender.absent():
        pytest.skip(why)
    return contender


names = pytest.mark.parametrize("name", [*(contender.name for contender in CONTENDERS), *ENGINES])


@names
@pytest.mark.parametrize("cell", IN_BOTH)
@pytest.mark.parametrize("measure", ["inference", "training"])
def test_every_contender_is_right(name, cell, measure):
    contender = present(name)
    if cell not in contender.cells or measure not in contender.measures:
        pytest.skip("does not take part")
    case = comparison.case_of(TINY, cell, Settings())
    runner = contender.prepare(case, Conditions())
    returned = (runner.inference() if measure == "inference" else runner.training())()
    comparison.check(runner, returned, measure, run_oracle(case), "float32")


def test_the_gradient_that_tensorflow_registers_for_its_block_kernel_is_wrong():
    """With one step, where nothing else can go wrong: those of forget gate and candidate, and of these alone."""
    contender = present("BlockLSTMV2")
    case = comparison.case_of(Workload("", 2, 1, 3, 4, ""), "LSTM", Settings())
    runner, oracle = contender.prepare(case, Conditions()), run_oracle(case)
    returned = runner.training()()
    with pytest.raises(ArithmeticError, match="deviate from the oracle"):
        comparison.check(runner, returned, "training", oracle, "float32")
    found, expected = runner.gradients(returned), oracle.result.gradients
    wrong = {name for name in found if not np.allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)}
    assert wrong == {"W_if", "W_hf", "b_f", "W_ic", "W_hc", "b_c"}


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", ["torch.nn", "rnn_torch", "keras.layers", "rnn_tf"])
def test_other_dtypes(name, dtype):
    case = comparison.case_of(TINY, "LSTM", Settings(dtype=dtype))
    runner = present(name).prepare(case, Conditions(dtype=dtype))
    oracle = run_oracle(case)
    comparison.check(runner, runner.inference()(), "inference", oracle, dtype)
    comparison.check(runner, runner.training()(), "training", oracle, dtype)


def test_what_a_check_lets_pass():
    contender = present("torch.nn")
    case = comparison.case_of(TINY, "LSTM", Settings())
    runner, oracle = contender.prepare(case, Conditions()), run_oracle(case)
    returned = runner.inference()()
    comparison.check(runner, returned, "inference", oracle, "float32")
    with pytest.raises(ArithmeticError, match="outputs deviate from the oracle by"):
        comparison.check(runner, returned * (1 + 1e-3), "inference", oracle, "float32")
    with pytest.raises(ArithmeticError, match="by inf"):
        comparison.check(runner, returned * float("nan"), "inference", oracle, "float32")
    comparison.check(runner, returned * (1 + 1e-3), "inference", oracle, "tf32")
    with pytest.raises(ArithmeticError, match=r"by 2\.0e-02, and 1\.3e-02 is allowed"):
        comparison.check(runner, returned * (1 + 2e-2), "inference", oracle, "tf32")


# Runs


@pytest.fixture
def tiny(monkeypatch):
    """Benchmarks that take a second: one small workload, and threads left as the test process has them."""
    monkeypatch.setitem(WORKLOADS, "tiny", TINY)
    monkeypatch.setitem(WORKLOADS, "haste-32x128", TINY)  # of the self-test
    monkeypatch.setitem(SWEEPS, "time", (2, 4, 8))
    for name in twins.installed():
        monkeypatch.setattr(twins.get(name), "set_threads", lambda count: None)
    installed = {contender.name for contender in CONTENDERS if not contender.absent()}
    chosen = tuple(name for name in ("torch.nn", "rnn_torch", "keras.layers", "rnn_tf") if name in installed)
    return Settings(("tiny",), ("LSTM",), contenders=chosen, sweeps=("time",), seconds=0.01, threads=(1,))


def test_a_run(tiny, tmp_path):
    """What comes of it, in JSON, Markdown, figures and on the screen."""
    from rnn_benchmarks import plots
    from rnn_common.cli.bench import write

    seen = []
    report = runs.run(tiny, lambda what, share, left=None: seen.append(share))
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert seen == sorted(seen)
    assert {(row.contender, row.measure) for row in report.rows} == {
        (name, measure) for name in tiny.contenders for measure in ("inference", "training")
    }
    for row in report.rows:
        assert row.failed is None
        assert rounds.USUALLY <= len(row.seconds) <= rounds.ROUNDS[1]
        assert row.median == np.median(row.seconds) > 0
        assert row.ratio.low <= row.ratio.value <= row.ratio.high
        assert 0 < row.share.value < 1
        assert row.first_call >= 0
        own = row.contender in BUILTIN.values()
        assert (row.ratio == (1, 1, 1)) == own
        assert row.checked
        assert row.threads == 1
    assert {mean.contender for mean in report.means} == set(tiny.contenders) - set(BUILTIN.values())
    for mean in report.means:  # of one workload: its ratio
        row = next(r for r in report.rows if (r.contender, r.measure) == (mean.contender, mean.measure))
        assert mean.ratio.value == pytest.approx(row.ratio.value)
    assert [each.sizes for each in report.growth] == [[2, 4, 8]] * len(tiny.contenders)
    assert report.environment["threads"] == [1]
    assert [each.framework for each in report.baselines] == list(dict.fromkeys(report.contenders.values()))
    if len(report.baselines) == 2:
        assert [(each.measure, each.builtin is not None, each.ours is not None) for each in report.between] == [
            ("inference", True, True),
            ("training", True, True),
        ]
    paths = write(report, tmp_path / "new")
    assert {path.name for path in paths} == {
        "benchmarks.json",
        "benchmarks.md",
        *(
            f"{name}.{form}"
            for name in plots.NAMES
            for form in ("svg", "png")
            if name != "frameworks" or report.between
        ),
    }
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())  # and no temporary files
    written = json.loads((tmp_path / "new" / "benchmarks.json").read_text())
    assert written["settings"]["workloads"] == ["tiny"]
    assert {row["contender"] for row in written["rows"]} == set(tiny.contenders)
    text = (tmp_path / "new" / "benchmarks.md").read_text()
    assert "batch 3, time 6, input 4, hidden 5" in text
    assert all(f"| {name} | tiny |" in text for name in tiny.contenders)
    assert Report.from_dict(written) == report
    assert list(comparing.changes(written, written))
    assert not any(change.beyond_noise for change in comparing.changes(written, written))


def test_who_fails_is_reported_and_who_is_wrong_is_not_timed(tiny, monkeypatch):
    """And the others go on."""
    own = CONTENDERS[0] if "torch" in twins.installed() else present("keras.layers")
    timed = []

    class Wrong:
        def __init__(self, case, conditions):
            self.runner = own.prepare(case, conditions)

        def inference(self):
            call = self.runner.inference()
            return lambda: timed.append(1) or 1.01 * call()

        def outputs(self, returned):
            return self.runner.outputs(returned)

    def broken(case, conditions):
        raise RuntimeError("no luck\nand more of it")

    added = [Contender("wrong", own.framework, Wrong), Contender("broken", own.framework, broken)]
    monkeypatch.setattr(contenders, "CONTENDERS", [*CONTENDERS, *added])
    settings = Settings(
        ("tiny",), ("LSTM",), ("inference",), (own.name, "wrong", "broken"), (), seconds=0.01, threads=(1,)
    )
    report = runs.run(settings)
    failed = {row.contender: row.failed for row in report.rows if row.failed}
    assert failed["broken"] == "RuntimeError: no luck"
    assert failed["wrong"].startswith("ArithmeticError: outputs deviate from the oracle by 1.0e-02")
    assert len(timed) == 1
    assert [row.contender for row in report.rows if row.failed is None] == [own.name]
    lines = list(tables.failures(report))
    assert "broken, LSTM inference, on tiny: RuntimeError: no luck" in lines


def test_contenders_that_cannot_take_part(tiny, monkeypatch):
    absent = Contender("nobody", "torch", lambda *_: None, needs=("a_package_that_nobody_has",))
    fussy = Contender("fussy", "torch", lambda *_: None, dtypes=("float64",))
    monkeypatch.setattr(contenders, "CONTENDERS", [*CONTENDERS, absent, fussy])
    monkeypatch.setattr(twins, "installed", lambda: ("torch",))
    settings = Settings(contenders=("nobody", "fussy", "rnn_tf"))
    with pytest.raises(ModuleNotFoundError) as error:
        runs.run(settings)
    assert "nobody: a_package_that_nobody_has is not installed" in str(error.value)
    assert "fussy: does not take float32" in str(error.value)
    assert "rnn_tf: tf is not installed" in str(error.value)


# Comparing reports


def row(contender, ratio, measure="training"):
    return {"workload": "w", "cell": "GRU", "measure": measure, "contender": contender, "ratio": ratio, "threads": 2}


def document(*rows, **environment):
    return {"environment": environment, "settings": {}, "rows": list(rows)}


def test_what_counts_as_a_change():
    """Intervals that are more than 5 % apart, which is what two identical contenders may be."""
    old = document(*(row(name, [2.0, 1.9, 2.1]) for name in "abcd"), row("own", [1.0, 1.0, 1.0]), row("failed", None))
    new = document(
        row("a", [2.2, 2.05, 2.3]),  # overlaps
        row("b", [2.3, 2.15, 2.4]),  # 2.4 % above
        row("c", [2.4, 2.25, 2.5]),  # 7 % above
        row("d", [1.6, 1.5, 1.7]),  # 12 % below
        row("own", [1.0, 1.0, 1.0]),
        row("failed", [1.5, 1.4, 1.6]),
        row("new", [1.0, 0.9, 1.1]),
    )
    found = {change.contender: change for change in comparing.changes(old, new)}
    assert set(found) == set("abcd")
    assert {name for name, change in found.items() if change.beyond_noise} == {"c", "d"}
    assert found["c"].factor == pytest.approx(1.2)


def test_other_circumstances():
    old = document(processor="A", time="yesterday", threads=2)
    new = document(processor="B", time="today", threads=2)
    assert list(comparing.circumstances(old, new)) == [("processor", "A", "B")]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rnn_common.cli.app", "bench", *arguments], capture_output=True, text=True, cwd=ROOT
    )


def test_the_command_compare(tmp_path):
    for name, ratio in (("old", [2.0, 1.9, 2.1]), ("new", [3.0, 2.9, 3.1])):
        content = {"format": comparing.FORMAT, **document(row("ours", ratio), processor=name)}
        (tmp_path / name).write_text(json.dumps(content))
    ran = command("compare", str(tmp_path / "old"), str(tmp_path / "new"))
    assert ran.returncode == 0, ran.stderr
    assert "processor: old → new" in ran.stdout
    assert "2.00 ±0.10" in ran.stdout
    assert "1 of 1 ratios changed beyond noise." in ran.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not JSON", "should be a report in JSON"),
        (b"\xff\xfe", "should be a report in JSON"),
        (b"[]", r"should be a report in JSON: JSON should be a mapping, got \[\]"),
        (b'{"format": 2}', "should be a report of the format 'rnn-parity benchmarks 2', got 2"),
        (b'{"format": 1, "format": 2}', "'format' should be there once, got it twice"),
        (b'{"format": ' + b"[" * 980 + b"]" * 980 + b"}", "should be nested at most 16 deep"),
    ],
)
def test_files_that_are_no_report(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        comparing.load(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {}}, "report.rows should be a list, got {}"),
        ({"settings": None}, "report.settings should be a mapping, got None"),
        ({"environment": {"processor": "\x1b[2J"}}, "environment.processor should be without control characters"),
        ({"environment": {"\x1b[2J": 1}}, "a name in environment should be without control characters"),
        ({"rows": [3]}, r"rows\[0\] should be a mapping, got 3"),
        ({"rows": [{"workload": "w"}]}, r"rows\[0\].cell should be there, but it is not"),
        ({"rows": [row(None, None)]}, r"rows\[0\].contender should be a string, got None"),
        ({"rows": [row("a", [1.5, 1.4])]}, r"rows\[0\].ratio should be three numbers, got \[1.5, 1.4\]"),
        ({"rows": [row("a", 10**39)]}, r"rows\[0\].ratio should be three numbers, got 1000"),
        ({"rows": [row("a", [1.5, "1", 2])]}, r"rows\[0\].ratio should be a finite number, got '1'"),
        ({"rows": [row("a", [1.5, float("nan"), 2])]}, r"rows\[0\].ratio should be a finite number, got nan"),
        ({"rows": [row("a", [0, 0, 0])]}, r"rows\[0\].ratio should be above 0"),
        ({"rows": [row("a", [1.5, 2, 1])]}, r"rows\[0\].ratio should be above 0, and its interval in order"),
        ({"rows": [row("a", [1.5, 1, 2])] * 2}, r"rows\[1\] should be of another ratio than those before"),
    ],
)
def test_reports_of_strangers(tmp_path, changes, message):
    (tmp_path / "file").write_text(json.dumps({"format": comparing.FORMAT, **document(), **changes}))
    with pytest.raises(ValueError, match=message):
        comparing.load(tmp_path / "file")


def test_one_round_is_no_change_beyond_noise():
    """Whose ratio has no interval; not even if it is five times as large."""
    once, often = row("a", [10.0, float("nan"), float("nan")]), row("a", [2.0, 1.9, 2.1])
    for old, new in ((once, often), (often, once)):
        (change,) = comparing.changes(document(old), document(new))
        assert not change.beyond_noise


def test_markup_in_names_is_text(tmp_path):
    for name, ratio in (("old", [2.0, 1.9, 2.1]), ("new", [3.0, 2.9, 3.1])):
        content = {"format": comparing.FORMAT, **document(row("[/x]", ratio))}
        (tmp_path / name).write_text(json.dumps(content))
    ran = command("compare", str(tmp_path / "old"), str(tmp_path / "new"))
    assert ran.returncode == 0, ran.stderr
    assert "[/x], GRU training, w" in ran.stdout


# The command


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workloads": ("vast",)}, "workload should be one of braun-2018, .*got 'vast'"),
        ({"cells": ("Elman",)}, "cell should be one of SimpleRNN, LSTM, GRU, GRU v3, got 'Elman'"),
        ({"measures": ("beauty",)}, "measure should be one of inference, training, got 'beauty'"),
        ({"contenders": ("jax",)}, "contender should be one of torch.nn, .*got 'jax'"),
        ({"sweeps": ("depth",)}, "sweep should be one of time, width, batch, got 'depth'"),
        ({"dtype": "int8"}, "dtype should be one of float32, float64, bfloat16, got 'int8'"),
        ({"device": "tpu"}, "device should be one of cpu, cuda, got 'tpu'"),
        ({"threads": (0,)}, "threads should be at least 1, got 0"),
        ({"threads": ()}, "threads should be at least one, got none"),
        ({"seconds": 0}, "seconds should be above 0, got 0"),
        ({"seed": -1}, "seed should be at least 0, got -1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_bad_input_is_one_line_and_status_2(tmp_path):
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (["--cell", "Elman"], "cell should be one of SimpleRNN, LSTM, GRU, GRU v3, got 'Elman'"),
        (["--output", str(tmp_path / "file")], "output should be a folder, got the file"),
        (["compare", "absent", "absent"], "No such file or directory"),
    ):
        ran = command(*arguments)
        assert ran.returncode == 2
        assert ran.stderr.startswith("rnn-parity: ")
        assert message in ran.stderr
        assert len(ran.stderr.splitlines()) == 1


def test_the_command(tmp_path):
    """As a process of its own, on the smallest published workload: quiet, and within 80 columns."""
    arguments = ["--workload", "haste-1x64", "--cell", "GRU", "--measure", "inference", "--seconds", "0.01"]
    ran = command(*arguments, "--sweep", "none", "--threads", "1", "--output", str(tmp_path))
    assert ran.returncode in (0, 1), ran.stderr  # 1 if the machine is too busy to pass the self-test
    assert all("% " in line or "%, " in line for line in ran.stderr.splitlines()), (
        ran.stderr
    )  # of progress, once a minute
    assert "Self-test, a layer against itself, 1.00 ± 0.05" in ran.stdout
    assert max(len(line.rstrip()) for line in ran.stdout.splitlines() if not line.startswith("Written")) <= 80
    written = json.loads((tmp_path / "benchmarks.json").read_text())
    assert written["environment"]["threads"] == [1]
    assert written["environment"]["versions"]["numpy"] == np.__version__
    assert written["passed"] is (ran.returncode == 0)


def test_the_names_that_can_be_asked_for():
    ran = command("list")
    assert ran.returncode == 0
    known = everybody(twins.get(name) for name in twins.installed())
    for name in (*WORKLOADS, *(contender.name for contender in known)):
        assert name in ran.stdout
    assert all(
        f"{each.package} {engine}" in ran.stdout
        for each in map(twins.get, twins.installed())
        for engine in each.engines()
    )


def test_without_the_bench_extra():
    """Asked for as a module, which is the command by another name."""
    program = (
        "import sys; sys.modules['scipy'] = None; sys.argv = ['x']; "
        "import runpy; runpy.run_module('rnn_benchmarks', run_name='__main__')"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 2
    assert ran.stderr.splitlines() == [
        "rnn-parity: the benchmarks need the package scipy, which is not installed: pip install '.[bench]'"
    ]


@pytest.mark.gpu
def test_a_run_on_a_gpu(tiny):
    settings = Settings(
        ("tiny",), ("LSTM",), contenders=("torch.nn", "rnn_torch"), sweeps=(), device="cuda", seconds=0.01, threads=(1,)
    )
    report = runs.run(settings)
    assert all(row.failed is None and row.memory for row in report.rows)
    assert report.environment["device"]["torch"] != "cpu"
