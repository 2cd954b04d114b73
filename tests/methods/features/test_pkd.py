import pytest
import torch

from lightning_kd.methods.features import PKD, pkd_loss


def slow(student, teacher):
    """One minus the Pearson correlation of every channel, which is the loss up to (n - 1) / n and epsilon."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        n = s.shape[0] * s.shape[2] * s.shape[3]
        values = [
            1 - torch.corrcoef(torch.stack([s[:, c].flatten(), t[:, c].flatten()]))[0, 1] for c in range(s.shape[1])
        ]
        total = total + sum(values) / len(values) * (n - 1) / n
    return total


def test_is_one_minus_the_pearson_correlation(maps, agree):
    shapes = ((3, 4, 4, 4), (3, 5, 2, 2))
    student, teacher = maps(*shapes, grad=True), maps(*shapes)
    agree(pkd_loss(student, teacher), slow(student, teacher), student, 1e-5)


def test_scale_and_shift_of_a_channel_do_not_matter(maps):
    [feature] = maps((3, 4, 4, 4))
    assert pkd_loss([3 * feature + 2], [feature]).item() < 1e-10


def test_the_student_is_resized_to_the_teacher(maps):
    student, teacher = maps((2, 4, 4, 6)), maps((2, 4, 8, 12))
    resized = torch.nn.functional.interpolate(student[0], (8, 12), mode="bilinear", align_corners=False)
    assert pkd_loss(student, teacher) == pkd_loss([resized], teacher)


def test_constant_channels_and_single_values_are_finite(maps):
    [student] = maps((2, 4, 3, 3))
    student[:, 0] = 0
    student.requires_grad_()
    pkd_loss([student], maps((2, 4, 3, 3))).backward()
    assert student.grad.isfinite().all()
    single = maps((1, 4, 1, 1), grad=True)
    loss = pkd_loss(single, maps((1, 4, 1, 1)))
    loss.backward()
    assert loss.item() == 0
    assert single[0].grad.isfinite().all()


def test_a_connector_only_for_other_widths(maps, build):
    method = build(PKD(), maps((2, 4, 8, 8), (2, 5, 4, 4)), maps((2, 4, 8, 8), (2, 6, 4, 4)))
    assert [len(list(connector.parameters())) for connector in method.connectors] == [0, 2]


def test_unequal_channels_are_refused(maps):
    with pytest.raises(ValueError, match="equally many channels"):
        pkd_loss(maps((2, 4, 3, 3)), maps((2, 5, 3, 3)))
