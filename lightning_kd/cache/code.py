"""What functions and classes do, as bytes: an edited transform must not look like the old one."""

from __future__ import annotations

import importlib.metadata
import sys
import types
from collections.abc import Iterator
from typing import Any


def installed_version(module: str | None) -> str | None:
    """The version of the installed distribution or standard library that a module is from.

    Code that is not installed changes without a version, so there is none for it, whatever ``__version__`` says.

    Args:
        module: dotted name.
    """
    root = (module or "").partition(".")[0]
    if root in sys.stdlib_module_names:
        return "python" + ".".join(map(str, sys.version_info[:2]))
    loaded = sys.modules.get(root)
    places = [getattr(loaded, "__file__", None) or "", *map(str, getattr(loaded, "__path__", []))]
    if not any("site-packages" in place or "dist-packages" in place for place in places):
        return None
    version = getattr(loaded, "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return importlib.metadata.version(root)
    except importlib.metadata.PackageNotFoundError:
        return None


def code_bytes(code: types.CodeType) -> bytes:
    """The instructions of a function, without file names and line numbers."""
    parts: list[Any] = [
        code.co_code,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags,
        [_constant(constant) for constant in code.co_consts],
    ]
    return repr(parts).encode()


def global_names(code: types.CodeType) -> Iterator[str]:
    """Names that a function and those inside it may read from its module."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from global_names(constant)


def _constant(constant: Any) -> Any:
    if isinstance(constant, types.CodeType):
        return code_bytes(constant)
    if isinstance(constant, frozenset):  # its order depends on the process
        return sorted(map(repr, constant))
    if isinstance(constant, tuple):
        return tuple(_constant(item) for item in constant)
    return constant
