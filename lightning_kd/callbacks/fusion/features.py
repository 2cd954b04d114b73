"""The geometry between student, teacher, label and class mean that TGeo-KD's ratio looks at."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

GeometryFeatures = Literal[
    "vertices+edges",
    "vertices",
    "edges",
    "angles",
    "vertices+angles",
    "edges+angles",
    "vertices+edges+angles",
]
"""Which parts of the geometry are used; the first is the released configuration."""

_AT_STUDENT = ("MS", "GS", "TS")
_ALL_EDGES = (*_AT_STUDENT, "TG", "MG")


def check_features(features: str) -> None:
    """Raise ``ValueError`` for an unknown choice of features."""
    if features not in get_args(GeometryFeatures):
        raise ValueError(f"features must be one of {', '.join(get_args(GeometryFeatures))}, got {features!r}")


def geometry_width(features: GeometryFeatures, num_classes: int, *, compact: bool = False) -> int:
    """Number of features of a sample.

    >>> geometry_width("vertices+edges", 10)
    90
    >>> geometry_width("vertices+edges", 1000, compact=True)
    9
    """
    vertices, edges, angles = _parts(features)
    count = vertices + len(edges) + angles
    return count if compact else count * num_classes


def geometry_features(
    student: Tensor,
    teacher: Tensor,
    truth: Tensor,
    means: Tensor,
    features: GeometryFeatures = "vertices+edges",
    *,
    compact: bool = False,
) -> Tensor:
    r"""Features of the quadrilateral of student ``S``, teacher ``T``, label ``G`` and class mean ``M``.

    * vertices: S, T, G, M;
    * edges: the squares :math:`(M-S)^2, (G-S)^2, (T-S)^2` and, together with the vertices alone, also
      :math:`(T-G)^2, (M-G)^2`, element by element;
    * angles: the elementwise products of the edges that meet at S, :math:`(M-S)(G-S)` and :math:`(T-S)(G-S)`.

    ``compact`` keeps one number of each: the norm of a vertex or an edge, the cosine of an angle. Its width does not
    grow with the number of classes.

    Args:
        student: the student's probabilities, ``(B, C)``.
        teacher: the teacher's probabilities, ``(B, C)``.
        truth: one-hot labels, ``(B, C)``.
        means: the mean of the teacher's probabilities over the training samples of the label's class, ``(B, C)``.
        features: which parts to use.
        compact: one number a part instead of ``C``.

    Returns:
        ``(B, F)`` with ``F`` from :func:`geometry_width`.

    Raises:
        ValueError: for an unknown choice, or if shapes differ.

    Reference: Hu et al., "Less or More From Teacher: Exploiting Trilateral Geometry For Knowledge Distillation",
    ICLR 2024, arXiv:2312.15112. The compact form is ours.
    """
    check_features(features)
    points = {"S": student, "T": teacher, "G": truth, "M": means}
    shapes = {name: tuple(point.shape) for name, point in points.items()}
    if student.dim() != 2 or len(set(shapes.values())) > 1:
        raise ValueError(f"expected student, teacher, truth and means of one shape (B, C), got {shapes}")
    with_vertices, edge_names, with_angles = _parts(features)
    vertices = [student, teacher, truth, means] if with_vertices else []
    edges = [points[name[0]] - points[name[1]] for name in edge_names]
    angles = [(means - student, truth - student), (teacher - student, truth - student)] if with_angles else []
    if compact:
        norms = [torch.linalg.vector_norm(part, dim=-1) for part in (*vertices, *edges)]
        return torch.stack([*norms, *(F.cosine_similarity(a, b, dim=-1) for a, b in angles)], dim=-1)
    return torch.cat([*vertices, *(edge.square() for edge in edges), *(a * b for a, b in angles)], dim=-1)


def _parts(features: GeometryFeatures) -> tuple[int, tuple[str, ...], int]:
    chosen = features.split("+")
    edges = _ALL_EDGES if features == "vertices+edges" else _AT_STUDENT
    return 4 * ("vertices" in chosen), edges if "edges" in chosen else (), 2 * ("angles" in chosen)
