"""Files that are whole or not there: written under a temporary name, then renamed. And Python files of the user's own."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import IO, Any

try:
    import fcntl
except ModuleNotFoundError:  # not on Windows: there the temporary files of killed runs stay
    fcntl = None  # type: ignore[assignment]

PREFIX = ".rnn-parity-"


def check_writable(path: Path) -> None:
    """Refuse, before the work, a path that cannot be written.

    Raises:
        OSError: its folder does not exist or cannot be written, or it is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(f"output should be a file, got the folder {path}")
    if not path.parent.is_dir():
        raise NotADirectoryError(f"output should be in a folder that can be written, got {path}")
    if not _is_special(path):
        _try(path.resolve().parent, f"output should be in a folder that can be written, got {path}")


def check_folder(path: Path, *names: str) -> None:
    """Refuse, before the work, a folder that neither is there and can be written nor can be made.

    Args:
        path: the folder.
        names: of the files that are to be written into it.

    Raises:
        OSError: it is a file, or it or the nearest folder above it cannot be written, or one of the files is a folder.
    """
    existing = next(each for each in (path, *path.absolute().parents) if each.exists() or each.is_symlink())
    if not existing.is_dir():
        raise NotADirectoryError(f"output should be a folder, got the file {existing}")
    _try(existing, f"output should be a folder that can be written, got {path}")
    for name in names:
        if (path / name).is_dir():
            raise IsADirectoryError(f"output should be a folder whose {name} is a file, got the folder {path / name}")


def _try(folder: Path, message: str) -> None:
    """Write a file in a folder, and remove it: what permissions say is not what a file system does."""
    try:
        with _temporary(folder) as file:
            os.unlink(file.name)
    except OSError as error:
        raise OSError(f"{message}: {error.strerror}") from None


def write_bytes(content: bytes, path: Path) -> Path:
    """Write a file under a temporary name, then rename it: a reader sees the old file or the whole new one.

    What is no file, such as `/dev/null`, is written to and stays what it is; of a link, what it points to is written.

    Returns:
        The path.

    Raises:
        OSError: it cannot be written; names the file.
    """
    try:
        if _is_special(path):
            with open(path, "wb") as stream:
                stream.write(content)
            return path
        target = path.resolve()
        remove_leftovers(target.parent)
        with _temporary(target.parent) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, target)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror or error}") from error
    return path


def write_text(text: str, path: Path) -> Path:
    """`write_bytes` of text in UTF-8."""
    return write_bytes(text.encode(), path)


def write_json(content: Any, path: Path) -> Path:
    """`write_text` of JSON."""
    return write_text(json.dumps(content, indent=2) + "\n", path)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of runs that were killed: those of ours that no process holds any more."""
    if fcntl is None:
        return
    for path in folder.glob(f"{PREFIX}*"):
        ours = re.fullmatch(r"[a-z0-9_]{8}", path.name.removeprefix(PREFIX))
        if not ours or path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError), open(path, "rb") as file:  # an error: its writer holds it, or it has just gone
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@contextmanager
def _temporary(folder: Path) -> Iterator[IO[bytes]]:
    """A new file in a folder, held as long as it is open, so that nobody takes it for a leftover."""
    while True:
        with tempfile.NamedTemporaryFile("wb", dir=folder, prefix=PREFIX, delete=False) as file:
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks: leftovers stay there
                    fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:  # else it was taken for one before it was held
                yield file
                return


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def run_file(argument: str, path: Path) -> ModuleType:
    """The module that a Python file of the user's own is, run as an import would.

    Args:
        argument: what names the file, and so what errors name.
        path: of the file.

    Raises:
        ValueError: it is not there, or no Python file.
        Exception: whatever the file raises.
    """
    if not path.is_file():
        raise ValueError(f"{argument} should be of a file that is there, got {path}")
    spec = spec_from_file_location(f"rnn_{argument}s_{path.stem}", path)  # whatever else is called as the file is
    if spec is None or spec.loader is None:
        raise ValueError(f"{argument} should be of a Python file, got {path}")
    module = module_from_spec(spec)
    sys.modules[module.__name__] = module  # where annotations in it are looked up
    spec.loader.exec_module(module)
    return module
