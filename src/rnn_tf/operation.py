"""The kernels as operations of TensorFlow's: compiled for this TensorFlow, kept, and loaded when they are first asked for."""

from __future__ import annotations

import ctypes
import functools
import os
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from rnn_common.native import library
from rnn_common.native.library import Unavailable

SOURCE = Path(__file__).with_name("operation.cpp")


@functools.cache
def absent() -> str | None:
    """Why there are no operations on this machine, or None; compiles them where that has not been done."""
    try:
        load()
    except Unavailable as error:
        return str(error)
    return None


@functools.cache
def load() -> Any:
    """The operations `rnn_parity_forward`, `rnn_parity_backward` and `rnn_parity_input_gradient`.

    Raises:
        Unavailable: the kernels or the operations are not there and cannot be compiled.
    """
    kernels, path = library.load(), compiled()
    try:
        operations = tf.load_op_library(str(path))
    except (OSError, tf.errors.OpError) as error:
        raise Unavailable(f"the operations could not be loaded: {error}") from error
    names = ("rnn_forward", "rnn_backward", "rnn_input_gradient", "rnn_units", "rnn_gates", "rnn_keeps")
    ctypes.CDLL(str(path)).rnn_attach(*(ctypes.cast(getattr(kernels, name), ctypes.c_void_p) for name in names))
    return operations


def compiled() -> Path:
    """The operations in the cache, compiled if they are not there.

    Raises:
        Unavailable: there is no compiler, it fails, or there is no place for what it makes.
    """
    flags = ["-O1", "-fPIC", "-w", *tf.sysconfig.get_compile_flags(), f"-I{library.SOURCES}"]
    headers = (library.SOURCES / "recurrent.h").read_text()
    return library.kept(
        "operation", [SOURCE.read_text(), headers, tf.__version__, *flags], functools.partial(_build, flags)
    )


def _build(flags: list[str], path: Path, compiler: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = f"{folder}/operation.so"
        library.run([[*compiler, *flags, "-shared", str(SOURCE), "-o", made, *tf.sysconfig.get_link_flags()]])
        os.replace(made, path)
