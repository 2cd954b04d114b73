"""mmcv's own functions on the operators that stand in for compiled ones, against plain loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("mmcv", reason="mmcv is not installed: pip install 'lightning-kd[mmdet]'")

from lightning_kd.detection.mmdet.ops import install_ops

if not install_ops():
    pytest.skip("mmcv's own operators are compiled here", allow_module_level=True)

from mmcv.ops import RoIAlign, deform_conv2d, nms, sigmoid_focal_loss
from mmcv.ops import soft_nms as soft
from mmcv.utils.ext_loader import check_ops_exist


def kept_by_hand(boxes: Tensor, scores: Tensor, threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(overlap(boxes[index].tolist(), boxes[other].tolist(), offset) <= threshold for other in kept):
            kept.append(index)
    return kept


def overlap(one: list[float], other: list[float], offset: int) -> float:
    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(x2 - x1 + offset, 0) * max(y2 - y1 + offset, 0)

    both = area(*(max(one[i], other[i]) for i in (0, 1)), *(min(one[i], other[i]) for i in (2, 3)))
    return both / (area(*one) + area(*other) - both)


@pytest.mark.parametrize("offset", [0, 1])
def test_nms(offset: int) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + 4 + torch.rand(40, 2, generator=generator) * 12], dim=1)
    scores = torch.rand(40, generator=generator)
    wanted = kept_by_hand(boxes, scores, 0.4, offset)
    found, kept = nms(boxes, scores, 0.4, offset=offset)
    assert 1 < len(wanted) < 40
    assert kept.tolist() == wanted
    assert torch.equal(found[:, :4], boxes[kept])
    assert len(nms(boxes[:0], scores[:0], 0.4)[1]) == 0


def test_the_offset_of_nms_matters() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [5, 0, 14, 9]])
    # overlap 4*9 of 14*9, or of whole pixels 5*10 of 15*10
    for offset, threshold in ((0, 4 / 14), (1, 5 / 15)):
        scores = torch.tensor([0.9, 0.8])
        assert len(nms(boxes, scores, threshold - 0.01, offset=offset)[1]) == 1
        assert len(nms(boxes, scores, threshold + 0.01, offset=offset)[1]) == 2


def pooled_by_hand(features: Tensor, roi: list[float], size: int, scale: float, samples: int) -> Tensor:
    """One aligned RoI ``(image, x1, y1, x2, y2)``, as the mean of bilinear samples in every bin."""
    image, x1, y1, x2, y2 = int(roi[0]), *(value * scale - 0.5 for value in roi[1:])
    rows = []
    for row in range(size):
        for column in range(size):
            values = [
                bilinear(
                    features[image],
                    y1 + (y2 - y1) / size * (row + (i + 0.5) / samples),
                    x1 + (x2 - x1) / size * (column + (j + 0.5) / samples),
                )
                for i in range(samples)
                for j in range(samples)
            ]
            rows.append(torch.stack(values).mean(0))
    return torch.stack(rows, dim=1).reshape(-1, size, size)


def bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    height, width = plane.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return plane[:, 0, 0] * 0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = y - top, x - left
    above = plane[:, top, left] * (1 - along) + plane[:, top, right] * along
    below = plane[:, bottom, left] * (1 - along) + plane[:, bottom, right] * along
    return above * (1 - down) + below * down


def test_roi_align_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=generator).requires_grad_()
    rois = torch.tensor([[0, 1.0, 3, 20, 25], [1, -8, -6, 12, 9], [1, 4, 4, 4, 4], [0, 10, 8, 60, 50]]).double()
    found = RoIAlign(2, spatial_scale=0.25, sampling_ratio=2)(features, rois)
    wanted = torch.stack([pooled_by_hand(features, roi, 2, 0.25, 2) for roi in rois.tolist()])
    torch.testing.assert_close(found, wanted)
    upstream = torch.randn(found.shape, dtype=torch.float64, generator=generator)
    gradients = [torch.autograd.grad((value * upstream).sum(), features)[0] for value in (found, wanted)]
    torch.testing.assert_close(*gradients)


def test_roi_align_of_nothing_and_in_half_precision() -> None:
    layer, features = RoIAlign(2, spatial_scale=0.5, sampling_ratio=1), torch.randn(1, 2, 6, 6)
    assert layer(features, torch.zeros(0, 5)).shape == (0, 2, 2, 2)
    rois = torch.tensor([[0, 1.0, 1, 8, 8]])
    half = features.bfloat16().requires_grad_()
    found = layer(half, rois.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), layer(half.float(), rois), rtol=0.01, atol=0.01)
    found.sum().backward()
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.grad.float().sum(), torch.tensor(8.0), rtol=0.01, atol=0.01)


def test_maximum_pooling_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="pool_mode"):
        RoIAlign(2, pool_mode="max")(torch.zeros(1, 1, 4, 4), torch.tensor([[0, 0.0, 0, 2, 2]]))


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"), [(1, 1, 1, 1), (2, 0, 1, 2), ((1, 2), (0, 2), (2, 1), 1)]
)
def test_deformable_convolution_without_offsets_is_a_convolution(
    stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 7, 8, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(6, 4 // groups, 3, 3, dtype=torch.float64, generator=generator).requires_grad_()
    wanted = F.conv2d(features, weight, None, stride, padding, dilation, groups)
    offset = torch.zeros(2, 2 * 9, *wanted.shape[-2:], dtype=torch.float64)
    found = deform_conv2d(features, offset, weight, stride, padding, dilation, groups)
    torch.testing.assert_close(found, wanted)
    upstream = torch.randn(found.shape, dtype=torch.float64, generator=generator)
    gradients = [torch.autograd.grad((value * upstream).sum(), (features, weight)) for value in (found, wanted)]
    torch.testing.assert_close(*gradients)


def test_offsets_move_rows_first() -> None:
    features = torch.arange(30.0).reshape(1, 1, 5, 6)
    weight = torch.ones(1, 1, 1, 1)
    offset = torch.zeros(1, 2, 5, 6)
    offset[:, 0], offset[:, 1] = 1, 2
    found = deform_conv2d(features, offset, weight)
    assert torch.equal(found[0, 0, :4, :4], features[0, 0, 1:, 2:])


def test_gradients_of_a_deformable_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 2, 4, 5, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, generator=generator).requires_grad_()
    offset = (0.2 + 0.5 * torch.rand(2, 2 * 2 * 9, 4, 5, dtype=torch.float64, generator=generator)).requires_grad_()

    def convolution(*given: Tensor) -> Tensor:
        found: Tensor = deform_conv2d(*given, 1, 1, 1, 1, 2)
        return found

    torch.autograd.gradcheck(convolution, (features, offset, weight), fast_mode=True)


def test_focal_loss() -> None:
    from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss

    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(6, 3, dtype=torch.float64, generator=generator)).requires_grad_()
    target = torch.tensor([0, 1, 2, 3, 3, 1])  # 3 is the background
    found = sigmoid_focal_loss(logits, target, 2.0, 0.25, None, "none")
    wanted = torch.zeros(6, 3, dtype=torch.float64)
    for row in range(6):
        for column in range(3):
            right = 1 / (1 + math.exp(-logits[row, column].item() * (1 if target[row] == column else -1)))
            share = 0.25 if target[row] == column else 0.75
            wanted[row, column] = -share * (1 - right) ** 2 * math.log(right)
    torch.testing.assert_close(found, wanted)
    one_hot = F.one_hot(target, 4)[:, :3]
    theirs = py_sigmoid_focal_loss(logits, one_hot, reduction="none")
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in (found, theirs)]
    torch.testing.assert_close(*gradients)


def test_what_is_not_there_says_so() -> None:
    assert install_ops()
    assert not check_ops_exist()  # mmcv itself knows that none are compiled
    with pytest.raises(NotImplementedError, match="'softnms' exists only in compiled mmcv"):
        soft(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([0.5]))
    with pytest.raises(NotImplementedError, match="weights of classes"):
        sigmoid_focal_loss(torch.zeros(1, 2), torch.tensor([0]), 2.0, 0.25, torch.ones(2), "none")
