"""Methods from files of one's own as rows of a protocol's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kd_bench.errors import UserError
from kd_bench.method_file import load_method_class
from kd_bench.protocol import ALL, MethodRow, Protocol
from kd_bench.results import PLAIN
from lightning_kd.methods import discover
from lightning_kd.methods.load_file import is_file_reference, split_reference


def own_method_name(reference: str) -> str:
    """The name of the row of a method: its class's.

    Args:
        reference: ``path/to/file.py``, or ``path/to/file.py:ClassName`` where it has several methods.

    Raises:
        UserError: see :func:`kd_bench.method_file.load_method_class`.
    """
    return load_method_class(reference).__name__


def add_own_methods(
    protocol: Protocol,
    methods: Sequence[str] | None,
    parameters: Mapping[str, Any] | None = None,
    task_weight: float | None = None,
) -> tuple[Protocol, Sequence[str] | None]:
    """The protocol with rows for the files among the methods, and the names of all rows that are asked for.

    Args:
        protocol: the protocol.
        methods: names of rows and references to files; ``None`` for the protocol's core.
        parameters: see :func:`with_own_methods`.
        task_weight: see :func:`with_own_methods`.

    Raises:
        UserError: see :func:`with_own_methods`; also if there is no file that the parameters could be for.
    """
    references = [method for method in methods or () if is_file_reference(method)]
    for method in set(methods or ()) - protocol.methods.keys() - {ALL}:
        if Path(f"{method}.py").is_file():
            raise UserError(f"{protocol.id} has no method {method!r}. If you mean the file, give {method}.py.")
    if not references and (parameters is not None or task_weight is not None):
        raise UserError(
            "method parameters and task weight are for methods from your own files, and there is none among the "
            "methods; those of the protocol run as it says. Add a file, such as my_method.py, or leave them out."
        )
    names = [own_method_name(name) if name in references else name for name in methods or ()]
    return with_own_methods(protocol, references, parameters, task_weight), None if methods is None else names


def with_own_methods(
    protocol: Protocol,
    references: Sequence[str],
    parameters: Mapping[str, Any] | None = None,
    task_weight: float | None = None,
) -> Protocol:
    """The protocol with a row for each method, named after its class; its hash stays the same.

    Args:
        protocol: the protocol.
        references: ``path/to/file.py``, or ``path/to/file.py:ClassName`` where it has several methods.
        parameters: constructor arguments; the same for all of ``references``.
        task_weight: factor of the student's own loss; 1 unless given.

    Raises:
        UserError: if a file cannot be loaded, a name is taken, or an argument cannot be written into a protocol.
    """
    rows = dict(protocol.methods)
    for reference in references:
        row = _row(reference, parameters, task_weight)
        name = own_method_name(reference)
        if name in (PLAIN, ALL):
            raise UserError(f"{reference}: {name!r} means something else as a method's name; rename your class.")
        if name.startswith("_") or not name.isascii():
            raise UserError(
                f"{reference}: {name!r} cannot name results; rename your class: letters of ASCII, no underscore first."
            )
        owner = protocol.id if rows.get(name, row) != row else "lightning_kd" if name in discover() else None
        if owner is not None:
            raise UserError(
                f"{reference}: {owner} has another method {name!r} already, so their results could not be told apart; "
                f"rename your class, for example to My{name}."
            )
        rows[name] = row
    return protocol.model_copy(update={"methods": rows})


def _row(reference: str, parameters: Mapping[str, Any] | None, task_weight: float | None) -> MethodRow:
    cls = load_method_class(reference)
    file, _ = split_reference(reference)
    # absolute, and with the class: processes elsewhere load it again
    row: dict[str, Any] = {"class": f"{file}:{cls.__name__}"}
    if parameters:
        row["parameters"] = dict(parameters)
    if task_weight is not None:
        row["task_weight"] = float(task_weight)
    try:
        return MethodRow.model_validate(row)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
        raise UserError(f"{cls.__name__} cannot be run like that: {problems}") from error
