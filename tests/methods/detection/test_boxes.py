"""Overlaps of boxes: against loops, and without surprises where boxes have no area."""

import pytest
import torch
from methods.detection.head_references import assert_agree, slow_diou, slow_giou, slow_iou

from lightning_kd.methods.detection._boxes import box_iou, distance_iou, generalized_iou

OVERLAPS = [(box_iou, slow_iou), (generalized_iou, slow_giou), (distance_iou, slow_diou)]
BOXES = [
    [3.0, 5.0, 20.0, 17.0],
    [-8.0, -4.0, 12.0, 9.0],
    [4.0, 6.0, 11.0, 30.5],
    [100.0, 100.0, 101.0, 102.0],
    [10.25, 10.5, 10.25, 20.5],
    [7.125, 7.25, 7.125, 7.25],
]


def boxes(values=BOXES, shift=0.0):
    return torch.tensor(values, dtype=torch.float64) + shift


@pytest.mark.parametrize(("fast", "slow"), OVERLAPS)
def test_all_pairs_match_a_loop(fast, slow):
    ours, others = boxes().requires_grad_(), boxes(shift=0.625).requires_grad_()
    expected = torch.stack([torch.stack([slow(a, b) for b in others]) for a in ours])
    actual = fast(ours[:, None], others)
    assert actual.shape == (6, 6)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    has_area = [0, 1, 2, 3]
    factors = torch.rand(4, 4, dtype=torch.float64)
    pairs = [(part[has_area][:, has_area] * factors).sum() for part in (actual, expected)]
    assert_agree(*pairs, [ours, others])


@pytest.mark.parametrize(("fast", "slow"), OVERLAPS)
def test_gradients_are_finite_without_area(fast, slow):
    ours, others = boxes().requires_grad_(), boxes().requires_grad_()
    fast(ours[:, None], others).sum().backward()
    for part in (ours, others):
        assert part.grad.isfinite().all()
        assert part.grad.abs().max() < 1e3


@pytest.mark.parametrize("fast", [box_iou, generalized_iou, distance_iou])
def test_known_values(fast):
    same = boxes()[:4]
    torch.testing.assert_close(fast(same, same), torch.ones(4).double())
    point = boxes()[5:]
    assert fast(point, point).item() == 0


def test_distance_and_hull_tell_disjoint_boxes_apart():
    a, near, far = boxes([[0, 0, 2, 2]]), boxes([[3, 0, 5, 2]]), boxes([[30, 0, 32, 2]])
    assert box_iou(a, near) == box_iou(a, far) == 0
    torch.testing.assert_close(generalized_iou(a, near), boxes([-0.2]))
    torch.testing.assert_close(distance_iou(a, near), boxes([-9 / 29]))
    assert generalized_iou(a, far) < generalized_iou(a, near)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_before_areas_overflow(dtype):
    large = torch.tensor([[0.0, 0.0, 1024.0, 1024.0]], dtype=dtype)
    overlap = box_iou(large, large / 2)
    assert overlap.dtype == torch.float32
    assert overlap.item() == 0.25
