"""Every command beside every fault: what may go wrong around a command loses no report and is called by its name.

The work itself is stood in for here, and so are the frameworks; `test_comparison.py`, `test_tasks.py` and `test_benchmarks.py`
run the commands as they are.
"""

import errno
import importlib
import io
import json
import os
import re
import resource
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

for package in ("typer", "safetensors", "matplotlib", "scipy"):
    pytest.importorskip(package)

from rich.console import Console
from typer.testing import CliRunner

import rnn_common
from rnn_benchmarks import comparing, plots, runs
from rnn_common import exchange, machine, twins
from rnn_common.cells import CELLS, IN_BOTH
from rnn_common.checks import one_of
from rnn_common.cli import app, bench
from rnn_common.doctor import diagnosis
from rnn_common.doctor.report import Cause, Equations
from rnn_common.exchange.description import default_activations
from rnn_common.files import write_bytes
from rnn_common.packings import to_torch
from rnn_common.parity import compare, flow, lockstep
from rnn_common.parity.compare import PairRow, TimeRow
from rnn_common.parity.contract import Deviations
from rnn_common.reports import figures
from rnn_common.tasks import prediction, problems
from rnn_common.training import experiments
from rnn_common.training.run import Snapshot
from rnn_common.weights import initialise

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


# Stand-ins


def report_of(name):
    return json.loads((DOCS / name).read_text())


def compared(settings, progress, prepared):
    rows = [PairRow("LSTM", "rnn_torch", "oracle", Deviations(1e-16, 2e-16, 3e-16), Deviations(1, 1, 1), True)]
    times = [TimeRow("LSTM", "rnn_torch", 1.0, 2.0, 2.0, 1.9, 2.1)]
    return compare.Report(settings, {}, rows, times, {"versions": {"numpy": "2"}})


def trained(twin, problem, run, device):
    scores = dict.fromkeys(problem.lower_is_better, 0.5)
    curves = dict(losses=[2.0, 1.0], norms=[1.0, 1.0], epochs=[])
    about = dict(problem=problem.name, framework=twin.name, cell=run.about["cell"], seed=0, parameters=7)
    return experiments.Outcome(**about, scores=scores, seconds=1.0, updates=2, **curves)


def benchmarked(settings, progress, prepared):
    return runs.Report.from_dict(report_of("benchmarks/benchmarks.json"))


def found(path, cells=()):
    weights = dict(initialise("LSTM", 2, 3))
    one = exchange.Direction(weights, default_activations(CELLS["LSTM"]))
    layer = exchange.Recurrent("Größe � [red]", CELLS["LSTM"], (one,), "torch", notes=("tanh is assumed",))
    return exchange.Found(path, "a test", (layer, exchange.Foreign("x", "Conv1D")), notes=("an old file",))


def diagnosed(prepared):
    causes = (Cause("Größe � [red] doubled", "b", True, "rnn", "gates", "halve it"),)
    return diagnosis.Report("equal", 1e-7, 1e-6, {"a": Equations(1e-7, 1e-6)}, causes=causes, notes=("[red]",))


def twin(name):
    return SimpleNamespace(
        name=name,
        package=f"rnn_{name}",
        builtin_package=name,
        devices=lambda: ("cpu",),
        engines=lambda: ("reference", "fused"),
        versions=dict,
        set_threads=id,
    )


@dataclass(frozen=True)
class Command:
    """How a command is called, where its work is done and what that gives, and the files that it writes into its folder."""

    arguments: str
    place: object
    work: str
    gives: object
    files: tuple[str, ...] = ()


TWICE = "CHECKPOINTS/lstm.npz CHECKPOINTS/lstm.npz"
COMMANDS = {
    "compare": Command(
        "compare --data gaussian --output OUT/report.json", compare, "compare", compared, ("report.json",)
    ),
    "inspect": Command("inspect model.h5 --json OUT/found.json", exchange, "read", found, ("found.json",)),
    "doctor": Command(
        "doctor CHECKPOINTS/lstm.npz CHECKPOINTS/lstm.npz --json OUT/found.json",
        diagnosis.Diagnosis,
        "report",
        diagnosed,
        ("found.json",),
    ),
    "train": Command(
        "train adding --setting tiny --cell GRU --framework torch --output OUT",
        experiments,
        "train",
        trained,
        ("results.json", "results.md", "curves.svg", "curves.png"),
    ),
    "resume": Command("resume CHECKPOINTS/adding", experiments, "train", trained),
    "predict": Command("predict CHECKPOINTS/text Über", prediction, "answer", lambda *_: ["Übermäßig \udcff � [red]"]),
    "lockstep": Command(
        "lockstep --output OUT",
        lockstep,
        "measure",
        lambda *_, **__: report_of("training/lockstep.json"),
        ("lockstep.json", "lockstep.svg", "lockstep.png"),
    ),
    "gradients": Command(
        "gradients --output OUT",
        flow,
        "measure",
        lambda *_, **__: report_of("training/gradients.json"),
        ("gradients.json", "gradients.svg", "gradients.png"),
    ),
    "bench": Command(
        "bench --output OUT",
        runs,
        "run",
        benchmarked,
        ("benchmarks.json", "benchmarks.md", *bench.FIGURES),
    ),
    "bench list": Command("bench list", bench, "Table", bench.Table),
    "bench compare": Command(
        f"bench compare {DOCS}/benchmarks/benchmarks.json {DOCS}/benchmarks/benchmarks.json",
        comparing,
        "changes",
        comparing.changes,
    ),
}


