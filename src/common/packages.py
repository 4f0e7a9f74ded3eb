"""Optional packages, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any


class MissingPackage(ModuleNotFoundError):
    """A package that the base install does without is not installed; the message says how to install it."""


def optional(module: str, why: str, *, package: str | None = None, extra: str = "tasks") -> Any:
    """Import a module of a package that the base install does without.

    Args:
        module: its full name.
        why: the beginning of what is said if it is missing: `"the surnames come with"`.
        package: what it is installed as. Default: the module's first name.
        extra: the optional set of packages that it is in. Default `"tasks"`.

    Raises:
        MissingPackage: it is not installed; says which, and how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = package or module.partition(".")[0]
        raise MissingPackage(
            f"{why} the package {package}, which is not installed: pip install '.[{extra}]'", name=error.name
        ) from error
