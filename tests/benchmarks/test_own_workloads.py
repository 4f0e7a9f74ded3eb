"""One's own sizes and contenders in the benchmarks, engines by name, threads, and the time that is left."""

import math
import multiprocessing
import os
import pickle
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from rnn_benchmarks import comparison, contenders, own, plan, runs, tables
from rnn_benchmarks.contenders import BUILTIN, CONTENDERS, OURS, everybody
from rnn_benchmarks.report import Report, Row
from rnn_benchmarks.runner import Conditions, Contender
from rnn_benchmarks.settings import Settings, threads_of
from rnn_benchmarks.workloads import DEFAULT, QUOTED, WORKLOADS, Workload, least_memory, of_size, sweep
from rnn_common import twins

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_contender.py"
TINY = Workload("tiny", 3, 6, 4, 5, "")
RAGGED = Workload("ragged", 3, 6, 4, 5, "", (6, 1, 1))
OTHER = {"torch": "tf", "tf": "torch"}


@pytest.fixture
def small(monkeypatch):
    """A self-test of a small layer, and threads left as the test process has them."""
    monkeypatch.setitem(WORKLOADS, "haste-32x128", TINY)
    monkeypatch.setitem(WORKLOADS, "ragged-600x1", RAGGED)
    for name in twins.installed():
        monkeypatch.setattr(twins.get(name), "set_threads", lambda count: None)


def settings(**chosen):
    some = dict(cells=("LSTM",), measures=("training",), sweeps=(), seconds=0.001, threads=(1,), workloads=())
    return Settings(**{**some, **chosen})


# Sizes


@pytest.mark.parametrize("text", ["64x100x123x320", "64X100X123X320", "64×100×123×320", "064x100x123x320"])
def test_a_size(text):
    workload = of_size(text)
    assert (workload.batch, workload.time, workload.input, workload.hidden) == (64, 100, 123, 320)
    assert workload.name == "64x100x123x320"
    assert workload.shape == "64×100×123×320"


@pytest.mark.parametrize(
    "text", ["", "64", "64x100x123", "0x1x1x1", "1x1x1x-1", "1x1x1x1x1", "1.5x1x1x1", "axbxcxd", "1x1x1x1 "]
)
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="size should be BATCHxTIMExINPUTxHIDDEN, four whole numbers above 0") as error:
        Settings(sizes=(text,))
    assert str(error.value).endswith(f"got {text!r}")


def test_a_size_that_no_memory_holds_is_refused_before_anything_is_made():
    """Says what it would take: by hand, 8 bytes of 10¹⁵ inputs and 2 · 10¹⁵ outputs and cotangents."""
    vast = settings(sizes=("1000000x1000000x1000x1000",))
    assert least_memory(vast.own[0], "LSTM") == pytest.approx(24e15, rel=1e-6)
    message = "size should be less, got 1000000x1000000x1000x1000, which needs at least 22351742 GiB of memory where there are"
    with pytest.raises(ValueError, match=message):
        runs.prepare(vast)


@pytest.mark.parametrize("variable", ["time", "width", "batch"])
@pytest.mark.parametrize("size", ["1x1x1x1", "2x3x5x7", "64x100x123x320"])
def test_a_sweep_passes_through_ones_own_size(variable, size):
    workload = of_size(size)
    found = sweep(variable, workload)
    assert len(found) == 4
    varied = {"time": ["time"], "width": ["input", "hidden"], "batch": ["batch"]}[variable]
    same = [name for name in ("batch", "time", "input", "hidden") if name not in varied]
    assert any(all(getattr(w, n) == getattr(workload, n) for n in (*same, *varied)) for w in found.values())
    for size, each in found.items():
        assert getattr(each, varied[-1]) == size
        assert all(getattr(each, name) == getattr(workload, name) for name in same)
        assert each.input >= 1


