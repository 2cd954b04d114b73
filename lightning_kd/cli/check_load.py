"""Find the methods that are checked: from a method author's file to classes that can be made."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning_kd.cli.errors import CommandError
from lightning_kd.cli.json_objects import parse_object
from lightning_kd.methods import DistillationMethod
from lightning_kd.methods.load_file import (
    MethodFileError,
    author_line,
    import_file,
    method_named,
    methods_in,
    require_initialized,
    split_reference,
)


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
    try:
        file, name = split_reference(given)
        module = _import(file)
        classes = [method_named(module, name)] if name else methods_in(module)
        arguments = parse_object("--init", init) or {}
        candidates = [Candidate(cls, arguments, file) for cls in classes]
        for candidate in candidates:
            _require_makeable(candidate, given=init is not None)
    except MethodFileError as error:
        raise CommandError(str(error)) from error
    return candidates


def _import(file: Path) -> ModuleType:
    # the file may import its neighbours
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    is_free = file.stem.isidentifier() and file.stem not in sys.modules
    return import_file(file, file.stem if is_free else f"checked_{abs(hash(file))}")


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
    require_initialized(method)


def _example(parameter: inspect.Parameter) -> Any:
    values = {"int": 1, "float": 4.0, "str": "...", "bool": True}
    annotation = getattr(parameter.annotation, "__name__", str(parameter.annotation))
    return values.get(annotation, 4.0)
