"""Files that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def check_writable(path: Path) -> None:
    """Refuse, before the work, a path that cannot be written.

    Raises:
        OSError: its folder does not exist or cannot be written, or it is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(f"output should be a file, got the folder {path}")
    if not os.access(path.parent, os.W_OK):
        raise OSError(f"output should be in a folder that can be written, got {path}")


def check_folder(path: Path) -> None:
    """Refuse, before the work, a folder that neither is there and can be written nor can be made.

    Raises:
        OSError: it is a file, or it or the nearest folder above it cannot be written.
    """
    existing = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"output should be a folder, got the file {existing}")
    if not os.access(existing, os.W_OK):
        raise OSError(f"output should be a folder that can be written, got {path}")


def write_bytes(content: bytes, path: Path) -> None:
    """Write a file under a temporary name, then rename it: a reader sees the old file or the whole new one."""
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def write_text(text: str, path: Path) -> None:
    """`write_bytes` of text in UTF-8."""
    write_bytes(text.encode(), path)


def write_json(content: Any, path: Path) -> None:
    """`write_text` of JSON."""
    write_text(json.dumps(content, indent=2) + "\n", path)
