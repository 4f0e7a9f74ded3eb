"""The compiled kernels by themselves: σ and tanh, every cell, packing and instruction set against the oracle, threads, sizes."""

import ctypes
import functools
import itertools
import mmap
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_common.cells import CELLS
from rnn_common.native import library
from rnn_common.parity.case import run_oracle
from rnn_common.parity.contract import Deviations, bounds, deviations
from tests.cases import SHAPES, build, make
from tests.native.kernels import Team, run

if why := library.absent():
    pytest.skip(why, allow_module_level=True)

KERNELS = library.load()
KERNELS.rnn_level.restype = ctypes.c_char_p
LEVELS = [name for name in ("avx512", "avx2", "baseline") if not KERNELS.rnn_use(name.encode())]
KERNELS.rnn_use(LEVELS[0].encode())
DTYPES = ["float32", "float64"]


@pytest.fixture(params=LEVELS)
def level(request):
    """Each instruction set that this machine has."""
    assert not KERNELS.rnn_use(request.param.encode())
    yield request.param
    KERNELS.rnn_use(LEVELS[0].encode())


def test_the_widest_instruction_set_is_used():
    assert KERNELS.rnn_level().decode() == LEVELS[0]
    assert KERNELS.rnn_use(b"another") == 1


# σ and tanh


def activate(name, x):
    y = x.copy()
    KERNELS.rnn_activate(y.itemsize, name == "sigmoid", ctypes.c_int64(y.size), ctypes.c_void_p(y.ctypes.data))
    return y


def numbers(dtype):
    """Of every size, denormal ones too, more densely where σ and tanh bend, and both signs."""
    info = np.finfo(dtype)
    small = np.geomspace(info.smallest_subnormal, 1, 4000, dtype=np.longdouble)
    positive = np.concatenate([small, np.linspace(0, 20, 40001), np.linspace(20, 800, 5001), [info.max, info.tiny]])
    return np.concatenate([positive, -positive]).astype(dtype)


def exact(name, x):
    x = x.astype(np.longdouble)
    if name == "tanh":
        return np.tanh(x)
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_three_units_in_the_last_place(level, name, dtype):
    x = numbers(dtype)
    found, expected = activate(name, x), exact(name, x)
    unit = np.spacing(np.abs(expected.astype(dtype)))
    assert np.max(np.abs(found - expected) / unit) < 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_the_ends(level, dtype):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e4, -1e4], dtype)
    sigmoid, tanh = activate("sigmoid", x), activate("tanh", x)
    np.testing.assert_array_equal(sigmoid, np.array([1, 0, np.nan, 0.5, 0.5, 1, 0], dtype))
    np.testing.assert_array_equal(tanh, np.array([1, -1, np.nan, 0, 0, 1, -1], dtype))
    assert np.signbit(tanh[4])


# The cells


@functools.cache
def expected_of(*arguments):
    case = make(*arguments[:2], dtype=arguments[2])
    return case, run_oracle(case)


def check(case, found, oracle=None):
    """To the contract's bounds in float64, and in float32 to as many units in the last place."""
    expected, largest, _ = oracle or run_oracle(case)
    deviation = deviations(found, expected)
    allowed = bounds("float64", largest)
    units = np.finfo(case.parameters.dtype).eps / np.finfo(np.float64).eps
    assert deviation.within(Deviations(*(units * bound for bound in allowed))), deviation


