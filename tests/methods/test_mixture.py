"""The logarithm of a mixture is that of summed probabilities, and finite where they underflow."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_kd.methods._mixture import log_mixture


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 1.0])
def test_equals_the_sum_of_logarithms(share):
    torch.manual_seed(0)
    student, teacher = (torch.randn(8, 20, dtype=torch.float64).mul(3).log_softmax(-1) for _ in range(2))
    rest = math.log1p(-share) if share < 1 else -math.inf
    expected = torch.logaddexp(student + rest, teacher + math.log(share))
    torch.testing.assert_close(log_mixture(student.exp(), teacher.exp(), share), expected)


@pytest.mark.parametrize("share", [1e-3, 0.5, 0.999])
def test_is_finite_where_both_sides_underflow(share):
    student = torch.tensor([1.0, 0.0, 1e-45], requires_grad=True)
    teacher = torch.tensor([1.0, 0.0, 0.0])
    mixture = log_mixture(student, teacher, share)
    assert mixture.isfinite().all()
    (gradient,) = torch.autograd.grad((student * mixture).sum(), student)
    assert gradient.isfinite().all()
    assert mixture[0].item() == pytest.approx(0.0, abs=1e-6)
    assert teacher.tolist() == [1.0, 0.0, 0.0]
