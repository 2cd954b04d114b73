import pytest
import torch

from lightning_kd.methods.features import AB, activation_boundary_loss


def slow(student, teacher, margin):
    total = 0.0
    for stage, (s, t) in enumerate(zip(student, teacher, strict=True)):
        value = 0.0
        for a, b in zip(s.flatten(), t.flatten(), strict=True):
            if b > 0 and a < margin:
                value = value + (a - margin) ** 2
            elif b <= 0 and a > -margin:
                value = value + (a + margin) ** 2
        total = total + value / len(s) / 2 ** (len(student) - 1 - stage)
    return total


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0])
def test_matches_a_loop_over_neurons(maps, agree, margin):
    shapes = ((3, 4, 2, 2), (3, 5, 2, 2))
    student, teacher = maps(*shapes, grad=True), maps(*shapes)
    agree(activation_boundary_loss(student, teacher, margin), slow(student, teacher, margin), student)


def test_only_the_signs_of_the_teacher_count(maps):
    student, [teacher] = maps((2, 4, 3, 3)), maps((2, 4, 3, 3))
    expected = activation_boundary_loss(student, [teacher])
    assert activation_boundary_loss(student, [teacher.relu()]) == expected
    assert activation_boundary_loss(student, [7 * teacher]) == expected


def test_a_student_beyond_the_margin_has_no_loss(maps):
    [teacher] = maps((2, 4, 3, 3))
    assert activation_boundary_loss([2 * teacher.sign()], [teacher]).item() == 0


def test_refusals(maps, build):
    with pytest.raises(ValueError, match="margin"):
        activation_boundary_loss(maps((2, 4, 3, 3)), maps((2, 4, 3, 3)), margin=-1.0)
    with pytest.raises(ValueError, match="equally many channels"):
        activation_boundary_loss(maps((2, 4, 3, 3)), maps((2, 5, 3, 3)))


def test_connectors_give_negative_values_after_a_relu(maps, build, exchange):
    student, teacher = [feature.relu() for feature in maps((8, 4, 3, 3))], maps((8, 6, 6, 6))
    method = build(AB(), student, teacher)
    assert (method.connectors[0](student[0]) < 0).any()
    assert method(exchange(student, teacher)).isfinite()
    assert all(torch.isfinite(parameter).all() for parameter in method.parameters())