def test_a_run_of_ones_own_size(small):
    present = tuple(name for name in BUILTIN.values() if contenders.framework_of(name) in twins.installed())[:1]
    report = runs.run(settings(sizes=("2x3x4x5", "2x3x4x5"), sweeps=("batch",), contenders=present))
    assert [workload.name for workload in report.settings.all_workloads] == ["2x3x4x5"]
    assert {row.workload for row in report.rows} == {"2x3x4x5"}
    assert all(row.median > 0 for row in report.rows)
    assert {(each.around, *each.sizes) for each in report.growth} == {("2x3x4x5", 1, 2, 4, 8)}
    assert Report.from_dict(report.as_dict()) == report


# The default set


def test_the_default_set():
    """The six that means are over first, then what users bring: one sequence at a time, and a long one with many short."""
    sizes = [(w.batch, w.time, w.input, w.hidden) for w in (WORKLOADS[name] for name in DEFAULT)]
    assert sizes[:6] == [
        (64, 100, 123, 320),
        (16, 25, 512, 512),
        (16, 150, 256, 256),
        (1, 25, 512, 512),
        (32, 50, 128, 128),
        (128, 50, 64, 64),
    ]
    assert sizes[6] == (1, 100, 64, 64)
    assert WORKLOADS[DEFAULT[7]].lengths == (600, *[1] * 299)
    assert DEFAULT[:6] == QUOTED
    assert Settings().quoted == list(QUOTED)
    assert Settings(workloads=DEFAULT[5:]).quoted == list(DEFAULT[5:])


def test_means_are_over_the_six_that_are_quoted():
    who = [each for each in CONTENDERS if each.name in ("torch.nn", "rnn_torch")]
    rows = [
        Row(
            name,
            "LSTM",
            "training",
            who,
            1,
            seconds=[1.0 if who == "rnn_torch" or name not in QUOTED else 2.0] * 3,
            median=1.0,
        )
        for name in DEFAULT
        for who in ("torch.nn", "rnn_torch")
    ]
    (mean,) = runs._means(rows, Settings(threads=(1,)), who)
    assert mean.ratio.value == pytest.approx(2)


@pytest.mark.parametrize("name", [*BUILTIN.values(), *OURS.values()])
@pytest.mark.parametrize("measure", ["inference", "training"])
def test_ragged_batches_are_right(name, measure):
    """Packed in PyTorch, padded with a mask in Keras."""
    framework = contenders.framework_of(name)
    if framework not in twins.installed():
        pytest.skip(f"{framework} is not installed")
    contender = next(each for each in CONTENDERS if each.name == name)
    case = comparison.case_of(RAGGED, "GRU", Settings())
    runner = contender.prepare(case, Conditions())
    returned = (runner.inference() if measure == "inference" else runner.training())()
    assert measure == "training" or framework == "tf" or type(returned).__name__ == "PackedSequence"
    comparison.check(runner, returned, measure, comparison.run_oracle(case), "float32")


# Engines


def test_every_engine_of_the_registry_is_a_contender(twin):
    """Beside the layer that chooses among them; whatever engines there are."""
    found = [each.name for each in everybody([twin])]
    ours = OURS[twin.name]
    at = found.index(ours)
    assert found[at + 1 : at + 1 + len(twin.engines())] == [f"{ours} {engine}" for engine in twin.engines()]
    by_default = {each.name for each in everybody([twin]) if each.by_default}
    new = {f"{ours} {engine}" for engine in twin.engines()} - {f"{ours} reference", f"{ours} fused"}
    assert {ours, *new} <= by_default


def test_an_engine_that_appears(twin, monkeypatch):
    monkeypatch.setattr(twin, "engines", lambda: ("reference", "vendor"))
    assert f"{OURS[twin.name]} vendor" in [each.name for each in everybody([twin])]


def test_an_engine_that_is_none(twin):
    with pytest.raises(ValueError, match=f"contender should be one of .*got '{twin.package} warp'"):
        runs.prepare(settings(contenders=(f"{twin.package} warp",), workloads=("haste-1x64",)))


