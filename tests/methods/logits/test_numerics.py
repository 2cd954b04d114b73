"""Losses at the edges: huge logits, saturated students, two and a thousand classes, one sample, half precision."""

from __future__ import annotations

import pytest
import torch

from lightning_kd.methods.language import (
    adaptive_kl_loss,
    forward_kl_loss,
    reverse_kl_loss,
    skew_forward_kl_loss,
    skew_reverse_kl_loss,
    taid_loss,
    topk_decoupled_kl_loss,
    total_variation_loss,
)
from lightning_kd.methods.logits import (
    batch_correlation_loss,
    class_correlation_loss,
    dist_loss,
    dkd_loss,
    generalized_jsd_loss,
    kd_loss,
    label_smoothing_loss,
    learned_temperature_kd_loss,
    logit_standardized_kd_loss,
    mlkd_loss,
    nkd_loss,
    ofa_loss,
    pld_loss,
    srd_loss,
    ttm_loss,
    uskd_loss,
    virtual_teacher_loss,
    wsld_loss,
)

LOSSES = {
    "adaptive kl": lambda s, t, y: adaptive_kl_loss(s, t),
    "batch correlation": lambda s, t, y: batch_correlation_loss(s, t),
    "class correlation": lambda s, t, y: class_correlation_loss(s, t),
    "dist": lambda s, t, y: dist_loss(s, t),
    "dkd": dkd_loss,
    "forward kl": lambda s, t, y: forward_kl_loss(s, t),
    "jsd": lambda s, t, y: generalized_jsd_loss(s, t),
    "jsd, beta 0": lambda s, t, y: generalized_jsd_loss(s, t, 0.0),
    "jsd, beta 1": lambda s, t, y: generalized_jsd_loss(s, t, 1.0),
    "kd": lambda s, t, y: kd_loss(s, t),
    "label smoothing": lambda s, t, y: label_smoothing_loss(s, y),
    "learned temperature": lambda s, t, y: learned_temperature_kd_loss(s, t, torch.tensor(4.0)),
    "lskd": lambda s, t, y: logit_standardized_kd_loss(s, t),
    "mlkd": lambda s, t, y: mlkd_loss(s, t),
    "nkd": nkd_loss,
    "ofa": ofa_loss,
    "ofa, eps 1.5": lambda s, t, y: ofa_loss(s, t, y, 1.5),
    "pld": pld_loss,
    "pld, decay": lambda s, t, y: pld_loss(s, t, y, mode="decay"),
    "pld, uniform": lambda s, t, y: pld_loss(s, t, y, mode="uniform"),
    "reverse kl": lambda s, t, y: reverse_kl_loss(s, t),
    "skew forward kl": lambda s, t, y: skew_forward_kl_loss(s, t),
    "skew reverse kl": lambda s, t, y: skew_reverse_kl_loss(s, t),
    "taid": lambda s, t, y: taid_loss(s, t),
    "top-k": lambda s, t, y: topk_decoupled_kl_loss(s, t, k=1),
    "total variation": lambda s, t, y: total_variation_loss(s, t),
    "ttm": lambda s, t, y: ttm_loss(s, t),
    "uskd": uskd_loss,
    "uskd, probability": lambda s, t, y: uskd_loss(s, t, y, mode="probability"),
    "virtual teacher": lambda s, t, y: virtual_teacher_loss(s, y),
    "wsld": wsld_loss,
}


def logits(batch, classes, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, classes, generator=generator)


def one_hot(batch, classes, value, shift=0):
    rows = torch.arange(batch)
    result = torch.full((batch, classes), -value)
    result[rows, (rows + shift) % classes] = value
    return result


def huge():
    return logits(6, 7, 1e4).clamp(-1e4, 1e4), logits(6, 7, 1e4, seed=1).clamp(-1e4, 1e4)


def saturated_right():
    return one_hot(6, 7, 1e4), one_hot(6, 7, 1e4)


def saturated_wrong():
    return one_hot(6, 7, 1e4, shift=1), one_hot(6, 7, 1e4)


def saturated_student():
    return one_hot(6, 7, 1e4, shift=1), logits(6, 7)


def saturated_teacher():
    return logits(6, 7), one_hot(6, 7, 1e4)


def constant():
    return torch.full((6, 7), 3.0), torch.full((6, 7), -2.0)


def equal():
    return logits(6, 7), logits(6, 7)


def two_classes():
    return logits(6, 2), logits(6, 2, seed=1)


def thousand_classes():
    return logits(6, 1000), logits(6, 1000, seed=1)


def one_sample():
    return logits(1, 7), logits(1, 7, seed=1)


def float16():
    return logits(6, 7, 20.0).half(), logits(6, 7, 20.0, seed=1).half()


def bfloat16():
    return logits(6, 7, 20.0).bfloat16(), logits(6, 7, 20.0, seed=1).bfloat16()


SITUATIONS = [
    huge,
    saturated_right,
    saturated_wrong,
    saturated_student,
    saturated_teacher,
    constant,
    equal,
    two_classes,
    thousand_classes,
    one_sample,
    float16,
    bfloat16,
]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_finite(name, situation):
    student, teacher = situation()
    student.requires_grad_()
    target = torch.arange(len(student)) % student.shape[-1]
    if name == "dkd" and student.shape[-1] < 3:
        with pytest.raises(ValueError, match="at least 3 classes"):
            LOSSES[name](student, teacher, target)
        return
    loss = LOSSES[name](student, teacher, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert student.grad.isfinite().all()
    assert student.grad.dtype == student.dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_float32(name, dtype):
    student, teacher = logits(6, 7, 20.0).to(dtype), logits(6, 7, 20.0, seed=1).to(dtype)
    target = torch.arange(6)
    half = LOSSES[name](student, teacher, target)
    full = LOSSES[name](student.float(), teacher.float(), target)
    torch.testing.assert_close(half, full, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_a_common_shift_of_the_logits_changes_nothing(name):
    student, teacher = logits(6, 7).double(), logits(6, 7, seed=1).double()
    target = torch.arange(6)
    shifted = LOSSES[name](student + 5.0, teacher - 3.0, target)
    torch.testing.assert_close(shifted, LOSSES[name](student, teacher, target), rtol=1e-9, atol=1e-12)


def test_two_classes_make_dkds_target_term_the_loss_of_kd():
    student, teacher = logits(6, 3).double(), logits(6, 3, seed=1).double()
    student[:, 2], teacher[:, 2] = -1e4, -1e4
    target = torch.arange(6) % 2
    decoupled = dkd_loss(student, teacher, target, alpha=1.0, beta=0.0, temperature=2.0)
    torch.testing.assert_close(decoupled, kd_loss(student[:, :2], teacher[:, :2], 2.0))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_srd_is_finite(scale):
    student = logits(6, 7, scale).requires_grad_()
    loss = srd_loss(student, logits(6, 7, scale, seed=1))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_srd_of_equal_embeddings_is_finite():
    student = logits(6, 7).requires_grad_()
    loss = srd_loss(student, student.detach())
    loss.backward()
    assert loss.isfinite()
    assert not student.grad.any()
