"""What a person sees of a report: figures in words, the terminal, Markdown, plots."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from rich.console import Console

from rnn_benchmarks import plots, screen, tables, words
from rnn_benchmarks.report import FORMAT, OLDER, Baseline, Between, Growth, Mean, Report, Row
from rnn_benchmarks.settings import Settings
from rnn_benchmarks.timing import Interval

ROOT = Path(__file__).parents[2]
ONE = Interval(1.0, 1.0, 1.0)
WHO = {"torch.nn": "torch", "rnn_torch": "torch", "mine": "torch", "keras.layers": "tf", "rnn_tf": "tf"}
SIZES = ("64x100x123x320", "1x100x64x64")


def made(**changes):
    """A report of two of one's own sizes at 1 and 2 threads, with a contender that nobody knows, one failure, one refusal."""
    settings = Settings(workloads=(), sizes=SIZES, cells=("LSTM", "GRU"), measures=("training",), threads=(1, 2))
    rows, between = [], []
    for threads in (1, 2):
        for i, workload in enumerate(SIZES):
            for cell in settings.cells:
                where = (workload, cell, "training")
                for j, name in enumerate(WHO):
                    if (name, cell) == ("mine", "GRU"):
                        rows.append(Row(*where, name, threads, refused="an LSTM alone"))
                    elif (name, i) == ("rnn_tf", 1):
                        rows.append(Row(*where, name, threads, failed="RuntimeError: no luck"))
                    else:
                        seconds = 1.8342 / (1 + i) / threads / (1 + j)
                        ratio = Interval(1.0 + j, 0.9 + j, 1.2 + j)
                        figures = dict(ratio=ratio, share=ONE, first_call=0.1, memory=2**21, checked=name != "mine")
                        rows.append(Row(*where, name, threads, seconds=[seconds] * 3, median=seconds, **figures))
                between.append(
                    Between(*where, threads, Interval(3.5, 3.4, 3.6), Interval(0.5, 0.4, 0.6) if i == 0 else None)
                )
    growth = [
        Growth(
            variable,
            SIZES[0],
            "LSTM",
            "training",
            name,
            2,
            [1, 2, 4],
            [0.0101, 0.0102, 0.0103],
            Interval(0.5, 0.4, 0.6),
        )
        for variable in ("time", "width", "batch")
        for name in WHO
    ]
    environment = {
        "versions": {"numpy": "2"},
        "processor": "a processor",
        "cores": 2,
        "device": {"torch": "cpu", "tf": "cpu"},
        "commit": "abc",
        "time": "today",
        "threads": [1, 2],
    }
    baselines = [Baseline(name, threads, ONE, 1e11) for threads in (1, 2) for name in ("torch", "tf")]
    means = [Mean("LSTM", "training", "rnn_torch", threads, Interval(2, 1.9, 2.1)) for threads in (1, 2)]
    return replace(
        Report(settings, environment, baselines, WHO, {"x": "absent"}, rows, between, means, growth), **changes
    )


def printed(report):
    console = Console(file=io.StringIO(), width=80)
    screen.show(report, console)
    return console.file.getvalue()


# Words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1834.2, "1,830"),
        (20.0, "20.0"),
        (9.996, "10.0"),
        (999.6, "1,000"),
        (0.96912, "0.969"),
        (0.00012345, "0.000123"),
        (1e7, "10,000,000"),
        (5, "5.00"),
        (0, "0"),
    ],
)
def test_a_figure_has_three_significant_digits_and_no_exponent(value, said):
    assert words.figure(value) == said


def test_a_ratio_in_words():
    assert words.ratio(Interval(1.214, 1.18, 1.24)) == "1.21 ±0.03"
    assert words.ratio(Interval(28.34, 28.0, 28.8)) == "28.3 ±0.4"
    assert words.ratio(Interval(128.34, 120, 130)) == "128 ±5"
    assert words.ratio(Interval(1.5, float("nan"), float("nan"))) == "1.50"
    assert words.ratio(None) == "–"


def test_threads_in_words():
    assert [words.threads(n) for n in ([1], [2], [1, 2], (1, 2, 4))] == [
        "1 thread",
        "2 threads",
        "1 and 2 threads",
        "1, 2 and 4 threads",
    ]


def test_nothing_is_said_with_an_exponent():
    report = made()
    for text in (printed(report), tables.markdown(report)):
        assert not re.search(r"\d(\.\d+)?e[+-]?\d", text)
        assert "1,830" in text


# Tables