def test_who_refuses_is_not_timed_as_another(small, twin, monkeypatch):
    """`explain` says that another engine would run it: the row says so, and that is no failure."""
    monkeypatch.setattr(twin, "explain", lambda layer, case: ("reference", {"fused": "a reason\nin two lines"}))
    name = f"{OURS[twin.name]} fused"
    report = runs.run(settings(contenders=(name, BUILTIN[twin.name]), sizes=("2x3x4x5",)))
    refused = {row.contender: row.refused for row in report.rows}
    assert refused == {BUILTIN[twin.name]: None, name: "a reason"}
    assert not next(row for row in report.rows if row.refused).timed
    assert not report.failures
    assert f"| {name} | 2x3x4x5 | refused: a reason |" in tables.markdown(report)
    assert list(tables.refusals(report)) == [f"{name}, LSTM training, on 2x3x4x5: a reason"]


def test_an_engine_refuses_a_cell_of_ones_own_that_it_does_not_run(small, twin):
    cell = f"{ROOT / 'examples' / 'peephole_lstm.py'}:PEEPHOLE_LSTM"
    ours = OURS[twin.name]
    report = runs.run(settings(contenders=(ours, f"{ours} fused"), cells=(cell,), sizes=("2x3x4x5",)))
    found = {row.contender: row for row in report.rows}
    assert found[ours].timed
    assert found[f"{ours} fused"].refused


# A contender of one's own

TORCH = """
from torch import nn
FRAMEWORK = "torch"
def contender(cell, workload):
    return nn.LSTM(workload.input, workload.hidden, batch_first=True)
def sideways(cell, workload):
    return nn.LSTM(workload.input, workload.hidden)
def of_no_weights(cell, workload):
    return lambda x: x[..., :1].expand(*x.shape[:2], workload.hidden)
def broken(cell, workload):
    raise RuntimeError("no luck")
"""
KERAS = """
import keras
FRAMEWORK = "tf"
def contender(cell, workload):
    return keras.layers.LSTM(workload.hidden, return_sequences=True)
"""


def ones_own(tmp_path, text, function=""):
    (tmp_path / "mine.py").write_text(text)
    return f"{tmp_path / 'mine.py'}{function}"


@pytest.mark.parametrize("text", [TORCH, KERAS], ids=["torch", "tf"])
@pytest.mark.parametrize(
    "workload", [{"sizes": ("2x3x4x5",)}, {"workloads": ("ragged-600x1",)}], ids=["dense", "ragged"]
)
def test_a_contender_of_ones_own(text, workload, small, tmp_path):
    framework = "torch" if text is TORCH else "tf"
    if framework not in twins.installed():
        pytest.skip(f"{framework} is not installed")
    chosen = settings(
        contenders=(ones_own(tmp_path, text), BUILTIN[framework]), measures=("inference", "training"), **workload
    )
    report = runs.run(chosen)
    mine = [row for row in report.rows if row.contender == "mine"]
    assert [row.measure for row in mine] == ["inference", "training"]
    for row in mine:
        assert row.failed is None
        assert row.median > 0
        assert row.ratio is not None
        assert not row.checked  # its weights are its own
    assert "| mine (own weights) |" in tables.markdown(report)
    assert Report.from_dict(report.as_dict()) == report


def test_a_contender_of_ones_own_alone_is_beside_those_by_default(tmp_path):
    pytest.importorskip("torch")
    mine = ones_own(tmp_path, TORCH)
    assert [each.name for each in runs.prepare(settings(contenders=(mine, "torch.nn"))).present] == ["torch.nn", "mine"]
    found = [each.name for each in runs.prepare(settings(contenders=(mine,))).present]
    assert {"torch.nn", "rnn_torch", "mine"} <= set(found)
    assert "rnn_torch reference" not in found


