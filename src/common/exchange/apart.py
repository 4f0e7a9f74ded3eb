"""Readers that call a library in C, each in a process of its own: what a damaged file does to the library ends there.

A few altered bytes in an HDF5 file can stop the library with a fault of memory, or have it ask for memory that nobody has. The
process has a bound of memory and of time, and what it hands back is checked as a stranger's file is.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np

import rnn_common
from rnn_common.exchange.contents import LARGEST, Array, Budget, Contents, NotUnderstood
from rnn_common.packages import optional
from rnn_common.reader import regular_size

MEMORY, TIMES = 2**30, 20  # bytes that the process may have, and so many times the file's
SECONDS, SPEED = 20, 2**24  # that it may take, and bytes of the file a second besides
HEAD = 2**27  # bytes of what is said before the arrays
# The package is made from its folder, for an editable install finds it by other means than a path.
PROGRAM = """
import importlib.util, json, sys
sys.path[:], package = json.loads(sys.argv[1])
found = importlib.util.spec_from_file_location("rnn_common", package)
sys.modules["rnn_common"] = importlib.util.module_from_spec(found)
found.loader.exec_module(sys.modules["rnn_common"])
from rnn_common.exchange.apart import send
send(*sys.argv[2:])
"""


def read(reader: str, path: Path) -> Contents:
    """What a reader finds in a file, read in a process of its own.

    Args:
        reader: the name of a module of this package that has `contents_of(path)`.
        path: of the file.

    Raises:
        OSError: the file is not there, or cannot be read.
        NotUnderstood: the reader refuses it, or the library stops at it.
        ValueError: it is no regular file, or too large.
        MissingPackage: h5py is not installed.
    """
    size = regular_size(path, LARGEST)
    path.open("rb").close()  # an error of its own if it may not be read
    optional("h5py", "HDF5 files are read with", extra="exchange")
    arguments = [json.dumps([sys.path, rnn_common.__file__]), reader, str(path.absolute()), str(MEMORY + TIMES * size)]
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, *arguments]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, env=os.environ | threads
    ) as process:
        late = threading.Timer(SECONDS + size / SPEED, process.kill)
        late.start()
        try:
            assert process.stdout is not None
            return _received(process.stdout, path)
        finally:
            late.cancel()
            process.kill()


def _received(stream: IO[bytes], path: Path) -> Contents:
    length = int.from_bytes(_exactly(stream, 8, path), "little")
    if length > HEAD:
        raise NotUnderstood(f"{path} should say at most {HEAD:,} bytes besides its arrays, got {length:,}")
    said = json.loads(_exactly(stream, length, path))
    if "error" in said:
        raise NotUnderstood(str(said["error"]))
    budget = Budget()
    arrays: dict[str, Array] = {}
    for name, kind, sizes in said["arrays"]:
        dtype = np.dtype(kind)
        arrays[name] = np.empty(budget.take(name, sizes, dtype), dtype)
        content = arrays[name].reshape(-1).view(np.uint8).data
        while content:
            count = stream.readinto(content)  # type: ignore[attr-defined]
            if not count:
                raise _stopped(path)
            content = content[count:]
    return Contents(path, said["format"], arrays, said["config"], tuple(said["version"]), tuple(said["notes"]))


def _exactly(stream: IO[bytes], count: int, path: Path) -> bytes:
    found = stream.read(count)
    if len(found) != count:
        raise _stopped(path)
    return found


def _stopped(path: Path) -> NotUnderstood:
    return NotUnderstood(
        f"{path} is damaged, or asks for more time or memory than its size warrants: reading it stopped"
    )


def send(reader: str, path: str, memory: str) -> None:
    """What `read` has its process do: the file's contents, or what is wrong with it, to the standard output."""
    try:
        import resource
    except ModuleNotFoundError:  # on Windows
        pass
    else:
        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module = importlib.import_module(f"rnn_common.exchange.{reader}")
    arrays: list[Array] = []
    try:
        found: Contents = module.contents_of(Path(path))
        arrays = [np.asarray(array, order="C") for array in found.arrays.values()]
        head: dict[str, Any] = {
            "format": found.format,
            "config": found.config,
            "version": found.version,
            "notes": found.notes,
            "arrays": [(name, array.dtype.str, array.shape) for name, array in zip(found.arrays, arrays, strict=True)],
        }
    except MemoryError:
        head = {"error": f"{path} should need at most {int(memory):,} bytes, but it asks for more"}
    except (OSError, ValueError) as error:
        head = {"error": " ".join(str(error).split())}
    content = json.dumps(head).encode()
    sys.stdout.buffer.write(len(content).to_bytes(8, "little") + content)
    for array in arrays:
        sys.stdout.buffer.write(array.reshape(-1).view(np.uint8).data)
    sys.stdout.buffer.flush()