def stand_ins(command, work):
    """Patches: no framework is imported, no recordings are read, and the work is another."""
    stack = ExitStack()
    for module in (compare, twins):
        stack.enter_context(mock.patch.object(module, "installed", return_value=("torch", "tf")))
    stack.enter_context(mock.patch.object(twins, "get", twin))
    stack.enter_context(mock.patch.object(lockstep, "recordings"))
    for room in ("training_curves", "drift", "gradient_flow"):
        stack.enter_context(mock.patch.object(figures, room))
    stack.enter_context(mock.patch.object(figures, "save", drawn))
    stack.enter_context(mock.patch.object(plots, "draw", all_drawn))
    stack.enter_context(mock.patch.object(command.place, command.work, work))
    return stack


def drawn(figure, name, folder):
    """Figures, which take seconds to draw."""
    return [write_bytes(b"a figure" * 100, folder / f"{name}.{cell}") for cell in ("svg", "png")]


def all_drawn(report, folder):
    return [path for name in plots.NAMES for path in drawn(None, name, folder)]


def write_checkpoints(folder):
    for task in ("adding", "text"):
        problem = problems(task, "tiny")[0]
        run = experiments.make_run(problem, "GRU", 0, task=task, setting="tiny", folder=folder / task)
        run.save(Snapshot(run.weights, {}, {}), "torch")
    np.savez(folder / "lstm.npz", **to_torch(initialise("LSTM", 2, 3)))


def raising(error):
    def work(*_, **__):
        raise error

    return work


