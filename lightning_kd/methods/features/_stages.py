"""What the feature losses share: stages as maps in full precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from lightning_kd.connectors.maps import pool_to_smaller, to_map
from lightning_kd.methods.checks import at_least_float32, check_same_stages

Shape = tuple[int, int, int]
"""``(C, H, W)`` of a map."""


def stage_maps(
    student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through the stages as maps in at least float32, the teacher's detached.

    Args:
        student_features: one map ``(B, C, H, W)`` or tokens ``(B, N, D)`` a stage.
        teacher_features: the same of the teacher.

    Yields:
        ``(student, teacher)`` maps.

    Raises:
        ValueError: if the numbers of stages differ, or a feature has no spatial extent.
    """
    check_same_stages(list(student_features), list(teacher_features))
    for student, teacher in zip(student_features, teacher_features, strict=True):
        yield at_least_float32(to_map(student)), at_least_float32(to_map(teacher.detach()))


def matched_maps(
    student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Like :func:`stage_maps`, the larger map of a stage average-pooled to the smaller."""
    for student, teacher in stage_maps(student_features, teacher_features):
        yield pool_to_smaller(student, teacher)


def check_same_maps(student: Tensor, teacher: Tensor, method: str) -> None:
    """Raise ``ValueError`` unless both maps have equal shapes."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"{method} compares element by element and needs equal shapes, got {tuple(student.shape)} (student) and "
            f"{tuple(teacher.shape)} (teacher); project or pool the student's feature first"
        )


def check_same_channels(student: Tensor, teacher: Tensor, method: str) -> None:
    """Raise ``ValueError`` unless both maps have equally many channels."""
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"{method} compares channel by channel and needs equally many channels, got {student.shape[1]} (student) "
            f"and {teacher.shape[1]} (teacher); project the student's feature first, or choose other layers"
        )


def map_shape(feature: Tensor) -> Shape:
    """``(C, H, W)`` of a feature as a map."""
    _, channels, height, width = to_map(feature).shape
    return channels, height, width


def connectors_for(
    student_features: Sequence[Tensor],
    teacher_features: Sequence[Tensor],
    make: Callable[[Shape, Shape], nn.Module],
) -> nn.ModuleList:
    """One connector a stage, made from the shapes of both maps."""
    check_same_stages(list(student_features), list(teacher_features))
    pairs = zip(student_features, teacher_features, strict=True)
    return nn.ModuleList(make(map_shape(student), map_shape(teacher)) for student, teacher in pairs)


def project(connectors: Iterable[nn.Module], features: Sequence[Tensor]) -> list[Tensor]:
    """Send every stage, as a map, through its connector."""
    return [connector(to_map(feature)) for connector, feature in zip(connectors, features, strict=True)]


def total(losses: Sequence[Tensor]) -> Tensor:
    """The sum of the stages' losses."""
    return torch.stack(list(losses)).sum()
