import pytest
import torch
from torch import nn

from lightning_kd.methods.features import ReviewKD, hcl_loss


def slow(student, teacher):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        height = s.shape[2]
        value, weight, weights = (s - t).pow(2).mean(), 1.0, 1.0
        for size in (4, 2, 1):
            if size >= height:
                continue
            weight, step = weight / 2, height // size
            cells = [
                (s - t)[:, :, i * step : (i + 1) * step, j * step : (j + 1) * step].mean((2, 3))
                for i in range(size)
                for j in range(size)
            ]
            value, weights = value + weight * torch.stack(cells).pow(2).mean(), weights + weight
        total = total + value / weights
    return total


def test_hcl_matches_a_loop_over_cells(maps, agree):
    shapes = ((3, 4, 8, 8), (3, 5, 4, 4), (3, 6, 2, 2), (3, 7, 1, 1))
    student, teacher = maps(*shapes, grad=True), maps(*shapes)
    agree(hcl_loss(student, teacher), slow(student, teacher), student)


def test_levels_are_inferred_and_every_connector_takes_part(maps, build, exchange):
    student = maps((4, 3, 8, 8), (4, 5, 4, 4), (4, 6, 2, 2), grad=True)
    teacher = maps((4, 8, 16, 16), (4, 10, 8, 8), (4, 12, 4, 4))
    method = build(ReviewKD(), student, teacher)
    assert len(method.fusions) == 4
    method(exchange(student, teacher)).backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert all(feature.grad.any() for feature in student)


def test_deep_stages_reach_shallow_ones(maps, build, exchange):
    """Without the teacher's deep levels the deep student stage still gets a gradient, through the residual."""
    student, teacher = maps((4, 3, 8, 8), (4, 5, 4, 4), grad=True), maps((4, 8, 8, 8), (4, 10, 4, 4))
    method = build(ReviewKD(averaged=False), student, teacher)
    _, residual = method.fusions[0](student[1], None, (4, 4))
    output, _ = method.fusions[1](student[0], residual, (8, 8))
    hcl_loss([output], teacher[:1]).backward()
    assert student[1].grad.any()


def test_the_known_number_of_parameters(maps, build):
    """resnet32x4 to resnet8x4 on CIFAR-100, as the public re-implementation counts it."""
    shapes = [(2, 64, 32, 32), (2, 128, 16, 16), (2, 256, 8, 8)]
    features = [feature.float() for feature in maps(*shapes)]
    method = build(ReviewKD(), features, features)
    assert sum(parameter.numel() for parameter in method.parameters()) == 1_808_774


def test_a_last_pair_of_embeddings_is_the_averaged_level(maps, build, exchange):
    student, teacher = maps((4, 3, 4, 4), (4, 9)), maps((4, 8, 4, 4), (4, 11))
    method = build(ReviewKD(), student, teacher)
    assert len(method.fusions) == 2
    assert method(exchange(student, teacher)).isfinite()
    assert isinstance(method.fusions[0].reduce[0], nn.Conv2d)
    assert method.fusions[0].reduce[0].in_channels == 9


def test_the_common_width_can_be_limited(maps, build):
    method = build(ReviewKD(max_channels=2), maps((2, 3, 4, 4)), maps((2, 8, 4, 4)))
    assert method.fusions[0].reduce[0].out_channels == 2


def test_refusals(maps):
    with pytest.raises(ValueError, match="equal shapes"):
        hcl_loss(maps((2, 3, 4, 4)), maps((2, 3, 2, 2)))
    with pytest.raises(ValueError, match="max_channels"):
        ReviewKD(max_channels=0)
