import pytest
import torch
from methods.detection.pyramid_references import assert_agree, built, maps, pyramids

from lightning_kd.methods.detection import FitNetNeck

STUDENT, TEACHER = ((2, 2, 4, 5), (2, 2, 2, 3)), ((2, 3, 4, 5), (2, 3, 2, 3))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def slow_convolution(feature, layer):
    """Cross-correlation with zeros around the map, position by position."""
    kernel = layer.weight.shape[2]
    height, width = feature.shape[2:]
    result = torch.zeros(len(feature), layer.weight.shape[0], height, width, dtype=feature.dtype)
    for i in range(height):
        for j in range(width):
            for di in range(kernel):
                for dj in range(kernel):
                    row, column = i + di - kernel // 2, j + dj - kernel // 2
                    if 0 <= row < height and 0 <= column < width:
                        result[:, :, i, j] += feature[:, :, row, column] @ layer.weight[:, :, di, dj].T
    return result + layer.bias[:, None, None]


@pytest.mark.parametrize("kernel", [1, 3])
def test_matches_a_loop(kernel):
    student, teacher = maps(*STUDENT, grad=True), maps(*TEACHER)
    exchange = pyramids(student, teacher)
    method = built(FitNetNeck(kernel), exchange)
    expected = 0.0
    for s, t, connector in zip(student, teacher, method.connectors, strict=True):
        difference = slow_convolution(s, connector[0]) - t
        expected = expected + (difference**2).sum() / difference.numel()
    assert_agree(method(exchange), expected, [*student, *method.parameters()])


def test_equal_widths_have_a_convolution_too():
    [feature] = maps(TEACHER[0])
    [connector] = built(FitNetNeck(), pyramids([feature], [feature])).connectors
    assert connector[0].kernel_size == (1, 1)


def test_a_student_of_another_size_is_resized():
    student = maps((2, 3, 3, 3), grad=True)
    exchange = pyramids(student, maps((2, 3, 4, 5)))
    built(FitNetNeck(), exchange)(exchange).backward()
    assert student[0].grad.any()


def test_the_error_is_computed_in_float32():
    student, teacher = maps(*STUDENT, dtype=torch.bfloat16), maps(*TEACHER, dtype=torch.bfloat16)
    exchange = pyramids(student, teacher)
    method = built(FitNetNeck(), exchange).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert method(exchange).dtype == torch.float32


def test_refusals():
    with pytest.raises(ValueError, match="kernel must be 1 or 3, got 5"):
        FitNetNeck(5)
