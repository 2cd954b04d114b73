"""What the methods on heads share: maps as positions, heads that can be compared, the two second stages of a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_kd.detection.output import Dense, DetectionOutput, Regions
from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.checks import at_least_float32
from lightning_kd.methods.detection._pyramid import Side, dense_head


def by_position(maps: Sequence[Tensor], anchors_per_position: int) -> Tensor:
    """Maps of all levels as one row a position and anchor.

    Args:
        maps: ``(N, A*D, H_l, W_l)`` a level.
        anchors_per_position: ``A``.

    Returns:
        ``(N, sum of P, D)`` in the order level, row, column, anchor; at least float32.
    """
    rows = [
        values.permute(0, 2, 3, 1).reshape(values.shape[0], -1, values.shape[1] // anchors_per_position)
        for values in maps
    ]
    return at_least_float32(torch.cat(rows, dim=1))


def sides_by_position(box_regression: Sequence[Tensor], anchors_per_position: int) -> Tensor:
    """Distributions over bins as one matrix a position and anchor.

    Args:
        box_regression: ``(N, A*4*B, H_l, W_l)`` a level.
        anchors_per_position: ``A``.

    Returns:
        ``(N, sum of P, 4, B)``, at least float32.
    """
    rows = by_position(box_regression, anchors_per_position)
    return rows.reshape(*rows.shape[:2], 4, -1)


def same_dense_heads(exchange: Exchange, method: str) -> tuple[Dense, Dense]:
    """The one-stage heads of student and teacher, which predict the same classes at the same positions.

    Args:
        exchange: the step.
        method: who asks, for the message.

    Raises:
        ValueError: if a network is no one-stage detector, or if classes, levels or positions differ.
    """
    student, teacher = dense_head(exchange, "student", method), dense_head(exchange, "teacher", method)
    if student.num_classes != teacher.num_classes:
        raise ValueError(_other_classes(method, student.num_classes, teacher.num_classes))
    shapes = [[tuple(values.shape[1:]) for values in head.class_logits] for head in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{method} compares heads position by position, got class logits (channels, rows, columns) of the levels "
            f"{shapes[0]} (student) and {shapes[1]} (teacher); take detectors with the same pyramid levels, strides "
            "and number of anchors a position"
        )
    return student, teacher


def assigned_positions(student: Dense, method: str) -> Tensor:
    """The student's assignment, ``(N, sum of P)``.

    Raises:
        ValueError: if there is none.
    """
    if student.assigned is None:
        raise ValueError(
            f"{method} needs the assignment of ground-truth boxes to the student's positions, but its head has none; "
            "call the student's network with its targets: network(images, sizes, targets)"
        )
    return torch.stack(student.assigned)


def same_regions(exchange: Exchange, method: str) -> tuple[Regions, Regions]:
    """The second stages of student and teacher, which tell the same classes apart by the same indices.

    Args:
        exchange: the step.
        method: who asks, for the message.

    Raises:
        ValueError: if a network is no two-stage detector, or if classes or their order differ.
    """
    student, teacher = region_stage(exchange, "student", method), region_stage(exchange, "teacher", method)
    if student.num_classes != teacher.num_classes:
        raise ValueError(_other_classes(method, student.num_classes, teacher.num_classes))
    if student.background != teacher.background:
        raise ValueError(
            f"{method} compares class logits by index, but the background is class {student.background} of the student "
            f"and class {teacher.background} of the teacher; take both detectors from one library"
        )
    return student, teacher


def region_stage(exchange: Exchange, side: Side, method: str) -> Regions:
    """The second stage of a network's output.

    Args:
        exchange: the step.
        side: whose second stage.
        method: who asks, for the message.

    Raises:
        ValueError: if the network is a one-stage detector, or returned anything but a detection output.
    """
    output = (exchange.student if side == "student" else exchange.teacher).output
    if isinstance(output, DetectionOutput) and output.regions is not None:
        return output.regions
    if isinstance(output, DetectionOutput):
        found = "a one-stage detector" if output.dense is not None else "a detector whose output shows no second stage"
        advice = (
            "take a two-stage detector (Faster R-CNN), or a method for one-stage heads or pyramids, such as CrossKD, "
            "FGD, MGD or PKD"
        )
    else:
        found = f"a network that returns {type(output).__name__}"
        advice = "wrap the detector in a `lightning_kd.detection.DetectionNetwork` and let `network=` name it"
    raise ValueError(f"{method} needs the second stage of the {side}, but found {found}; {advice}")


def sampled(student: Regions, method: str) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Proposals, labels, embeddings and class logits that the student trains on in this step.

    Raises:
        ValueError: if the student sampled no proposals.
    """
    proposals, labels = student.proposals, student.labels
    embeddings, logits = student.embeddings, student.class_logits
    if proposals is None or labels is None or embeddings is None or logits is None:
        raise ValueError(
            f"{method} compares the second stages on the proposals that the student samples for its own loss, but it "
            "sampled none; call the student's network in training mode and with its targets: "
            "network(images, sizes, targets)"
        )
    return proposals, labels, embeddings, logits


def _other_classes(method: str, student: int, teacher: int) -> str:
    return (
        f"{method} compares class logits, but the student knows {student} and the teacher {teacher} classes "
        "(`num_classes`); both detectors must predict the same classes in the same order"
    )
