"""From a row of a protocol's table to the method: its class, its instance, and its description for the results."""

from __future__ import annotations

import inspect
from typing import Any

import lightning_kd
from kd_bench.construct import create, dotted_path, resolve_parameters, source_sha256
from kd_bench.environment import describe_checkout
from kd_bench.errors import UserError
from kd_bench.fusion import describe_fusion
from kd_bench.method_file import create_from_file, file_class_path, load_method_class
from kd_bench.names import import_object, unknown
from kd_bench.protocol import MethodRow
from kd_bench.results import CitationInfo, MethodInfo
from lightning_kd import DistillationMethod
from lightning_kd.methods import Citation, GuidedSelfDistillation, discover
from lightning_kd.methods.load_file import is_file_reference
from lightning_kd.schedules import StepWarmUp, WarmUp

AUTO = "auto"
"""Value of guided self-distillation's ``alpha`` with which it is chosen in every run."""


def create_method(row: MethodRow) -> DistillationMethod | None:
    """The method of a row, or ``None`` for the plain student.

    Raises:
        UserError: if there is no such class, it does not take the parameters, or the row's teacher cannot teach it.
    """
    if row.class_path is None:
        return None
    cls = _method_class(row.class_path)
    parameters = _with_warmup(cls, row)
    if is_file_reference(row.class_path):
        method = create_from_file(cls, parameters, row.class_path)
    else:
        method = create(cls, parameters, row.class_path)
    _check_teacher(row, method)
    return method


def chooses_alpha(row: MethodRow) -> bool:
    """Whether the row is guided self-distillation that chooses the weight of the labels in every run."""
    if row.class_path is None or row.parameters.get("alpha") != AUTO:
        return False
    return issubclass(_method_class(row.class_path), GuidedSelfDistillation)


def describe_method(name: str, row: MethodRow) -> MethodInfo:
    """What the results say about a row.

    Args:
        name: name of the row.
        row: the row.

    Raises:
        UserError: if there is no such class, or a parameter cannot be written as JSON.
    """
    checkout = describe_checkout()
    method = create_method(row)
    cls = None if method is None else type(method)
    return MethodInfo(
        name=name,
        class_path=None if cls is None else _class_path(cls, str(row.class_path)),
        parameters={} if cls is None else resolve_parameters(cls, row.parameters, str(row.class_path)),
        task_weight=row.task_weight,
        source_sha256=None if cls is None else source_sha256(cls),
        package_version=lightning_kd.__version__,
        git_revision=checkout.revision,
        git_dirty=checkout.dirty,
        citation=None if cls is None else _describe_citation(cls.citation),
        teacher=row.teacher if method is not None and method.needs_teacher else "none",
        fusion=None if row.fusion is None else describe_fusion(row.fusion),
        warmup=row.warmup,
        warmup_steps=row.warmup_steps,
    )


def _class_path(cls: type[DistillationMethod], path: str) -> str:
    return file_class_path(cls, path) if is_file_reference(path) else dotted_path(cls)


def _method_class(path: str) -> type[DistillationMethod]:
    if is_file_reference(path):
        return load_method_class(path)
    found = import_object(path, "method") if "." in path else discover().get(path)
    if found is None:
        raise unknown("method", path, list(discover()))
    if not (isinstance(found, type) and issubclass(found, DistillationMethod)):
        raise UserError(f"{path!r} is not a distillation method; expected a subclass of DistillationMethod.")
    return found


def _with_warmup(cls: type[DistillationMethod], row: MethodRow) -> dict[str, Any]:
    if not row.warmup and not row.warmup_steps:
        return row.parameters
    weight = row.parameters.get("weight", inspect.signature(cls).parameters["weight"].default)
    if not isinstance(weight, int | float):
        raise UserError(f"{row.class_path}: the weight that warms up must be a number, got {weight!r}")
    rise = WarmUp(row.warmup) if row.warmup else StepWarmUp(row.warmup_steps)
    return {**row.parameters, "weight": weight * rise}


def _check_teacher(row: MethodRow, method: DistillationMethod) -> None:
    if row.teacher != "trained" and not method.needs_teacher:
        raise UserError(f"{row.class_path} needs no teacher, but the row asks for {row.teacher!r}; leave teacher out")
    if row.teacher in ("scratch", "student") and not method.trains_teacher:
        raise UserError(
            f"{row.class_path} does not train its teacher, and a teacher {row.teacher!r} has learnt nothing; use "
            "'trained' or 'previous'"
        )
    if chooses_alpha(row) and (row.teacher != "previous" or row.fusion is not None or "weight" in row.parameters):
        raise UserError(
            f"{row.class_path} with alpha: {AUTO} learns from a teacher 'previous', without a fusion and a weight"
        )


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