# The faults


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and how the command is to end.

    Attributes:
        status: of the process.
        error: what standard error holds; nothing else, and of `status` 2 and 130 in one line.
        work: what the work does instead of its own. Default none: it is done.
        stdout, stderr: `"pipe"`, `"gone"` (its reader has ended), `"full"`, `"closed"`.
        encoding: of standard output.
        room: how many bytes a file may have. Default any.
        written, printed: whether the files are there, and whether the report is printed.
    """

    status: int = 0
    error: str = ""
    work: object = None
    stdout: str = "pipe"
    stderr: str = "pipe"
    encoding: str = "utf-8"
    room: int | None = None
    written: bool = True
    printed: bool = True


FAULTS = {
    "none": Fault(),
    "ASCII": Fault(encoding="ascii"),
    "Latin-1": Fault(encoding="latin-1"),
    "head": Fault(stdout="gone", printed=False),
    "full device": Fault(2, "standard output cannot be written", stdout="full", printed=False),
    "closed stdout": Fault(stdout="closed", printed=False),
    "full stderr": Fault(stderr="full"),
    "closed stderr": Fault(stderr="closed"),
    "head of both": Fault(stdout="gone", stderr="gone", printed=False),
    "full disk": Fault(2, "cannot write OUT", room=100, written=False),
    "full disk in the work": Fault(2, "No space left", raising(OSError(errno.ENOSPC, "No space left")), written=False),
    "no memory": Fault(2, "memory does not suffice: 1 PiB", raising(MemoryError("1 PiB")), written=False),
    "Ctrl-C": Fault(130, "stopped", raising(KeyboardInterrupt()), written=False),
    "Ctrl-C unheard": Fault(130, "", raising(KeyboardInterrupt()), stderr="full", written=False),
    "a ValueError of ours": Fault(3, "ValueError: ours", raising(ValueError("ours")), written=False),
    "a TypeError of ours": Fault(3, "TypeError: ours", raising(TypeError("ours")), written=False),
    "an import of ours": Fault(
        3, "No module named 'x'", raising(ModuleNotFoundError("No module named 'x'")), written=False
    ),
}
# A disk is full only for a command that writes.
TABLE = [
    (name, fault) for name, command in COMMANDS.items() for fault in FAULTS if command.files or fault != "full disk"
]


def drive(name, folder):
    """The command beside each fault, in a process of its own each; run by a process without frameworks."""
    command = COMMANDS[name]

    def arguments(place):
        place.mkdir()
        return [each.replace("OUT", str(place)).replace("CHECKPOINTS", folder) for each in command.arguments.split()]

    with stand_ins(command, command.gives):  # once before, so that all that is imported late is there
        CliRunner().invoke(app.app, arguments(Path(folder, "before")))
    for fault in (fault for each, fault in TABLE if each == name):
        given = arguments(Path(folder, fault))
        (read_out, out), (read_error, error) = os.pipe(), os.pipe()
        if not os.fork():
            os.close(read_out), os.close(read_error)
            streams(FAULTS[fault], out, error)
            sys.argv = ["rnn-parity", *given]
            with stand_ins(command, FAULTS[fault].work or command.gives):
                os._exit(ended(app.main))
        os.close(out), os.close(error)
        for stream, number in (("stdout", read_out), ("stderr", read_error)):
            with open(number, "rb") as pipe:
                Path(folder, f"{fault}.{stream}").write_bytes(pipe.read())
        status = os.waitstatus_to_exitcode(os.wait()[1])
        Path(folder, f"{fault}.status").write_text(str(status))


def ended(main):
    """The status of a process whose whole program this is: Python ends with 120 where the rest cannot be written."""
    status = None
    try:
        main()
    except SystemExit as end:
        status = end.code
    try:
        sys.stdout.flush(), sys.stderr.flush()
    except OSError:
        status = 120
    return status or 0


def streams(fault, out, error):
    """Make the two standard streams of this process what a fault wants them to be."""
    for number, name, kind, pipe in ((1, "stdout", fault.stdout, out), (2, "stderr", fault.stderr, error)):
        if kind in ("full", "gone"):
            os.close(pipe)
            pipe = os.open("/dev/full", os.O_WRONLY) if kind == "full" else nobody_reads()
        os.dup2(pipe, number)
        os.close(pipe)
        if kind == "closed":
            os.close(number)
        stream = (
            None
            if kind == "closed"
            else io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w", closefd=False)), fault.encoding)
        )
        setattr(sys, name, stream)
    if fault.room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.room, fault.room))


def nobody_reads():
    read, write = os.pipe()
    os.close(read)
    return write


DRIVER = "import sys; sys.path.insert(0, sys.argv[1]); import test_commands; test_commands.drive(*sys.argv[2:])"


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """A function that runs a command beside all faults, once, and names the folder with what came of it."""

    @cache
    def run(name):
        folder = tmp_path_factory.mktemp("commands")
        write_checkpoints(folder)
        command = [sys.executable, "-c", DRIVER, str(Path(__file__).parent), name, str(folder)]
        environment = {**os.environ, "COLUMNS": "80"}
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr
        return folder

    return run


@pytest.mark.parametrize(("name", "fault"), TABLE)
def test_every_command_beside_every_fault(name, fault, driven):
    folder, expected, command = driven(name), FAULTS[fault], COMMANDS[name]
    status, out, error = ((folder / f"{fault}.{each}").read_bytes() for each in ("status", "stdout", "stderr"))
    assert int(status) == expected.status, (out, error)
    files = sorted(each.name for each in (folder / fault).iterdir())
    assert files == (sorted(command.files) if expected.written else [])
    error = error.decode()
    assert expected.error.replace("OUT", str(folder / fault)) in error
    if expected.status in (0, 2, 130):
        assert error.count("\n") == (1 if expected.error else 0)
        assert "Traceback" not in error
    else:
        assert "Traceback" in error
    printed = out.decode(expected.encoding)
    if expected.printed and (expected.work is None):
        whole = (folder / "none.stdout").read_text(encoding="utf-8")
        assert len(printed.splitlines()) >= len(whole.splitlines()) - len(command.files) > 0
        for path in command.files:
            assert (f"Written: {folder / fault / path}" in printed) == expected.written
    else:
        assert not printed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_help_that_cannot_be_printed():
    program = "import sys; sys.argv = ['rnn-parity', '--help']; from rnn_common.cli.app import main; main()"
    with open("/dev/full", "w") as full:
        ran = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 2
    assert ran.stderr == "rnn-parity: [Errno 28] No space left on device\n"


def test_what_ascii_cannot_hold_is_said_in_other_words(driven):
    assert (driven("predict") / "ASCII.stdout").read_text() == "\\xdcberm\\xe4\\xdfig \\udcff ? [red]\n"
    assert (driven("predict") / "Latin-1.stdout").read_bytes() == "Übermäßig \\udcff ? [red]\n".encode("latin-1")
    shown = (driven("compare") / "ASCII.stdout").read_text()
    assert "max|a - b| / max|b|" in shown
    assert "1.90 - 2.10" in shown


def test_a_bound_that_does_not_hold_is_known_by_its_status_alone(tmp_path):
    """1 with the report printed, and with nobody there to read it."""
    report = replace(
        compared(compare.Settings(), None, None),
        pairs=[PairRow("LSTM", "a", "b", Deviations(1, 1, 1), Deviations(0, 0, 0), False)],
    )
    with stand_ins(COMMANDS["compare"], lambda *_: report):
        ran = invoke("compare --data gaussian", "--output", tmp_path / "report.json")
        with mock.patch.object(app.terminal._Console, "print", raising(BrokenPipeError())):
            unread = invoke("compare --data gaussian", "--output", tmp_path / "report.json")
    assert (ran.exit_code, unread.exit_code) == (1, 1)
    assert "BEYOND" in ran.stdout


# What is asked for is checked before the work


def invoke(arguments, *more):
    return CliRunner().invoke(app.app, [*arguments.split(), *map(str, more)])


HUGE = 10**30
BAD = {
    "compare": {
        "--hidden 10000000": "hidden should be less, got 10000000, which needs at least ",
        f"--hidden {HUGE}": "hidden should be less, got 1e30, which needs at least 1e",
        "--hidden 0": "hidden should be at least 1, got 0",
        f"--batch -{HUGE}": "batch should be at least 1",
        "--seed -1": "seed should be at least 0, got -1",
        "--output FILE/x.json": "output should be in a folder that can be written, got FILE/x.json",
        "--output /proc/x.json": "output should be in a folder that can be written, got /proc/x.json",
        "--output nowhere/x.json": "output should be in a folder that can be written, got nowhere/x.json",
        "--output .": "output should be a file, got the folder .",
        f"--output {'x' * 300}": "File name too long",
        "--device cuda": "device should be one of cpu, got 'cuda'",
    },
    "train": {
        f"--seeds {HUGE}": "seeds should be less, got 1e30, which needs at least 1e",
        "--seeds 100000000": "seeds should be less, got 100000000, which needs at least ",
        "--seeds 0": "seeds should be at least 1, got 0",
        "--dtype int8": "dtype should be one of float32, float64, got 'int8'",
        "--setting huge": "setting should be one of tiny, quick, full, got 'huge'",
        "--output FILE": "output should be a folder, got the file FILE",
        "--output FILE/x": "output should be a folder, got the file ",
        "--output /proc/x": "output should be a folder that can be written, got /proc/x",
        "--output TAKEN": "output should be a folder whose results.json is a file",
        "--output JOBS": "output should be a folder, got the file",
        "--device cuda": "device should be one of cpu, got 'cuda'",
    },
    "resume": {
        "--output FILE/x": "output should be a folder, got the file ",
        "--output /proc/x": "output should be a folder that can be written",
        "--device cuda": "device should be one of cpu, got 'cuda'",
    },
    "predict": {
        "--seed -1": "seed should be at least 0, got -1",
        f"--length {HUGE}": "length should be less, got 1e30, which needs at least 1e",
        "--length 0": "length should be at least 1, got 0",
        "--temperature -1": "temperature should be 0, or at least 1e-30 and finite, got -1.0",
        "--temperature nan": "temperature should be 0, or at least 1e-30 and finite, got nan",
        "--temperature 1e-320": "temperature should be 0, or at least 1e-30 and finite, got 1e-320",
    },
    "lockstep": {
        f"--updates {HUGE}": "updates should be less, got 1e30, which needs at least 1e",
        "--updates 1000000000000": "updates should be less, got 1e12, which needs at least ",
        "--updates 0": "updates should be at least 1, got 0",
        "--output FILE": "output should be a folder, got the file FILE",
    },
    "gradients": {"--output FILE/x": "output should be a folder, got the file "},
    "bench": {
        f"--threads {HUGE}": "threads should be at most 1024, got 1",
        "--threads 0": "threads should be at least 1, got 0",
        "--threads 1,0": "threads should be at least 1, got 0",
        "--threads two": "threads should be a whole number, or several with commas between, got 'two'",
        "--size 64x100": "size should be BATCHxTIMExINPUTxHIDDEN, four whole numbers above 0, such as 64x100x123x320, got",
        "--size 64x100x0x1": "size should be BATCHxTIMExINPUTxHIDDEN, four whole numbers above 0",
        f"--size {HUGE}x1x1x1": "size should be less, got 1000000000000000000000000000000x1x1x1, which needs at least 1e22 GiB",
        "--contender absent.py": "contender should be of a file that is there, got absent.py",
        "--contender FILE.py": "contender should be of a file that is there, got FILE.py",
        "--seconds nan": "seconds should be above 0, got nan",
        "--seed -1": "seed should be at least 0, got -1",
        "--measure beauty": "measure should be one of inference, training, got 'beauty'",
        "--output FILE": "output should be a folder, got the file FILE",
        "--device cuda --contender rnn_torch": "device should be one of cpu, got 'cuda'",
    },
}
for name, option in (("train", "framework"), ("gradients", "framework"), ("resume", "framework")):
    BAD[name] |= {f"--{option} jax": "framework should be one of torch, tf, got 'jax'"}
BAD["predict"] |= {"--framework jax": "framework should be one of torch, tf, got 'jax'"}
# An option that is set to nothing asks for nothing that there is.
EMPTY = {
    "compare": ("cell", "framework", "dtype", "device", "data"),
    "train": ("cell", "framework", "setting", "dtype", "device"),
    "resume": ("framework", "device"),
    "predict": ("framework",),
    "gradients": ("framework",),
    "bench": ("workload", "size", "cell", "measure", "contender", "sweep", "dtype", "device", "threads"),
}
WRONG = [(name, arguments, message) for name, rows in BAD.items() for arguments, message in rows.items()]
WRONG += [(name, f"--{each} EMPTY", "got ''") for name, options in EMPTY.items() for each in options]


@pytest.mark.parametrize(("name", "arguments", "message"), WRONG)
def test_what_cannot_be_is_refused_before_the_work(name, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("kept")
    Path("TAKEN", "results.json").mkdir(parents=True)
    Path("JOBS").mkdir()
    Path("JOBS", f"{problems('adding', 'tiny')[0].name.replace(' ', '-')}-torch-GRU-0").write_text("kept")
    if name in ("resume", "predict"):
        write_checkpoints(tmp_path)
    command = COMMANDS[name]
    begin = [each.replace("CHECKPOINTS/", "") for each in command.arguments.replace("OUT/", "").split()]
    given = ["" if each == "EMPTY" else each for each in arguments.split()]
    with stand_ins(command, raising(AssertionError("it works"))):
        ran = CliRunner().invoke(app.app, [*begin, *given])
    assert ran.exit_code == 2, ran.output
    assert message in ran.stderr
    assert ran.stderr.startswith("rnn-parity: ")
    assert ran.stderr.count("\n") == 1
    assert not ran.stdout
    assert Path("FILE").read_text() == "kept"


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.files] + ["resume"])
def test_an_output_that_is_nothing_is_refused(name):
    arguments = [each for each in COMMANDS[name].arguments.split() if not each.startswith("OUT")]
    arguments += [] if arguments[-1] in ("--output", "--json") else ["--output"]
    ran = CliRunner().invoke(app.app, [*arguments, ""])
    assert ran.exit_code == 2
    assert f"Invalid value for '{arguments[-1]}': should be a path, got ''" in ran.stderr


# What is not installed is named with its remedy

MISSING = [
    (
        "compare",
        ("tf",),
        "--framework torch",
        "none of the frameworks asked for is installed: torch: pip install '.[torch]'",
    ),
    ("compare", (), "", "none of the frameworks asked for is installed: torch, tf: pip install '.[torch]' or '.[tf]'"),
    ("resume", ("tf",), "", "framework torch is not installed: pip install '.[torch]', or ask for --framework tf"),
    (
        "resume",
        ("torch",),
        "--framework tf",
        "framework tf is not installed: pip install '.[tf]', or ask for --framework torch",
    ),
    ("predict", ("tf",), "", "framework torch is not installed: pip install '.[torch]', or ask for --framework tf"),
    ("predict", (), "", "framework torch is not installed: pip install '.[torch]'\n"),
    ("lockstep", ("torch",), "", "framework tf is not installed: pip install '.[tf]'\n"),
    ("lockstep", ("tf",), "", "framework torch is not installed: pip install '.[torch]'\n"),
    ("gradients", (), "", "got neither torch nor tensorflow with keras: pip install '.[torch]' or '.[tf]'"),
    ("bench", (), "", "torch is not installed; "),
]


@pytest.mark.parametrize(("name", "there", "arguments", "message"), MISSING)
def test_a_missing_framework_is_named_with_its_remedy(name, there, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_checkpoints(tmp_path)
    begin = COMMANDS[name].arguments.replace("CHECKPOINTS/", "").replace("--framework torch", "").replace("OUT/", "")
    with stand_ins(COMMANDS[name], raising(AssertionError("it works"))):
        for module in (compare, twins):
            monkeypatch.setattr(module, "installed", lambda: there)
        ran = invoke(f"{begin} {arguments}")
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert "pip install" in ran.stderr
    assert ran.stderr.count("\n") == 1


PACKAGES = [
    (
        "train",
        "safetensors",
        "checkpoints need the package safetensors, which is not installed: pip install '.[tasks]'",
    ),
    ("resume", "safetensors", "checkpoints need the package safetensors"),
    ("predict", "safetensors", "checkpoints need the package safetensors"),
    *((name, "matplotlib", "the figures need the package matplotlib") for name in ("train", "lockstep", "gradients")),
    *(
        (name, package, f"the benchmarks need the package {package}, which is not installed: pip install '.[bench]'")
        for name in ("bench", "bench compare")
        for package in ("scipy", "matplotlib")
    ),
    (
        "compare",
        "aeon.datasets",
        "recordings come with the package aeon, which is not installed: pip install '.[data]'",
    ),
    ("lockstep", "aeon.datasets", "recordings come with the package aeon"),
]


@pytest.mark.parametrize(("name", "package", "message"), PACKAGES)
def test_a_missing_package_is_named_with_its_remedy(name, package, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_checkpoints(tmp_path)
    begin = COMMANDS[name].arguments.replace("CHECKPOINTS/", "").replace("OUT/", "").replace("gaussian", "vowels")
    recordings = lockstep.recordings
    monkeypatch.setitem(sys.modules, package, None)
    with stand_ins(COMMANDS[name], raising(AssertionError("it works"))):
        lockstep.recordings.side_effect = recordings
        ran = invoke(begin)
    assert ran.exit_code == 2, ran.output
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1


# Training that is stopped


def begin_training(work, *more):
    with stand_ins(COMMANDS["train"], work):
        return invoke(COMMANDS["train"].arguments.replace("OUT", "out"), *more)


def test_control_c_points_to_a_checkpoint_only_if_there_is_one(tmp_path, monkeypatch):
    def saves_and_stops(twin, problem, run, device):
        run.save(Snapshot(run.weights, {}, {}), twin.name)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    before = begin_training(raising(KeyboardInterrupt()))
    after = begin_training(saves_and_stops)
    assert (before.exit_code, after.exit_code) == (130, 130)
    assert before.stderr == ("rnn-parity: stopped; no checkpoint was written yet, so the same command begins again\n")
    assert after.stderr == "rnn-parity: stopped; --resume goes on from the checkpoints in out\n"
    write_checkpoints(tmp_path)
    with stand_ins(COMMANDS["resume"], raising(KeyboardInterrupt())):
        elsewhere, here = invoke("resume adding --output new"), invoke("resume adding")
    with stand_ins(COMMANDS["resume"], saves_and_stops):
        saved = invoke("resume adding --output new")
    assert "no checkpoint was written yet, so rnn-parity resume adding begins again" in elsewhere.stderr
    assert "stopped; rnn-parity resume adding goes on" in here.stderr
    assert "stopped; rnn-parity resume new goes on" in saved.stderr


def test_a_disk_that_fills_up_in_training_says_how_to_go_on(tmp_path, monkeypatch):
    def saves(twin, problem, run, device):
        run.save(Snapshot(run.weights, {}, {}), twin.name)
        with mock.patch.object(os, "fsync", raising(OSError(errno.ENOSPC, "No space left on device"))):
            run.save(Snapshot(run.weights, {}, {}), twin.name)

    monkeypatch.chdir(tmp_path)
    ran = begin_training(saves)
    assert ran.exit_code == 2
    assert ran.stderr.startswith("rnn-parity: cannot write out/adding-")
    assert "No space left on device; " in ran.stderr


def test_a_bad_checkpoint_is_found_before_other_networks_are_trained(tmp_path, monkeypatch):
    def saves(twin, problem, run, device):
        run.save(Snapshot(run.weights, {}, {}), twin.name)
        return trained(twin, problem, run, device)

    monkeypatch.chdir(tmp_path)
    assert begin_training(saves, "--seeds", 2).exit_code == 0
    assert begin_training(saves, "--seeds", 2, "--resume").exit_code == 0
    last = max(tmp_path.glob("out/*-1/*.json"))
    last.write_text("{")
    ran = begin_training(raising(AssertionError("trained")), "--seeds", 2, "--resume")
    assert ran.exit_code == 2, ran.exception
    assert ran.stderr.count("\n") == 1
    assert last.name in ran.stderr


def test_a_report_is_printed_though_its_figures_cannot_be_drawn(tmp_path, monkeypatch):
    """A fault of ours after the work: what was found is not lost by it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(globals(), "drawn", raising(ValueError("ours")))
    ran = begin_training(trained)
    assert isinstance(ran.exception, ValueError)
    assert "rnn_torch GRU" in ran.stdout
    assert Path("out/results.json").exists()


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "No space left on device")])
def test_progress_that_cannot_be_shown_ends_no_work(error, monkeypatch):
    broken = SimpleNamespace(write=raising(error), flush=raising(error), isatty=lambda: False, encoding="utf-8")
    broken.fileno = raising(io.UnsupportedOperation())
    monkeypatch.setattr(sys, "stderr", broken)
    monkeypatch.setattr(app.terminal, "LINE_SECONDS", 0.0)
    with app.terminal.progress_bar(app.terminal.progress_console()) as progress:
        progress("half of it", 0.5)
        progress("all of it", 1.0)


