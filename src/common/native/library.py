"""The library of kernels: found where a wheel has brought it, or compiled once for this machine and kept."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

SOURCES = Path(__file__).parent

# What each instruction set is called and compiled with; the library takes the widest that its machine has.
# The narrowest stands first: of an inline function that several have the linker keeps the first, which any machine can run.
LEVELS: dict[str, dict[str, list[str]]] = {
    "x86_64": {"baseline": ["-march=x86-64"], "avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4"]},
    "aarch64": {"baseline": []},
}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}

# Products are added to a sum in one rounding; no number is treated as if it were exact, finite or ordered otherwise.
FLAGS = ["-std=c++20", "-O2", "-fPIC", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi"]

log = logging.getLogger(__name__)


class Unavailable(RuntimeError):
    """There are no kernels here; the message says why."""


@functools.cache
def absent() -> str | None:
    """Why there are no kernels on this machine, or None; compiles them where that has not been done."""
    try:
        load()
    except Unavailable as error:
        return str(error)
    return None


@functools.cache
def load() -> ctypes.CDLL:
    """The library.

    Raises:
        Unavailable: it is not there and cannot be compiled.
    """
    try:
        path = shipped()
        return ctypes.CDLL(str(path if path.exists() else compiled()))
    except OSError as error:
        raise Unavailable(f"the kernels could not be loaded: {error}") from error


def shipped() -> Path:
    """Where a wheel has the library of these very sources."""
    return SOURCES / f"recurrent-{_digest(*_sources())}.so"


def compiled() -> Path:
    """The library in the cache, compiled if it is not there.

    Raises:
        Unavailable: there is no compiler, it fails, or there is no place for what it makes.
    """
    return kept("recurrent", [*_sources(), *FLAGS], build)


def kept(name: str, key: Sequence[str], make: Callable[[Path, list[str]], None]) -> Path:
    """What is compiled by `make(path, compiler)` and kept in the cache under a name for as long as its key is the same.

    Raises:
        Unavailable: there is no compiler, it fails, or there is no place for what it makes.
    """
    compiler = find_compiler()
    version = _output([*compiler, "--version"])
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{_digest(*key, *compiler, version, platform.machine())}.so"
        if path.exists():  # also where nothing may be written
            return path
        with _locked(path.with_suffix(".lock")):
            if not path.exists():
                log.warning("compiling the kernels, once for this machine, which takes up to a minute: %s", path)
                make(path, compiler)
        return path
    except OSError as error:
        raise Unavailable(f"the kernels could not be compiled: {error}") from error


def cache_folder() -> Path:
    """Where compiled libraries are kept: `rnn-parity` in `$XDG_CACHE_HOME`, by default `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "rnn-parity"


def find_compiler() -> list[str]:
    """The C++ compiler: `$CXX`, or the first that is there of c++, g++ and clang++.

    Raises:
        Unavailable: there is none.
    """
    if sys.platform not in ("linux", "darwin"):
        raise Unavailable(f"the kernels are for Linux and macOS, not for {sys.platform}")
    if given := os.environ.get("CXX"):
        compiler = shlex.split(given)
        if shutil.which(compiler[0]) is None:
            raise Unavailable(f"there is no C++ compiler {compiler[0]}, which CXX names")
        return compiler
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise Unavailable("there is no C++ compiler: none of c++, g++ and clang++")


def build(path: Path, compiler: list[str], flags: list[str] | None = None) -> None:
    """Compile the library; it comes into being whole or not at all.

    Raises:
        Unavailable: the compiler fails.
    """
    machine = platform.machine().lower()
    levels = LEVELS.get(MACHINES.get(machine, machine), {"baseline": []})
    flags = FLAGS if flags is None else flags
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects = {f"{folder}/{level}.o": [*march, f"-DRNN_LEVEL={level}"] for level, march in levels.items()}
        run([[*compiler, *flags, *own, "-c", f"{SOURCES}/level.cpp", "-o", name] for name, own in objects.items()])
        made = f"{folder}/recurrent.so"
        others = [f"{SOURCES}/{name}.cpp" for name in ("recurrent", "memory")]
        run([[*compiler, *flags, "-shared", *others, *objects, "-o", made]])
        os.replace(made, path)


def run(commands: list[list[str]]) -> None:
    """Run a compiler's commands at once, and wait for all.

    Raises:
        Unavailable: one of them fails.
    """
    running = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for each in commands]
    said = [process.communicate()[0] for process in running]
    for process, output in zip(running, said, strict=True):
        if process.returncode:
            lines = [line for line in output.splitlines() if "error" in line] or output.splitlines()
            raise Unavailable(f"the C++ compiler failed: {lines[0] if lines else process.returncode}")


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"the C++ compiler does not run: {error}") from error


def _sources() -> list[str]:
    return [path.read_text() for path in sorted(SOURCES.iterdir()) if path.suffix in (".h", ".hpp", ".cpp")]


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
