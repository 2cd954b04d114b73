"""From a row of a protocol's table to the method: its class, its instance, and its description for the results."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import lightning_kd
from kd_bench.environment import describe_checkout
from kd_bench.errors import UserError
from kd_bench.names import import_object, unknown
from kd_bench.protocol import MethodRow
from kd_bench.results import CitationInfo, MethodInfo
from kd_bench.storage import file_sha256
from lightning_kd import DistillationMethod
from lightning_kd.methods import Citation, discover


def create_method(row: MethodRow) -> DistillationMethod | None:
    """The method of a row, or ``None`` for the plain student.

    Raises:
        UserError: if there is no such class, or it does not take the parameters.
    """
    if row.class_path is None:
        return None
    method = _method_class(row.class_path)
    parameters: dict[str, Any] = dict(row.parameters)
    try:
        return method(**parameters)
    except (TypeError, ValueError) as error:
        raise UserError(f"{row.class_path} does not take the parameters {parameters}: {error}") from error


def describe_method(name: str, row: MethodRow) -> MethodInfo:
    """What the results say about a row.

    Args:
        name: name of the row.
        row: the row.

    Raises:
        UserError: if there is no such class, or a parameter cannot be written as JSON.
    """
    checkout = describe_checkout()
    method = None if row.class_path is None else _method_class(row.class_path)
    return MethodInfo(
        name=name,
        class_path=None if method is None else f"{method.__module__}.{method.__qualname__}",
        parameters={} if method is None else _resolve_parameters(method, row),
        task_weight=row.task_weight,
        source_sha256=None if method is None else file_sha256(Path(inspect.getfile(method))),
        package_version=lightning_kd.__version__,
        git_revision=checkout.revision,
        git_dirty=checkout.dirty,
        citation=None if method is None else _describe_citation(method.citation),
    )


def _method_class(path: str) -> type[DistillationMethod]:
    found = import_object(path, "method") if "." in path else discover().get(path)
    if found is None:
        raise unknown("method", path, list(discover()))
    if not (isinstance(found, type) and issubclass(found, DistillationMethod)):
        raise UserError(f"{path!r} is not a distillation method; expected a subclass of DistillationMethod.")
    return found


def _resolve_parameters(method: type[DistillationMethod], row: MethodRow) -> dict[str, Any]:
    """All constructor arguments, so that a later change of a default does not rewrite history."""
    try:
        bound = inspect.signature(method).bind(**row.parameters)
        bound.apply_defaults()
        plain: dict[str, Any] = json.loads(json.dumps(bound.arguments, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"the parameters of {row.class_path} cannot be recorded: {error}") from error
    return plain


def _describe_citation(citation: Citation | None) -> CitationInfo | None:
    if citation is None:
        return None
    return CitationInfo(
        title=citation.title,
        authors=citation.authors,
        venue=citation.venue,
        year=citation.year,
        arxiv=citation.arxiv,
    )
