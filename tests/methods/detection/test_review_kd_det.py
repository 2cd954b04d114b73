import pytest
import torch
import torch.nn.functional as F
from methods.detection.pyramid_references import assert_agree, built, maps, pyramids

from lightning_kd.methods.detection import ReviewKDDet

STUDENT = ((2, 3, 16, 12), (2, 3, 8, 6), (2, 3, 4, 3), (2, 3, 2, 2))
TEACHER = tuple((batch, 5, height, width) for batch, _, height, width in STUDENT)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def normed(value, norm):
    mean, variance = value.mean((0, 2, 3), keepdim=True), value.var((0, 2, 3), correction=0, keepdim=True)
    return (value - mean) / (variance + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def upsampled(value, height, width):
    """Nearest neighbour: cell ``i`` of ``n`` shows cell ``floor(i * m / n)`` of ``m``."""
    rows = [i * value.shape[2] // height for i in range(height)]
    columns = [j * value.shape[3] // width for j in range(width)]
    return value[:, :, rows][:, :, :, columns]


def slow_fused(student, fusions):
    """From the coarsest level to the finest: reduce, mix with what came from above by two gates, expand."""
    outputs, above = [], None
    for feature, fusion in zip(reversed(student), fusions, strict=True):
        value = normed(torch.einsum("oc,ncij->noij", fusion.reduce[0].weight[:, :, 0, 0], feature), fusion.reduce[1])
        if above is not None:
            above = upsampled(above, *feature.shape[2:])
            weight, bias = fusion.attention.weight[:, :, 0, 0], fusion.attention.bias
            gates = torch.einsum("oc,ncij->noij", weight, torch.cat([value, above], 1)) + bias[:, None, None]
            gates = 1 / (1 + (-gates).exp())
            value = value * gates[:, :1] + above * gates[:, 1:]
        above = value
        outputs.insert(0, normed(F.conv2d(value, fusion.expand[0].weight, padding=1), fusion.expand[1]))
    return outputs


def slow_hcl(student, teacher):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        error, weights = ((s - t) ** 2).mean(), 1.0
        sizes = [size for size in (4, 2, 1) if size < min(s.shape[2:])]
        for weight, size in zip((0.5, 0.25, 0.125), sizes, strict=False):
            rows, columns = ([*_bins(length, size)] for length in s.shape[2:])
            cells = [(s - t)[:, :, a:b, c:d].mean((2, 3)) for a, b in rows for c, d in columns]
            error, weights = error + weight * (torch.stack(cells) ** 2).mean(), weights + weight
        total = total + error / weights
    return total


def _bins(length, size):
    for index in range(size):
        yield index * length // size, -(-(index + 1) * length // size)


def test_matches_the_formulas_from_coarse_to_fine():
    student, teacher = maps(*STUDENT, grad=True), maps(*TEACHER)
    exchange = pyramids(student, teacher)
    method = built(ReviewKDDet(mid_channels=4), exchange)
    expected = slow_hcl(slow_fused(student, method.fusions), teacher)
    assert_agree(method(exchange), expected, [*student, *method.parameters()], 1e-8)


def test_the_width_does_not_depend_on_the_student():
    [feature] = maps((2, 3, 4, 4))
    method = built(ReviewKDDet(), pyramids([feature], [feature]))
    assert method.fusions[0].reduce[0].out_channels == 256


def test_no_level_is_added():
    exchange = pyramids(maps(*STUDENT), maps(*TEACHER))
    assert len(built(ReviewKDDet(mid_channels=4), exchange).fusions) == len(STUDENT)


def test_a_student_of_another_size_is_resized():
    student = maps((2, 3, 5, 5), (2, 3, 3, 3), grad=True)
    exchange = pyramids(student, maps((2, 3, 4, 6), (2, 3, 2, 3)))
    built(ReviewKDDet(mid_channels=4), exchange)(exchange).backward()
    assert all(feature.grad.any() for feature in student)


def test_half_precision_under_autocast():
    student, teacher = maps(*STUDENT, dtype=torch.bfloat16), maps(*TEACHER, dtype=torch.bfloat16)
    exchange = pyramids(student, teacher)
    method = built(ReviewKDDet(mid_channels=4), exchange).float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(exchange)
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_refusals():
    with pytest.raises(ValueError, match="mid_channels must be positive"):
        ReviewKDDet(mid_channels=0)
