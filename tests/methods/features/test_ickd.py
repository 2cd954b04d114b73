import pytest
import torch

from lightning_kd.methods.features import ICKD, ickd_loss


def slow(student, teacher):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        value = 0.0
        for a, b in zip(s, t, strict=True):
            rows = []
            for x in (a, b):
                gram = torch.stack([torch.stack([(p * q).sum() for q in x]) for p in x])
                rows.append(torch.stack([row / row.pow(2).sum().sqrt() for row in gram]))
            value = value + (rows[0] - rows[1]).pow(2).sum()
        total = total + value / (s.shape[0] * s.shape[1])
    return total


def test_matches_a_loop_over_channels(maps, agree):
    shapes = ((3, 4, 4, 4), (3, 5, 2, 2))
    student, teacher = maps(*shapes, grad=True), maps(*shapes)
    agree(ickd_loss(student, teacher), slow(student, teacher), student)


def test_sizes_may_differ_and_scale_does_not_matter(maps):
    student, teacher = maps((2, 4, 8, 8)), maps((2, 4, 4, 4))
    torch.testing.assert_close(ickd_loss(student, teacher), ickd_loss([3 * student[0]], teacher))


def test_the_last_stage_goes_through_convolution_and_norm(maps, build):
    method = build(ICKD(), maps((2, 3, 8, 8), (2, 4, 4, 4)), maps((2, 3, 8, 8), (2, 6, 4, 4)))
    assert method.pairs == [("s0", "t0"), ("s1", "t1")][-1:]
    [connector] = method.connectors
    assert connector[0].weight.shape == (6, 4, 1, 1)


def test_dead_channels_have_a_finite_gradient(maps):
    [student] = maps((2, 4, 3, 3))
    student[:, 0] = 0
    student.requires_grad_()
    ickd_loss([student], maps((2, 4, 3, 3))).backward()
    assert student.grad.isfinite().all()


def test_unequal_channels_are_refused(maps):
    with pytest.raises(ValueError, match="equally many channels"):
        ickd_loss(maps((2, 4, 3, 3)), maps((2, 5, 3, 3)))