@pytest.mark.parametrize("packing", ["torch", "keras"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_the_oracle(level, cell, packing, shape, dtype):
    case, oracle = expected_of(cell, shape, dtype)
    check(case, run(case, packing), oracle)


@pytest.mark.parametrize("packing", ["torch", "keras"])
@pytest.mark.parametrize("apart", [False, True])
def test_without_biases_and_the_gradient_of_x_apart(cell, packing, apart):
    case = make(cell, "ragged", bias=False)
    check(case, run(case, packing, apart=apart))


def test_widths_around_the_blocks(cell, level):
    """One unit more and one less than a vector, a block and a panel, for hidden state and input, and tiles of rows alike."""
    for width, batch in itertools.zip_longest(
        (7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65), (1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 28, 29)
    ):
        case = build(CELLS[cell], batch, 3, 66 - width, width, None)
        check(case, run(case))


@pytest.mark.parametrize("packing", ["torch", "keras"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_wide_sequence(cell, level, packing, dtype):
    """Whose weights are multiplied as they are, where a unit's stand side by side."""
    for steps, width, hidden in ((3, 130, 141), (1, 257, 128), (40, 5, 150), (9, 140, 7)):
        case = build(CELLS[cell], 1, steps, width, hidden, None, dtype)
        check(case, run(case, packing))


@st.composite
def searched(draw):
    cell = draw(st.sampled_from(list(CELLS.values())))
    batch, time, width, hidden = (draw(st.integers(1, most)) for most in (9, 12, 40, 70))
    lengths = draw(st.none() | st.lists(st.integers(1, time), min_size=batch, max_size=batch))
    dtype, seed = draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99))
    return build(cell, batch, time, width, hidden, lengths, dtype, draw(st.booleans()), seed)


@given(case=searched(), packing=st.sampled_from(["torch", "keras"]), apart=st.booleans())
@settings(max_examples=150)
def test_search(case, packing, apart):
    check(case, run(case, packing, apart=apart))


@pytest.mark.skipif(sys.platform != "linux", reason="asks for memory in Linux's way")
def test_addresses_beyond_32_bits():
    """Steps that stand 2³¹ numbers apart, of which only those that are there are ever touched."""
    apart = 2**31 + 16
    case = build(CELLS["GRU"], 2, 3, 4, 5, None, "float32")
    without_reserve = 0x4000  # Linux's MAP_NORESERVE
    memory = np.frombuffer(
        mmap.mmap(-1, 4 * (2 * apart + 64), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | without_reserve), np.float32
    )
    x = np.lib.stride_tricks.as_strided(memory, (2, 3, 4), (16, 4 * apart, 4))
    x[:] = case.x
    check(case, run(case._replace(x=x)))


# Threads


@pytest.mark.parametrize("shape", [(33, 9, 17, 130, None), (1, 5, 300, 260, None), (40, 12, 5, 96, range(40))], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_with_any_number_of_threads(cell, shape, dtype):
    *sizes, lengths = shape
    case = build(CELLS[cell], *sizes, None if lengths is None else [1 + i % 12 for i in lengths], dtype)
    alone = run(case)
    for threads in (2, 3, 5):
        team = Team()
        together = run(case, team=team, threads=threads)
        assert team.most > 1
        for a, b in zip((alone.outputs, *alone.final), (together.outputs, *together.final), strict=True):
            np.testing.assert_array_equal(a, b)
        for name, gradient in alone.gradients.items():
            np.testing.assert_array_equal(gradient, together.gradients[name], err_msg=name)


# Sanitizers

PROGRAM = """
import sys
sys.path[:0] = sys.argv[2:]
import ctypes
from rnn_common.native import library
library.load = lambda: ctypes.CDLL(sys.argv[1])
import numpy as np
from tests.cases import build
from tests.native.kernels import Team, run
from rnn_common.cells import CELLS
random = np.random.default_rng(0)
for i in range(int({count})):
    cell = CELLS[list(CELLS)[i % 4]]
    batch, time, width, hidden = (int(random.integers(1, most)) for most in {most})
    lengths = random.integers(1, time + 1, batch) if i % 3 == 0 else None
    case = build(cell, batch, time, width, hidden, lengths, ("float32", "float64")[i % 2])
    run(case, ("torch", "keras")[i // 2 % 2], Team(), {threads}, i % 5 == 0)
print("done")
"""


def sanitized(kinds, name, tmp_path, **settings):
    """Cases of random sizes, with kernels that are compiled with a sanitizer; Python itself is not."""
    compiler = library.find_compiler()
    runtime = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip(f"the compiler has no {name}")
    flags = [*library.FLAGS, "-O1", "-g", f"-fsanitize={kinds}", "-fno-sanitize-recover=all"]
    path = tmp_path / "recurrent.so"
    library.build(path, compiler, flags)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM.format(**settings), str(path), str(root)]
    environment = {**os.environ, "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0", "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.endswith("done\n")


@pytest.mark.sanitizers
def test_no_memory_that_is_not_theirs(tmp_path):
    sanitized("address,undefined", "libasan.so", tmp_path, count=400, most=(12, 12, 50, 80), threads=1)


@pytest.mark.sanitizers
def test_no_race(tmp_path):
    sanitized("thread", "libtsan.so", tmp_path, count=40, most=(30, 8, 50, 200), threads=4)


# Compilers


@pytest.mark.sanitizers
def test_the_same_bits_by_a_compiler_that_fuses_less(tmp_path):
    """From version 13 on GCC leaves a product and a sum apart where the next sum waits for them; asked to, so do those before."""
    compiler = [*library.find_compiler(), "--param=avoid-fma-max-bits=512"]
    if subprocess.run([*compiler, "-E", "-x", "c++", os.devnull], capture_output=True).returncode:
        pytest.skip("the compiler has no such choice")
    environment = {**os.environ, "CXX": shlex.join(compiler), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-k", test_the_same_bits_with_any_number_of_threads.__name__, __file__]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert "passed" in ran.stdout