def saves_and_ends(twin, problem, run, device):
    run.save(Snapshot(run.weights, {}, {}), twin.name)
    return trained(twin, problem, run, device)


def test_a_training_that_is_there_is_gone_on_with_or_begun_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert begin_training(saves_and_ends, "--seeds", 2).exit_code == 0
    first, second = sorted(Path("out").glob("adding-10-torch-GRU-*"))
    again = begin_training(raising(AssertionError("trained")))
    assert again.exit_code == 2
    assert again.stderr == (
        f"rnn-parity: output should be free of checkpoints, got {first}/checkpoint-00000000.json: "
        "go on with them by --resume, start anew by --overwrite, or name another folder\n"
    )
    both = begin_training(raising(AssertionError("trained")), "--resume", "--overwrite")
    assert both.exit_code == 2
    assert both.stderr.startswith("rnn-parity: resume and overwrite should not both be asked for")
    (first / "checkpoint-00000007.json").write_text("{")
    (first / "checkpoint-00000007.safetensors").write_text("")
    for kept in (first / "notes.txt", first / "checkpoint-best.json", second / "checkpoint-00000007.json"):
        kept.write_text("kept")
    seen = []

    def looks(twin, problem, run, device):
        seen.extend(sorted(path.name for path in run.folder.iterdir()))
        return saves_and_ends(twin, problem, run, device)

    anew = begin_training(looks, "--seeds", 1, "--overwrite")
    assert anew.exit_code == 0, anew.output
    assert seen == ["checkpoint-best.json", "notes.txt"]  # of both problems
    assert (second / "checkpoint-00000007.json").read_text() == "kept"
    assert (first / "checkpoint-00000000.json").exists()


