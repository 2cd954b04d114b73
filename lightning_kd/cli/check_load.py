"""Import a method author's file where it lies, and find the methods in it."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_kd.cli.errors import CommandError, unknown
from lightning_kd.methods import DistillationMethod

_SPEC = re.compile(r"(?P<path>.+?\.py)(?::(?P<name>[^:/\\]+))?")


@dataclass(frozen=True)
class Candidate:
    """A method to check.

    Attributes:
        cls: the author's class.
        arguments: what its constructor gets.
        file: where it is defined.
    """

    cls: type[DistillationMethod]
    arguments: Mapping[str, Any]
    file: Path

    @property
    def name(self) -> str:
        """The class's name."""
        return self.cls.__name__

    def make(self) -> DistillationMethod:
        """A fresh method."""
        return self.cls(**self.arguments)


def find_candidates(given: str, init: str | None = None) -> list[Candidate]:
    """Import a file and find its methods, each of which can be made.

    Args:
        given: ``my_method.py``, or ``my_method.py:ClassName`` for one of its classes.
        init: constructor arguments as JSON.

    Raises:
        CommandError: if there is no such file or class, the file cannot be imported, or the class cannot be made.
    """
    match = _SPEC.fullmatch(given)
    if match is None:
        raise CommandError(f"{given!r} is not a Python file; expected my_method.py or my_method.py:ClassName.")
    file, name = Path(match["path"]).resolve(), match["name"]
    if not file.is_file():
        raise CommandError(f"there is no file {match['path']!r} (looked in {Path.cwd()}).")
    module = _import(file)
    classes = _named(module, name) if name else _all_methods(module)
    arguments = _parse_init(init)
    candidates = [Candidate(cls, arguments, file) for cls in classes]
    for candidate in candidates:
        _require_makeable(candidate, given=init is not None)
    return candidates


def author_line(error: BaseException, file: Path) -> str:
    """The last line of ``file`` that was running when ``error`` was raised; ``""`` if none was.

    Args:
        error: a caught exception.
        file: the author's file.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_same(frame.filename, file)]
    return f"{file.name}, line {frames[-1].lineno}: {frames[-1].line}" if frames else ""


def _import(file: Path) -> ModuleType:
    name = file.stem if file.stem.isidentifier() and file.stem not in sys.modules else f"checked_{abs(hash(file))}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered, because pickling looks classes up by module; the folder, because the file may import its neighbours.
    sys.modules[name] = module
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[name]
        line = (error.text or "").strip()
        raise CommandError(
            f"{error.filename or file}, line {error.lineno}: {error.msg}: {line}\nPython cannot read the file; mend "
            "this line first."
        ) from error
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise CommandError(f"{file} cannot be imported. {_import_problem(error, file)}") from error
    finally:
        sys.dont_write_bytecode = writes_bytecode
    return module


def _import_problem(error: BaseException, file: Path) -> str:
    where = f" ({author_line(error, file)})"
    if isinstance(error, SystemExit):
        return f"It ends the process{where}; put what a script does under `if __name__ == '__main__':`."
    if isinstance(error, ModuleNotFoundError):
        return f"It needs the module {error.name!r}, which is not installed{where}."
    return f"It raises {type(error).__name__}: {error}{where}."


def _own_classes(module: ModuleType) -> list[type]:
    return [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]


def _all_methods(module: ModuleType) -> list[type[DistillationMethod]]:
    own = _own_classes(module)
    methods = [cls for cls in own if issubclass(cls, DistillationMethod) and not inspect.isabstract(cls)]
    if not methods:
        found = ", ".join(cls.__name__ for cls in own) or "none"
        raise CommandError(
            f"{module.__file__} defines no distillation method (classes found: {found}). Expected a subclass of "
            "lightning_kd.methods.DistillationMethod with a forward(exchange) that returns the loss."
        )
    return methods


def _named(module: ModuleType, name: str) -> list[type[DistillationMethod]]:
    found = getattr(module, name, None)
    if found is None:
        known = [cls.__name__ for cls in _own_classes(module)]
        raise unknown("class", name, known, f"Looked in {module.__file__}.")
    if not (isinstance(found, type) and issubclass(found, DistillationMethod)):
        bases = ", ".join(base.__name__ for base in getattr(found, "__bases__", ()))
        what = f"a class derived from {bases}" if bases else f"a {type(found).__name__}"
        raise CommandError(
            f"{name} in {module.__file__} is {what}; expected a subclass of lightning_kd.methods.DistillationMethod."
        )
    return [found]


def _parse_init(init: str | None) -> dict[str, Any]:
    if init is None:
        return {}
    try:
        arguments = json.loads(init)
    except json.JSONDecodeError as error:
        raise CommandError(
            f"cannot read --init {init!r} as JSON: {error}. Write it like --init '{{\"temperature\": 4}}'."
        ) from error
    if not isinstance(arguments, dict):
        raise CommandError(f"--init {init!r} is no JSON object; write it like --init '{{\"temperature\": 4}}'.")
    return arguments


def _require_makeable(candidate: Candidate, *, given: bool) -> None:
    signature = inspect.signature(candidate.cls)
    named = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    missing = [name for name, p in named.items() if p.default is p.empty and name not in candidate.arguments]
    if missing:
        example = json.dumps({**candidate.arguments, **{name: _example(named[name]) for name in missing}})
        raise CommandError(
            f"{candidate.name}{signature} needs {', '.join(missing)}. Give the arguments as JSON, for example: "
            f"--init '{example}'. Better still, give them the defaults that the paper uses."
        )
    try:
        method = candidate.make()
    except Exception as error:
        line = author_line(error, candidate.file)
        source = f" with --init {json.dumps(dict(candidate.arguments))}" if given else ""
        raise CommandError(
            f"{candidate.name} cannot be made{source}: {type(error).__name__}: {error}{f' ({line})' if line else ''}. "
            f"Its constructor is {candidate.name}{signature}."
        ) from error
    if not hasattr(method, "weight"):
        raise CommandError(
            f"{candidate.name} does not call super().__init__(weight, layers), which must come first in its __init__."
        )


def _example(parameter: inspect.Parameter) -> Any:
    values = {"int": 1, "float": 4.0, "str": "...", "bool": True}
    annotation = getattr(parameter.annotation, "__name__", str(parameter.annotation))
    return values.get(annotation, 4.0)


def _is_same(filename: str, file: Path) -> bool:
    return Path(filename).resolve() == file
