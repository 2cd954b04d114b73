import pytest
import torch

from lightning_kd.methods.features import ND, nd_loss


def slow(student, teacher, means, target):
    values = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        direction = means[y] / means[y].norm()
        values.append(1 - s @ direction / torch.maximum(s.norm(), t.norm()))
    return sum(values) / len(values)


def test_known_value():
    student = torch.tensor([[1.0, 2.0, 2.0], [0.3, 0.0, 0.4]], dtype=torch.float64)
    teacher = torch.tensor([[0.0, 3.0, 4.0], [0.0, 0.6, 0.8]], dtype=torch.float64)
    means = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    assert nd_loss(student, teacher, means, torch.tensor([0, 1])).item() == pytest.approx(0.69393398, abs=1e-8)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_matches_a_loop_over_samples(maps, agree, scale):
    student, teacher, means = maps((6, 5), grad=True, scale=scale), maps((6, 5)), maps((4, 5))
    target = torch.tensor([0, 1, 2, 3, 0, 1])
    ours = nd_loss(student[0], teacher[0], means[0], target)
    agree(ours, slow(student[0], teacher[0], means[0], target), student)


def test_class_means_come_from_the_setup_pass(maps, build, exchange):
    student, teacher = maps((6, 4)), maps((6, 5))
    method = build(ND(), student, teacher)
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    for part in (slice(0, 4), slice(4, 6)):
        method.observe(exchange([student[0][part]], [teacher[0][part]], target=labels[part]))
    method.finish_setup()
    torch.testing.assert_close(method.class_means[0], teacher[0][labels == 0].mean(0))
    torch.testing.assert_close(method.class_means[1], teacher[0][labels == 1].mean(0))
    assert not method.class_means[2].any()


def test_only_other_widths_are_projected(maps, build):
    assert not list(build(ND(), maps((6, 5)), maps((6, 5))).parameters())
    projector = build(ND(), maps((6, 4)), maps((6, 5))).projector
    assert [type(layer).__name__ for layer in projector] == ["TolerantBatchNorm1d", "Dropout", "Linear"]


def test_zero_embeddings_are_finite():
    student = torch.zeros(2, 3, requires_grad=True)
    loss = nd_loss(student, torch.zeros(2, 3), torch.ones(2, 3), torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == 1
    assert student.grad.isfinite().all()


def test_refusals(maps, build):
    with pytest.raises(ValueError, match="project the student's embedding"):
        nd_loss(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="class indices"):
        nd_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 2))
    with pytest.raises(ValueError, match="one pair"):
        build(ND(), maps((6, 4), (6, 4)), maps((6, 5), (6, 5)))
    with pytest.raises(ValueError, match="dropout"):
        ND(dropout=1.0)
