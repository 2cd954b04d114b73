"""What the relation losses share: one embedding a sample, safe norms, and full precision under autocast."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_kd.connectors.maps import pooled
from lightning_kd.methods.checks import at_least_float32

_TINY = 1e-12


def embedding(feature: Tensor) -> Tensor:
    """Turn a feature into one embedding a sample.

    Args:
        feature: an embedding ``(B, D)``, tokens ``(B, N, D)`` (averaged), or a map (globally average-pooled).

    Returns:
        ``(B, D)``.

    Raises:
        ValueError: if the feature has another rank.
    """
    if feature.dim() == 3:
        return feature.mean(1)
    if feature.dim() not in (2, 4):
        raise ValueError(
            f"expected an embedding (B, D), tokens (B, N, D) or a map (B, C, H, W), got shape {tuple(feature.shape)}; "
            'choose other layers, for example layers="penultimate"'
        )
    return pooled(feature)


def check_same_batch(student_features: Tensor, teacher_features: Tensor, *, same_width: bool = False) -> None:
    """Raise ``ValueError`` unless both are ``(B, D)`` of one batch (and of one width)."""
    student, teacher = tuple(student_features.shape), tuple(teacher_features.shape)
    if len(student) != 2 or len(teacher) != 2 or student[0] != teacher[0]:
        raise ValueError(
            f"expected embeddings (B, D) of the same samples, got shapes {student} and {teacher}; pool or flatten maps "
            "first, and give both networks the same batch"
        )
    if same_width and student[1] != teacher[1]:
        raise ValueError(
            f"this loss needs embeddings of equal width, got {student[1]} (student) and {teacher[1]} (teacher); "
            "project the student's embedding first"
        )


def safe_lengths(rows: Tensor) -> Tensor:
    """Euclidean length of each row, ``(..., 1)``, and 1 for a zero row: dividing by it never explodes."""
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return torch.where(length > _TINY, length, 1.0)


def unit_rows(rows: Tensor) -> Tensor:
    """Scale rows to unit length; a zero row stays zero and passes a plain gradient on."""
    return rows / safe_lengths(rows)


def raised(student_features: Tensor, teacher_features: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides in at least float32 and in one dtype, the teacher's cut off from the graph."""
    student, teacher = at_least_float32(student_features), at_least_float32(teacher_features.detach())
    dtype = torch.promote_types(student.dtype, teacher.dtype)
    return student.to(dtype), teacher.to(dtype)