def test_nothing_is_removed_before_all_is_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert begin_training(saves_and_ends).exit_code == 0
    files = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    refused = begin_training(raising(AssertionError("trained")), "--overwrite", "--device", "cuda")
    with mock.patch.object(twins, "get_each", raising(KeyboardInterrupt())):
        stopped = begin_training(raising(AssertionError("trained")), "--overwrite")
    assert (refused.exit_code, stopped.exit_code) == (2, 130)
    assert stopped.stderr == "rnn-parity: stopped; nothing was removed yet, so the same command begins again\n"
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("command", ["predict FOLDER Müller", "resume FOLDER"])
def test_a_folder_of_runs_is_answered_with_their_names(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_checkpoints(tmp_path / "results")
    ran = invoke(command.replace("FOLDER", "results"))
    assert ran.exit_code == 2
    assert ran.stderr == (
        "rnn-parity: checkpoint should be in results, but there is none; "
        "name one of its runs: results/adding, results/text\n"
    )
    (tmp_path / "empty").mkdir()
    ran = invoke(command.replace("FOLDER", "empty"))
    assert (ran.exit_code, ran.stderr) == (2, "rnn-parity: checkpoint should be in empty, but there is none\n")


@pytest.mark.parametrize("name", ["compare", "lockstep", "gradients", "bench"])
def test_a_report_takes_the_place_of_the_one_before(name, tmp_path):
    command = COMMANDS[name]
    for path in command.files:
        (tmp_path / path).write_text("of last time")
    with stand_ins(command, command.gives):
        ran = invoke(command.arguments.replace("OUT", str(tmp_path)))
    assert ran.exit_code == 0, ran.output
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(command.files)
    assert all(path.read_bytes() != b"of last time" for path in tmp_path.iterdir())


ENDS = {
    "it is stopped": (dict(stopped="stopped after 3 of 9 steps", interrupted=True), 130),
    "a process died": (dict(stopped="the process with threads = 2 ended with status -11"), 1),
    "a contender failed": (dict(rows=[runs.Row("haste-1x64", "GRU", "training", "torch.nn", 2, failed="no luck")]), 1),
    "a contender refused": (
        dict(rows=[runs.Row("haste-1x64", "GRU", "training", "torch.nn", 2, refused="no LSTM")]),
        0,
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_how_the_benchmarks_end_is_in_their_status_and_no_report_is_lost(how, tmp_path):
    changes, status = ENDS[how]
    with stand_ins(COMMANDS["bench"], lambda *given: replace(benchmarked(*given), **changes)):
        ran = invoke(f"bench --output {tmp_path}")
    assert ran.exit_code == status, ran.output
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(COMMANDS["bench"].files)
    if stopped := changes.get("stopped"):
        assert ran.stdout.startswith(f"PARTIAL: {stopped}")
        assert json.loads((tmp_path / "benchmarks.json").read_text())["stopped"] == stopped
    for row in changes.get("rows", ()):
        assert (row.failed or row.refused) in ran.stdout


# What it shows while it works


@pytest.mark.parametrize(
    ("width", "before", "bar"),
    [(120, "50 % 0:00:10 left: 0:00:20", 20), (80, "50 % left: 0:00:20", 20)]
    + [(width, "50 % left: 0:00:20", 10) for width in (79, 60, 40)],
)
def test_a_narrow_terminal_cuts_the_text_of_progress_and_nothing_else(width, before, bar):
    text = "speech: rnn_torch GRU, seed 0: loss 1.234, ‖gradient‖ 0.53, [training] loss 1.200, accuracy 0.512, and more"
    now = 0.0
    console = Console(file=io.StringIO(), width=width, force_terminal=True, get_time=lambda: now)
    with app.terminal.progress_bar(console) as progress:
        progress(text, 0.25)
        now = 10.0
        progress(text, 0.5)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    line = [each for each in re.split("[\r\n]+", drawn) if each.strip()][-1]
    begin = "━" * (bar // 2) + "╺" + "━" * (bar // 2 - 1) + f"  {before} "
    assert line == begin + text[: width - len(begin) - 1] + "…"


def test_the_time_left_that_is_told_is_drawn_and_passes():
    now = 0.0
    console = Console(file=io.StringIO(), width=80, force_terminal=True, get_time=lambda: now)
    with app.terminal.progress_bar(console) as progress:
        progress("first step", 0.0, 754.0)
        assert "left: 0:12:34" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
        now = 4.0
        progress("first step", 0.0)
        progress("second step", 0.0, 3600.0)
    assert "left: 1:00:00" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def test_the_time_left_is_a_line_at_once_where_there_is_no_terminal():
    console = Console(file=io.StringIO(), width=80)
    with app.terminal.progress_bar(console) as progress:
        progress("importing", 0.0)
        assert console.file.getvalue() == ""
        progress("first step", 0.0, 754.0)
        progress("second step", 0.1, 700.0)
    assert console.file.getvalue() == "0%, 13 min left: first step\n"


def test_what_comes_first_is_drawn_at_once():
    """The import of a framework, while which nothing is drawn, may follow."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with app.terminal.progress_bar(console) as progress:
        progress("importing PyTorch", 0.0)
        drawn = console.file.getvalue()
    assert "importing PyTorch" in drawn


@pytest.mark.parametrize("name", ["compare", "train", "resume", "predict", "lockstep", "gradients", "bench"])
def test_the_framework_that_is_being_imported_is_named(name, tmp_path, monkeypatch):
    """For it takes seconds, in which nothing else is seen."""
    shown = []

    @contextmanager
    def progress_bar(console):
        yield lambda what, share: shown.append((what, share))

    monkeypatch.chdir(tmp_path)
    write_checkpoints(tmp_path)
    module = importlib.import_module(f"rnn_common.cli.{name}")
    monkeypatch.setattr(module, "progress_bar", progress_bar)
    arguments = COMMANDS[name].arguments.replace("CHECKPOINTS/", "").replace("OUT/", "")
    with stand_ins(COMMANDS[name], (lambda *_: ["Über"]) if name == "predict" else COMMANDS[name].gives):
        ran = invoke(arguments)
    assert ran.exit_code == 0, ran.output
    both = [("importing PyTorch", 0.0), ("importing TensorFlow", 0.0)]
    assert shown[:2] == (both if name in ("compare", "lockstep", "gradients", "bench") else both[:1] + shown[1:2])
    assert ("importing TensorFlow", 0.0) not in shown[2:]


# Names


def test_the_choice_that_was_perhaps_meant_is_named():
    refusals = {
        "lstn": "cell should be one of SimpleRNN, LSTM, GRU, GRU v3, got 'lstn'; did you mean LSTM?",
        "Simple-RNN": "cell should be one of SimpleRNN, LSTM, GRU, GRU v3, got 'Simple-RNN'; did you mean SimpleRNN?",
        "lstm": "cell should be one of SimpleRNN, LSTM, GRU, GRU v3, got 'lstm'; did you mean LSTM?",
        "Elman": "cell should be one of SimpleRNN, LSTM, GRU, GRU v3, got 'Elman'",
        "": "cell should be one of SimpleRNN, LSTM, GRU, GRU v3, got ''",
        3: "cell should be one of SimpleRNN, LSTM, GRU, GRU v3, got 3",
    }
    for value, refusal in refusals.items():
        with pytest.raises(ValueError, match=f"^{re.escape(refusal)}$"):
            one_of("cell", value, list(CELLS))


NEARLY = {
    "trian speech": "No such command 'trian'. Did you mean 'train'?",
    "bench lst": "No such command 'lst'. Did you mean 'list'?",
    "lockstep --outptu x": "--output",
    "train speach": "got 'speach'; did you mean speech?\n",
    "train adding --setting quik": "got 'quik'; did you mean quick?\n",
    "train adding --cell GRUU": "got 'GRUU'; did you mean GRU?\n",
    "gradients --framework troch": "got 'troch'; did you mean torch?\n",
    "compare --data vowel": "data set should be one of vowels, gaussian, adding, got 'vowel'; did you mean vowels?\n",
    "bench --workload braun2018": "got 'braun2018'; did you mean braun-2018?\n",
    "bench --contender keras.layer": "got 'keras.layer'; did you mean keras.layers?\n",
}


@pytest.mark.parametrize("arguments", NEARLY)
def test_a_name_that_is_nearly_one_is_answered_with_it(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with stand_ins(COMMANDS["compare"], raising(AssertionError("it works"))):
        ran = invoke(arguments)
    assert ran.exit_code == 2
    assert NEARLY[arguments] in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_names_are_taken_in_any_case(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = []

    def work(chosen, progress, prepared):
        settings.append(chosen)
        return compared(chosen, progress, prepared)

    with stand_ins(COMMANDS["compare"], work):
        ran = invoke("compare --cell lstm --cell LSTM --framework TORCH --data Gaussian --dtype Float32 --device CPU")
    assert ran.exit_code == 0, ran.output
    assert settings == [compare.Settings(("LSTM",), ("torch",), "float32", "cpu", data="gaussian")]
    with stand_ins(COMMANDS["train"], trained):
        ran = invoke("train Adding --setting Tiny --cell gru --framework Torch")
    assert ran.exit_code == 0, ran.output
    report = json.loads(Path("training-results/adding/results.json").read_text())
    assert (report["task"], report["setting"]) == ("adding", "tiny")
    assert [(row["framework"], row["cell"]) for row in report["problems"][0]["rows"]] == [("torch", "GRU")]
    with stand_ins(COMMANDS["bench"], lambda chosen, *_: settings.append(chosen) or benchmarked(chosen, *_)):
        ran = invoke(
            "bench --workload HASTE-1x64 --contender RNN_torch --measure Training --sweep None --cell simplernn"
        )
    assert ran.exit_code == 0, ran.output
    assert settings[1].workloads == ("haste-1x64",)
    assert settings[1].contenders == ("rnn_torch",)
    assert (settings[1].measures, settings[1].sweeps, settings[1].cells) == (("training",), (), ("SimpleRNN",))


COMPLETIONS = {
    "rnn-parity ": [
        "compare",
        "inspect",
        "convert",
        "doctor",
        "train",
        "resume",
        "predict",
        "lockstep",
        "gradients",
        "engines",
        "bench",
    ],
    "rnn-parity train s": ["speech", "series"],
    "rnn-parity train text --cell ": list(CELLS),
    "rnn-parity train text --cell LSTM --framework t": ["torch", "tf"],
    "rnn-parity train text --ov": ["--overwrite"],
    "rnn-parity convert a.pt a.onnx --s": ["--states"],
    "rnn-parity convert a.pt a.onnx --l": ["--lengths"],
    "rnn-parity resume --framework to": ["torch"],
    "rnn-parity compare --data g": ["gaussian"],
    "rnn-parity bench ": ["list", "compare"],
    "rnn-parity bench --workload braun": ["braun-2018", "braun-2018-ctc"],
    "rnn-parity bench --contender keras": ["keras.layers", "keras.layers, XLA"],
}


@pytest.mark.parametrize("line", COMPLETIONS)
def test_the_shell_completes_commands_options_and_names(line):
    environment = {"_RNN_PARITY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    ran = CliRunner().invoke(app.app, [], env=environment, prog_name="rnn-parity")
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.split("\n")[:-1] == COMPLETIONS[line]


def test_completion_is_shown_and_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # else of the shell that runs the tests
    monkeypatch.setenv("HOME", str(tmp_path))
    shown, installed = (
        CliRunner().invoke(app.app, [option, "bash"], prog_name="rnn-parity")
        for option in ("--show-completion", "--install-completion")
    )
    assert (shown.exit_code, installed.exit_code) == (0, 0)
    assert "complete -o default -F _rnn_parity_completion rnn-parity" in shown.stdout
    script = tmp_path / ".bash_completions" / "rnn-parity.sh"
    assert script.read_text().strip() == shown.stdout.strip()
    assert str(script) in (tmp_path / ".bashrc").read_text()


# Versions


def test_the_version_and_those_of_the_frameworks(monkeypatch):
    distributions = {"torch": ["torch"], "tensorflow": ["tensorflow-cpu"], "keras": ["keras"], "jax": ["jax"]}
    versions = {"torch": "2.13.0", "tensorflow-cpu": "2.21.0", "keras": "3.12.1"}
    monkeypatch.setattr(app.metadata, "version", versions.__getitem__)
    for present, shown in (
        (distributions, " (torch 2.13.0, tensorflow 2.21.0, keras 3.12.1)"),
        ({"torch": ["torch"]}, " (torch 2.13.0)"),
        ({}, ""),
    ):
        monkeypatch.setattr(app.metadata, "packages_distributions", lambda present=present: present)
        ran = invoke("--version")
        assert (ran.exit_code, ran.stdout) == (0, f"rnn-parity {rnn_common.__version__}{shown}\n")


def process(program, *arguments):
    """The command as a process of its own, in which a few lines of Python come before it."""
    program += f"; import sys; sys.argv = ['rnn-parity', *{arguments}]; from rnn_common.cli.app import main; main()"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_a_version_imports_no_framework():
    ran = process(
        "import atexit, sys; atexit.register(lambda: print({'torch', 'keras', 'tensorflow'} & {*sys.modules}))",
        "--version",
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"rnn-parity {rnn_common.__version__}")
    assert ran.stdout.endswith("\nset()\n")


def test_the_version_that_is_installed_is_the_one_that_the_package_says():
    configuration = pytest.importorskip("setuptools.config.pyprojecttoml")
    project = configuration.read_configuration(ROOT / "pyproject.toml")["project"]
    assert project["version"] == rnn_common.__version__
    pythons = [each.rpartition(" ")[2] for each in project["classifiers"] if ":: 3." in each]
    assert f">={pythons[0]}" == str(project["requires-python"])
    assert "Typing :: Typed" in project["classifiers"]


# The benchmarks' packages


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "bench"),
        (["bench", "--help"], "--workload"),
        (["bench", "list"], "haste-1x64"),
        (["train", "--help"], ""),
    ],
)
def test_help_needs_no_package_of_the_benchmarks(arguments, shown):
    ran = process("import sys; sys.modules['scipy'] = sys.modules['matplotlib'] = None", *arguments)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert shown in ran.stdout


# The machine


def test_memory_is_asked_of_the_machine(monkeypatch):
    assert 2**26 < machine.available_memory() < 2**50
    monkeypatch.setattr(machine, "available_memory", lambda: 3 * 2**30)
    machine.check_memory("width", 5, 3 * 2**30)
    with pytest.raises(
        ValueError, match=r"^width should be less, got 5, which needs at least 4 GiB of memory where there are 3.0$"
    ):
        machine.check_memory("width", 5, 3 * 2**30 + 1)


def test_sizes_that_fit_are_not_refused(monkeypatch):
    """What is counted is less than what a comparison takes: weights, gradients and outputs of the largest cell."""
    settings = compare.Settings(("SimpleRNN", "LSTM"), ("torch",), hidden=50, batch=8, data="adding")
    data = compare.load("adding")
    lstm = 4 * (50 * 2 + 50 * 50 + 50)
    assert compare._least_memory(settings, data, 1) == 8 * (lstm * 4 + 8 * 50 * 50 * 3)


def test_an_unwritable_home_keeps_nothing_from_working(tmp_path):
    """The package that the recordings come in makes a folder there when asked for them by its own function."""
    pytest.importorskip("aeon")
    program = "import rnn_common.reports.figures; from rnn_common.data import japanese_vowels as load; print(len(load('test')))"
    home = {**os.environ, "HOME": "/proc/nowhere", "XDG_CACHE_HOME": "", "MPLCONFIGDIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=home)
    assert (ran.returncode, ran.stdout) == (0, "370\n"), ran.stderr


def test_engines_says_what_runs_where(twin):
    ran = invoke("engines", "--framework", twin.name)
    assert ran.exit_code == 0
    lines = [line.split(maxsplit=2) for line in ran.stdout.splitlines() if line.strip().startswith(twin.package)]
    assert [line[:2] for line in lines] == [
        [f"{twin.package}.{cell}", engine] for cell in IN_BOTH for engine in twin.engines()
    ]
    assert sum(line[2].strip() == "the default" for line in lines) == len(IN_BOTH)
