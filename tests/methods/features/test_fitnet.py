import pytest
import torch
from torch import nn

from lightning_kd.connectors import ConvRegressor, LinearProjector
from lightning_kd.methods.features import FitNet, hint_loss


def test_value_and_gradient(maps, agree):
    [student], [teacher] = maps((3, 4, 2, 2), grad=True), maps((3, 4, 2, 2))
    reference = sum((a - b) ** 2 for a, b in zip(student.flatten(), teacher.flatten(), strict=True)) / student.numel()
    agree(hint_loss(student, teacher), reference, [student])


def test_the_middle_stage_is_the_hint():
    stages = [("s0", "t0"), ("s1", "t1"), ("s2", "t2"), ("s3", "t3")]
    assert FitNet().select_stages(stages) == [("s1", "t1")]
    assert FitNet().select_stages(stages[:3]) == [("s1", "t1")]
    assert FitNet().select_stages(stages[:1]) == [("s0", "t0")]


def test_the_regressor_ends_in_batch_norm_and_relu(maps, build, exchange, agree):
    student, teacher = maps((4, 3, 8, 8), grad=True), maps((4, 5, 4, 4))
    method = build(FitNet(), student, teacher)
    [regressor] = method.regressors
    convolved = nn.functional.conv2d(student[0], regressor.conv.weight, regressor.conv.bias, stride=2, padding=1)
    centred = convolved - convolved.mean((0, 2, 3), keepdim=True)
    normed = centred / (convolved.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    agree(method(exchange(student, teacher)), (normed.relu() - teacher[0]).pow(2).mean(), student)


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape", "kind"),
    [
        ((4, 3, 8, 8), (4, 5, 4, 4), ConvRegressor),
        ((4, 3, 7, 7), (4, 49, 6), ConvRegressor),
        ((4, 9, 3), (4, 10, 6), ConvRegressor),
        ((4, 9, 3), (4, 9, 6), LinearProjector),
        ((4, 3), (4, 6), LinearProjector),
    ],
)
def test_the_connector_follows_the_kind_of_features(maps, build, exchange, student_shape, teacher_shape, kind):
    student, teacher = maps(student_shape, grad=True), maps(teacher_shape)
    method = build(FitNet(), student, teacher)
    assert isinstance(method.regressors[0], kind)
    method(exchange(student, teacher)).backward()
    assert student[0].grad.any()


def test_inputs_may_grow_after_the_build(maps, build, exchange):
    method = build(FitNet(), maps((2, 3, 4, 4)), maps((2, 5, 4, 4)))
    assert method(exchange(maps((2, 3, 7, 5)), maps((2, 5, 7, 5)))).isfinite()
    assert method(exchange(maps((2, 3, 7, 5)), maps((2, 5, 9, 4)))).isfinite()


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        hint_loss(torch.zeros(2, 3), torch.zeros(2, 4))
