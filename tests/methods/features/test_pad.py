import pytest
import torch

from lightning_kd.methods.features import PADL2, pad_l2_loss


def test_matches_the_formula_element_by_element(maps, agree):
    [student, log_variances], [teacher] = maps((4, 5), (4, 5), grad=True), maps((4, 5))
    elements = zip(student.flatten(), teacher.flatten(), log_variances.flatten(), strict=True)
    reference = sum((t - s) ** 2 / (v.exp() + 1e-6) + v for s, t, v in elements) / student.numel()
    agree(pad_l2_loss(student, teacher, log_variances), reference, [student, log_variances])


def test_the_variance_branch_trains_and_sees_the_student(maps, build, exchange):
    student, teacher = maps((6, 4), grad=True), maps((6, 7))
    method = build(PADL2(), student, teacher)
    method(exchange(student, teacher)).backward()
    assert student[0].grad.any()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_equal_widths_are_not_projected_and_maps_are_averaged(maps, build, exchange):
    student, teacher = maps((6, 4)), maps((6, 4, 3, 3))
    method = build(PADL2(), student, teacher)
    assert not list(method.projectors.parameters())
    method.eval()
    averaged = exchange(student, [teacher[0].mean((2, 3))])
    assert method(exchange(student, teacher)) == method(averaged)


def test_extreme_variances_stay_finite():
    student = torch.ones(2, 3, requires_grad=True)
    log_variances = torch.tensor([[-200.0, 0.0, 80.0]] * 2, requires_grad=True)
    pad_l2_loss(student, torch.zeros(2, 3), log_variances).backward()
    assert student.grad.isfinite().all()
    assert log_variances.grad.isfinite().all()


def test_refusals():
    with pytest.raises(ValueError, match="same shape"):
        pad_l2_loss(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="eps"):
        PADL2(eps=0.0)