def test_pytorch_beside_keras():
    """By hand: the medians of the rows, and the ratios of the rounds with each other."""
    text = tables.markdown(made())
    head = "|  | cell | torch.nn, ms | keras.layers, ms | times as fast, torch.nn | rnn_torch, ms | rnn_tf, ms |"
    assert text.count(head) == 2  # once for each number of threads
    assert "| 64x100x123x320 | LSTM | 1,830 | 459 | 3.50 ±0.10 | 917 | 367 | 0.50 ±0.10 |" in text
    assert "| 1x100x64x64 | GRU | 459 | 115 | 3.50 ±0.10 | 229 | – | – |" in text


def test_the_terminal_shows_both_frameworks_everybody_and_what_is_missing():
    text = printed(made())
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert re.search(r"64x100x123x320 +1,830 +459 +3\.50 ±0\.10 +917 +367 +0\.50 ±0\.10", text)
    for threads in ("1 thread", "2 threads"):
        assert f"Everybody: training, LSTM, {threads}" in text
    assert re.search(r"mine +refused *\n", text)
    assert re.search(r"rnn_tf +failed *\n", text)
    one_line = " ".join(text.split())
    assert "Refused: mine, GRU training, on 64x100x123x320, 1x100x64x64: an LSTM alone" in one_line
    assert "Failed: rnn_tf, LSTM training, on 1x100x64x64: RuntimeError: no luck" in one_line
    assert "Left out: x: absent" in one_line


def test_a_table_of_many_workloads_is_in_the_files_alone():
    report = made(settings=replace(made().settings, workloads=("braun-2018", "haste-1x64")))
    assert "Everybody" not in printed(report)
    assert "### Training, LSTM, 1 thread" in tables.markdown(report)


def test_a_part_is_marked_as_one():
    report = made(stopped="stopped after 3 of 9 steps", interrupted=True)
    assert printed(report).startswith("PARTIAL: stopped after 3 of 9 steps\n")
    assert tables.markdown(report).startswith("**PARTIAL: stopped after 3 of 9 steps**")
    assert "PARTIAL: stopped after 3 of 9 steps" in plots.heading(report)
    assert not plots.heading(made()).startswith("PARTIAL")


def test_how_it_is_measured_is_said():
    text = " ".join(tables.markdown(made()).split())
    assert "Before every call there is a 128×128 matrix product of the framework" in text
    assert "with 5 ms before each turn" in text
    assert "Each number of threads has a process of its own." in text


def test_a_self_test_that_fails():
    report = made()
    assert report.passed
    failed = replace(report, baselines=[*report.baselines, Baseline("torch", 1, Interval(1.06, 1.05, 1.07), 1e9)])
    assert not failed.passed
    assert failed.as_dict()["passed"] is False
    assert "1.06 ±0.01 (1 thread): failed" in " ".join(printed(failed).split())


def test_a_report_of_the_version_before_is_read():
    """Its rows are of the one number of threads in its settings."""
    old = {
        "format": OLDER,
        "settings": {"workloads": ["haste-1x64"], "contenders": ["torch.nn", "rnn_torch reference"], "threads": 2},
        "environment": made().environment,
        "self_test": {"torch": [1.01, 1.0, 1.02]},
        "limit": {"torch": 1e11},
        "left_out": {},
        "rows": [{"workload": "haste-1x64", "cell": "LSTM", "measure": "training", "contender": "torch.nn", "ratio": None,
                  "share": None, "median": 0.5}],
        "means": [{"cell": "LSTM", "measure": "training", "contender": "rnn_torch", "ratio": [1, 1, 1]}],
        "growth": [{"variable": "time", "cell": "LSTM", "measure": "training", "contender": "torch.nn", "sizes": [1, 2, 4],
                    "seconds": [1, 2, 4], "exponent": [1, 1, 1]}],
    }  # fmt: skip
    report = Report.from_dict(old)
    assert report.settings.threads == (2,)
    assert [row.threads for row in (*report.rows, *report.means, *report.growth, *report.baselines)] == [2] * 4
    assert report.contenders == {"torch.nn": "torch", "rnn_torch reference": "torch"}
    assert report.growth[0].around == "32x50x128x128"
    assert report.as_dict()["format"] == FORMAT
    assert Report.from_dict(json.loads(json.dumps(report.as_dict()))) == report


# Plots


