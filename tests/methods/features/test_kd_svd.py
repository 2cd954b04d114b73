import itertools

import pytest
import torch

from lightning_kd.methods.features import KDSVD, kd_svd_loss
from lightning_kd.methods.features.kd_svd import _right_singular_vectors


def slow(student, teacher, k):
    """With torch's own singular value decomposition and gradient, pair of channels by pair of channels."""

    def vectors(s, t):
        _, _, v_s = torch.linalg.svd(s.flatten(1).T, full_matrices=False)
        _, values, v_t = torch.linalg.svd(t.flatten(1).T, full_matrices=False)
        scale = values[:k] / values[:k].norm()
        aligned = []
        for vector in v_t[:k]:
            cosines = v_s[: k + 3] @ vector
            best = cosines.abs().argmax()
            aligned.append(v_s[best] * cosines[best].sign())
        return torch.stack(aligned, 1) * scale, v_t[:k].T * scale

    total = 0.0
    for b in range(len(student[0])):
        stages = [vectors(s[b], t[b]) for s, t in zip(student, teacher, strict=True)]
        for (low_s, low_t), (high_s, high_t) in itertools.pairwise(stages):
            for j in range(len(low_s)):
                ours = torch.exp(-((high_s - low_s[j]) ** 2) / 8)
                theirs = torch.exp(-((high_t - low_t[j]) ** 2) / 8)
                total = total + (ours - theirs).pow(2).sum()
    return total / len(student[0])


@pytest.mark.parametrize("k", [1, 2])
def test_matches_a_loop_with_torchs_gradient(maps, agree, k):
    student = maps((2, 5, 4, 4), (2, 4, 3, 3), grad=True)
    teacher = maps((2, 5, 4, 4), (2, 4, 2, 2))
    agree(kd_svd_loss(student, teacher, k), slow(student, teacher, k), student, 1e-7)


@pytest.mark.parametrize("shape", [(2, 7, 4), (2, 3, 6)], ids=["tall", "wide"])
def test_gradient_of_the_singular_vectors(shape):
    matrix = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    # the square of a vector's entries does not depend on its sign
    assert torch.autograd.gradcheck(lambda x: _right_singular_vectors(x, 2).square(), (matrix,))


def test_repeated_singular_values_have_a_finite_gradient():
    student = torch.zeros(2, 4, 3, 3)
    student[:, 0, 0, 0] = student[:, 1, 1, 1] = 1.0
    student.requires_grad_()
    other = torch.zeros(2, 4, 3, 3, requires_grad=True)
    kd_svd_loss([student, other], [torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)]).backward()
    assert student.grad.isfinite().all()
    assert other.grad.isfinite().all()


def test_a_perfect_student_has_no_loss(maps):
    features = maps((2, 5, 4, 4), (2, 4, 3, 3))
    assert kd_svd_loss(features, [feature.clone() for feature in features]).item() < 1e-20


def test_refusals(maps):
    with pytest.raises(ValueError, match="at least two"):
        kd_svd_loss(maps((2, 5, 4, 4)), maps((2, 5, 4, 4)))
    with pytest.raises(ValueError, match="equally many channels"):
        kd_svd_loss(maps((2, 5, 4, 4), (2, 5, 4, 4)), maps((2, 5, 4, 4), (2, 6, 4, 4)))
    with pytest.raises(ValueError, match="k must be"):
        KDSVD(k=0)
