"""What the detection methods share: projected pyramids, and the head that belongs to a level."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from torch import Tensor, nn

from lightning_kd.connectors.maps import resize_map, to_map
from lightning_kd.detection.output import Dense, DetectionOutput
from lightning_kd.engine.exchange import Exchange
from lightning_kd.methods.features._stages import project

Side = Literal["student", "teacher"]


def projected_pyramid(
    connectors: Iterable[nn.Module], student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]
) -> list[Tensor]:
    """The student's levels with the teacher's channels and sizes.

    Args:
        connectors: one a level, to the teacher's channels.
        student_features: ``(N, C_s, H, W)`` a level.
        teacher_features: ``(N, C_t, H, W)`` a level; only their sizes matter.
    """
    projected = project(connectors, student_features)
    sizes = [to_map(feature).shape[2:] for feature in teacher_features]
    return [resize_map(feature, (size[0], size[1])) for feature, size in zip(projected, sizes, strict=True)]


def dense_head(exchange: Exchange, side: Side, method: str) -> Dense:
    """The one-stage head of a network's output.

    Args:
        exchange: the step.
        side: whose head.
        method: who asks, for the message.

    Raises:
        ValueError: if the network is a two-stage detector, or returned anything but a detection output.
    """
    output = (exchange.student if side == "student" else exchange.teacher).output
    if isinstance(output, DetectionOutput) and output.dense is not None:
        return output.dense
    if isinstance(output, DetectionOutput):
        found = "a two-stage detector" if output.regions is not None else "a detector whose output shows no head"
        advice = (
            "take a one-stage detector (RetinaNet, FCOS, GFL, ATSS), or a method that compares pyramids alone, such as "
            "FGD, MGD, PKD or CWD"
        )
    else:
        found = f"a network that returns {type(output).__name__}"
        advice = "wrap the detector in a `lightning_kd.detection.DetectionNetwork` and let `network=` name it"
    raise ValueError(f"{method} needs the one-stage head of the {side}, but found {found}; {advice}")


def check_levels(method: str, *parts: Sequence[Tensor]) -> None:
    """Raise ``ValueError`` unless all parts have the same, positive number of levels."""
    counts = [len(part) for part in parts]
    if len(set(counts)) != 1 or not counts[0]:
        raise ValueError(
            f"{method} needs one feature of the student and of the teacher, and what belongs to them, for every level "
            f"of the pyramid (at least one), got {counts}"
        )


def level_of(tap: str, method: str) -> int:
    """The level of a pyramid's tap.

    Args:
        tap: name of the tap.
        method: who asks, for the message.

    Raises:
        ValueError: if the tap is not a level of the pyramid.

    >>> level_of("pyramid.2", "FRS")
    2
    """
    part, _, level = tap.partition(":")[0].rpartition(".")
    if part != "pyramid" or not level.isdecimal():
        raise ValueError(
            f"{method} looks up the head's maps at the level of each layer and needs levels of the pyramid, got the "
            f'layer {tap!r}; use layers="auto" or lightning_kd.detection.taps(levels=...)'
        )
    return int(level)
