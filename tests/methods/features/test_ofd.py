import math

import pytest
import torch

from lightning_kd.methods.features import OFD, ofd_loss


def slow(student, teacher, margins):
    total = 0.0
    for stage, (s, t, m) in enumerate(zip(student, teacher, margins, strict=True)):
        value = 0.0
        for b in range(s.shape[0]):
            for c in range(s.shape[1]):
                for a, x in zip(s[b, c].flatten(), t[b, c].flatten(), strict=True):
                    target = max(x.item(), m[c].item())
                    if not (a.item() <= target <= 0):
                        value = value + (a - target) ** 2
        total = total + value / len(s) / 2 ** (len(student) - 1 - stage)
    return total


def test_matches_a_loop_over_neurons(maps, agree):
    shapes = ((3, 4, 2, 2), (3, 5, 2, 2))
    student, teacher = maps(*shapes, grad=True), maps(*shapes)
    margins = [-torch.rand(4, dtype=torch.float64), -torch.rand(5, dtype=torch.float64)]
    agree(ofd_loss(student, teacher, margins), slow(student, teacher, margins), student)


def test_margins_are_the_mean_negative_responses(build, exchange):
    """For normal responses the measured margin is the authors' closed form for a batch norm (mean, scale)."""
    mean, scale = torch.tensor([0.3, -1.0, 0.0]).double(), torch.tensor([1.0, 0.5, 2.0]).double()
    teacher = [torch.randn(64, 3, 16, 16, dtype=torch.float64) * scale.view(1, 3, 1, 1) + mean.view(1, 3, 1, 1)]
    student = [torch.randn(64, 2, 16, 16, dtype=torch.float64)]
    method = build(OFD(), student, teacher)
    for part in teacher[0].chunk(4):
        method.observe(exchange([student[0][:16]], [part]))
    method.finish_setup()
    for measured, m, s in zip(method.margins[0].tolist(), mean.tolist(), scale.tolist(), strict=True):
        below = 0.5 * math.erfc(m / s / math.sqrt(2))
        expected = m - s * math.exp(-((m / s) ** 2) / 2) / math.sqrt(2 * math.pi) / below
        assert measured == pytest.approx(expected, rel=0.03)


def test_channels_without_negative_responses_have_the_margin_zero(maps, build, exchange):
    student, teacher = maps((2, 4, 3, 3)), [feature.relu() for feature in maps((2, 4, 3, 3))]
    method = build(OFD(), student, teacher)
    method.observe(exchange(student, teacher))
    method.finish_setup()
    assert not method.margins[0].any()


def test_margins_are_saved(maps, build, exchange):
    student, teacher = maps((2, 4, 3, 3)), maps((2, 6, 3, 3))
    method = build(OFD(), student, teacher)
    method.observe(exchange(student, teacher))
    method.finish_setup()
    other = build(OFD(), student, teacher)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.margins[0], method.margins[0])
    assert (other.margins[0] < 0).all()
