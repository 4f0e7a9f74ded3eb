"""Triton's library is loaded before TensorFlow's, so that whatever is imported later does not crash the process."""

import ctypes
import os
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path


def load_triton() -> None:
    """Load Triton's library, without importing Triton, where both it and TensorFlow are installed.

    Both hold a copy of LLVM. TensorFlow 2.20 and newer show theirs to every library that is loaded later; Triton 3.7 and
    newer would call that one, which is of another version, and crash at import: in `torch.compile`, or when the first
    optimiser is made. A library that is loaded already keeps what it calls, so Triton's comes first. Where TensorFlow was
    there before us, Triton is told to look in itself first. That is not done always: it would look past a `malloc` that
    the user has put in the place of the system's, and free one's memory with the other.

    A Triton that cannot be loaded is left for whoever imports it to complain of.
    """
    if sys.platform != "linux":
        return
    triton = _spec("triton")
    if triton is None or triton.origin is None or _spec("tensorflow") is None:
        return
    mode = os.RTLD_NOW
    if "tensorflow" in sys.modules:
        mode |= getattr(os, "RTLD_DEEPBIND", 0)
    with suppress(OSError):
        ctypes.CDLL(str(Path(triton.origin).parent / "_C" / "libtriton.so"), mode)


def _spec(package: str) -> ModuleSpec | None:
    """Where a package is, or None where it is not installed or nobody can tell, as of one that a test has replaced."""
    try:
        return find_spec(package)
    except (ImportError, ValueError):
        return None
