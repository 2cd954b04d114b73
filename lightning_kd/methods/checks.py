"""Checks and conversions for the arguments of loss functions, for the library's methods and for yours."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_kd.schedules import Scheduled


def check_same_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise ``ValueError`` unless both sides have the same shape."""
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student and teacher logits must have the same shape, got {tuple(student_logits.shape)} and "
            f"{tuple(teacher_logits.shape)}; both networks must predict the same classes in the same order for "
            "the same samples (check `num_classes` of the teacher)"
        )


def check_temperature(temperature: Scheduled) -> None:
    """Raise ``ValueError`` unless the temperature is positive; a schedule is checked value by value."""
    if not callable(temperature) and not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")


def check_labels(logits: Tensor, target: Tensor) -> None:
    """Raise unless ``target`` holds one class index for every row of ``(B, C)`` logits."""
    if target.shape != logits.shape[:-1] or target.is_floating_point():
        raise ValueError(
            f"expected class indices of shape {tuple(logits.shape[:-1])} (integers), got shape {tuple(target.shape)} "
            f"of {target.dtype}; with mixed or soft labels pass the dominant class, `target.argmax(-1)`"
        )


def check_same_stages(student_features: list[Tensor], teacher_features: list[Tensor]) -> None:
    """Raise ``ValueError`` unless both lists have the same, positive length."""
    if len(student_features) != len(teacher_features) or not student_features:
        raise ValueError(
            f"expected as many student as teacher features (at least one), got {len(student_features)} and "
            f"{len(teacher_features)}"
        )


def at_least_float32(tensor: Tensor) -> Tensor:
    """Raise half precision to float32; leave float32 and float64 as they are."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def full_precision(tensor: Tensor) -> torch.autocast:
    """Switch autocast off: matrix products lose too much, or overflow, in half precision."""
    return torch.autocast(tensor.device.type, enabled=False)
