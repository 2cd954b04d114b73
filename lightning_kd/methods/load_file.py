"""Import a method author's file where it lies, and find the methods in it."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from lightning_kd.methods.base import DistillationMethod

_REFERENCE = re.compile(r"(?P<path>.+?\.py)(?::(?P<name>[^:/\\]+))?")


class MethodFileError(Exception):
    """There is no such file or method, or the file cannot be imported."""


def is_file_reference(given: str) -> bool:
    """Whether a text looks like ``my_method.py`` or ``my_method.py:ClassName``.

    >>> is_file_reference("my_method.py:Mine"), is_file_reference("package.module.Mine")
    (True, False)
    """
    return _REFERENCE.fullmatch(given) is not None


def split_reference(given: str) -> tuple[Path, str | None]:
    """The absolute path of a file, and the name of one of its classes if one was given.

    Args:
        given: ``my_method.py``, or ``my_method.py:ClassName``.

    Raises:
        MethodFileError: if it is something else, or there is no such file.
    """
    match = _REFERENCE.fullmatch(given)
    if match is None:
        raise MethodFileError(f"{given!r} is not a Python file; expected my_method.py or my_method.py:ClassName.")
    file = Path(match["path"]).expanduser().resolve()
    if not file.is_file():
        raise MethodFileError(f"there is no file {match['path']!r} (looked in {Path.cwd()}).")
    return file, match["name"]


def import_file(file: Path, name: str) -> ModuleType:
    """Import a file under a name, without leaving anything beside it.

    Args:
        file: absolute path.
        name: of the module; it is registered, because pickling looks classes up by module.

    Raises:
        MethodFileError: if that fails; the message says why and in which line.
    """
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[name]
        raise unreadable(error, file) from error
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise MethodFileError(f"{file} cannot be imported. {_import_problem(error, file)}") from error
    finally:
        sys.dont_write_bytecode = writes_bytecode
    return module


def unreadable(error: SyntaxError, file: Path) -> MethodFileError:
    """The error for a file that is no Python.

    Args:
        error: what Python says.
        file: the file that was read.
    """
    line = (error.text or "").strip()
    return MethodFileError(
        f"{error.filename or file}, line {error.lineno}: {error.msg}: {line}\nPython cannot read the file; mend "
        "this line first."
    )


def methods_in(module: ModuleType) -> list[type[DistillationMethod]]:
    """The methods that a file defines.

    Raises:
        MethodFileError: if there is none.
    """
    own = _own_classes(module)
    methods = [cls for cls in own if issubclass(cls, DistillationMethod) and not inspect.isabstract(cls)]
    if not methods:
        found = ", ".join(cls.__name__ for cls in own) or "none"
        raise MethodFileError(
            f"{module.__file__} defines no distillation method (classes found: {found}). Expected a subclass of "
            "lightning_kd.methods.DistillationMethod with a forward(exchange) that returns the loss."
        )
    return methods


def method_named(module: ModuleType, name: str) -> type[DistillationMethod]:
    """One of a file's methods.

    Raises:
        MethodFileError: if it has no class of that name, or the class is no method.
    """
    found = getattr(module, name, None)
    if found is None:
        known = sorted(cls.__name__ for cls in _own_classes(module))
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
        raise MethodFileError(
            f"unknown class {name!r}{guess} Known: {', '.join(known) or 'none'}. Looked in {module.__file__}."
        )
    if not (isinstance(found, type) and issubclass(found, DistillationMethod)):
        bases = ", ".join(base.__name__ for base in getattr(found, "__bases__", ()))
        what = f"a class derived from {bases}" if bases else f"a {type(found).__name__}"
        raise MethodFileError(
            f"{name} in {module.__file__} is {what}; expected a subclass of lightning_kd.methods.DistillationMethod."
        )
    return found


def require_initialized(method: DistillationMethod) -> None:
    """Make sure that a method's constructor has called that of its base class.

    Raises:
        MethodFileError: if not.
    """
    if not hasattr(method, "weight"):
        raise MethodFileError(
            f"{type(method).__name__} does not call super().__init__(weight, layers), which must come first in its "
            "__init__."
        )


def author_line(error: BaseException, file: Path) -> str:
    """The last line of ``file`` that was running when ``error`` was raised; ``""`` if none was.

    Args:
        error: a caught exception.
        file: the author's file.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == file]
    return f"{file.name}, line {frames[-1].lineno}: {frames[-1].line}" if frames else ""


def _import_problem(error: BaseException, file: Path) -> str:
    where = f" ({author_line(error, file)})"
    if isinstance(error, SystemExit):
        return f"It ends the process{where}; put what a script does under `if __name__ == '__main__':`."
    if isinstance(error, ModuleNotFoundError):
        return f"It needs the module {error.name!r}, which is not installed{where}."
    return f"It raises {type(error).__name__}: {error}{where}."


def _own_classes(module: ModuleType) -> list[type]:
    return [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
