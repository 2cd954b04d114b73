"""A distillation method in a file of one's own, named by its path: loading it, and what it is called in results."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from kd_bench.construct import create
from kd_bench.errors import UserError
from lightning_kd.methods import DistillationMethod
from lightning_kd.methods.load_file import (
    MethodFileError,
    author_line,
    import_file,
    method_named,
    methods_in,
    require_initialized,
    split_reference,
    unreadable,
)

MAX_BYTES = 200_000
_OURS = ("kd_bench", "lightning_kd")


def load_method_class(reference: str) -> type[DistillationMethod]:
    """The method in a file; its code is run.

    The module's name depends on path and content alone, so that other processes that load the same reference agree on
    it, and a file that was changed is another module.

    Args:
        reference: ``path/to/file.py``, or ``path/to/file.py:ClassName`` where it has several.

    Raises:
        UserError: if there is no such file or method, the file cannot be imported, has several methods and none was
            named, or imports its neighbours: what is submitted is this one file.
    """
    try:
        file, name = split_reference(reference)
        module = _load(file)
        if name is not None:
            return _defined_here(method_named(module, name), file)
        methods = _public(methods_in(module))
    except MethodFileError as error:
        raise UserError(str(error)) from error
    if len(methods) > 1:
        names = [cls.__name__ for cls in methods]
        raise UserError(f"{file} has several methods: {', '.join(names)}. Name one, such as {file.name}:{names[-1]}.")
    return methods[0]


def create_from_file(
    cls: type[DistillationMethod], parameters: Mapping[str, Any], reference: str
) -> DistillationMethod:
    """Make a method; whatever its author's code raises is explained.

    Args:
        cls: the class.
        parameters: its constructor arguments.
        reference: what it was loaded from.

    Raises:
        UserError: if it cannot be made.
    """
    try:
        method = create(cls, parameters, reference)
        require_initialized(method)
    except MethodFileError as error:
        raise UserError(str(error)) from error
    except UserError:
        raise
    except Exception as error:
        file, _ = split_reference(reference)
        line = author_line(error, file)
        raise UserError(
            f"{cls.__name__} cannot be made: {type(error).__name__}: {error}{f' ({line})' if line else ''}. "
            f"`lightning-kd check {file}` tells more."
        ) from error
    return method


def file_class_path(cls: type[DistillationMethod], reference: str) -> str:
    """What the results call a class: ``<file stem>.<Class>``, wherever the file lies.

    Args:
        cls: the class.
        reference: what it was loaded from.
    """
    return f"{_stem(split_reference(reference)[0])}.{cls.__qualname__}"


def _public(methods: list[type[DistillationMethod]]) -> list[type[DistillationMethod]]:
    """Without what is only there to be derived from, if anything is left then."""
    return [cls for cls in methods if not cls.__name__.startswith("_")] or methods


def _load(file: Path) -> ModuleType:
    content = _read(file)
    name = f"{_stem(file)}_{hashlib.sha256(str(file).encode() + content).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    try:
        tree = ast.parse(content, str(file))
    except SyntaxError as error:
        raise unreadable(error, file) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{file} cannot be read as Python: {type(error).__name__}: {error}.") from error
    _refuse_neighbours(file, (top for top in _imported(tree) if _is_beside(file, top)))
    before, paths = set(sys.modules), [*sys.path]
    module = import_file(file, name)
    # what the file has found by other means
    folders = {file.parent, *(Path(path).resolve() for path in set(sys.path) - set(paths))}
    new = set(sys.modules) - before
    found = {top for top in map(_top, new - {name}) if _comes_from(top, folders, file.parent)}
    if found:
        # as it was, so that it is found out the next time, too
        sys.path[:] = paths
        for each in new:
            if each == name or _top(each) in found:
                del sys.modules[each]
    _refuse_neighbours(file, found)
    return module


def _top(module: str) -> str:
    return module.partition(".")[0]


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"{file} is too large: {file.stat().st_size:,} bytes, at most {MAX_BYTES:,} are accepted.")
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}.") from error


def _stem(file: Path) -> str:
    """The file's name as one part of a dotted path."""
    return re.sub(r"\W", "_", file.stem)


def _defined_here(cls: type[DistillationMethod], file: Path) -> type[DistillationMethod]:
    defined = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if defined is None or Path(defined).resolve() != file:
        raise UserError(
            f"{cls.__name__} is imported by {file}, not defined in it; the benchmark runs what a file defines. If it "
            f"comes with lightning_kd, ask for it by its name; else derive a class from it there."
        )
    return cls


def _imported(tree: ast.Module) -> Iterator[str]:
    """The packages that a file imports anywhere, or ``.`` for a relative import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (_top(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else _top(str(node.module))


def _is_beside(file: Path, top: str) -> bool:
    if top == ".":
        return True
    folder = file.parent
    if top in _OURS or not ((folder / f"{top}.py").is_file() or (folder / top).is_dir()):
        return False
    if top in sys.modules:
        return _comes_from(top, {folder}, folder)
    spec = importlib.util.find_spec(top)
    # it is found elsewhere first, or nowhere because the folder is not on the path
    return spec is None or _lies_in(_places(spec.origin, spec.submodule_search_locations), {folder})


def _comes_from(top: str, folders: set[Path], around: Path) -> bool:
    """Whether a module that is loaded lies in one of the folders, as far as they are within ``around``."""
    module = sys.modules.get(top)
    if module is None or top in _OURS:
        return False
    within = {folder for folder in folders if folder.is_relative_to(around)}
    return _lies_in(_places(getattr(module, "__file__", None), getattr(module, "__path__", None)), within)


def _places(origin: str | None, locations: Iterable[str] | None) -> list[Path]:
    """Files and folders of a module: itself, or those of its package."""
    folders = [Path(each) for each in locations or ()]
    return folders or ([Path(origin)] if origin else [])


def _lies_in(places: list[Path], folders: set[Path]) -> bool:
    return any(place.resolve().parent in folders for place in places)


def _refuse_neighbours(file: Path, neighbours: Iterable[str]) -> None:
    names = sorted(set(neighbours))
    if not names:
        return
    what = "relative to itself" if names == ["."] else f"its neighbours: {', '.join(names)}"
    raise UserError(
        f"{file} imports {what}. The benchmark runs one file, which is what a submission carries: move what the method "
        "needs into it, or import it from an installed package."
    )