def test_a_contender_of_ones_own_that_fails_costs_nothing(small, tmp_path):
    """A wrong shape, an exception and a want of weights each have their row, and the others go on."""
    pytest.importorskip("torch")
    names = [ones_own(tmp_path, TORCH, f":{name}") for name in ("sideways", "of_no_weights", "broken")]
    report = runs.run(settings(contenders=("torch.nn", *names), sizes=("2x3x4x5",), measures=("inference", "training")))
    found = {(row.contender, row.measure): row for row in report.rows}
    assert found["torch.nn", "training"].timed
    assert found["of_no_weights", "inference"].timed
    assert found["of_no_weights", "training"].refused == "has no weights to train"
    assert found["broken", "training"].failed == "RuntimeError: no luck"
    assert {row.contender for row in report.failures} == {"broken"}


def test_outputs_of_another_shape_are_named(small, tmp_path):
    pytest.importorskip("torch")
    text = TORCH.replace("return nn.LSTM(workload.input, workload.hidden)", "return nn.LSTM(workload.input, 7)")
    report = runs.run(
        settings(
            contenders=("torch.nn", ones_own(tmp_path, text, ":sideways")), sizes=("2x3x4x5",), measures=("inference",)
        )
    )
    (failed,) = report.failures
    assert failed.failed == "ValueError: outputs should have shape (batch, time, hidden) = (2, 3, 5), got (2, 3, 7)"


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        (None, "", "contender should be of a file that is there, got "),
        ("def contender(", "", "contender should be of a file that runs, got .*: SyntaxError: "),
        ("raise ValueError('why not')", "", "contender should be of a file that runs, got .*: ValueError: why not"),
        ("FRAMEWORK = 'torch'", "", "contender should be a function in .*mine.py, got contender, which it has not"),
        (TORCH, ":other", "contender should be a function in .*mine.py, got other, which it has not"),
        (TORCH.replace('"torch"', '"jax"'), "", "FRAMEWORK in .*mine.py should be one of torch, tf, got 'jax'"),
        (TORCH.replace("FRAMEWORK", "NOTHING"), "", "FRAMEWORK in .*mine.py should be one of torch, tf, got None"),
    ],
)
def test_a_file_that_has_no_contender(text, function, message, tmp_path):
    pytest.importorskip("torch")
    name = f"{tmp_path / 'mine.py'}{function}"
    if text is not None:
        ones_own(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        own.load(name)


def test_the_example(small):
    pytest.importorskip("torch")
    report = runs.run(settings(contenders=(str(EXAMPLE), "torch.nn"), sizes=("2x3x4x5",), cells=("LSTM", "GRU")))
    found = {row.cell: row for row in report.rows if row.contender == "own_contender"}
    assert found["LSTM"].timed
    assert found["GRU"].refused == "is an LSTM for sequences of one length"


def test_the_example_computes_what_it_says():
    torch = pytest.importorskip("torch")
    module = runpy.run_path(str(EXAMPLE))
    layer = module["contender"]("LSTM", of_size("2x4x3x5"))
    built_in = torch.nn.LSTM(3, 5, batch_first=True)
    built_in.load_state_dict({f"{name}_l0": value for name, value in layer.cell.state_dict().items()})
    x = torch.randn(2, 4, 3, generator=torch.manual_seed(0))
    torch.testing.assert_close(layer(x), built_in(x)[0])


# Who fails while it is timed


def test_who_fails_in_the_middle_costs_the_others_nothing(small, twin, monkeypatch):
    """Its first call is right, and some call after that raises."""
    builtin = next(each for each in CONTENDERS if each.name == BUILTIN[twin.name])

    class Tired:
        def __init__(self, case, conditions):
            self.runner, self.calls = builtin.prepare(case, conditions), 0

        def inference(self):
            call = self.runner.inference()

            def tired():
                self.calls += 1
                if self.calls == 5:
                    raise MemoryError
                return call()

            return tired

        def outputs(self, returned):
            return self.runner.outputs(returned)

    monkeypatch.setattr(contenders, "CONTENDERS", [*CONTENDERS, Contender("tired", twin.name, Tired)])
    report = runs.run(
        settings(contenders=("tired", BUILTIN[twin.name], OURS[twin.name]), sizes=("2x3x4x5",), measures=("inference",))
    )
    assert {row.contender: row.failed for row in report.rows} == {
        BUILTIN[twin.name]: None,
        OURS[twin.name]: None,
        "tired": "MemoryError: no message",
    }
    assert all(row.timed for row in report.rows if row.contender != "tired")


def test_an_oracle_that_fails_costs_the_others_nothing(small, twin, monkeypatch):
    true = comparison.run_oracle

    def oracle(case, **options):
        if case.x.shape[0] == 2:
            raise MemoryError("too much")
        return true(case, **options)

    monkeypatch.setattr(comparison, "run_oracle", oracle)
    report = runs.run(settings(contenders=(BUILTIN[twin.name],), sizes=("2x3x4x5", "3x3x4x5")))
    assert [(row.workload, row.failed) for row in report.rows] == [
        ("2x3x4x5", "MemoryError: too much"),
        ("3x3x4x5", None),
    ]


# Threads


@pytest.mark.parametrize(("text", "numbers"), [("1", (1,)), ("1,2", (1, 2)), ("2,1,2", (2, 1))])
def test_numbers_of_threads(text, numbers):
    assert threads_of(text) == numbers


@pytest.mark.parametrize("text", ["", "two", "1;2", "1,", "1.5"])
def test_what_is_no_number_of_threads(text):
    with pytest.raises(ValueError, match="threads should be a whole number, or several with commas between, got "):
        threads_of(text)


def test_several_numbers_of_threads_are_run_each_in_a_process(monkeypatch):
    """With rows of their own; the sweeps at the largest alone."""
    pytest.importorskip("torch")
    monkeypatch.setattr(runs, "_send", stand_in)
    chosen = settings(contenders=("torch.nn",), sizes=("2x3x4x5",), threads=(1, 2), sweeps=("batch",))
    told = []
    report = runs.run(chosen, lambda what, share, left=None: told.append(share))
    assert report.stopped is None
    assert [(row.threads, row.contender) for row in report.rows] == [(1, "torch.nn"), (2, "torch.nn")]
    processes = {row.seconds[0] for row in report.rows}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {each.threads for each in report.growth} == {2}
    assert told == sorted(told)
    text = tables.markdown(report)
    assert "### Training, LSTM, 1 thread" in text
    assert "### Training, LSTM, 2 threads" in text


def stand_in(there, threads, settings):
    """The other process, without a framework: it says who it is instead of how long it takes."""
    for step in plan.steps_at(threads, settings):
        there.send(step)
        if step.variable:
            there.send(runs.Point(step, "torch.nn", float(step.size)))
        elif step.workload is not None:
            where = (step.workload.name, step.cell, step.measure, "torch.nn", threads)
            there.send(Row(*where, seconds=[os.getpid()], median=1.0, first_call=0.0))
    there.send(None)


def test_what_the_other_process_sends(small, twin, monkeypatch):
    """Every step and what it finds, at its number of threads; then that it is through."""
    sent, numbers = [], []
    monkeypatch.setattr(twin, "set_threads", numbers.append)
    chosen = settings(contenders=(BUILTIN[twin.name],), sizes=("2x3x4x5",), threads=(1, 3))
    runs._send(SimpleNamespace(send=sent.append), 3, chosen)
    assert numbers == [3]
    assert [type(each).__name__ for each in sent] == ["Step", "Baseline", "Step", "Row", "NoneType"]
    assert {each.threads for each in sent[:-1]} == {3}
    assert all(pickle.loads(pickle.dumps(each)) == each for each in sent)


def test_a_process_that_dies_leaves_what_it_found(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(runs, "_send", die)
    report = runs.run(settings(contenders=("torch.nn",), sizes=("2x3x4x5",), threads=(1, 2)))
    assert report.rows == []
    assert report.stopped == "the process with threads = 2 ended with status 7"
    assert not report.interrupted


def die(there, threads, settings):
    os._exit(7)


def test_calls_are_timed_among_operations_of_the_framework(small, twin, monkeypatch):
    """A small matrix product before each."""
    order = []
    monkeypatch.setattr(twin, "matrix_product", lambda size, *_: lambda: order.append(size))
    from rnn_benchmarks.rounds import BETWEEN, Timed, in_turn

    found = in_turn([Timed(twin, lambda: order.append("call"))], Conditions(), 0.001, rounds=3)
    assert found.shape == (1, 3)
    calls = order[2:]  # after the calibration
    assert calls == [BETWEEN, "call"] * (len(calls) // 2)
    assert len(calls) > 6


# The time that is left


def test_the_time_left_is_known_before_the_first_step_and_follows_what_is_measured():
    now = 0.0
    remaining = plan.Remaining([10.0, 10.0, 20.0], lambda: now)
    assert remaining.before(0) == (0.0, 40.0)  # the guess
    now = 40.0  # the first has taken four times as long as was guessed
    share, left = remaining.before(1)
    assert share == 0.25
    assert left == pytest.approx(30 * (40 + plan.Remaining.TRUSTED) / (10 + plan.Remaining.TRUSTED))
    assert remaining.before(3) == (1.0, 0.0)


def test_every_step_is_guessed_to_take_some_time():
    chosen = Settings()
    steps = plan.steps(chosen)
    guessed = [plan.expected(step, chosen, CONTENDERS) for step in steps]
    assert all(0 < each < math.inf for each in guessed)
    longer = [plan.expected(step, replace(chosen, seconds=100), CONTENDERS) for step in steps]
    assert sum(longer) > sum(guessed)
    assert len({str(step) for step in steps if not step.variable}) == sum(not step.variable for step in steps)


def test_the_time_left_is_told_from_the_first_step_on(small, twin):
    told = []
    runs.run(
        settings(contenders=(BUILTIN[twin.name],), sizes=("2x3x4x5",)),
        lambda what, share, left=None: told.append((what, share, left)),
    )
    assert told[0][:2] == (f"importing {twins.TITLES[twin.name]}", 0.0)
    assert told[1][0] == "self-test, 1 thread"
    assert all(left is not None and left >= 0 for _, _, left in told[1:])
    assert told[1][2] > 0


# Ctrl-C


def test_what_was_measured_before_ctrl_c_is_a_report(small, twin):
    """And it says that it is a part."""

    def progress(what, share, left=None):
        if what.startswith("3x3x4x5"):
            raise KeyboardInterrupt

    report = runs.run(settings(contenders=(BUILTIN[twin.name],), sizes=("2x3x4x5", "3x3x4x5")), progress)
    assert [row.workload for row in report.rows] == ["2x3x4x5"]
    assert report.stopped == "stopped after 2 of 3 steps"
    assert report.interrupted
    assert tables.markdown(report).startswith("**PARTIAL: stopped after 2 of 3 steps**")
    assert Report.from_dict(report.as_dict()) == report


def test_ctrl_c_ends_the_other_process_and_keeps_what_it_sent(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(runs, "_send", stand_in)

    def progress(what, share, left=None):
        if what.startswith("3x3x4x5") and what.endswith("2 threads"):
            raise KeyboardInterrupt

    chosen = settings(contenders=("torch.nn",), sizes=("2x3x4x5", "3x3x4x5"), threads=(1, 2))
    report = runs.run(chosen, progress)
    found = [(row.workload, row.threads) for row in report.rows]
    assert found == [("2x3x4x5", 1), ("3x3x4x5", 1), ("2x3x4x5", 2)]
    assert report.stopped == "stopped after 5 of 6 steps"
    assert not multiprocessing.active_children()


def test_ctrl_c_before_anything_is_measured_ends_it(small, twin):
    def progress(what, share, left=None):
        if what.startswith("2x3x4x5"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.run(settings(contenders=(BUILTIN[twin.name],), sizes=("2x3x4x5",)), progress)