@pytest.mark.parametrize("low", [1e-4, 0.011, 0.7, 1.01, 9.5, 37.0, 950.0])
@pytest.mark.parametrize("factor", [1.02, 1.1, 1.5, 3.0, 9.0, 50.0, 1e4, 1e7])
def test_an_axis_has_ticks_in_any_range(low, factor):
    found = plots.ticks(low, low * factor)
    assert 3 <= len(found) <= 10
    assert found == sorted(found)
    assert all(low <= each <= low * factor * (1 + 1e-9) for each in found)


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def drawn(report):
    found = {name: getattr(plots, name)(report) for name in plots.NAMES}
    for figure in found.values():
        figure.canvas.draw()
    return found


def test_figures_name_every_fixed_size():
    for name, figure in drawn(made()).items():
        said = "\n".join(texts(figure))
        assert "a processor, on cpu, float32, 1 and 2 threads" in said
        if name == "growth":
            assert "training, LSTM, 2 threads\nbatch 64, input 123, hidden 320" in said
            assert "batch 64, time 100, input 0.384 × hidden" in said
            assert "time 100, input 123, hidden 320" in said
        else:
            assert "64×100×123×320" in said
            assert "batch × time × input × hidden" in said
            assert "training, GRU, 1 thread" in said


def test_named_workloads_have_their_sizes_in_figures():
    settings = replace(made().settings, workloads=("braun-2018", "ragged-600x1"), sizes=())
    said = "\n".join(texts(plots.ratios(made(settings=settings, rows=[], between=[]))))
    assert "braun-2018\n64×100×123×320" in said
    assert "ragged-600x1\n300×600×16×64\n899 steps" in said


def test_a_narrow_range_of_times_has_ticks():
    figure = drawn(made())["growth"]  # from 10.1 to 10.3 ms
    for axis in figure.axes:
        low, high = axis.get_ylim()
        shown = [tick for tick in axis.get_yticks() if low <= tick <= high]
        assert len(shown) >= 3
        assert len({label.get_text() for label in axis.get_yticklabels()}) == len(axis.get_yticks())


def test_a_contender_that_nobody_knows_is_drawn():
    for name in ("ratios", "limit", "growth"):
        assert any("mine" in text for text in texts(drawn(made())[name]))


def test_the_same_report_gives_the_same_figures(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        plots.draw(made(), folder)
    names = sorted(path.name for path in folders[0].glob("*.svg"))
    assert names == sorted(f"{name}.svg" for name in plots.NAMES)
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def luminance(colour):
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_contenders_can_be_told_apart_in_print():
    """Those of a framework differ by mark, or by 0.15 of the range of greys; and no two have colour and mark in common."""
    every = [*plots.STYLES.values(), *plots.OTHERS]
    assert len({(style.colour, style.mark) for style in every}) == len(every)
    for ours, builtin in (("rnn_torch", "torch.nn"), ("rnn_tf", "keras.layers")):
        names = [name for name in plots.STYLES if name.startswith((ours, builtin))]
        for i, first in enumerate(names):
            for second in names[:i]:
                a, b = plots.STYLES[first], plots.STYLES[second]
                assert a.mark != b.mark or abs(luminance(a.colour) - luminance(b.colour)) >= 0.15, (first, second)
                assert a.hatch != b.hatch or abs(luminance(a.colour) - luminance(b.colour)) >= 0.05, (first, second)


def test_the_four_layers_of_both_frameworks_can_be_told_apart_in_grey_bars():
    four = [plots.STYLES[name] for name in ("torch.nn", "rnn_torch", "keras.layers", "rnn_tf")]
    assert len({(style.mark, style.line) for style in four}) == 4
    for i, first in enumerate(four):
        for second in four[:i]:
            assert first.hatch != second.hatch or abs(luminance(first.colour) - luminance(second.colour)) >= 0.15


def test_a_report_of_next_to_nothing_is_drawn(tmp_path):
    """As one that was stopped early, or in which everybody failed: no figure is lost to it."""
    failed = [Row("64x100x123x320", "LSTM", "training", "torch.nn", 1, failed="no luck")]
    (tmp_path / "growth.svg").write_text("of another report")
    for rows in ([], failed):
        report = made(rows=rows, between=[], growth=[], means=[], baselines=[], stopped="stopped")
        assert {path.name for path in plots.draw(report, tmp_path)} == {
            f"{name}.{form}" for name in ("ratios", "limit") for form in ("svg", "png")
        }
        assert not (tmp_path / "growth.svg").exists()
        assert "PARTIAL" in printed(report)
        assert "PARTIAL" in tables.markdown(report)
