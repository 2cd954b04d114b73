"""PKT, SP, CC and RSD against slow references written from their formulas."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lightning_kd.methods.relations import (
    CC,
    RSD,
    SP,
    correlation_congruence_loss,
    pkt_loss,
    rsd_loss,
    similarity_preserving_loss,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pkt_reference(student, teacher):
    def neighbours(x):
        cosine = torch.stack([torch.stack([F.cosine_similarity(a, b, dim=0) for b in x]) for a in x])
        return torch.stack([(1 + row) / sum(1 + value for value in row) for row in cosine])

    p_s, p_t = neighbours(student), neighbours(teacher)
    return (
        sum(t * torch.log((t + 1e-7) / (s + 1e-7)) for s, t in zip(p_s.flatten(), p_t.flatten(), strict=True))
        / p_s.numel()
    )


def sp_reference(student, teacher, order):
    batch = len(student[0])

    def rows(x):
        gram = torch.stack([torch.stack([(a * b).sum() for b in x]) for a in x])
        return torch.stack([row / row.abs().pow(order).sum().pow(1 / order) for row in gram])

    return sum((rows(s) - rows(t)).pow(2).sum() for s, t in zip(student, teacher, strict=True)) / batch**2


def kernel_reference(student, teacher, gamma, order):
    def kernel(x):
        x = F.normalize(x)
        return torch.stack(
            [
                torch.stack(
                    [
                        sum(
                            math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * (a @ b) ** p
                            for p in range(order + 1)
                        )
                        for b in x
                    ]
                )
                for a in x
            ]
        )

    return (kernel(student) - kernel(teacher)).pow(2).sum() / len(student) ** 2


def assert_same(student, loss, reference, rtol=1e-7):
    value, expected = loss(student), reference(student)
    torch.testing.assert_close(value, expected, rtol=rtol, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(value, student)[0], torch.autograd.grad(expected, student)[0], rtol=1e-5, atol=1e-10
    )


def test_pkt_equals_its_formula():
    teacher = draw(5, 6, seed=1)
    # the reference has no guard in the cosine, ours the authors' 1e-7
    assert_same(draw(5, 4).requires_grad_(), lambda x: pkt_loss(x, teacher), lambda x: pkt_reference(x, teacher), 1e-5)


def test_pkt_of_opposite_and_zero_embeddings_is_finite():
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [3.0, 1e-20]], requires_grad=True)
    loss = pkt_loss(student, draw(4, 3).float())
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("mode", "order"), [("paper", 2), ("l1", 1)])
def test_sp_equals_its_formula(mode, order):
    teacher = [draw(5, 3, 2, 2, seed=1)]
    assert_same(
        draw(5, 4, 2, 2).requires_grad_(),
        lambda x: similarity_preserving_loss([x], teacher, mode),
        lambda x: sp_reference([x.flatten(1)], [teacher[0].flatten(1)], order),
    )


def test_sp_sums_stages():
    student, teacher = [draw(4, 3), draw(4, 5, seed=1)], [draw(4, 2, seed=2), draw(4, 6, seed=3)]
    total = similarity_preserving_loss(student, teacher)
    parts = [similarity_preserving_loss([s], [t]) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(total, sum(parts))


def test_sp_of_a_dead_sample_does_not_explode():
    student = draw(4, 6).float()
    student[1] = 0
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(similarity_preserving_loss([student], [draw(4, 5, seed=1).float()]), student)
    assert gradient.abs().max() < 10


def test_sp_takes_the_last_stage_by_default():
    assert SP().select_stages([("layer1", "a"), ("layer2", "b")]) == [("layer2", "b")]


def test_cc_consecutive_is_the_product_of_neighbouring_gaps():
    student, teacher = draw(5, 4), draw(5, 4, seed=1)
    gap = (student - teacher).abs()
    expected = sum(gap[i] @ gap[i + 1] for i in range(4)) / 4
    torch.testing.assert_close(correlation_congruence_loss(student, teacher), expected)


def test_cc_kernel_equals_its_expansion():
    teacher = draw(5, 6, seed=1)
    assert_same(
        draw(5, 4).requires_grad_(),
        lambda x: correlation_congruence_loss(x, teacher, "kernel", 0.4, 3),
        lambda x: kernel_reference(x, teacher, 0.4, 3),
    )


def test_cc_kernel_expands_the_gaussian():
    student, teacher = draw(5, 4), draw(5, 6, seed=1)

    def gaussian(x):
        x = F.normalize(x)
        return torch.exp(-0.4 * torch.cdist(x, x) ** 2)

    expected = (gaussian(student) - gaussian(teacher)).square().mean()
    torch.testing.assert_close(correlation_congruence_loss(student, teacher, "kernel", 0.4, 20), expected)


def rsd_reference(student, teacher, kappa):
    width = student.shape[1]
    joint = np.corrcoef(teacher.numpy(), student.numpy(), rowvar=False)[:width, width:]
    return sum(
        (1 - joint[i, i]) ** 2 if i == j else kappa * joint[i, j] ** 2 for i in range(width) for j in range(width)
    )


def test_rsd_equals_its_formula():
    student, teacher = 10 * draw(9, 4), 10 * draw(9, 4, seed=1)
    # the guard of 1e-5 in the deviation, against deviations of about 10
    assert rsd_loss(student, teacher, 0.3).item() == pytest.approx(rsd_reference(student, teacher, 0.3), rel=1e-5)


def test_rsd_gradient():
    teacher = draw(5, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: rsd_loss(x, teacher, 0.5), (draw(5, 3).requires_grad_(),))


def test_rsd_of_a_constant_dimension_is_finite():
    student = draw(5, 3).float()
    student[:, 1] = 2.0
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(rsd_loss(student, draw(5, 3, seed=1).float()), student)
    assert gradient.isfinite().all()


LOSSES = {
    "pkt": pkt_loss,
    "sp": lambda student, teacher: similarity_preserving_loss([student], [teacher]),
    "cc": correlation_congruence_loss,
    "cc kernel": lambda student, teacher: correlation_congruence_loss(student, teacher, "kernel"),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_batch_of_one_is_zero_or_defined(loss):
    student = draw(1, 3).requires_grad_()
    value = loss(student, draw(1, 3, seed=1))
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(value, student)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [*LOSSES.values(), rsd_loss], ids=[*LOSSES, "rsd"])
def test_half_inputs_of_large_size(loss, dtype):
    student = (1e4 * draw(6, 4)).to(dtype).requires_grad_()
    value = loss(student, draw(6, 4, seed=1).to(dtype))
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert torch.autograd.grad(value, student)[0].isfinite().all()


@pytest.mark.parametrize("loss", [*LOSSES.values(), rsd_loss], ids=[*LOSSES, "rsd"])
def test_autocast_and_teacher_gradient(loss):
    student, teacher = draw(6, 4).float().requires_grad_(), draw(6, 4, seed=1).float().requires_grad_()
    expected = loss(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher)
    assert torch.equal(value, expected)
    value.backward()
    assert teacher.grad is None


def test_refusals():
    with pytest.raises(ValueError, match="at least two samples"):
        rsd_loss(draw(1, 3), draw(1, 3))
    with pytest.raises(ValueError, match="equal width"):
        rsd_loss(draw(3, 3), draw(3, 4))
    with pytest.raises(ValueError, match="equal width"):
        correlation_congruence_loss(draw(3, 3), draw(3, 4))
    with pytest.raises(ValueError, match="mode must be"):
        similarity_preserving_loss([draw(3, 3)], [draw(3, 4)], "l2")
    with pytest.raises(ValueError, match="mode must be"):
        CC(mode="taylor")
    with pytest.raises(ValueError, match="same samples"):
        similarity_preserving_loss([draw(3, 3)], [draw(4, 3)])
    with pytest.raises(ValueError, match="expansion"):
        RSD(expansion=0)
