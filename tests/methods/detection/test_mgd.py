import pytest
import torch
import torch.nn.functional as F
from methods.detection.pyramid_references import assert_agree, built, maps, pyramids, slow_squares

from lightning_kd.methods.detection import MGD, mgd_loss

SHAPES = ((2, 3, 4, 5), (2, 3, 2, 3))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("batch", [1, 3])
def test_matches_a_loop(batch):
    shapes = [(batch, 3, 4, 5), (batch, 4, 1, 1)]
    student, teacher = maps(*shapes, grad=True), maps(*shapes)
    assert_agree(mgd_loss(student, teacher), slow_squares(student, teacher), student)


def test_the_generator_sees_whole_positions_hidden():
    student, teacher = maps((2, 2, 4, 5), (2, 2, 2, 3), grad=True), maps(*SHAPES)
    exchange = pyramids(student, teacher)
    method = built(MGD(mask_ratio=0.4), exchange)
    torch.manual_seed(5)
    loss = method(exchange)
    torch.manual_seed(5)
    generated = []
    for s, align, generator in zip(student, method.connectors, method.generators, strict=True):
        hidden = torch.rand(len(s), 1, *s.shape[2:]) < 0.4
        seen = F.conv2d(s, align[0].weight, align[0].bias).masked_fill(hidden, 0)
        first = F.conv2d(seen, generator[0].weight, generator[0].bias, padding=1).clamp(min=0)
        generated.append(F.conv2d(first, generator[2].weight, generator[2].bias, padding=1))
    assert_agree(loss, slow_squares(generated, teacher), [*student, *method.parameters()])


def test_the_mask_hides_its_share_anew_for_every_image_and_step():
    method, feature = MGD(mask_ratio=0.65), torch.ones(2, 3, 100, 100)
    first, second = method._masked(feature), method._masked(feature)
    assert first.mean().item() == pytest.approx(0.35, abs=0.02)
    assert torch.equal(first[:, 0], first[:, 2])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)


def test_without_a_mask_the_generator_sees_all():
    feature = torch.ones(2, 3, 10, 10)
    assert torch.equal(MGD(mask_ratio=0.0)._masked(feature), feature)


def test_equal_widths_need_no_connector():
    [feature] = maps(SHAPES[0])
    assert not list(built(MGD(), pyramids([feature], [feature])).connectors.parameters())


def test_a_student_of_another_size_is_resized():
    student = maps((2, 3, 3, 3), grad=True)
    exchange = pyramids(student, maps((2, 3, 4, 5)))
    built(MGD(), exchange)(exchange).backward()
    assert student[0].grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_are_float32(dtype):
    student, teacher = (1e2 * torch.randn(2, 8, 20, 20, dtype=dtype) for _ in range(2))
    loss = mgd_loss([student.requires_grad_()], [teacher])
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ((student.float() - teacher.float()) ** 2).sum() / 2)
    exchange = pyramids([student], [teacher])
    method = built(MGD(), exchange).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert method(exchange).dtype == torch.float32


def test_the_teacher_gets_no_gradient():
    student, teacher = maps(SHAPES[0], grad=True), maps(SHAPES[0], grad=True)
    mgd_loss(student, teacher).backward()
    assert teacher[0].grad is None


def test_refusals():
    with pytest.raises(ValueError, match="equal shapes"):
        mgd_loss(maps((2, 3, 4, 4)), maps((2, 3, 2, 2)))
    for ratio in (1.0, -0.1):
        with pytest.raises(ValueError, match=r"mask_ratio is the share of hidden positions and must be in \[0, 1\)"):
            MGD(mask_ratio=ratio)
